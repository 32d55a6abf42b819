"""Values that are made once, however many threads ask for them at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Once(Generic[V]):
    """Make a value once per key however many threads ask; a failure is raised and not kept."""

    def __init__(self, make: Callable[[str], V]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._made: dict[str, V] = {}

    def again(self, key: str) -> V:
        """Return a new value for ``key``, in the place of one that is of no use any more."""
        with self._lock:
            self._made.pop(key, None)
        return self.get(key)

    def get(self, key: str) -> V:
        """Return the value for ``key``, made now if nobody made it yet."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]
