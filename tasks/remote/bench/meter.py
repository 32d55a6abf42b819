"""What a command on server-1 takes there and on all machines of a lab, and when the bytes came."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...core.errors import LabError
from ..lab import sample
from ..lab.machines import CHECKOUT, Lab

SAMPLE_S = 0.05
QUIET_BYTES_PER_S = 20_000
QUIET_S = 60
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
Bytes = dict[str, int]


@dataclass(frozen=True)
class Usage:
    """What a command said and took; ``received`` and ``sent`` are bytes on every machine's link.

    ``code`` is None where the command was cut off. ``samples`` are the bytes received up to a time, those of the first
    and the last moment included. ``target_cpu_s`` is all targets' together.
    """

    code: int | None
    out: str
    error: str
    began: float
    seconds: float
    received: Bytes
    sent: Bytes
    samples: list[tuple[float, Bytes]]
    cpu_s: float
    target_cpu_s: float
    memory: int


class Meter:
    """Runs commands on server-1 of a lab, one at a time."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def run(self, argv: Sequence[str], env: Mapping[str, str] | None = None, patience_s: float | None = None) -> Usage:
        """Run a command to its end, or cut it off; its children's processor time and memory count with its own."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
            cpu, (received, sent) = self._target_cpu(), self.carried()
            began, clock = time.time(), time.monotonic()
            process = self._lab.popen(
                self._lab.server, argv, env={**sample.variables(), **(env or {})}, cwd=str(CHECKOUT), stdout=out,
                stderr=error,
            )  # fmt: skip
            with self._sampling() as samples, _cutting(process.pid, patience_s) as cut:
                _, status, used = os.wait4(process.pid, 0)
                seconds = time.monotonic() - clock
            process.returncode = os.waitstatus_to_exitcode(status)
            received_now, sent_now = self.carried()
            return Usage(
                None if cut.is_set() else process.returncode,
                _whole(out),
                _whole(error),
                began,
                seconds,
                {name: count - received[name] for name, count in received_now.items()},
                {name: count - sent[name] for name, count in sent_now.items()},
                samples,
                used.ru_utime + used.ru_stime,
                self._target_cpu() - cpu,
                used.ru_maxrss * 1024,
            )

    def carried(self) -> tuple[Bytes, Bytes]:
        """Return the bytes that each machine has received and sent, as the bridge's ends of their links count them.

        That is behind both shapers, and one file for all of them: proc(5), /proc/net/dev.
        """
        received, sent = {}, {}
        for line in Path(f"/proc/{self._lab.first('')}/net/dev").read_text("ascii").splitlines()[2:]:
            name, _, counts = line.strip().partition(":")
            if name in self._lab.roles:
                words = counts.split()
                received[name], sent[name] = int(words[8]), int(words[0])
        return received, sent

    def settle(self) -> None:
        """Wait until what was cut off, or goes on in the background, has fallen silent; a minute at most."""
        deadline = time.monotonic() + QUIET_S
        before = sum(self.carried()[0].values())
        while time.monotonic() < deadline:
            time.sleep(1)
            now = sum(self.carried()[0].values())
            if now - before < QUIET_BYTES_PER_S:
                return
            before = now

    def _target_cpu(self) -> float:
        """Return the processor time of all targets: of each sshd and of all ended processes that it waited for."""
        total = 0.0
        for target in self._lab.targets:
            with contextlib.suppress(LabError):
                total += cpu_s(self._lab.first(target))
        return total

    @contextmanager
    def _sampling(self) -> Iterator[list[tuple[float, Bytes]]]:
        """Note down what was received, from now to the end of the block."""
        samples: list[tuple[float, Bytes]] = []
        ended = threading.Event()

        def note() -> None:
            samples.append((time.monotonic(), self.carried()[0]))

        def sample_on() -> None:
            while not ended.wait(SAMPLE_S):
                note()

        note()
        thread = threading.Thread(target=sample_on)
        thread.start()
        try:
            yield samples
        finally:
            ended.set()
            thread.join()
            note()


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and of all ended ones that it waited for, and so on: proc(5), stat."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) * TICK_S


def _whole(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@contextmanager
def _cutting(pid: int, patience_s: float | None) -> Iterator[threading.Event]:
    """Kill a process group that outlives the patience; the event then is set."""
    cut = threading.Event()

    def end() -> None:
        cut.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    timer = threading.Timer(patience_s or 0, end)
    if patience_s:
        timer.start()
    try:
        yield cut
    finally:
        timer.cancel()
