"""Staging: a release directory made out of sight, checked file by file, synced, and only then moved into place."""

from __future__ import annotations

import os

from .draft import Draft
from .failpoints import failpoint
from .lean import dumps, suppress
from .objects import Objects
from .place import FORMAT, Place, put, read_json, sync
from .policy import RELEASES
from .problem import Problem, os_text
from .record import Record, read_record
from .repo import Repo
from .spare import spares, take
from .state import State
from .trees import as_bytes, as_text, differences, parents, remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Collection, Optional, Sequence, Tuple

    from .problem import Json
    from .trees import Changes, Links
    from .wire import Wire


def stage(wire: Wire, place: Place, request: Json) -> Json:
    """Make sure that a release stands on this host, complete and checked; nothing visible changes.

    One that is here already is checked again; one that is damaged and not live is made anew. Where the spare serves, it
    becomes the release at the cost of what changed. Returns {"made": whether it had to be made, "files": their number}.
    A release that was adopted has no commit and is asked for by its id alone: it is here, and was hashed by nobody, or
    it cannot be had: Problem "not-adopted".
    """
    identity, repo = request["id"], Repo(wire, place.repo)
    if place.adopted(identity) and place.stands(identity):
        return {"made": False, "files": 0}
    if "commit" not in request:
        raise not_adopted(identity)
    with Objects(repo) as objects:
        return _stage(wire, place, objects, request)


def _stage(wire: Wire, place: Place, objects: Objects, request: Json) -> Json:
    identity, repo = request["id"], objects.repo
    final = place.release(identity)
    if objects.tree_of(request["commit"]) != request["tree"]:
        raise Problem("bad-request", "tree %s is not that of the release commit" % request["tree"])
    if request.get("restricted") and not repo.has(request["commit"], RELEASES % place.environment + identity):
        raise Problem("restricted", "a restricted key may stage a release only as it is called on the mirrors")
    if place.stands(identity) and (files := _held(wire, place, repo, request)):
        return {"made": False, "files": files}
    if os.path.lexists(final):
        if place.current() == identity:
            told = "the live release %s differs from what is to be staged and cannot be made anew in its place"
            raise Problem("damaged-live", told % identity)
        os.rename(final, place.private("damaged-" + identity))
    try:
        return {"made": True, "files": len(_make_at_last(wire, place, objects, request).lines)}
    except Problem as problem:
        if problem.code in ("git", "bad-checkout"):
            repo.doubt(request["timeout_s"])
        raise


def _make_at_last(wire: Wire, place: Place, objects: Objects, request: Json) -> Record:
    """Make the release and return the record of its files; anew where what is another user's made the spare useless."""
    kept = spares(place)
    try:
        return _make(wire, place, objects, request)
    except (PermissionError, Problem) as error:
        if kept == spares(place) or (isinstance(error, Problem) and error.code != "bad-checkout"):
            raise
        return _make(wire, place, objects, request)  # the spare is no more


def _make(wire: Wire, place: Place, objects: Objects, request: Json) -> Record:
    """Make the release out of sight and move it into place."""
    draft = place.private(request["id"])
    try:
        known, changes = _begin(wire, place, objects, request, draft)
        links = plan_links(place, known.becomes("", changes, {}).lines, request["linked_dirs"], request["linked_files"])
        making = Draft(wire, objects, draft, known, request["tree"], changes, links)
        making.fill(request["timeout_s"])
        _publish(place, request, draft, making.record)
    except BaseException:
        with suppress(OSError):
            remove(draft)
        raise
    return making.record


def not_adopted(identity: str) -> Problem:
    """Return what is wrong where a release without a commit is not here."""
    told = "release %s was adopted on other targets and is not here, and no mirror has it: name another release "
    return Problem("not-adopted", (told + "with --to, or leave this target out with --only") % identity)


def _held(wire: Wire, place: Place, repo: Repo, request: Json) -> int:
    """Return the number of files of a release that stands here as it must be; none where it does not."""
    manifest = read_manifest(place, request["id"])
    record = None if request["full"] else read_record(place.record(request["id"]))
    if manifest is None or manifest["tree"] != request["tree"]:
        return 0
    if record is None or record.tree != request["tree"]:
        whole: Changes = dict(repo.entries(request["tree"]))
        record = Record("", {}, {}).becomes(request["tree"], whole, {})
    record.links = plan_links(place, record.lines, request["linked_dirs"], request["linked_files"])
    return len(record.lines) if record.holds(os.fsencode(place.release(request["id"])), wire.check) else 0


