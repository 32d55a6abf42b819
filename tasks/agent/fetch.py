"""Fetching: one release commit, shallow, from the first mirror that can give it."""

from __future__ import annotations

import contextlib
import os
import re

from .failpoints import failpoint
from .place import sync
from .problem import Problem
from .repo import OBJECT_ID, Repo, is_disk_full, last_line
from .route import nearest

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

    from .place import Place
    from .problem import Json
    from .wire import Wire

REF = re.compile(r"refs/skein/releases/[a-z0-9-]+/[0-9A-Za-z-]+\Z")
URL = re.compile(r"(?:/|file://|git://|ssh://|https://)[^\x00-\x20\x7f]+\Z")
STALL_S = 30.0


def fetch(wire: Wire, place: Place, request: Json) -> Json:
    """Bring one release commit from the first mirror of the list that can give it.

    ``request["mirrors"]`` lists ``{"name", "url", "rank"}``; within a rank the nearest by connect time goes first.
    Returns {"from": name or None where it was here already, "skipped": [{"mirror", "reason"}, …]}. Where there is no
    repository, or a damaged one, the release is fetched whole into a new one, which takes its place when it has it.
    """
    if not OBJECT_ID.match(request["commit"]) or not REF.match(request["ref"]):
        raise Problem("bad-request", "malformed commit or ref")
    repo = Repo(wire, place.repo)
    name: Optional[str] = None
    if not is_damaged(repo, request):
        if repo.has(request["commit"], request["ref"]):
            return {"from": None, "skipped": []}
        name, skipped = _from_mirrors(repo, request)
        if name is None and (not _is_promised(repo, request) or repo.is_sound(request["timeout_s"])):
            raise _no_mirror(skipped)
    if name is None:
        anew = Repo(wire, place.private("repo.git"))
        anew.make()
        name, skipped = _from_mirrors(anew, request)
        if name is None:
            raise _no_mirror(skipped)
        if os.path.lexists(place.repo):
            os.rename(place.repo, place.private("damaged.git"))
        os.rename(anew.path, place.repo)
        sync(place.own)
    return {"from": name, "skipped": skipped}


def is_damaged(repo: Repo, request: Json) -> bool:
    """Tell whether the repository cannot be used: none, half-made, doubted, or it has the ref and lacks an object."""
    if not repo.is_ready():
        return True
    return repo.has(request["commit"], request["ref"]) and not repo.is_complete(request["commit"], request["timeout_s"])


def fetch_from(repo: Repo, mirror: Json, request: Json) -> Optional[str]:
    """Fetch from one mirror; return None, or why it failed. The ref is ours: where it stood before does not matter."""
    if not URL.match(mirror["url"]):
        return "malformed url"
    commit, ref = request["commit"], request["ref"]
    words = ("fetch", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules")
    spec = "+%s:%s" % (commit, ref)
    try:
        status, _, errors = repo.git(*words, "--", mirror["url"], spec, timeout_s=request["timeout_s"], stall_s=STALL_S)
    except Problem as problem:
        return "%s: %s" % (problem.code, problem)
    if status:
        return ("disk-full: " if is_disk_full(errors) else "") + last_line(errors)
    return None if repo.has(commit, ref) else "it gave another commit than was asked for"


def _from_mirrors(repo: Repo, request: Json) -> Tuple[Optional[str], List[Json]]:
    """Return the name of the mirror that gave the release, or None, and those that were passed over."""
    skipped: List[Json] = []
    for mirror in nearest(request["mirrors"]):
        failpoint("agent.fetch.before")
        reason = fetch_from(repo, mirror, request)
        failpoint("agent.fetch.after")
        if reason is None:
            return mirror["name"], skipped
        skipped.append({"mirror": mirror["name"], "reason": reason})
        if reason.startswith("disk-full"):
            break
    return None, skipped


def _is_promised(repo: Repo, request: Json) -> bool:
    """Tell whether a mirror says that it has the release: then it is our repository that did not take it."""
    for mirror in request["mirrors"]:
        with contextlib.suppress(Problem):
            if URL.match(mirror["url"]):
                output = repo.must("ls-remote", "--", mirror["url"], request["ref"], timeout_s=20)
                if output.startswith(request["commit"].encode()):
                    return True
    return False


def _no_mirror(skipped: List[Json]) -> Problem:
    told = "; ".join("%s: %s" % (each["mirror"], each["reason"]) for each in skipped)
    code = "disk-full" if "disk-full" in told else "no-mirror"
    return Problem(code, "no mirror gave the release (%s)" % (told or "none is configured"))
