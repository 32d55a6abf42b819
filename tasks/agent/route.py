"""Which mirror first: by rank, and within a rank by the time that a connection takes, as this host remembers it."""

from __future__ import annotations

import os
import time

from .lean import Pattern, suppress
from .place import FORMAT, read_json, write_json
from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Sequence, Tuple

    from .problem import Json

HOST = Pattern(r"(ssh|git|https)://(?:[^@/]*@)?(\[[^\]]+\]|[^:/]+)(?::([0-9]{1,5}))?(?:/|\Z)")
PORTS = {"ssh": 22, "git": 9418, "https": 443}
NEVER = float("inf")
PROBES = 3
REMEMBERED_S = 86400.0
AVOIDED_S = 900.0  # a mirror that disappointed is asked last for so long, then measured and tried again
SLOW_S, SLOW_RATE = 20.0, 16 << 10
SAMPLE_S = 1.0
RECEIVED = Pattern(rb"(?:Receiving|Unpacking) objects: 100%[^\r\n]*done|Resolving deltas")  # the rest is work of ours


def connect_time(url: str, timeout_s: float = 3.0) -> float:
    """Return the seconds that a TCP connection to a url's host takes; 0 for a path, infinity where nobody answers."""
    match = HOST.match(url)
    if not match:
        return 0.0
    import socket

    port = int(match.group(3) or PORTS[match.group(1)])
    started = time.monotonic()
    try:
        socket.create_connection((match.group(2).strip("[]"), port), timeout_s).close()
    except (OSError, OverflowError, UnicodeError):
        return NEVER
    return time.monotonic() - started


def bytes_read(pid: int) -> Optional[int]:
    """Return how many bytes a process has read so far, from wherever; None where the kernel does not tell."""
    try:
        with open("/proc/%d/io" % pid, encoding="ascii") as file:
            return int(file.readline().split()[1])  # rchar
    except (OSError, ValueError, IndexError):
        return None


def median_time(url: str, once: Callable[[str], float] = connect_time) -> float:
    """Return the median of three connect times; infinity as soon as one attempt fails."""
    times: List[float] = []
    while len(times) < PROBES and NEVER not in times:
        times.append(once(url))
    return NEVER if NEVER in times else sorted(times)[len(times) // 2]


def nearest(mirrors: Sequence[Json], measure: Callable[[str], float] = median_time) -> List[Json]:
    """Order mirrors by rank, and within a rank by what ``measure`` says; unreachable ones last in theirs."""
    ranks = [mirror["rank"] for mirror in mirrors]
    timed = [
        (mirror["rank"], measure(mirror["url"]) if ranks.count(mirror["rank"]) > 1 else 0.0, place)
        for place, mirror in enumerate(mirrors)
    ]
    return [mirrors[place] for _, _, place in sorted(timed)]


class Route:
    """What this host remembers of its mirrors, in ``route.json``: {url: {"s": seconds or None, "at": wall clock}}.

    ``None`` stands for one that disappointed. It is a memory only: what cannot be read or written is measured again.
    """

    def __init__(
        self,
        path: str,
        measure: Callable[[str], float] = median_time,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self._measure, self._clock = path, measure, clock
        self._is_newer = self._changed = False
        self._known: Any = {}
        try:
            self._known = (read_json(path, "route") or {}).get("mirrors", {})
        except Problem as problem:
            self._is_newer = problem.code == "newer-route"
        except OSError:
            self._is_newer = True  # it cannot be read, so it is not ours to replace

    def order(self, mirrors: Sequence[Json]) -> List[Json]:
        """Return the mirrors, nearest first, those that disappointed of late last."""
        bad = [mirror for mirror in mirrors if self._is_avoided(mirror["url"])]
        good = [mirror for mirror in mirrors if mirror not in bad]
        return nearest(good, self.time_to) + sorted(bad, key=lambda mirror: mirror["rank"])

    def time_to(self, url: str) -> float:
        """Return the remembered connect time, measured anew where it is unknown or a day old."""
        entry = self._entry(url, REMEMBERED_S)
        if entry is not None and isinstance(entry["s"], (int, float)):
            return float(entry["s"])
        seconds = self._measure(url)
        if seconds < NEVER:
            self._set(url, seconds)
        return seconds

    def disappoint(self, url: str) -> None:
        """Note that a mirror failed, stalled, or was slower than it may be."""
        self._set(url, None)

    def save(self) -> None:
        """Write what was learnt; a full disk must not stop a deploy."""
        if self._changed and not self._is_newer:
            with suppress(OSError):
                write_json(self.path, {"format": FORMAT, "mirrors": self._known})

    def _is_avoided(self, url: str) -> bool:
        entry = self._entry(url, AVOIDED_S)
        return entry is not None and entry["s"] is None

    def _entry(self, url: str, lasts_s: float) -> Optional[Json]:
        entry = self._known.get(url) if isinstance(self._known, dict) else None
        if not isinstance(entry, dict) or "s" not in entry or not isinstance(entry.get("at"), (int, float)):
            return None
        return entry if 0 <= self._clock() - entry["at"] < lasts_s else None

    def _set(self, url: str, seconds: Optional[float]) -> None:
        if not isinstance(self._known, dict):
            self._known = {}
        self._known[url] = {"s": seconds, "at": self._clock()}
        self._changed = True


class Pace:
    """Watches a fetch: Problem "slow" once it received too little for a while.

    What was received is what git itself read, by the kernel's count (proc(5), /proc/PID/io); where that cannot be read
    nothing is ever slow, and a fetch that is silent is given up as stalled.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, count: Callable[[int], Optional[int]] = bytes_read
    ) -> None:
        self._clock, self._count = clock, count
        self._pid = 0
        self._marks: List[Tuple[float, int]] = []

    def look(self, pid: int, errors: bytes) -> None:
        """Take in the process and the end of what it wrote on standard error."""
        now = self._clock()
        if pid != self._pid:
            self._pid, self._marks = pid, []
        if self._marks and now - self._marks[-1][0] < SAMPLE_S:
            return
        received = self._count(pid)
        if received is None or RECEIVED.search(errors):
            self._marks = []
            return
        self._marks.append((now, received))
        while len(self._marks) > 1 and now - self._marks[1][0] >= SLOW_S:
            self._marks.pop(0)
        began, before = self._marks[0]
        rate = (received - before) / max(SAMPLE_S, now - began)
        if now - began >= SLOW_S and rate < SLOW_RATE:
            told = "under %d KB/s for %d s, at the end %d bytes/s: given up for the next mirror"
            raise Problem("slow", told % (SLOW_RATE >> 10, SLOW_S, rate))


def path_of(own: str) -> str:
    """Return where a target keeps its route, given its private folder."""
    return os.path.join(own, "route.json")
