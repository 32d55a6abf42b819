"""Ctrl-C during a stretch that must not stop in the middle."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Shield:
    """While it is up, the first SIGINT or SIGTERM is noted in ``interrupted``; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.interrupted = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned, it takes

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt("stopped in the middle of the flip")
        self.interrupted = True
