"""The agent's end of the session: JSON lines both ways, and the lease that ends it.

The deployer sends requests ``{"id": n, "verb": …, "with": {…}}`` and beats ``{"beat": n}``; the agent answers each
request with ``{"id": n, "ok": …}`` or ``{"id": n, "error": {"code", "message"}}`` and beats too. A request that
announces ``"payload": {"bytes", "sha256"}`` is followed by so many raw bytes. After ``lease_s`` of
silence, by this host's own clock, at the end of input, or by a signal the session is over, once and for all. The main
thread asks ``check`` wherever it may stop, so what must not be torn apart does not ask; ``GRACE_S`` later the kernel
ends the process.
"""

from __future__ import annotations

import os
import select
import time
from _queue import SimpleQueue  # as queue has it
from _thread import allocate_lock, start_new_thread  # all that is needed of threading

from .lean import digest, dumps, loads

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    import signal
    from typing import Iterator, Optional

    from .problem import Json
else:
    import _signal as signal  # what signal wraps in enums, which cost as much as the rest of the agent

BEAT_S = 2.0
LEASE_S = 15.0
LINE_MOST = 1 << 20
PAYLOAD_MOST = 1 << 26
GRACE_S = 5.0
WRITE_MOST = 4096  # a pipe that poll calls writable takes that much without blocking
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine is suspended


class Over(BaseException):
    """The session ended while a request was being served; private files are tidied on the way out."""


class Wire:
    """Requests in, answers out, over two descriptors."""

    def __init__(self, source: int = 0, sink: int = 1) -> None:
        self.source, self.sink = source, sink
        self.over = ""  # why the session ended
        self.lease_s = LEASE_S
        self._requests: SimpleQueue[Optional[Json]] = SimpleQueue()
        self._due: Optional[Json] = None  # a request whose payload is still on its way
        self._writing = allocate_lock()
        self._heard = now()

    def start(self) -> None:
        """Begin to listen and to beat; call from the main thread."""
        signal.alarm(0)  # the bootstrap's
        self._heard = now()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.finish("ended by signal %d" % number))
        for work in (self._listen, self._beat):
            start_new_thread(work, ())

    def requests(self) -> Iterator[Json]:
        """Yield requests until the session is over."""
        while True:
            request = self._requests.get()
            if self.over or request is None:
                return
            yield request

    def send(self, message: Json) -> None:
        """Send one line. It never blocks for longer than the session lasts, whatever the other end does or does not."""
        line = dumps(message).encode("ascii") + b"\n"
        with self._writing:
            poll = select.poll()
            poll.register(self.sink, select.POLLOUT)
            try:
                while line and not self.over:
                    if poll.poll(500):
                        line = line[os.write(self.sink, line[:WRITE_MOST]) :]
            except OSError:
                self.finish("the deployer is gone")

    def check(self) -> None:
        """Raise Over where the session has ended."""
        if self.over:
            raise Over(self.over)

    def check_lease(self) -> None:
        """Raise Over where the session has ended or its lease lapsed: an order that arrives late must do nothing."""
        self._look_at_lease()
        self.check()

    def finish(self, why: str) -> None:
        """End the session. Safe in a signal handler and in any thread: it takes no lock."""
        if not self.over:
            self.over = why
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)  # nobody handles it: it ends a process that hangs
            self._requests.put(None)

    def _look_at_lease(self, at: Optional[float] = None) -> bool:
        """Tell whether the lease holds; one that has lapsed never holds again."""
        if (now() if at is None else at) - self._heard > self.lease_s:
            self.finish("the lease lapsed")
        return not self.over

    def _hear(self, at: float) -> bool:
        """Renew the lease, unless it lapsed before: what was read has waited in a cut link or a frozen machine."""
        if not self._look_at_lease(at):
            return False
        self._heard = at
        return True

    def _read(self) -> bytes:
        try:
            return os.read(self.source, 65536)
        except OSError:
            return b""

    def _listen(self) -> None:
        pending = bytearray()
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while self._look_at_lease():
            if not poll.poll(min(1000, int(self.lease_s * 250))):
                continue
            data = self._read()
            if not data:
                return self.finish("end of input")
            if not self._hear(now()):
                return None
            pending += data
            try:
                while self._take(pending):
                    pass
            except (ValueError, KeyError, TypeError, RecursionError):
                return self.finish("what came in is no request")
        return None

    def _take(self, pending: bytearray) -> bool:
        """Take one line or one payload off the front of what came in; tell whether it was there, whole."""
        due = self._due
        size = due["payload"]["bytes"] if due else pending.find(b"\n")
        if not 0 <= size <= (PAYLOAD_MOST if due else LINE_MOST):
            if due or len(pending) > LINE_MOST:
                raise ValueError(size)
            return False
        if len(pending) < size:
            return False
        data = bytes(pending[:size])
        del pending[: size if due else size + 1]
        if due is None:
            due = loads(data)
            if not isinstance(due, dict):
                raise ValueError("no request")
            if "payload" in due:
                self._due = due
                return True
        elif _sha256(data) != due["payload"]["sha256"]:
            raise ValueError("a damaged payload")
        else:
            due["with"]["payload"], self._due = data, None
        if "verb" in due:
            self._requests.put(due)
        return True

    def _beat(self) -> None:
        while not self.over:
            time.sleep(BEAT_S)
            self.send({"beat": 1})


def _sha256(data: bytes) -> str:
    total = digest("sha256", len(data))
    total.update(data)
    return total.hexdigest()


def now() -> float:
    """Return seconds on a clock that nobody sets."""
    return time.clock_gettime(CLOCK)
