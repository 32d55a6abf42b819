"""Reaching a host within a deadline, and saying why it could not be reached."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import UnreachableError
from ..core.text import printable
from .endpoints import Endpoint

SOCKET_OPTIONS = {"TCP_NODELAY": 1, "TCP_USER_TIMEOUT": 30_000, "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5}


class DroppedError(UnreachableError):
    """The host hung up before the log-in began, as a busy sshd does: worth another try."""


class Deadline:
    """The seconds that one host has, all tries together."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than nothing."""
        return max(self._end - time.monotonic(), 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time within: others' log-ins, each with a deadline of its own, are waited for."""
        began = time.monotonic()
        yield
        self._end += time.monotonic() - began


def dial(to: Endpoint, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; raise UnreachableError with the reason of the last."""
    try:
        found = socket.getaddrinfo(to.address, to.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"{to.where}: {to.address} has no address: {said_of(error)}; check the name, or set its address"
        raise UnreachableError("unreachable", message) from error
    problem: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in SOCKET_OPTIONS.items():
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            sock.settimeout(max(deadline.left() / (len(found) - index), 0.01))
            sock.connect(address)
        except OSError as error:
            problem = error
            sock.close()
        else:
            return sock
    said = f"no answer within {deadline.seconds:g} s" if isinstance(problem, TimeoutError) else said_of(problem)
    raise UnreachableError("unreachable", f"{to.where}: {said}; check address, port and firewall") from problem


def explained(to: Endpoint, error: Exception, begun: bool, deadline: Deadline) -> UnreachableError:
    """Turn what paramiko raised into our error; one that came before the log-in is worth another try."""
    if deadline.left() <= 0:
        phase = "the log-in did not end" if begun else "it accepts connections, but no SSH session began"
        message = f"{to.where}: {phase} within {deadline.seconds:g} s; is it overloaded, and is that sshd's port?"
        return UnreachableError("unreachable", message)
    if begun:
        return UnreachableError("unreachable", f"{to.where}: connection lost during the log-in: {said_of(error)}")
    # Paramiko wraps what ended the wait for the banner.
    if any(isinstance(cause, (EOFError, ConnectionError)) for cause in (error, error.__context__)):
        advice = "a busy sshd does that (MaxStartups); try again, or fewer at once"
        return DroppedError("unreachable", f"{to.where}: hung up before the log-in: {said_of(error)}; {advice}")
    return UnreachableError("unreachable", f"{to.where}: no SSH session: {said_of(error)}")


def said_of(error: Exception | None) -> str:
    """Return what an error says, fit for a message."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text) or type(error).__name__
