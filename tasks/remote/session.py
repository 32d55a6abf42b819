"""One agent session: one channel, JSON lines both ways, a deadline on every wait, beats that keep the lease."""

from __future__ import annotations

import contextlib
import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import paramiko

from ..agent.wire import LEASE_S
from ..core.errors import RefusedError, UnreachableError
from ..core.requests import Request
from ..core.text import printable
from . import bundle

LINE_MOST = 8 << 20
NOISE_MOST = 1 << 16
START_S = 30.0
LOOK_S = 1.0
PIECE = 1 << 15
"""Bytes; a host that does not take so many within a lease is given up."""


class Session:
    """A session with the agent on one host; used by one thread at a time, except for ``beat`` and ``close``."""

    def __init__(self, host: str, transport: paramiko.Transport, home: str, become: str | None) -> None:
        self.host = host
        self._pending = b""
        self._told = b""
        self._started = False
        self._restricted = False  # a restricted key may not bring bytes of its own: the mirrors are asked
        self._number = 0
        self._sending = threading.Lock()
        self._heard = self._moved = time.monotonic()
        self._transport, self._stalled = transport, False
        try:
            self._channel = transport.open_session(timeout=START_S)
            self._channel.settimeout(START_S)
            with _closing_after(START_S, self._channel):
                self._channel.exec_command(bundle.command(home, become))
            self._send(bundle.bootstrap())
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError("lost", f"the session could not be started: {printable(str(error))}") from error

    def start(self, opening: Mapping[str, object]) -> None:
        """Bring the agent up and tell it where things are; raise HostError where the host cannot run it."""
        ends_at = time.monotonic() + START_S
        noise = 0
        while (line := self._read_line(ends_at)) not in (b"ready", b"need"):
            noise += len(line)  # a login shell's start files may print before our program runs
            if noise > NOISE_MOST:
                raise UnreachableError("noise", "the login shell prints without end: mend its start files")
        if line == b"need":
            self._send(b"%d\n" % len(bundle.sources()) + bundle.sources())
        self._started = True
        self._restricted = bool(self.ask(Request("open", opening, START_S)).get("restricted"))

    def send(self, request: Request) -> None:
        """Send a request without waiting for its answer."""
        self._number += 1
        request = replace(request, payload=b"") if self._restricted else request
        self._send(request.line(self._number), request.payload)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the answer to the last request; raise RefusedError with its reason, UnreachableError when lost."""
        ends_at = time.monotonic() + timeout_s
        while True:
            answer = self._parse(self._read_line(ends_at))
            if answer.get("id") != self._number:
                continue  # a beat, or the late answer to a request that was given up
            error = answer.get("error")
            if isinstance(error, dict):
                raise RefusedError(printable(str(error.get("code")), 40), printable(str(error.get("message")), 600))
            result = answer.get("ok")
            if not isinstance(result, dict):
                raise UnreachableError("garbled", "the agent answered something that is no answer")
            return result

    def ask(self, request: Request) -> dict[str, Any]:
        """Send a request and return its answer; an answer that tells the host's clock gets its offset from ours."""
        began = time.time()
        self.send(request)
        result = self.receive(request.timeout_s)
        if isinstance(result.get("clock"), float):
            result["offset_s"] = result["clock"] - (began + time.time()) / 2
        return result

    def beat(self) -> None:
        """Keep the lease, and end a session whose host took nothing of a request for a whole lease.

        Never wait, or the other hosts would starve; trouble shows at the next answer that does not come.
        """
        if not self._sending.acquire(blocking=False):
            # A request is on its way, which keeps the lease as well, and which nothing else would end on a cut link.
            if time.monotonic() - self._moved > LEASE_S and not self._stalled:
                self._stalled = True
                threading.Thread(target=self._transport.close, name="session-end", daemon=True).start()
            return
        try:
            if self._started and self._takes():  # before, the host's first program is waiting for something else
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._channel.sendall(b'{"beat":1}\n')
        finally:
            self._sending.release()

    def _takes(self) -> bool:
        """Tell whether a line can be sent without waiting: where a link is cut, buffers are full before long."""
        way = self._transport.sock
        if isinstance(way, paramiko.Channel):  # through a gateway
            return bool(way.send_ready())
        poll = select.poll()
        poll.register(way, select.POLLOUT)
        return bool(self._channel.send_ready() and poll.poll(0))

    def close(self) -> None:
        """End the session: the agent sees the end of its input, tidies up and goes."""
        with contextlib.suppress(Exception):
            self._channel.shutdown_write()
        with contextlib.suppress(Exception):
            self._channel.close()

    def wait_closed(self, timeout_s: float) -> None:
        """End the session and wait until the agent has gone, so that nothing of it is left when the program ends."""
        with contextlib.suppress(Exception):
            self._channel.shutdown_write()
            self._channel.status_event.wait(timeout_s)
        self.close()

    def _send(self, *parts: bytes) -> None:
        """Send all of ``parts``, and nothing between them; raise UnreachableError where the host takes none of it."""
        try:
            with self._sending:
                self._channel.settimeout(LEASE_S)
                for part in parts:
                    for start in range(0, len(part), PIECE):
                        self._moved = time.monotonic()
                        self._channel.sendall(part[start : start + PIECE])
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost(f"the connection broke: {printable(str(error)) or type(error).__name__}") from error

    def _read_line(self, ends_at: float) -> bytes:
        while b"\n" not in self._pending:
            now = time.monotonic()
            if now > ends_at:
                raise UnreachableError("timeout", "no answer within the deadline")
            self._channel.settimeout(min(LOOK_S, max(0.01, ends_at - now)))
            try:
                data = self._channel.recv(1 << 16)
            except TimeoutError:
                if time.monotonic() - self._heard > LEASE_S:
                    raise UnreachableError("silent", f"nothing heard for {LEASE_S:.0f} s") from None
                continue
            except OSError as error:
                raise self._lost(f"the connection broke: {printable(str(error))}") from error
            if not data:
                raise self._ended()
            self._heard = time.monotonic()
            self._pending += data
            if len(self._pending) > LINE_MOST:
                raise UnreachableError("garbled", "the agent sent a line without end")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnreachableError("garbled", f"the agent sent something that is no JSON: {printable(repr(line), 80)}")
        return answer

    def _lost(self, why: str) -> UnreachableError:
        if self._stalled:
            return UnreachableError("silent", f"nothing of what was sent was taken for {LEASE_S:.0f} s")
        return self._ended() if self._channel.closed or self._channel.eof_received else UnreachableError("lost", why)

    def _ended(self) -> UnreachableError:
        """Say why the agent ended, from its exit status and what it printed last."""
        self._channel.status_event.wait(3.0)
        status = self._channel.exit_status if self._channel.exit_status_ready() else -1
        told = self._last_words()
        last = printable(told.strip().splitlines()[-1]) if told.strip() else ""
        if "sudo:" in told:
            advice = "install sudo, and allow the log-in's user with NOPASSWD in sudoers"
            return UnreachableError("sudo", f"targets.become, or setup --user, does not work: {last}; {advice}")
        if status == 127:
            return UnreachableError("no-python", "python3 is not installed there: install python3 3.8 or newer")
        how = f"ended with status {status}" if status >= 0 else "was cut off"
        return UnreachableError("ended", f"the agent {how}{': ' + last if last else ''}")

    def _last_words(self) -> str:
        """Return what the agent wrote to its standard error, the end of it."""
        self._channel.settimeout(LOOK_S)
        ends_at = time.monotonic() + 3 * LOOK_S
        with contextlib.suppress(OSError):
            while time.monotonic() < ends_at and (data := self._channel.recv_stderr(4096)):
                self._told = (self._told + data)[-4096:]
        return self._told.decode("utf-8", "replace")


@contextlib.contextmanager
def _closing_after(seconds: float, channel: paramiko.Channel) -> Iterator[None]:
    """Close the channel unless the block ends in time: paramiko waits for some answers without a deadline."""
    watchdog = threading.Timer(seconds, channel.close)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
