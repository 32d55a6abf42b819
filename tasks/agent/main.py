"""Serving requests: one table of verbs, the host's lock before anything is written, and answers instead of tracebacks."""

import fcntl
import json
import os
import sys
import time

from . import failpoints
from .children import inherit
from .flip import Armed, after_flip, confirm, flip, revert
from .mirror import make_mirror
from .place import FORMAT, Place, sync_directory
from .probe import check, probe, status
from .problem import Problem, explain
from .prune import prune
from .repo import fetch
from .stage import stage, verify
from .state import State, sweep
from .wire import LEASE_S, Over, Wire

LOCK_WAIT_S = LEASE_S + 5
READING = ("open", "probe", "status", "check", "mirror")


class Session:
    """What one deployer's session knows and holds on this host."""

    def __init__(self, wire, digest, texts):
        self.wire, self.digest, self.texts = wire, digest, texts
        self.place = self.lock = self.armed = None
        self.who = ""

    def answer(self, request):
        """Serve one request; return the message to send."""
        try:
            verb = request["verb"]
            if verb not in READING:
                self.take_lock()
            return {"id": request["id"], "ok": getattr(self, "do_" + verb)(request["with"])}
        except Problem as problem:
            error = problem
        except OSError as problem:
            error = explain(problem)
        return {"id": request["id"], "error": {"code": error.code, "message": str(error)}}

    def take_lock(self):
        """Take the host's lock for the rest of the session, settle what a killed run left, install the agent."""
        if self.lock is not None:
            return
        place = self.place
        State(place)  # refuses newer state before anything is written
        place.make()
        lock = open(os.path.join(place.own, "lock"), "a+")
        ends_at = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > ends_at:
                    lock.seek(0)
                    raise Problem("locked", "another deploy is at work on this host: %s" % (lock.read(300).strip() or "unknown"))
            time.sleep(0.1)
        self.lock = lock
        self.sign(lock)
        inherit(lock.fileno())
        failpoints.failpoint("agent.locked")
        sweep(place)
        State(place).settle()
        self.install()

    def sign(self, lock):
        """Say in the lock file who holds it, best effort: a full disk must not stop a rollback."""
        try:
            lock.truncate(0)
            lock.write("%s since %s\n" % (self.who, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
            lock.flush()
        except OSError:
            pass

    def install(self):
        """Keep the agent on this host, compiled, under its hash, so that the next session need not send it."""
        final = os.path.join(self.place.agents, self.digest)
        if self.texts is None or os.path.isdir(final):
            return
        import compileall

        draft = os.path.join(self.place.tmp, "agent")
        os.makedirs(os.path.join(draft, "agent"))
        for name, text in self.texts.items():
            with open(os.path.join(draft, "agent", name + ".py"), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        compileall.compile_dir(draft, quiet=2)
        failpoints.failpoint("agent.install.before")
        os.rename(draft, final)
        sync_directory(self.place.agents)

    def do_open(self, request):
        """Learn where things are; the first request of every session."""
        failpoints.arm(request.get("failpoint", ""))
        self.who = request["who"]
        if request.get("deploy_to"):
            self.place = Place(request["deploy_to"], request["link"], request["environment"])
        return {"format": FORMAT, "pid": os.getpid()}

    def do_probe(self, request):
        return probe(self.wire, self.place)

    def do_status(self, request):
        return status(self.wire, self.place)

    def do_check(self, request):
        return check(self.wire, self.place, request)

    def do_settle(self, request):
        return probe(self.wire, self.place)

    def do_fetch(self, request):
        return fetch(self.wire, self.place, request)

    def do_stage(self, request):
        return stage(self.wire, self.place, request)

    def do_verify(self, request):
        return verify(self.wire, self.place, request)

    def do_arm(self, request):
        self.armed = Armed(self.place, request["id"])
        failpoints.failpoint("agent.armed")
        return {}

    def do_flip(self, request):
        return flip(self.wire, self.place, self.armed, request)

    def do_after_flip(self, request):
        return after_flip(self.wire, self.place, request)

    def do_revert(self, request):
        return revert(self.wire, self.place, request)

    def do_confirm(self, request):
        return confirm(self.place, request)

    def do_prune(self, request):
        return prune(self.wire, self.place, request)

    def do_mirror(self, request):
        return make_mirror(self.wire, request)

    def close(self):
        """Remove what is private to this session; what is complete stays for the next run."""
        if self.lock is not None:
            sweep(self.place)


def serve(digest, texts):
    """Serve one session on standard input and output until it ends."""
    os.umask(0o022)
    wire = Wire()
    session = Session(wire, digest, texts)
    try:
        wire.start()
        for request in wire.requests():
            wire.send(session.answer(request))
    except Over:
        pass
    try:
        session.close()
    except OSError:
        pass
    if wire.over and wire.over != "end of input":
        sys.stderr.write(json.dumps(wire.over) + "\n")
    sys.stderr.flush()
    os._exit(0)
