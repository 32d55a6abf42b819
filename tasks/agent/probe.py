"""Looking without touching: what is live here, what is staged, what the host has and lacks. Nothing is written."""

from __future__ import annotations

import os
import sys
import time
from itertools import islice

from .fetch import URL, spread, talk
from .lean import suppress
from .names import is_id
from .place import Place
from .problem import Problem, explain
from .record import read_record
from .repo import Repo, git_lacking, git_version
from .stage import read_manifest
from .state import State, judged, live_stack, refuse_newer
from .trees import compare

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, List, Optional

    from .problem import Json
    from .wire import Wire

HISTORY_SHOWN = 50
UNCOUNTED = 1 << 40  # inodes of a file system that makes them as they are needed


def probe(wire: Wire, place: Place, request: Json) -> Json:
    """Return what a deployer must know before it plans; trouble that would stop a deploy is listed, not raised."""
    problems, current, state = [], None, None
    try:
        current = place.current()
        state = State(place)
        refuse_newer(place)
    except Problem as problem:
        problems.append({"code": problem.code, "message": str(problem)})
    except OSError as error:
        problems.append({"code": "os-error", "message": str(explain(error))})
    version, lack = None, None
    if request.get("thorough") or not Repo(wire, place.repo).is_vouched():
        version = git_version(wire)
        lack = git_lacking(version)
    if lack:
        problems.append({"code": lack[0], "message": lack[1]})
    disk = os.statvfs(existing(place.root))
    history = state.lived() if state else []
    standing = releases(place)
    chosen, left = ({each: turns[each] for each in turns if each in standing} for turns in judged(history))
    newest: Json = next((record for record in reversed(history) if record["id"] == current), {})
    return {
        "current": current,
        "current_since": newest.get("at"),
        "live_turn": newest.get("turn", 0),
        "stack": live_stack(history),
        "chosen": chosen,
        "left": left,
        "history": history[-HISTORY_SHOWN:],
        "turn": state.turn if state else 0,
        "ledger": state.ledger if state else None,
        "releases": standing,
        "adopted": adopted(place),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "free_inodes": disk.f_favail if disk.f_files else UNCOUNTED,
        "clock": time.time(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "git": version,
        "unsettled": bool(state and state.pending) or has_entries(place.tmp),
        "problems": problems,
        "place": identity(place.root),
    }


def has_entries(folder: str) -> bool:
    """Tell whether a directory is there and holds anything."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def status(wire: Wire, place: Place, request: Json) -> Json:
    """Return what ``probe`` does and ``drift``: paths of the live release that are not as they were staged."""
    found = probe(wire, place, request)
    found["drift"] = drift(wire, place, found["current"]) if found["current"] else []
    return found


def drift(wire: Wire, place: Place, identity: str, most: int = 20) -> List[str]:
    """Return paths of the live release that were changed, removed or added since it was staged, at most ``most``.

    None of one that was adopted: nobody wrote down what it must hold.
    """
    if place.adopted(identity):
        return []
    record = read_record(place.record(identity))
    if read_manifest(place, identity) is None or not place.stands(identity):
        return ["the release directory or its manifest is missing"]
    if record is None:
        return ["the record of its files is missing: it cannot be told whether they changed"]
    root = os.fsencode(place.release(identity))
    found = compare(root, record.entries(), record.links, wire.check, record)
    try:
        return sorted(path.decode("utf-8", "backslashreplace") for path, _ in islice(found, most))
    except OSError as error:
        return ["it cannot be told whether files changed: %s" % explain(error)]


def releases(place: Place) -> Dict[str, Json]:
    """Return {id: {"commit", "source_commit", "tree", "number"}} of the releases that stand here."""
    found = {}
    with suppress(OSError):
        for name in filter(is_id, os.listdir(place.releases)):
            with suppress(Problem):
                manifest = read_manifest(place, name)
                if manifest:
                    found[name] = {key: manifest[key] for key in ("commit", "source_commit", "tree", "number")}
    return found


def adopted(place: Place) -> Dict[str, str]:
    """Return {id: what it was} of the releases that were adopted and stand here; what cannot be read is a problem."""
    with suppress(OSError, Problem):
        return {name: record["what"] for name, record in place.adoptions().items() if place.stands(name)}
    return {}


def existing(path: str) -> str:
    """Return the nearest ancestor of ``path`` that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def identity(path: str) -> Optional[str]:
    """Return what tells this machine and directory from all others; None where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read(40).strip()
    except OSError:
        return None
    about = os.stat(existing(path))
    return "%s %s %d:%d" % (os.uname().nodename[:64], boot, about.st_dev, about.st_ino)


def check(wire: Wire, place: Place, request: Json) -> Json:
    """Try every precondition of a deploy; return {"findings": [{"what", "ok", "message"}, …], "probe": …}.

    A random share of ``request["spread_s"]`` is waited for before each mirror: every target asks every one.
    """
    found = probe(wire, place, dict(request, thorough=True))
    findings = [finding(problem["code"], problem["message"]) for problem in found["problems"]]
    ours = (place.releases, place.own, place.tmp, place.repo)
    for what, path in (("deploy_to", place.root), ("link", os.path.dirname(place.link))):
        base = existing(path)
        if what == "link" and base != path != place.root:
            findings.append(finding(what, "the directory %s does not exist: make it, or set targets.link" % path))
            continue
        within = ours if what == "deploy_to" else ()
        troubles = [closed(each) for each in (base, *filter(os.path.lexists, within))]
        findings.append(finding(what, next(filter(None, troubles), ""), "can be written"))
    for name in request["linked_files"]:
        path = os.path.join(place.shared, name)
        told = "" if os.path.isfile(path) else "%s is missing: put it there before the deploy" % path
        findings.append(finding("linked file " + name, told, "is there"))
    repo = Repo(wire, place.repo, place.own)
    for mirror in request["mirrors"] if found["git"] else []:
        spread(wire, request)
        trouble = unreadable(repo, mirror["url"])
        findings.append(finding("mirror " + mirror["name"], trouble, "can be read"))
    if request.get("swarm"):
        from .library import trouble as lacking

        why = lacking(wire, place.own)
        told = "can take part" if not why else "takes no part, and asks a mirror instead: " + why
        findings.append(finding("swarm", "", told))
    return {"findings": findings, "probe": found}


def closed(path: str) -> str:
    """Return why this user cannot write in a directory; nothing where he can."""
    if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
        return ""
    if os.path.exists(path) and os.statvfs(path).f_flag & os.ST_RDONLY:
        return "%s is on a file system that is mounted read-only" % path
    return "%s cannot be written by this user: run fab setup --user root, or chown it" % path


def unreadable(repo: Repo, url: str) -> str:
    """Return why a mirror cannot be read from here; nothing where it can."""
    if not URL.match(url):
        return "malformed url"
    try:
        status, _, errors = talk(repo, "ls-remote", "--", url, "refs/skein/none", timeout_s=20)
    except Problem as problem:
        return str(problem)
    return (errors[-300:] or "cannot be read") if status else ""


def finding(what: str, trouble: str, good: str = "") -> Json:
    """Return one precondition as the deployer reads it."""
    return {"what": what, "ok": not trouble, "message": trouble or good}
