"""The agent's end of the session: JSON lines both ways, and the lease that ends it.

The deployer sends requests ``{"id": n, "verb": …, "with": {…}}`` and beats ``{"beat": n}``; the agent answers each request with
``{"id": n, "ok": …}`` or ``{"id": n, "error": {"code", "message"}}`` and beats too. After LEASE_S of silence, by this
host's own monotonic clock, or at the end of input, the session is over: children are killed, the main thread is
interrupted outside critical sections, locks go with the process.
"""

import json
import os
import signal
import threading
import time
from collections import deque

BEAT_S = 2.0
LEASE_S = 15.0
LINE_MOST = 1 << 20
GRACE_S = 5.0


class Over(BaseException):
    """The session ended while a request was being served; private files are tidied on the way out."""


class Wire:
    """Requests in, answers out, over two descriptors."""

    def __init__(self, source=0, sink=1):
        self.source, self.sink = source, sink
        self.over = None  # why the session ended
        self.children = set()
        self._requests = deque()
        self._ready = threading.Semaphore(0)
        self._writing = threading.Lock()
        self._heard = time.monotonic()
        self._critical = 0
        self._interrupted = False
        self._raised = False

    def start(self):
        """Begin to listen and to beat; call from the main thread."""
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGHUP, self._interrupt)
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def requests(self):
        """Yield requests until the session is over."""
        while True:
            self._ready.acquire()
            if self.over or not self._requests:
                return
            yield self._requests.popleft()

    def send(self, message):
        """Send one line; a session whose other end is gone is over."""
        line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            with self._writing:
                while line:
                    line = line[os.write(self.sink, line) :]
        except OSError:
            self.finish("the deployer is gone")

    def check_lease(self):
        """Raise Over if the lease has lapsed: an order that arrives late must do nothing."""
        if time.monotonic() - self._heard > LEASE_S:
            self.finish("the lease lapsed")
        if self.over:
            raise Over(self.over)

    def critical(self):
        """Return a context in which the end of the session waits for the end of the section."""
        return _Critical(self)

    def finish(self, why):
        """End the session: kill children, interrupt the main thread, and leave for good a little later."""
        if self.over:
            return
        self.over = why
        for child in list(self.children):
            try:
                os.killpg(child, signal.SIGKILL)
            except OSError:
                pass
        self._ready.release()
        last = threading.Timer(GRACE_S, os._exit, (3,))
        last.daemon = True
        last.start()
        os.kill(os.getpid(), signal.SIGTERM)

    def _interrupt(self, number, frame):
        self.over = self.over or "ended by signal %d" % number
        if self._critical:
            self._interrupted = True
        elif not self._raised:
            self._raised = True  # once: a second signal must not stop the tidying
            raise Over(self.over)

    def _listen(self):
        pending = b""
        while not self.over:
            try:
                data = os.read(self.source, 65536)
            except OSError:
                data = b""
            now = time.monotonic()
            if not data or len(pending) > LINE_MOST:
                return self.finish("end of input")
            if now - self._heard > LEASE_S:  # what was read has waited in a cut link or a frozen machine
                return self.finish("the lease lapsed")
            self._heard = now
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if isinstance(message, dict) and "verb" in message:
                    self._requests.append(message)
                    self._ready.release()
        return None

    def _beat(self):
        while not self.over:
            time.sleep(BEAT_S)
            if time.monotonic() - self._heard > LEASE_S:
                return self.finish("the lease lapsed")
            self.send({"beat": 1})
        return None


class _Critical:
    def __init__(self, wire):
        self.wire = wire

    def __enter__(self):
        self.wire._critical += 1

    def __exit__(self, *_):
        self.wire._critical -= 1
        if self.wire._interrupted and not self.wire._critical:
            self.wire._interrupted = False
            raise Over(self.wire.over)
