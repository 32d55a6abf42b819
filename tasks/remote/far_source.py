"""The source on another machine: releases are made there, and pushed from there; nothing of its files comes here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ..core.errors import HostError, RepositoryError, UsageError
from ..core.facts import Lent
from ..core.hosts import Host
from ..core.requests import Request
from .far import FarRepository, Machine
from .fleet import Fleet
from .source import Source


class FarSource(Source):
    """A git repository at ``path`` on ``host``, which ``fleet`` reaches; ready while it is open.

    The agent there lends the private repository, the same that a deploy on that machine uses, as long as the session
    lasts; all of ``Source`` then works on the two by git commands that run there.
    """

    def __init__(
        self,
        fleet: Fleet,
        host: Host,
        path: str,
        *,
        operator: str,
        branch: str,
        subdir: str | None,
        signing_key: str | None,
    ) -> None:
        super().__init__(Path(path), Path(), operator=operator, branch=branch, subdir=subdir, signing_key=signing_key)
        self._fleet, self._host, self._asked = fleet, host.name, path
        self.where = f"{host.name}:{path}"

    def __enter__(self) -> Self:
        """Raise RepositoryError where the machine is out of reach, or has no git repository there."""
        answer = self._fleet.ask({self._host: (Request("lend", {"path": self._asked}),)}, Lent)[self._host]
        try:
            if isinstance(answer, HostError):
                raise answer
            machine = Machine(self._host, self._fleet.connection(self._host))
        except HostError as error:
            raise RepositoryError(f"source {self.where}: {error}") from error
        self._origin = FarRepository(machine, answer.git_dir, answer.work_tree)
        self.private = FarRepository(machine, answer.private)
        if self.private.attempt("rev-parse", "--is-bare-repository").text != "true":
            told = "what git says does not arrive as it is: the login shell may print something, mend its start files"
            raise RepositoryError(f"source {self.where}: {told}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave it to the fleet: what was lent goes back with the session."""

    def snapshot(self, when: datetime) -> str:
        """Raise UsageError: only the machine itself can say what is on its disk."""
        raise UsageError(f"--snapshot is what is on disk: run it on {self._host}, or commit there and deploy that")
