"""Git on another machine: each command runs there, over a channel of a connection that is open, and only says things.

So a repository of another machine is used as one of this machine is, and its files stay where they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import RepositoryError
from ..core.text import printable
from .repository import Outcome, Repository
from .wire import CHUNK, LOST, Wire

CLEAN = 'exec env -i HOME="$HOME" PATH="$PATH" LC_ALL=C "$@"'
CARRIED = "exec 3<&0 4>&1 </dev/null >&2; " + CLEAN
"""Git there speaks to somebody here: by descriptors of its own, for it hands its input and output to nobody."""

CHANNELS = 6
"""A stock sshd gives ten to a connection (sshd_config(5), MaxSessions); the agent's session has one."""

DEADLINE_S, STATUS_S, LOOK_S = 600.0, 5.0, 0.2
OUTPUT_MOST = 1 << 27


@dataclass(frozen=True)
class Machine:
    """A machine that is logged in at: ``connection`` is an open fabric.Connection, shared by several threads."""

    name: str
    connection: Any
    channels: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(CHANNELS))


class FarRepository(Repository):
    """One git directory on another machine."""

    def __init__(self, machine: Machine, git_dir: str, work_tree: str | None = None) -> None:
        super().__init__(Path(git_dir), Path(work_tree) if work_tree else None)
        self.machine = machine

    def _execute(
        self,
        arguments: tuple[str, ...],
        given: Mapping[str, str],
        stdin: bytes | BinaryIO | None,
        deadline_s: float | None,
        cancelled: threading.Event | None,
        pass_fds: tuple[int, ...],
    ) -> Outcome:
        """Run git there; with a descriptor to pass, carry between it and git, whose output then counts as errors.

        Raise RepositoryError where the connection breaks, or git prints more than anybody would read.
        """
        data = stdin if isinstance(stdin, bytes) else stdin.read() if stdin else b""
        seconds = DEADLINE_S if deadline_s is None else deadline_s
        ends_at = time.monotonic() + seconds

        def look() -> None:
            if time.monotonic() > ends_at or (cancelled and cancelled.is_set()):
                raise TimeoutError(f"not done after {seconds:g} s")

        command = self._command(arguments, given, pass_fds)
        with self.machine.channels, Wire(self.machine.connection, command, seconds) as wire:
            if pass_fds:
                _carry(wire, pass_fds[0], look)
                output = b""
            else:
                _start(_say, wire, data)
                output = self._hear(wire, look)
            status = wire.status(STATUS_S)
        if wire.trouble or status is None:
            why = printable(wire.trouble) or "the connection broke"
            raise RepositoryError(f"{self.machine.name}: git {arguments[0]} was cut off: {why}")
        return Outcome(status, output or wire.errors.encode() * bool(pass_fds), wire.errors)

    def _command(self, arguments: tuple[str, ...], given: Mapping[str, str], pass_fds: tuple[int, ...]) -> str:
        """Return the one line that a shell there makes git of; the environment is empty but for what is given."""
        variables = [f"{name}={value}" for name, value in given.items()]
        words = ["fd::3,4" if pass_fds and word == f"fd::{pass_fds[0]}" else word for word in arguments]
        script = CARRIED if pass_fds else CLEAN
        return shlex.join(["sh", "-c", script, "sh", *variables, "git", *self._where, *words])

    def _hear(self, wire: Wire, look: Callable[[], None]) -> bytes:
        output = bytearray()
        while chunk := _receive(wire, look):
            output += chunk
            if len(output) > OUTPUT_MOST:
                raise RepositoryError(f"{self.machine.name}: git prints without end")
        return bytes(output)


def _carry(wire: Wire, descriptor: int, look: Callable[[], None]) -> None:
    """Carry both ways between git there and a socket here, until git ends."""
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        _start(_say_all, wire, peer)
        while chunk := _receive(wire, look):
            rest = memoryview(chunk)
            while rest:
                while not select.select([], [peer], [], LOOK_S)[1]:
                    look()
                try:
                    rest = rest[peer.send(rest, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return  # git there says why, or that the other end hung up
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)


def _receive(wire: Wire, look: Callable[[], None]) -> bytes:
    while not select.select([wire.fileno()], [], [], LOOK_S)[0]:
        look()
    return wire.receive(CHUNK)


def _say(wire: Wire, data: bytes) -> None:
    """Send what git reads, and end it; git may have gone meanwhile."""
    with contextlib.suppress(*LOST):
        wire.send(data)
        wire.end()


def _say_all(wire: Wire, peer: socket.socket) -> None:
    with contextlib.suppress(*LOST):
        while data := peer.recv(CHUNK):
            wire.send(data)
        wire.end()


def _start(target: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name="skein-far", daemon=True).start()
