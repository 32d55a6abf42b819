"""Serving requests: one table of verbs, the host's lock before anything is written, answers instead of tracebacks."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from . import failpoints
from .children import inherit
from .fetch import fetch
from .flip import after_flip, arm, confirm, flip, revert
from .install import install, is_whole
from .lean import suppress
from .place import FORMAT, Place
from .probe import check, probe, status
from .problem import Problem, explain
from .prune import prune
from .spare import given_up
from .stage import stage, verify
from .state import State, refuse_newer, sweep
from .wire import LEASE_S, Over, Wire

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Dict, Optional

    from .flip import Armed
    from .problem import Json

    Verb = Callable[[Wire, Place, Json], Json]
    MirrorVerb = Callable[[Wire, Json], Json]


def later(module: str, name: str) -> Callable[..., Any]:
    """Return a verb of a module that is read when it is first asked for: a deploy needs few of them."""

    def verb(*arguments: object) -> Any:
        try:
            found = getattr(__import__(module, globals(), None, [name], 1), name)
        except Exception as error:  # a damaged file can raise anything
            told = "the agent in .skein/agent on this host is damaged: remove that folder, then run again"
            raise Problem("damaged-agent", told) from error
        return found(*arguments)

    return verb


LOCK_WAIT = 4 / 3  # leases: the session before this one may have been cut off
LOOKING: Dict[str, Verb] = {
    "probe": probe,
    "status": status,
    "check": check,
    "adoption": later("adoption", "adoption"),
    "foresee": later("foresee", "foresee"),
    "usage": later("usage", "usage"),
}
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


UNRESTRICTED: Dict[str, Verb] = {
    "prepare": later("prepare", "prepare"),
    "share": later("prepare", "share"),
    "adopt": later("adopt", "adopt"),
    "give_back": later("adopt", "give_back"),
    "swarm_join": later("swarm", "join"),
    "library_look": later("library", "look"),
    "library": later("library", "lay"),
}
"""What needs the lock as well, and is never done with a restricted key."""

ON_MIRRORS: Dict[str, MirrorVerb] = {
    "mirror": later("mirror", "make_mirror"),
    "mirror_look": later("mirror", "look_at_mirror"),
    "retain": later("growth", "retain"),
    "hold": later("hold", "hold"),
    "let_go": later("hold", "let_go"),
    "break_hold": later("hold", "break_hold"),
    "difference": later("difference", "difference"),
    "lend": later("lend", "lend"),
    "swarm_meet": later("swarm", "meet"),
    "swarm_go": later("swarm", "go"),
    "swarm_leave": later("swarm", "leave"),
    "swarm_take": later("swarm_mirror", "take"),
    "mirror_library_look": later("library", "look_at_mirror"),
    "mirror_library": later("library", "lay_in_mirror"),
}
"""What is done to a repository that is named by its path, on a machine that is no target, or to this session's peer."""

KEYS: Dict[str, MirrorVerb] = {"authorize": later("keys", "authorize"), "admit_gate": later("keys", "admit_gate")}
"""What is written into the user's own authorized_keys."""


class Session:
    """What one deployer's session knows and holds on this host."""

    def __init__(self, wire: Wire, digest: str, texts: Optional[Dict[str, str]], policy: Optional[Json] = None) -> None:
        self.wire, self.digest, self.texts, self.policy = wire, digest, texts, policy
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
        if self.policy is not None:
            from .policy import permit

            request = permit(self.policy, verb, request, {*LOOKING, *WORKING, "arm", "flip"})
        if verb in ("open", "own"):
            return self.open(request) if verb == "open" else self.own(request)
        for table in (ON_MIRRORS, KEYS):
            if verb in table:
                return table[verb](self.wire, request)
        if self.place is None:
            raise Problem("bad-request", "this session was opened without deploy_to")
        if verb in LOOKING:
            return LOOKING[verb](self.wire, self.place, request)
        return self.work(self.place, verb, request)

    def work(self, place: Place, verb: str, request: Json) -> Json:
        """Do what needs the host's lock."""
        if verb not in WORKING and verb not in UNRESTRICTED and verb not in ("arm", "flip"):
            raise Problem("bad-request", "%r is no verb of this agent" % verb)
        if verb == "prepare":
            from .prepare import lacking

            request = dict(request, lacked=lacking(place, self.digest), digest=self.digest)
        self.take_lock(place)
        if verb == "arm":
            self.armed = arm(place, request["id"])
            failpoints.failpoint("agent.armed")
            return {}
        if verb == "flip":
            return flip(self.wire, place, self.armed, request)
        work = UNRESTRICTED.get(verb) or WORKING[verb]
        return given_up(place, lambda: work(self.wire, place, request))

    def open(self, request: Json) -> Json:
        """Learn where things are; the first request of every session."""
        failpoints.arm(request.get("failpoint", ""))
        self.wire.lease_s = min(LEASE_S, float(request.get("lease_s", LEASE_S)))
        self.who = request["who"]
        if request.get("deploy_to"):
            self.place = Place(request["deploy_to"], request["link"], request["environment"])
        return {"format": FORMAT, "pid": os.getpid(), "restricted": self.policy is not None}

    def own(self, request: Json) -> Json:
        """As root, make directories for their owner and become it; only then learn where things are.

        The session was opened without a place, for root must not run an agent that another user could have changed.
        """
        from .own import own

        done = own(self.wire, request)
        if request.get("deploy_to") and self.place is None:
            self.place = Place(request["deploy_to"], request["link"], request["environment"])
            if self.texts is not None and is_whole(self.place, self.digest, self.texts):
                self.texts = None
        return done

    def take_lock(self, place: Place) -> None:
        """Take the host's lock for the rest of the session, settle what a killed run left, install the agent."""
        if self.lock is not None:
            return
        refuse_newer(place)
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
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            self.wire.check()
            if time.monotonic() > ends_at:
                lock.seek(0)
                told = "another deploy is at work on this host: %s"
                raise Problem("locked", told % (lock.read(300).strip() or "unknown"))
            time.sleep(0.1)
        with suppress(OSError):  # a full disk must not stop a rollback
            lock.truncate(0)
            lock.write("%s since %s\n" % (self.who, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
            lock.flush()

    def close(self) -> None:
        """Remove what is private to this session; what is complete stays for the next run."""
        if self.lock is not None and self.place is not None:
            sweep(self.place)


def serve(digest: str, texts: Optional[Dict[str, str]], policy: Optional[Json] = None) -> None:
    """Serve one session on standard input and output until it ends, and with it the process.

    ``policy`` is what a restricted key may ask: see ``policy.permit``.
    """
    os.umask(0o022)
    wire = Wire()
    session = Session(wire, digest, texts, policy)
    wire.start()
    try:
        for request in wire.requests():
            wire.send(session.answer(request))
    except Over:
        pass
    with suppress(OSError):
        session.close()
    with suppress(OSError):
        if wire.over != "end of input":
            sys.stderr.write(wire.over + "\n")
        sys.stderr.flush()
    os._exit(0)
