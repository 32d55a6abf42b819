"""What this host remembers: the highest turn it saw, what was live when, and a flip that nobody has confirmed yet."""

from __future__ import annotations

import os
import stat
import time

from .gate import POLICY
from .lean import dumps, suppress
from .names import DIGITS, consists_of, is_id
from .place import FORMAT, Place, read_json, write_json
from .problem import Problem
from .trees import remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Sequence, Tuple

    from .problem import Json

HISTORY_MOST = 200
LOG_MOST = 1 << 20
TURN_MOST = 1 << 62
RECORD: Dict[str, Tuple[type, ...]] = {
    "id": (str,),
    "turn": (int,),
    "at": (int, float),
    "kind": (str,),
    "by": (str,),
    "reason": (str,),
}


class State:
    """The content of ``state.json``.

    ``turn`` and ``decision`` are those of the newest flip seen, ``ledger`` the {"head", "number"} of the ledger that
    it came from; ``history`` lists what was live, oldest first, each
    ``{"id", "turn", "at", "kind", "by", "reason", "decision", "was"}``, where ``was`` is what was live before it;
    ``pending`` is such a record of the flip under way, or None.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        value = read_json(place.state, "state") or {}
        if not is_sound(value):
            raise Problem("damaged-state", "%s is damaged: move it away and deploy again" % place.state)
        self.turn: int = value.get("turn", 0)
        self.decision: Optional[str] = value.get("decision")
        self.ledger: Optional[Json] = value.get("ledger")
        self.history: List[Json] = value.get("history", [])
        self.pending: Optional[Json] = value.get("pending")

    def save(self) -> None:
        """Write it, durably."""
        value: Json = {"format": FORMAT, "turn": self.turn, "decision": self.decision, "pending": self.pending}
        value["history"] = self.history[-HISTORY_MOST:]
        value.update({"ledger": self.ledger} if self.ledger else {})
        self.place.spared(lambda: write_json(self.place.state, value))

    def settle(self) -> None:
        """Turn a pending flip into history where the link shows that it happened, and forget it where it did not."""
        if self.pending is None:
            return
        self.history, self.pending = self.lived(), None
        self.save()

    def lived(self) -> List[Json]:
        """Return the history as ``settle`` would leave it, and write nothing."""
        if self.pending is None or self.place.is_directory():
            return self.history
        happened = self.place.link_reads() == self.place.link_text(self.pending["id"])
        return [*self.history, self.pending] if happened else self.history


def refuse_newer(place: Place) -> None:
    """Raise Problem where anything here was written by a newer Skein: then this one writes nothing at all.

    What is damaged is a matter for whoever needs it.
    """
    State(place)
    manifests = [(os.path.join(place.manifests, name), "manifest") for name in _names(place.manifests)]
    for path, what in [(os.path.join(place.own, POLICY), "policy"), *manifests]:
        _refuse_newer(path, what)


def _refuse_newer(path: str, what: str) -> None:
    try:
        read_json(path, what)
    except Problem as problem:
        if problem.code == "newer-" + what:
            raise


def is_sound(value: Json) -> bool:
    """Tell whether what was read is a state: a file of the right format can still have been edited by hand."""
    turn, history, pending = value.get("turn", 0), value.get("history", []), value.get("pending")
    if not isinstance(turn, int) or not 0 <= turn < TURN_MOST or not isinstance(history, list):
        return False
    if not isinstance(value.get("ledger", {}), dict):
        return False
    return all(
        isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in RECORD.items())
        for record in [*history, *([] if pending is None else [pending])]
    )


def live_stack(history: Sequence[Json]) -> List[str]:
    """Return the ids that a chain of rollbacks would visit, oldest first, the live one last.

    A deploy pushes its id; a rollback goes back to where its id stands, so rolling back twice goes two back, not forth.
    """
    stack: List[str] = []
    for record in history:
        if record["kind"] == "rollback" and record["id"] in stack:
            del stack[stack.index(record["id"]) + 1 :]
        elif not stack or stack[-1] != record["id"]:
            stack.append(record["id"])
    return stack


def judged(history: Sequence[Json]) -> Tuple[Dict[str, int], Dict[str, int]]:
    """Return {id: turn} of when each release was last made live, and of when a rollback last left it for an older one.

    What was left after it was last made live is marked bad: see the deployer's ``core.marks``.
    """
    chosen: Dict[str, int] = {}
    left: Dict[str, int] = {}
    for record in history:
        identity, was = record["id"], record.get("was")
        chosen[identity] = record["turn"]
        if record["kind"] == "rollback" and number_of(was) > number_of(identity):
            left[str(was)] = record["turn"]
    return chosen, left


def number_of(identity: object) -> int:
    """Return the number in a release's id, the higher the later it was made; -1 for what is none."""
    return int(identity.split("-")[1]) if isinstance(identity, str) and is_id(identity) else -1


