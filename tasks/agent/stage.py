"""Staging: a release directory made out of sight, checked file by file, synced, and only then moved into place."""

from __future__ import annotations

import contextlib
import os

from .draft import Draft
from .failpoints import failpoint
from .place import FORMAT, Place, read_json, sync, write_json
from .problem import Problem, os_text
from .record import Record, read_record
from .repo import Repo
from .spare import take
from .state import State
from .trees import differences, parents, remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional, Sequence

    from .problem import Json
    from .trees import Entries, Links
    from .wire import Wire


def stage(wire: Wire, place: Place, request: Json) -> Json:
    """Make sure that a release stands on this host, complete and checked; nothing visible changes.

    One that is here already is checked again; one that is damaged and not live is made anew. Where the spare serves, it
    becomes the release at the cost of what changed. Returns {"made": whether it had to be made, "files": their number}.
    """
    identity, repo = request["id"], Repo(wire, place.repo)
    final = place.release(identity)
    if repo.tree_of(request["commit"]) != request["tree"]:
        raise Problem("bad-request", "tree %s is not that of the release commit" % request["tree"])
    entries = repo.entries(request["tree"])
    links = plan_links(place, entries, request["linked_dirs"], request["linked_files"])
    if place.stands(identity) and not _wrong(wire, place, request, entries, links):
        return {"made": False, "files": len(entries)}
    if os.path.lexists(final):
        if place.current() == identity:
            told = "the live release %s differs from what is to be staged and cannot be made anew in its place"
            raise Problem("damaged-live", told % identity)
        os.rename(final, place.private("damaged-" + identity))
    draft = place.private(identity)
    try:
        known = _from_spare(wire, place, request, draft)
        making = Draft(wire, repo, draft, known, request["tree"], entries, links)
        making.fill(request["timeout_s"])
        _publish(place, request, draft, making.record)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(draft)
        if isinstance(error, Problem) and error.code in ("git", "bad-checkout"):
            repo.doubt(request["timeout_s"])
        raise
    return {"made": True, "files": len(entries)}


def _from_spare(wire: Wire, place: Place, request: Json, draft: str) -> Record:
    """Bring the spare to ``draft`` and return its record; where none serves make an empty directory.

    Every file of it is as it was when it was last hashed, or is hashed again; with any damage none of them serves.
    """
    if request["reuse_after"] is not None:
        known = take(place, draft, State(place).history, request["reuse_after"])
        failpoint("agent.stage.spare")
        if known:
            if request["full"]:
                known.looks.clear()
            if not differences(os.fsencode(draft), known.entries, known.links, 1, wire.check, known):
                return known
            remove(draft)
    os.mkdir(draft, 0o777)
    return Record({}, {}, {})


def verify(wire: Wire, place: Place, request: Json) -> Json:
    """Hash a release that is here against its tree; raise Problem "damaged" with what differs."""
    identity = request["id"]
    manifest = read_manifest(place, identity)
    if manifest is None or not place.stands(identity):
        raise Problem("missing", "release %s is not on this host" % identity)
    entries = Repo(wire, place.repo).entries(manifest["tree"])
    links = {_bytes(path): _bytes(text) for path, text in manifest["links"].items()}
    found = differences(os.fsencode(place.release(identity)), entries, links, check=wire.check)
    if found:
        raise Problem("damaged", "release %s differs from what was released: %s" % (identity, "; ".join(found[:5])))
    return {"files": len(entries)}


def read_manifest(place: Place, identity: str) -> Optional[Json]:
    """Return the manifest of a release, or None where there is none that is whole: the release is then staged anew."""
    try:
        manifest = read_json(place.manifest(identity), "manifest")
    except Problem as problem:
        if problem.code != "damaged-manifest":
            raise
        return None
    whole = manifest and all(isinstance(manifest.get(key), str) for key in ("commit", "source_commit", "tree"))
    return manifest if whole and manifest and isinstance(manifest.get("links"), dict) else None


def plan_links(place: Place, entries: Entries, directories: Sequence[str], files: Sequence[str]) -> Links:
    """Return {path: text} of the links into ``shared/``; raise Problem where the release or ``shared/`` forbids one."""
    links: Links = {}
    folders = {parent for path in entries for parent in parents(path)}
    for name in [*directories, *files]:
        path = _linked_path(name)
        if path in entries or path in folders:
            raise Problem(
                "linked-path-taken",
                "the release itself holds %s, which is a linked path: remove it from the source (git rm -r --cached) "
                "or from targets.linked_dirs and linked_files" % name,
            )
        for parent in parents(path):
            if parent in entries:
                told = "%s is a file of the release and cannot hold %s" % (os_text(parent), name)
                raise Problem("linked-path-taken", told)
        links[path] = b"../" * (path.count(b"/") + 2) + b"shared/" + path
    _refuse_nested(links)
    missing = [name for name in files if not os.path.isfile(os.path.join(place.shared, name))]
    if missing:
        raise Problem("missing-shared-file", "not in %s: %s: put it there first" % (place.shared, ", ".join(missing)))
    for name in directories:
        path_here = os.path.join(place.shared, name)
        if os.path.lexists(path_here) and not os.path.isdir(path_here):
            raise Problem("linked-path-taken", "%s is not a directory, as targets.linked_dirs says" % path_here)
        os.makedirs(path_here, exist_ok=True)
    return links


def _linked_path(name: str) -> bytes:
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise Problem("bad-request", "%r is no relative path of a linked directory or file" % name)
    return _bytes(name)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _refuse_nested(links: Links) -> None:
    for path in links:
        for parent in parents(path):
            if parent in links:
                told = "the linked path %s lies inside the linked path %s: name one of them only"
                raise Problem("linked-path-taken", told % (os_text(path), os_text(parent)))


def _wrong(wire: Wire, place: Place, request: Json, entries: Entries, links: Links) -> List[str]:
    manifest = read_manifest(place, request["id"])
    if manifest is None or manifest["tree"] != request["tree"]:
        return ["no manifest"]
    record = None if request["full"] else read_record(place.record(request["id"]))
    return differences(os.fsencode(place.release(request["id"])), entries, links, 20, wire.check, record)


def _publish(place: Place, request: Json, draft: str, record: Record) -> None:
    identity = request["id"]
    manifest = {
        "format": FORMAT,
        "id": identity,
        "number": request["number"],
        "environment": place.environment,
        "commit": request["commit"],
        "source_commit": request["source_commit"],
        "tree": request["tree"],
        "files": len(record.entries),
        "links": {_text(path): _text(text) for path, text in record.links.items()},
    }
    write_json(place.manifest(identity), manifest)
    record.save(place.record(identity))
    failpoint("agent.stage.manifest")
    os.rename(draft, place.release(identity))
    failpoint("agent.stage.renamed")
    sync(place.releases)
