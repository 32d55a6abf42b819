"""A private bare repository of the operator: a cache that several processes share, made anew where it is broken."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .repository import Repository, open_private


class Store:
    """A resource: ``private`` is ready, and shared with other processes, while it is open.

    ``objects`` is the object store that it borrows from, if any.
    """

    def __init__(self, git_dir: Path, objects: Path | None = None, object_format: str = "sha1") -> None:
        self.private = Repository(git_dir)
        self._git_dir, self._objects, self._format = git_dir, objects, object_format
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._git_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = self._git_dir.with_suffix(".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            open_private(self._git_dir, self._objects, self._format)
        except BlockingIOError:
            pass  # another process has it open, and saw to it that it is sound
        except BaseException:
            self._lock.close()
            raise
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock:
            self._lock.close()
