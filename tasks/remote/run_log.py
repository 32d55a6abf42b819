"""The operator's own log: a line per step of every command that changes something, in ``<state>/<env>/log.jsonl``."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..core.requests import Request
from ..core.run_log import asked, harmless

FORMAT = 1
LARGEST = 2_000_000
"""Bytes; a run on a hundred targets writes about 20,000."""

KEPT = 4
"""How many full files are kept besides: log.jsonl.1 is the newest."""


class Progress(Protocol):
    """What shows the stages of a run."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[str], None]]: ...  # noqa: D102
    def say(self, line: str) -> None: ...  # noqa: D102


class RunLog:
    """One run's lines. Before ``begin`` nothing is written: who only looks leaves no trace.

    A log that cannot be written is told once through ``complain`` and stops nobody.
    """

    def __init__(self, path: Path, run: str, complain: Callable[[str], None]) -> None:
        self._path, self._run, self._complain = path, run, complain
        self._is_open = False
        self._began = time.monotonic()

    def begin(self, command: str, **about: object) -> None:
        """Begin a run of ``command``, unless it began already."""
        if not self._is_open:
            self._is_open = True
            self.write("began", command=command, process=os.getpid(), **about)

    def asked(self, requests: Mapping[str, Sequence[Request]], answers: Mapping[str, object], seconds: float) -> None:
        """Write what machines were asked and how it ended."""
        if self._is_open:
            self.write("asked", **asked(requests, answers, seconds))

    def end(self, exit_code: int, **about: object) -> None:
        """Write how the run ended."""
        self.write("ended", exit_code=exit_code, seconds=round(time.monotonic() - self._began, 3), **about)

    def write(self, event: str, **fields: object) -> None:
        """Append one line."""
        if not self._is_open:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"format": FORMAT, "at": at, "run": self._run, "event": event}
        line |= {key: harmless(value) for key, value in fields.items()}
        try:
            self._append(json.dumps(line).encode() + b"\n")
        except OSError as error:
            self._is_open = False
            self._complain(f"this run is not logged any more: {error}")

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may rotate at once
            with suppress(FileNotFoundError):
                if self._path.stat().st_size > LARGEST:
                    self._rotate()
            with open(self._path, "ab", opener=_private) as file:
                file.write(line)

    def _rotate(self) -> None:
        for number in range(KEPT, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            with suppress(FileNotFoundError):
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class LoggedProgress:
    """Progress that is shown as ever, and each stage's seconds logged."""

    def __init__(self, shown: Progress, log: RunLog) -> None:
        self._shown, self._log = shown, log
        self.say = shown.say

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show a stage while it lasts, and log how it ended and how long it took."""
        began, outcome = time.monotonic(), "broken off"
        try:
            with self._shown.stage(title, total) as seen:
                yield seen
            outcome = "through"
        finally:
            self._log.write("stage", title=title, outcome=outcome, seconds=round(time.monotonic() - began, 3))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
