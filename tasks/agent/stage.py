"""Staging: a release directory made out of sight, checked file by file, synced, and only then moved into place."""

import os
import stat

from .children import run
from .failpoints import failpoint
from .place import FORMAT, read_json, sync_directory, write_json
from .problem import Problem, os_text
from .repo import Repo
from .trees import differences, remove


def stage(wire, place, request):
    """Make sure that a release stands on this host, complete and checked; nothing visible changes.

    A release that is here already is hashed again; one that is damaged and not live is made anew. Returns
    {"made": whether it had to be made, "files": their number}.
    """
    identity, repo = request["id"], Repo(wire, place.repo)
    entries = repo.entries(request["tree"])
    links = plan_links(place, entries, request["linked_dirs"], request["linked_files"])
    final = place.release(identity)
    if os.path.isdir(final) and not _wrong(place, request, entries, links):
        return {"made": False, "files": len(entries)}
    if os.path.isdir(final):
        if place.current() == identity:
            raise Problem("damaged-live", "the live release %s is damaged and cannot be made anew in its place" % identity)
        os.rename(final, os.path.join(place.tmp, "damaged-" + identity))
    draft, index = os.path.join(place.tmp, identity), os.path.join(place.tmp, "index-" + identity)
    for leftover in (draft, index):
        if os.path.lexists(leftover):
            remove(leftover)
    try:
        _fill(wire, place, request, draft, index, entries, links)
        _publish(place, request, draft, index, len(entries), links)
    except BaseException:
        for leftover in (draft, index):
            if os.path.lexists(leftover):
                remove(leftover)
        raise
    return {"made": True, "files": len(entries)}


def verify(wire, place, request):
    """Hash a release that is here against its tree; raise Problem "damaged" with what differs."""
    manifest = read_manifest(place, request["id"])
    if manifest is None or not os.path.isdir(place.release(request["id"])):
        raise Problem("missing", "release %s is not on this host" % request["id"])
    entries = Repo(wire, place.repo).entries(manifest["tree"])
    links = {path.encode("utf-8", "surrogateescape"): text.encode() for path, text in manifest["links"].items()}
    found = differences(os.fsencode(place.release(request["id"])), entries, links)
    if found:
        raise Problem("damaged", "release %s differs from what was released: %s" % (request["id"], "; ".join(found[:5])))
    return {"files": len(entries)}


def read_manifest(place, identity):
    """Return the manifest of a release, or None."""
    return read_json(place.manifest(identity), "manifest")


def plan_links(place, entries, directories, files):
    """Return {path: text} of the links into ``shared/``; raise Problem where the release or ``shared/`` forbids one."""
    links = {}
    folders = {b"/".join(path.split(b"/")[:depth]) for path in entries for depth in range(1, path.count(b"/") + 1)}
    for name in list(directories) + list(files):
        path = os.fsencode(name)
        if path in entries or path in folders:
            raise Problem(
                "linked-path-taken",
                "the release itself holds %s, which is a linked path: remove it from the source (git rm -r --cached) "
                "or from targets.linked_dirs and linked_files" % name,
            )
        parents = [b"/".join(path.split(b"/")[:depth]) for depth in range(1, path.count(b"/") + 1)]
        for parent in parents:
            if parent in entries:
                raise Problem("linked-path-taken", "%s is a file of the release and cannot hold %s" % (os_text(parent), name))
        inside = os.path.join("../" * (len(parents) + 2) + "shared", name)
        links[path] = os.fsencode(inside)
    missing = [name for name in files if not os.path.isfile(os.path.join(place.shared, name))]
    if missing:
        raise Problem("missing-shared-file", "not in %s: %s: put it there first" % (place.shared, ", ".join(missing)))
    for name in directories:
        path = os.path.join(place.shared, name)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise Problem("linked-path-taken", "%s is not a directory, as targets.linked_dirs says" % path)
        os.makedirs(path, exist_ok=True)
    return links


def _wrong(place, request, entries, links):
    manifest = read_manifest(place, request["id"])
    if manifest is None or manifest["tree"] != request["tree"]:
        return ["no manifest"]
    return differences(os.fsencode(place.release(request["id"])), entries, links)


def _fill(wire, place, request, draft, index, entries, links):
    repo = Repo(wire, place.repo)
    os.mkdir(draft, 0o755)
    os.chmod(draft, 0o755)  # noqa: S103 - a web server reads it, whatever the umask
    failpoint("agent.stage.begin")
    repo.must("read-tree", "--index-output=" + index, request["tree"], index=index, timeout_s=request["timeout_s"])
    failpoint("agent.stage.index")
    words = ("--work-tree=" + draft, "checkout-index", "--all", "--quiet", "--index")
    repo.must(*words, index=index, directory=draft, timeout_s=request["timeout_s"])
    failpoint("agent.stage.checkout")
    root = os.fsencode(draft)
    for path, text in links.items():
        _make_parents(root, path)
        os.symlink(text, os.path.join(root, path))
    found = differences(root, entries, links)
    if found:
        raise Problem("bad-checkout", "what was unpacked differs from the release: %s" % "; ".join(found[:5]))
    failpoint("agent.stage.verified")
    _sync(wire, draft)
    failpoint("agent.stage.synced")


def _make_parents(root, path):
    """Make the directories above a linked path; each must be a real one, or a link could lead out of the release."""
    folder = root
    for part in path.split(b"/")[:-1]:
        folder = os.path.join(folder, part)
        if not os.path.lexists(folder):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # noqa: S103
        elif not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Problem("linked-path-taken", "%s is not a directory of the release" % os_text(folder))


def _sync(wire, draft):
    """Make everything written so far durable: the release's files and git's objects are on one file system."""
    status, _, _ = run(wire, ["sync", "-f", draft], timeout_s=600)
    if status:
        os.sync()


def _publish(place, request, draft, index, files, links):
    identity = request["id"]
    manifest = {
        "format": FORMAT,
        "id": identity,
        "number": request["number"],
        "environment": place.environment,
        "commit": request["commit"],
        "source_commit": request["source_commit"],
        "tree": request["tree"],
        "files": files,
        "links": {path.decode("utf-8", "surrogateescape"): text.decode() for path, text in links.items()},
    }
    write_json(place.manifest(identity), manifest)
    os.rename(index, os.path.join(place.indexes, identity))
    failpoint("agent.stage.manifest")
    os.rename(draft, place.release(identity))
    failpoint("agent.stage.renamed")
    sync_directory(place.releases)
