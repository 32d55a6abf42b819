"""The spare: a release directory that prune would delete anyway, kept so that the next one costs what its change costs.

``.skein/spare/<id>`` is the directory and ``.skein/spare/<id>.json`` the record of its files, which comes last and goes
first: a directory without one is rubbish.
"""

from __future__ import annotations

import os
import time

from .lean import suppress
from .names import is_id
from .problem import Problem, explain
from .record import read_record
from .trees import remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Optional, Sequence

    from .place import Place
    from .problem import Json
    from .record import Record

PROC = "/proc"


def put(place: Place, identity: str, grave: str) -> None:
    """Keep a release that is no longer wanted, and stands at ``grave``, as the spare instead of the one that was."""
    path = os.path.join(place.spare, identity)
    os.makedirs(place.spare, exist_ok=True)
    discard(place)
    os.rename(grave, path)
    os.rename(place.record(identity), path + ".json")


def discard(place: Place) -> None:
    """Delete what is kept; a kill on the way leaves no record, so nobody uses what is left.

    What cannot be deleted is at least out of the way of the next one.
    """
    for name in sorted(_names(place), key=lambda name: not name.endswith(".json")):
        grave = place.private("spare-" + name)
        os.rename(os.path.join(place.spare, name), grave)
        remove(grave)


def given_up(place: Place, work: Callable[[], Json]) -> Json:
    """Run ``work`` and, where the disk is full, run it once more with the spare deleted."""
    try:
        return work()
    except (OSError, Problem) as error:
        problem = explain(error) if isinstance(error, OSError) else error
        if problem.code != "disk-full" or not _names(place):
            raise
    with suppress(OSError):
        discard(place)
    return work()


def take(place: Place, draft: str, history: Sequence[Json], reuse_after: float) -> Optional[Record]:
    """Move the spare to ``draft`` and return the record of its files; None where there is none that may be used.

    One that was live less than ``reuse_after`` seconds ago may not, nor one that a process is seen to be using.
    """
    for name in spares(place):
        path = os.path.join(place.spare, name)
        record = read_record(path + ".json")
        until = live_until(history, name)
        if record is None or until is None or time.time() - until < reuse_after or is_used(path):
            continue
        with suppress(OSError):  # another user's
            os.unlink(path + ".json")
            os.rename(path, draft)
            return record
    return None


def live_until(history: Sequence[Json], identity: str) -> Optional[float]:
    """Return when another release took the place of this one for the last time; None where the history does not say."""
    for place in range(len(history) - 1, 0, -1):
        if history[place - 1]["id"] == identity:
            at: float = history[place]["at"]
            return at
    return None


def is_used(path: str) -> bool:
    """Tell whether a process works in a directory or has something of it open, as far as this user may look."""
    inside = os.path.realpath(path) + "/"
    for process in os.listdir(PROC):
        folder = "%s/%s/" % (PROC, process)
        try:
            names = ["cwd", "root", *["fd/" + name for name in os.listdir(folder + "fd")]]
        except OSError:
            continue  # another user's, or it ended, or it is no process
        for name in names:
            with suppress(OSError):  # it was closed meanwhile
                if (os.readlink(folder + name) + "/").startswith(inside):
                    return True
    return False


def spares(place: Place) -> Sequence[str]:
    """Return the ids of what is kept: one, or none."""
    return [name for name in _names(place) if is_id(name)]


def _names(place: Place) -> Sequence[str]:
    try:
        return os.listdir(place.spare)
    except OSError:
        return []
