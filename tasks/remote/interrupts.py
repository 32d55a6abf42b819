"""Ctrl-C during a stretch that must not stop in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class _Heard:
    """Whether there was a Ctrl-C: Python drops one that is raised while an object is let go of."""

    ctrl_c = False


def listen() -> None:
    """Let a Ctrl-C that is lost on its way be remembered until the next shield; it still raises KeyboardInterrupt."""
    _Heard.ctrl_c = False
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    _Heard.ctrl_c = True
    raise KeyboardInterrupt


class Shield:
    """While it is up, the first SIGINT or SIGTERM is noted in ``interrupted``; the second raises KeyboardInterrupt.

    ``state`` is what that says: the owner keeps it true wherever the run is. ``say`` tells that the first was heard.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self.interrupted = False
        self.state = "nothing visible was changed"
        self._say = say
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        self.interrupted = _Heard.ctrl_c
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned, it takes

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt(f"stopped at once, {self.state}")
        self.interrupted = True
        self._say("interrupted: what was begun is finished or taken back first; once more stops at once")
