"""Which mirror first: by rank, and within a rank by the time that a connection takes."""

from __future__ import annotations

import re

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, List, Sequence

    from .problem import Json

HOST = re.compile(r"(ssh|git|https)://(?:[^@/]*@)?(\[[^\]]+\]|[^:/]+)(?::([0-9]{1,5}))?(?:/|\Z)")
PORTS = {"ssh": 22, "git": 9418, "https": 443}
NEVER = float("inf")


def connect_time(url: str, timeout_s: float = 3.0) -> float:
    """Return the seconds that a TCP connection to a url's host takes; 0 for a path, infinity where nobody answers."""
    match = HOST.match(url)
    if not match:
        return 0.0
    import socket
    import time

    port = int(match.group(3) or PORTS[match.group(1)])
    started = time.monotonic()
    try:
        socket.create_connection((match.group(2).strip("[]"), port), timeout_s).close()
    except (OSError, OverflowError, UnicodeError):
        return NEVER
    return time.monotonic() - started


def nearest(mirrors: Sequence[Json], measure: Callable[[str], float] = connect_time) -> List[Json]:
    """Order mirrors by rank, and within a rank by what ``measure`` says; unreachable ones last in theirs."""
    ranks = [mirror["rank"] for mirror in mirrors]
    timed = [
        (mirror["rank"], measure(mirror["url"]) if ranks.count(mirror["rank"]) > 1 else 0.0, place)
        for place, mirror in enumerate(mirrors)
    ]
    return [mirrors[place] for _, _, place in sorted(timed)]
