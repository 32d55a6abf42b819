"""The flip: one rename, refused unless turn, decision and what is live are as the deployer believes."""

from __future__ import annotations

import errno
import os
import time

from .children import run
from .failpoints import failpoint
from .lean import suppress
from .place import Place, sync
from .problem import Problem
from .stage import read_manifest
from .state import State, write_log

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Optional

    from .problem import Json
    from .wire import Wire

TEXT_MOST = 200
TURN_LEAP = 10**12  # a thousand decisions a second for thirty years; far above what a deployer believes of one host


class Armed:
    """A link laid ready next to the real one, waiting for its rename."""

    def __init__(self, place: Place, identity: str) -> None:
        if not place.stands(identity):
            raise Problem("not-staged", "release %s does not stand on this host" % identity)
        self.identity = identity
        self.path = place.beside()
        place.spared(lambda: lay(place.link_text(identity), self.path))


def arm(place: Place, identity: str) -> Armed:
    """Lay the link to a release that is staged here, and refuse a directory or a foreign link now, not at the flip."""
    if read_manifest(place, identity) is None and place.adopted(identity) is None:
        raise Problem("not-staged", "release %s is not staged on this host" % identity)
    place.current()
    return Armed(place, identity)


def lay(text: str, path: str) -> None:
    """Lay a symbolic link at ``path``, replacing one of ours."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    try:
        os.symlink(text, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            told = "the link's directory %s does not exist: make it, or set targets.link"
            raise Problem("no-link-directory", told % os.path.dirname(path)) from error
        raise


def flip(wire: Wire, place: Place, armed: Optional[Armed], request: Json) -> Json:
    """Make the armed release live; return {"at": wall clock, seconds} after the rename is durable.

    Refused ("stale-turn", "odd-turn", "moved", "not-armed") unless the turn is above every turn seen - equal only for
    the decision that was seen with it - and not above ``TURN_LEAP`` more, and what is live is ``request["expect"]``.
    Asking again for what was done is answered, not repeated. The lease is looked at before anything is written and once
    more before the rename.
    """
    wire.check_lease()
    state = State(place)
    current, decision, turn = place.current(), str(request["decision"]), int(request["turn"])
    if turn < state.turn or (turn == state.turn and decision != state.decision):
        raise Problem("stale-turn", "turn %d is not above %d, the newest seen here" % (turn, state.turn))
    if turn > state.turn + TURN_LEAP:
        told = "turn %d is out of all reason above %d, the newest seen here: some host's record is damaged"
        raise Problem("odd-turn", told % (turn, state.turn))
    if decision == state.decision and current == request["id"]:
        return {"at": time.time()}
    if current != request["expect"]:
        told = "%s is live here, not %s: somebody else deployed"
        raise Problem("moved", told % (current or "nothing", request["expect"] or "nothing"))
    if armed is None or armed.identity != request["id"]:
        raise Problem("not-armed", "the link for %s was not laid" % request["id"])
    state.settle()
    state.turn, state.decision = turn, decision
    state.ledger = request.get("ledger") or state.ledger
    state.pending = {"id": request["id"], "turn": turn, "decision": decision, "was": current, "at": time.time()}
    state.pending.update({key: str(request[key])[:TEXT_MOST] for key in ("kind", "by", "reason")})
    state.save()
    failpoint("agent.flip.before")
    wire.check_lease()
    at = _rename(place, armed.path)
    failpoint("agent.flip.after")
    return {"at": at}


def revert(wire: Wire, place: Place, request: Json) -> Json:
    """Undo the flip of a decision, the newest here: what was live before is live again, or nothing where nothing was.

    The decision itself is spent: a flip that bears it and arrives later is refused.
    """
    wire.check_lease()
    state = State(place)
    if request["decision"] != state.decision:
        return {"current": place.current()}  # it never flipped here, or was undone already
    if state.pending is None and state.history and state.history[-1].get("decision") == state.decision:
        state.pending = state.history.pop()  # a new session settled it, where the old one broke between flip and revert
        state.save()
    record = state.pending
    if record and place.current() == record["id"]:
        failpoint("agent.revert.before")
        if record["was"] is None:
            os.unlink(place.link)
            sync(os.path.dirname(place.link))
        else:
            _rename(place, Armed(place, record["was"]).path)
        failpoint("agent.revert.after")
    state.pending = state.decision = None
    state.save()
    if record:
        write_log(place, dict(record, event="reverted"))
    return {"current": place.current()}


def confirm(wire: Wire, place: Place, request: Json) -> Json:
    """Write the flip into this host's history: from now on it was live."""
    state = State(place)
    if state.decision == request["decision"] and state.pending:
        record = state.pending
        failpoint("agent.confirm.before")
        state.settle()
        failpoint("agent.confirm.after")
        write_log(place, dict(record, event="live"))
    return {"current": place.current()}


def after_flip(wire: Wire, place: Place, request: Json) -> Json:
    """Run the operator's command in the live release; a failure is a Problem that carries the end of what it said."""
    variables = {key: os.environ[key] for key in ("PATH", "HOME", "USER", "LANG") if key in os.environ}
    variables.update(SKEIN_RELEASE=place.current() or "", SKEIN_ENVIRONMENT=place.environment)
    command, inside, timeout_s = request["command"], os.path.realpath(place.link), request["timeout_s"]
    try:
        status, output, errors = run(
            wire, command, directory=inside, environment=variables, timeout_s=timeout_s, foreign=True
        )
    except OSError as error:
        raise Problem("after-flip", "after_flip cannot run %s: %s" % (command[0], error.strerror)) from error
    if status:
        told = (errors or output.decode("utf-8", "replace").strip())[-500:]
        raise Problem("after-flip", "after_flip %s ended with %d: %s" % (command[0], status, told or "it said nothing"))
    return {}


def _rename(place: Place, path: str) -> float:
    os.rename(path, place.link)
    at = time.time()
    sync(os.path.dirname(place.link))
    return at
