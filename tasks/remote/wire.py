"""Let git speak over a channel of an SSH connection that is open anyway, through an inherited file descriptor.

``git push fd::<n>`` (git-remote-fd(1)) talks to a socket; two threads carry its bytes to and from the channel. So the
host key is checked, the log-in done and the gateway passed once, by the connection, and no ssh program takes part.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import paramiko

CHUNK = 64 * 1024
STDERR_LIMIT = 4096
"""Bytes of the remote side's standard error that are kept for a message."""

STATUS_WAIT_S = 2.0
"""Between the end of a command's output and its exit status."""

LOST = (paramiko.SSHException, OSError, EOFError)
"""What paramiko raises when a connection is not, or is no longer, there."""


class Wire:
    """A remote command whose standard input and output are the socket ``fileno``. Leaving ends the command.

    A connection that several wires share must be open already: Fabric's ``open`` is not made for two threads.
    """

    def __init__(self, connection: Any, command: str, deadline_s: float) -> None:
        self._connection, self._command, self._deadline_s = connection, command, deadline_s
        self._ours, self._theirs = socket.socketpair()
        self._channel: paramiko.Channel | None = None
        self._closed = threading.Event()
        self._stderr = bytearray()
        self.trouble = ""

    def __enter__(self) -> Self:
        self._thread = _start(self._carry)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Free both ends. To close a channel of a cut connection can block for long: a thread of its own does it."""
        self._closed.set()
        self._theirs.close()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        _start(self._close)

    def fileno(self) -> int:
        """Return the descriptor for git to inherit."""
        return self._theirs.fileno()

    def send(self, data: bytes) -> None:
        """Send what the remote command reads."""
        self._theirs.sendall(data)

    def end(self) -> None:
        """End what the remote command reads."""
        self._theirs.shutdown(socket.SHUT_WR)

    def receive(self, most: int) -> bytes:
        """Return what the remote command printed, nothing where that has ended."""
        return self._theirs.recv(most)

    def status(self, wait_s: float) -> int | None:
        """End the input of the remote command and return its exit status; None where it does not tell in time."""
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        self._thread.join(wait_s)
        if self._thread.is_alive() or not self._channel or self._channel.exit_status < 0:
            return None
        return self._channel.exit_status

    @property
    def errors(self) -> str:
        """What the remote command wrote on its standard error, the first 4 KB of it."""
        return bytes(self._stderr).decode(errors="backslashreplace")

    def _carry(self) -> None:
        try:
            self._connection.open()
            channel = self._channel = self._connection.transport.open_session(timeout=self._deadline_s)
            if not self._closed.is_set():
                channel.exec_command(self._command)
                others = _start(self._upwards, channel), _start(self._collect, channel)
                self._downwards(channel)
                for other in others:
                    other.join()
                channel.status_event.wait(STATUS_WAIT_S)
            channel.close()
        except LOST as error:
            self.trouble = str(error) or type(error).__name__
        finally:
            self._ours.close()

    def _close(self) -> None:
        with contextlib.suppress(*LOST):
            if self._channel:
                self._channel.close()

    def _upwards(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(*LOST):
            while data := self._ours.recv(CHUNK):
                channel.sendall(data)
            channel.shutdown_write()

    def _downwards(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(*LOST):
            while data := channel.recv(CHUNK):
                self._ours.sendall(data)
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def _collect(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(*LOST):
            while data := channel.recv_stderr(CHUNK):
                self._stderr += data[: STDERR_LIMIT - len(self._stderr)]


def _start(target: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name="skein-wire", daemon=True)
    thread.start()
    return thread
