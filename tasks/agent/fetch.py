"""Fetching: one release commit, shallow, from the first mirror that can give it."""

from __future__ import annotations

import os
import time

from .delta import apply
from .failpoints import failpoint
from .lean import Pattern, suppress
from .names import is_object_id, is_release_ref
from .place import sync
from .problem import Problem
from .repo import Repo, is_disk_full, last_line
from .route import Pace, Route, path_of
from .state import stale
from .trees import remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .place import Place
    from .problem import Json
    from .wire import Wire

URL = Pattern(r"(?:/|file://|git://|ssh://|https://)[^\x00-\x20\x7f]+\Z")
STALL_S = 30.0
INLINE, SWARM = "inline", "swarm"
RETRIES, RETRY_S, SPREAD_MOST_S = 5, 1.0, 60.0
REFUSED = Pattern("(?im)^(?:kex|ssh)_exchange_identification: .*(?:closed|reset)|^Connection (?:closed|reset) by ")
SPOKEN = Pattern(r"(?m)^(?:remote: |Receiving objects|Unpacking objects)")


def fetch(wire: Wire, place: Place, request: Json) -> Json:
    """Bring one release commit from the delta that came along, or that a swarm brings, or else from a mirror.

    ``request["mirrors"]`` lists ``{"name", "url", "rank"}``; within a rank the nearest by connect time goes first, and
    one that disappointed of late goes last. A random share of ``request["spread_s"]`` is waited for first. Returns
    {"from": name, or None where it was here already, "skipped": [{"mirror", "reason"}, …]}, and "swarm_s", how long a
    swarm took, where that brought it. Where there is no repository, or a damaged one, the release is fetched whole into
    a new one, which takes its place when it has it.
    """
    bases = [request["base_commit"]] if request.get("base") else []
    refs = [request["ref"], *([request["base"]] if bases else [])]
    if not all(map(is_object_id, [request["commit"], *bases])) or not all(map(is_release_ref, refs)):
        raise Problem("bad-request", "malformed commit or ref")
    repo, route = Repo(wire, place.repo, place.own), Route(path_of(place.own))
    name: Optional[str] = None
    there = standing(repo, refs, request)
    if there is not None:
        repo.vouch()
        if there.get(request["ref"]) == request["commit"]:
            return {"from": None, "skipped": []}
        name, skipped = _bring(repo, request, route, there)
        if name is None and (not _is_promised(repo, request) or repo.is_sound(request["timeout_s"])):
            raise _no_mirror(skipped)
    if name is None:
        anew = Repo(wire, place.private("repo.git"), place.own)
        anew.make()
        name, skipped = _bring(anew, request, route, {})
        if name is None:
            raise _no_mirror(skipped)
        if os.path.lexists(place.repo):
            os.rename(place.repo, place.private("damaged.git"))
        os.rename(anew.path, place.repo)
        sync(place.own)
        repo.vouch()
    answer = {"from": name, "skipped": skipped}
    return dict(answer, swarm_s=request["swarm_s"]) if name == SWARM else answer


def standing(repo: Repo, refs: List[str], request: Json) -> Optional[Dict[str, str]]:
    """Return at which commits the refs stand; None where the repository is of no use.

    There is none, it is half-made or doubted, or it has the release's ref and lacks an object.
    """
    if not repo.is_ready():
        return None
    try:
        there = repo.standing(refs)
    except Problem:
        return None
    is_here = there.get(request["ref"]) == request["commit"]
    return None if is_here and not repo.is_complete(request["commit"], request["timeout_s"]) else there


