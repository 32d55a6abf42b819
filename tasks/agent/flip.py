"""The flip: one rename, refused unless turn, decision and what is live are as the deployer believes."""

import errno
import os
import time

from .children import run
from .failpoints import failpoint
from .place import sync_directory
from .problem import Problem
from .stage import read_manifest
from .state import State, write_log

RECORD = ("id", "turn", "kind", "by", "reason")


class Armed:
    """A link laid ready next to the real one, waiting for its rename."""

    def __init__(self, place, identity):
        if read_manifest(place, identity) is None or not os.path.isdir(place.release(identity)):
            raise Problem("not-staged", "release %s is not staged on this host" % identity)
        place.current()  # refuses a directory or a foreign link now, not at the flip
        self.identity = identity
        folder, name = os.path.split(place.link)
        self.path = os.path.join(folder, ".%s.skein-%d" % (name, os.getpid()))
        place.spared(lambda: lay(place.link_text(identity), self.path))


def lay(text, path):
    """Lay a symbolic link at ``path``, replacing one of ours."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    try:
        os.symlink(text, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise Problem("no-link-directory", "the link's directory %s does not exist" % os.path.dirname(path))
        raise


def flip(wire, place, armed, request):
    """Make the armed release live; return {"at": wall clock, seconds} after the rename is durable.

    Refused ("stale-turn", "moved", "not-armed") unless the turn is above every turn seen - equal only for the decision that
    was seen with it - and what is live is ``request["expect"]``. Asking again for what was done is answered, not repeated.
    """
    with wire.critical():
        wire.check_lease()
        state = State(place)
        current, decision = place.current(), request["decision"]
        if request["turn"] < state.turn or (request["turn"] == state.turn and decision != state.decision):
            raise Problem("stale-turn", "turn %d is not above %d, the newest seen here" % (request["turn"], state.turn))
        if decision == state.decision and current == request["id"]:
            return {"at": time.time()}
        if current != request["expect"]:
            raise Problem("moved", "%s is live here, not %s: somebody else deployed" % (current, request["expect"]))
        if armed is None or armed.identity != request["id"]:
            raise Problem("not-armed", "the link for %s was not laid" % request["id"])
        state.turn, state.decision = request["turn"], decision
        state.pending = dict({key: request[key] for key in RECORD}, was=current, at=time.time())
        state.save()
        failpoint("agent.flip.before")
        at = _rename(place, armed.path)
        failpoint("agent.flip.after")
    return {"at": at}


def revert(wire, place, request):
    """Undo the unconfirmed flip of a decision: what was live before is live again, or nothing where nothing was."""
    with wire.critical():
        wire.check_lease()
        state = State(place)
        pending = state.pending
        if pending is None or state.decision != request["decision"]:
            return {"current": place.current()}  # it never flipped here, or was undone already
        if place.current() == pending["id"]:
            failpoint("agent.revert.before")
            if pending["was"] is None:
                os.unlink(place.link)
                sync_directory(os.path.dirname(place.link))
            else:
                _rename(place, Armed(place, pending["was"]).path)
            failpoint("agent.revert.after")
        state.pending = None
        state.save()
        write_log(place, {"event": "reverted", "id": pending["id"], "turn": pending["turn"]})
        return {"current": place.current()}


def confirm(place, request):
    """Write the flip into this host's history: from now on it was live."""
    state = State(place)
    if state.decision == request["decision"] and state.pending:
        failpoint("agent.confirm.before")
        state.settle()
        failpoint("agent.confirm.after")
        write_log(place, dict(state.history[-1], event="live") if state.history else {"event": "settled"})
    return {"current": place.current()}


def after_flip(wire, place, request):
    """Run the operator's command in the live release; a failure is a Problem that carries the end of what it said."""
    variables = {key: os.environ[key] for key in ("PATH", "HOME", "USER", "LANG") if key in os.environ}
    variables.update(SKEIN_RELEASE=place.current() or "", SKEIN_ENVIRONMENT=place.environment)
    command = request["command"]
    try:
        status, output, errors = run(
            wire, command, directory=os.path.realpath(place.link), environment=variables, timeout_s=request["timeout_s"]
        )
    except OSError as error:
        raise Problem("after-flip", "after_flip cannot run %s: %s" % (command[0], error.strerror))
    if status:
        told = (errors or output.decode("utf-8", "replace").strip())[-500:]
        raise Problem("after-flip", "after_flip %s ended with %d: %s" % (command[0], status, told or "it said nothing"))
    return {}


def _rename(place, path):
    os.rename(path, place.link)
    at = time.time()
    sync_directory(os.path.dirname(place.link))
    return at