def _begin(wire: Wire, place: Place, objects: Objects, request: Json, draft: str) -> Tuple[Record, Changes]:
    """Bring the spare to ``draft``, or make an empty directory; return its record and how the release differs.

    Every file of a spare is as it was when it was last hashed, or is hashed again; with any damage none of them serves.
    """
    known, spare = None, place.private("spare")
    if request["reuse_after"] is not None:
        known = take(place, spare, State(place).history, request["reuse_after"])
    failpoint("agent.stage.spare")
    if known:
        if request["full"]:
            known = known.becomes(known.tree, {path: known.entry(path) for path in known.lines}, known.links)
        with suppress(Problem, OSError):  # the objects of its tree may be gone, or others be at work in it
            if known.holds(os.fsencode(spare), wire.check):
                changes = objects.changes(known.tree, request["tree"])
                os.rename(spare, draft)
                return known, changes
        with suppress(OSError):  # the sweep tries again
            remove(spare)
    os.mkdir(draft, 0o777)
    return Record("", {}, {}), dict(objects.repo.entries(request["tree"]))


def verify(wire: Wire, place: Place, request: Json) -> Json:
    """Hash a release that is here against its tree; raise Problem "damaged" with what differs.

    One that was adopted has no tree: none of its files is hashed.
    """
    identity = request["id"]
    if place.adopted(identity) and place.stands(identity):
        return {"files": 0}
    manifest = read_manifest(place, identity)
    if manifest is None or not place.stands(identity):
        raise Problem("missing", "release %s is not on this host" % identity)
    entries = Repo(wire, place.repo).entries(manifest["tree"])
    links = {as_bytes(path): as_bytes(text) for path, text in manifest["links"].items()}
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


def plan_links(place: Place, paths: Collection[bytes], directories: Sequence[str], files: Sequence[str]) -> Links:
    """Return {path: text} of the links into ``shared/``; raise Problem where the release or ``shared/`` forbids one."""
    links: Links = {}
    for name in [*directories, *files]:
        path = _linked_path(name)
        if path in paths or any(each.startswith(path + b"/") for each in paths):
            raise Problem(
                "linked-path-taken",
                "the release itself holds %s, which is a linked path: remove it from the source (git rm -r --cached) "
                "or from targets.linked_dirs and linked_files" % name,
            )
        for parent in parents(path):
            if parent in paths:
                told = "%s is a file of the release and cannot hold %s" % (os_text(parent), name)
                raise Problem("linked-path-taken", told)
        links[path] = b"../" * (path.count(b"/") + 2) + b"shared/" + path
    _refuse_nested(links)
    refuse_lacking(place, directories, files)
    for name in directories:
        os.makedirs(os.path.join(place.shared, name), exist_ok=True)
    return links


def refuse_lacking(place: Place, directories: Sequence[str], files: Sequence[str]) -> None:
    """Raise Problem where ``shared/`` lacks a file that is to be linked, or has no directory where one must be."""
    missing = [name for name in files if not os.path.isfile(os.path.join(place.shared, name))]
    if missing:
        raise Problem("missing-shared-file", "not in %s: %s: put it there first" % (place.shared, ", ".join(missing)))
    for name in directories:
        path = os.path.join(place.shared, name)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise Problem("linked-path-taken", "%s is not a directory, as targets.linked_dirs says" % path)


def _linked_path(name: str) -> bytes:
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise Problem("bad-request", "%r is no relative path of a linked directory or file" % name)
    return as_bytes(name)


def _refuse_nested(links: Links) -> None:
    for path in links:
        for parent in parents(path):
            if parent in links:
                told = "the linked path %s lies inside the linked path %s: name one of them only"
                raise Problem("linked-path-taken", told % (os_text(path), os_text(parent)))


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
        "files": len(record.lines),
        "links": {as_text(path): as_text(text) for path, text in record.links.items()},
    }
    files = {place.manifest(identity): dumps(manifest).encode("ascii"), place.record(identity): record.content()}
    put(files, 0o644)
    failpoint("agent.stage.manifest")
    os.rename(draft, place.release(identity))
    failpoint("agent.stage.renamed")
    for folder in (place.manifests, place.records, place.releases):  # a release without a manifest is not staged
        sync(folder)