def write_log(place: Place, record: Json) -> None:
    """Append a line to this host's own log, best effort: a full disk must not stop a rollback."""
    with suppress(OSError):
        if os.path.exists(place.log) and os.path.getsize(place.log) > LOG_MOST:
            os.rename(place.log, place.log + ".1")
        with open(place.log, "a", encoding="ascii") as file:
            file.write(dumps(dict(record, format=FORMAT, logged_at=time.time())) + "\n")


def sweep(place: Place) -> None:
    """Remove what a killed run of ours left; the caller holds the lock.

    Private files, stale git locks, links that were laid but never used, manifests of releases that do not stand here.
    What cannot be removed stays until the next time: it must not keep a rollback from running.
    """
    for path in [*_private(place), *_unpaired(place), *_unused_links(place), *_exchanged(place), *stale(place.repo)]:
        with suppress(OSError):
            remove(path)


def _names(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _private(place: Place) -> Iterator[str]:
    yield from (os.path.join(place.tmp, name) for name in _names(place.tmp))
    for folder in (place.own, place.manifests, place.records):
        yield from (os.path.join(folder, name) for name in _names(folder) if name.endswith(".new"))


def _unpaired(place: Place) -> Iterator[str]:
    for folder in (place.manifests, place.records):
        for name in _names(folder):
            identity = name[:-5]
            if name.endswith(".json") and is_id(identity) and _is_gone(place.where(identity)):
                yield os.path.join(folder, name)


def _is_gone(path: str) -> bool:
    """Tell whether no directory is there; one that cannot be seen counts as there."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _unused_links(place: Place) -> Iterator[str]:
    """Yield links next to the real one that no other program can have laid: by name, and by where they point."""
    folder, name = os.path.split(place.link)
    with suppress(OSError):
        name = os.readlink(place.link)
    for each in _names(folder):
        if not each.startswith(place.laid) or not consists_of(each[len(place.laid) :], DIGITS):
            continue
        path = os.path.join(folder, each)
        with suppress(OSError):
            if place.named(os.readlink(path)) and each != name:
                yield path


def _exchanged(place: Place) -> Iterator[str]:
    """Yield links in ``releases`` that were to change places with a directory, or did: see ``adopt``."""
    for name in _names(place.releases):
        path = os.path.join(place.releases, name)
        if (is_id(name) or name == place.detour) and os.path.islink(path):
            ours = (place.link,) if name == place.detour else (place.link_text(name), place.detour)
            if os.readlink(path) in ours:
                yield path


def stale(repo: str) -> Iterator[str]:
    """Yield what a killed git left in a repository of ours; under our lock no other git is running there."""
    for folder, folders, files in os.walk(repo):
        for name in files:
            if name.endswith(".lock") or name.startswith(("tmp_pack_", "tmp_idx_", "tmp_obj_", "tmp_rev_")):
                yield os.path.join(folder, name)
        for name in [name for name in folders if name.startswith("tmp_objdir-")]:
            yield os.path.join(folder, name)
            folders.remove(name)
