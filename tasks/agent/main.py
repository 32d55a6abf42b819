"""Serving requests: one table of verbs, the host's lock before anything is written, answers instead of tracebacks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time

from . import failpoints
from .children import inherit
from .fetch import fetch
from .flip import after_flip, arm, confirm, flip, revert
from .install import install
from .mirror import make_mirror
from .place import FORMAT, Place
from .probe import check, probe, status
from .problem import Problem, explain
from .prune import prune
from .stage import stage, verify
from .state import State, sweep
from .wire import LEASE_S, Over, Wire

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import IO, Callable, Dict, Optional

    from .flip import Armed
    from .problem import Json

    Verb = Callable[[Wire, Place, Json], Json]

LOCK_WAIT = 4 / 3  # leases: the session before this one may have been cut off
LOOKING: Dict[str, Verb] = {"probe": probe, "status": status, "check": check}
"""What leaves nothing behind on the host, not even a lock."""

WORKING: Dict[str, Verb] = {
    "settle": probe,  # the lock alone settles what a killed session left; then look
    "fetch": fetch,
    "stage": stage,
    "verify": verify,
    "after_flip": after_flip,
    "revert": revert,
    "confirm": confirm,
    "prune": prune,
}
"""What needs the host's lock, which the session then keeps; ``arm`` and ``flip`` do too."""


class Session:
    """What one deployer's session knows and holds on this host."""

    def __init__(self, wire: Wire, digest: str, texts: Optional[Dict[str, str]]) -> None:
        self.wire, self.digest, self.texts = wire, digest, texts
        self.place: Optional[Place] = None
        self.lock: Optional[IO[str]] = None
        self.armed: Optional[Armed] = None
        self.who = ""

    def answer(self, request: Json) -> Json:
        """Serve one request; return the message to send."""
        number = request.get("id")
        try:
            return {"id": number, "ok": self.serve(request["verb"], request["with"])}
        except Problem as problem:
            error = problem
        except OSError as problem:
            error = explain(problem)
        except Exception as problem:  # noqa: BLE001 - a bug, or a request that is none: said, and the session goes on
            error = Problem("bad-request", "%s: %s" % (type(problem).__name__, problem))
        return {"id": number, "error": {"code": error.code, "message": str(error)}}

    def serve(self, verb: str, request: Json) -> Json:
        """Do what a request asks; return what is to be answered."""
        if verb == "open":
            return self.open(request)
        if verb == "mirror":
            return make_mirror(self.wire, request)
        if self.place is None:
            raise Problem("bad-request", "this session was opened without deploy_to")
        if verb in LOOKING:
            return LOOKING[verb](self.wire, self.place, request)
        if verb not in WORKING and verb not in ("arm", "flip"):
            raise Problem("bad-request", "%r is no verb of this agent" % verb)
        self.take_lock(self.place)
        if verb == "arm":
            self.armed = arm(self.place, request["id"])
            failpoints.failpoint("agent.armed")
            return {}
        if verb == "flip":
            return flip(self.wire, self.place, self.armed, request)
        return WORKING[verb](self.wire, self.place, request)

    def open(self, request: Json) -> Json:
        """Learn where things are; the first request of every session."""
        failpoints.arm(request.get("failpoint", ""))
        self.wire.lease_s = min(LEASE_S, float(request.get("lease_s", LEASE_S)))
        self.who = request["who"]
        if request.get("deploy_to"):
            self.place = Place(request["deploy_to"], request["link"], request["environment"])
        return {"format": FORMAT, "pid": os.getpid()}

    def take_lock(self, place: Place) -> None:
        """Take the host's lock for the rest of the session, settle what a killed run left, install the agent."""
        if self.lock is not None:
            return
        State(place)  # refuses newer state before anything is written
        place.make()
        lock = open(os.path.join(place.own, "lock"), "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - kept
        try:
            self.wait_for(lock)
            failpoints.failpoint("agent.locked")
            sweep(place)
            State(place).settle()
            install(place, self.digest, self.texts)
        except BaseException:
            lock.close()
            raise
        self.lock = lock
        inherit(lock.fileno())

    def wait_for(self, lock: IO[str]) -> None:
        """Wait until the lock is ours and sign it; raise Problem "locked" with the name of who holds it."""
        ends_at = time.monotonic() + self.wire.lease_s * LOCK_WAIT
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            self.wire.check()
            if time.monotonic() > ends_at:
                lock.seek(0)
                told = "another deploy is at work on this host: %s"
                raise Problem("locked", told % (lock.read(300).strip() or "unknown"))
            time.sleep(0.1)
        with contextlib.suppress(OSError):  # a full disk must not stop a rollback
            lock.truncate(0)
            lock.write("%s since %s\n" % (self.who, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
            lock.flush()

    def close(self) -> None:
        """Remove what is private to this session; what is complete stays for the next run."""
        if self.lock is not None and self.place is not None:
            sweep(self.place)


def serve(digest: str, texts: Optional[Dict[str, str]]) -> None:
    """Serve one session on standard input and output until it ends, and with it the process."""
    os.umask(0o022)
    wire = Wire()
    session = Session(wire, digest, texts)
    wire.start()
    try:
        for request in wire.requests():
            wire.send(session.answer(request))
    except Over:
        pass
    with contextlib.suppress(OSError):
        session.close()
    with contextlib.suppress(OSError):
        if wire.over != "end of input":
            sys.stderr.write(wire.over + "\n")
        sys.stderr.flush()
    os._exit(0)