def fetch_from(repo: Repo, mirror: Json, request: Json, timeout_s: float, pace: Optional[Pace] = None) -> Optional[str]:
    """Fetch from one mirror; return None, or why it failed. The ref is ours: where it stood before does not matter.

    With ``pace``, a mirror that is slow is given up. A restricted key gets what bears that name there.
    """
    if not URL.match(mirror["url"]):
        return "malformed url"
    commit, ref = request["commit"], request["ref"]
    words = ("fetch", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules")
    spec = "+%s:%s" % (ref if request.get("restricted") else commit, ref)
    try:
        options = {"timeout_s": timeout_s, "stall_s": STALL_S, "watch": pace and pace.look}
        status, _, errors = talk(repo, *words, "--", mirror["url"], spec, **options)
    except Problem as problem:
        for path in stale(repo.path):  # git was killed, and its locks would stop the next one
            remove(path)
        return "%s: %s" % (problem.code, problem)
    if status:
        return ("disk-full: " if is_disk_full(errors) else "") + last_line(errors)
    return None if repo.has(commit, ref) else "it gave another commit than was asked for"


def talk(repo: Repo, *words: str, **options: Any) -> Tuple[int, bytes, str]:
    """Run git where it logs in at a mirror; a log-in that was refused before it was tried is tried again, with jitter.

    A stock sshd turns log-ins away when ten are under way (sshd_config(5), MaxStartups). Nothing else is repeated.
    """
    for attempt in range(RETRIES):
        status, output, errors = repo.git(*words, **options)
        if not status or not is_refused(errors):
            return status, output, errors
        pause(repo.wire, RETRY_S * 2**attempt)
    return repo.git(*words, **options)


def is_refused(errors: str) -> bool:
    """Tell whether sshd closed the connection before there was a log-in: nothing of the mirror was heard yet."""
    return bool(REFUSED.search(errors)) and not SPOKEN.search(errors)


def spread(wire: Wire, request: Json) -> None:
    """Wait a random share of ``request["spread_s"]`` before a log-in at a mirror; without ssh there is none."""
    if any(mirror["url"].startswith("ssh://") for mirror in request["mirrors"]):
        pause(wire, min(SPREAD_MOST_S, request.get("spread_s", 0.0)))


def pause(wire: Wire, most_s: float) -> None:
    """Wait for a random share of ``most_s``, so that not all targets come at once."""
    ends_at = time.monotonic() + most_s * int.from_bytes(os.urandom(4), "big") / 2**32
    while time.monotonic() < ends_at:
        wire.check()
        time.sleep(min(0.1, max(0.0, ends_at - time.monotonic())))


def _bring(repo: Repo, request: Json, route: Route, there: Dict[str, str]) -> Tuple[Optional[str], List[Json]]:
    """Return who gave the release, the delta or a mirror, or None; and those that were passed over."""
    skipped: List[Json] = []
    if request.get("payload") or request.get("swarm"):
        carrier = SWARM if request.get("swarm") else INLINE
        trouble = _gathered(repo.wire, request) or apply(repo, request, there)
        if trouble is None:
            return carrier, []
        skipped.append({"mirror": carrier, "reason": trouble})
    name, passed_over = _from_mirrors(repo, request, route)
    return name, skipped + passed_over


def _gathered(wire: Wire, request: Json) -> Optional[str]:
    """Wait for what the swarm brings, which then is the request's payload; return None, or why it does not come."""
    if not request.get("swarm") or request.get("payload"):
        return None
    from .swarm import gather

    try:
        request["payload"], request["swarm_s"] = gather(wire, request["swarm"])
    except (Problem, OSError) as problem:
        request["swarm"] = None  # nothing more will come
        return str(problem)
    return None


def _from_mirrors(repo: Repo, request: Json, route: Route) -> Tuple[Optional[str], List[Json]]:
    """Return the name of the mirror that gave the release, or None, and those that were passed over.

    Whoever was given up for being slow is asked again, without haste, when no other could give it.
    """
    spread(repo.wire, request)
    queue = route.order(request["mirrors"])
    untried = len(queue)
    given: Optional[str] = None
    skipped: List[Json] = []
    ends_at = time.monotonic() + request["timeout_s"] * len(queue)
    while queue:
        mirror, untried = queue.pop(0), untried - 1
        timeout_s = max(1.0, min(request["timeout_s"], ends_at - time.monotonic()))
        failpoint("agent.fetch.before")
        reason = fetch_from(repo, mirror, request, timeout_s, Pace() if untried > 0 else None)
        failpoint("agent.fetch.after")
        if reason is None:
            given = mirror["name"]
            break
        skipped.append({"mirror": mirror["name"], "reason": reason})
        if reason.startswith("disk-full"):
            queue = []
        else:
            route.disappoint(mirror["url"])
        if reason.startswith("slow: "):
            queue.append(mirror)
    route.save()
    return given, skipped


def _is_promised(repo: Repo, request: Json) -> bool:
    """Tell whether a mirror says that it has the release: then it is our repository that did not take it."""
    for mirror in request["mirrors"]:
        with suppress(Problem):
            if URL.match(mirror["url"]):
                _, output, _ = talk(repo, "ls-remote", "--", mirror["url"], request["ref"], timeout_s=20)
                if output.startswith(request["commit"].encode()):
                    return True
    return False


def _no_mirror(skipped: List[Json]) -> Problem:
    told = "; ".join("%s: %s" % (each["mirror"], each["reason"]) for each in skipped)
    code = "disk-full" if "disk-full" in told else "no-mirror"
    return Problem(code, "no mirror gave the release (%s)" % (told or "none is configured"))
