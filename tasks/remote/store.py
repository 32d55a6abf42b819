"""A private bare repository of the operator: a cache that several processes share, made anew where it is broken."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ..agent.lend import share
from ..agent.problem import Problem
from ..agent.wire import Wire
from ..core.errors import RepositoryError
from .repository import Repository


class Store:
    """A resource: ``private`` is ready, and shared with other processes, while it is open.

    ``objects`` is the object store that it borrows from, if any.
    """

    def __init__(self, git_dir: Path, objects: Path | None = None, object_format: str = "sha1") -> None:
        self.private = Repository(git_dir)
        self._git_dir, self._objects, self._format = git_dir, objects, object_format
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        objects = str(self._objects) if self._objects else None
        try:
            self._lock = share(Wire(), str(self._git_dir), objects, self._format)
        except Problem as problem:
            raise RepositoryError(str(problem)) from problem
        except OSError as error:
            advice = "set XDG_CACHE_HOME to a folder that can be written"
            raise RepositoryError(f"{self._git_dir} cannot be used: {error.strerror}; {advice}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock:
            self._lock.close()
