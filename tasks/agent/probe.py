"""Looking without touching: what is live here, what is staged, what the host has and lacks. Nothing is written."""

import os
import platform
import time

from .place import ID
from .problem import Problem, explain
from .repo import Repo, git_version, too_old
from .stage import read_manifest
from .state import State, live_stack

HISTORY_SHOWN = 50


def probe(wire, place):
    """Return what a deployer must know before it plans; trouble that would stop a deploy is listed, not raised."""
    problems, current, state = [], None, None
    try:
        current = place.current()
        state = State(place)
    except Problem as problem:
        problems.append({"code": problem.code, "message": str(problem)})
    except OSError as error:
        problems.append({"code": "os-error", "message": str(explain(error))})
    version = git_version(wire)
    if version is None:
        problems.append({"code": "no-git", "message": "git is not installed on this host: install git 2.25 or newer"})
    elif too_old(version):
        problems.append({"code": "old-git", "message": "git %s is too old: install git 2.25 or newer" % version})
    disk = os.statvfs(existing(place.root))
    history = state.history if state else []
    return {
        "current": current,
        "current_since": next((record["at"] for record in reversed(history) if record["id"] == current), None),
        "stack": live_stack(history),
        "history": history[-HISTORY_SHOWN:],
        "turn": state.turn if state else 0,
        "releases": releases(place),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "free_inodes": disk.f_favail,
        "clock": time.time(),
        "python": platform.python_version(),
        "git": version,
        "problems": problems,
    }


def status(wire, place):
    """Return what ``probe`` does and ``drift``: how many files of the live release changed, by git's record of their stats."""
    found = probe(wire, place)
    found["drift"] = drift(wire, place, found["current"]) if found["current"] and found["git"] else []
    return found


def drift(wire, place, identity, most=20):
    """Return paths of the live release that were changed, removed or added since it was staged, at most ``most``."""
    index = os.path.join(place.indexes, identity)
    manifest = read_manifest(place, identity)
    if manifest is None or not os.path.isdir(place.release(identity)):
        return ["the release directory or its manifest is missing"]
    repo = Repo(wire, place.repo)
    where = {"index": index, "directory": place.release(identity), "timeout_s": 60}
    tree = "--work-tree=" + place.release(identity)
    changed = repo.must(tree, "diff-files", "--name-only", "-z", **where).split(b"\0")
    added = repo.must(tree, "ls-files", "--others", "-z", **where).split(b"\0")
    links = {path.encode("utf-8", "surrogateescape") for path in manifest["links"]}
    names = sorted(set(changed + added) - links - {b""})
    return [name.decode("utf-8", "backslashreplace") for name in names[:most]]


def releases(place):
    """Return {id: {"commit", "source_commit", "tree", "number"}} of the releases that stand here."""
    try:
        names = os.listdir(place.releases)
    except OSError:
        return {}
    found = {}
    for name in names:
        manifest = read_manifest(place, name) if ID.match(name) else None
        if manifest:
            found[name] = {key: manifest[key] for key in ("commit", "source_commit", "tree", "number")}
    return found


def existing(path):
    """Return the nearest ancestor of ``path`` that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def check(wire, place, request):
    """Try every precondition of a deploy; return {"findings": [{"what", "ok", "message"}, …]}."""
    found = probe(wire, place)
    findings = [{"what": problem["code"], "ok": False, "message": problem["message"]} for problem in found["problems"]]
    for what, path in (("deploy_to", place.root), ("link", os.path.dirname(place.link))):
        base = existing(path)
        good = os.path.isdir(base) and os.access(base, os.W_OK | os.X_OK)
        told = "can be written" if good else "%s cannot be written by this user: run fab setup, or chown it" % base
        findings.append({"what": what, "ok": good, "message": told})
    for name in request["linked_files"]:
        good = os.path.isfile(os.path.join(place.shared, name))
        told = "is there" if good else "%s is missing: put it there before the deploy" % os.path.join(place.shared, name)
        findings.append({"what": "linked file " + name, "ok": good, "message": told})
    repo = Repo(wire, place.repo)
    for mirror in request["mirrors"] if found["git"] else []:
        try:
            status, _, errors = repo.git("ls-remote", "--", mirror["url"], "refs/skein/none", timeout_s=20)
        except Problem as problem:
            status, errors = 1, str(problem)
        told = "can be read" if status == 0 else errors[-300:] or "cannot be read"
        findings.append({"what": "mirror " + mirror["name"], "ok": status == 0, "message": told})
    return {"findings": findings, "probe": found}
