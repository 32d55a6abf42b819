"""What a story is given to work with; the command line wires the real ones, tests their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel

from ..core.config import Settings
from ..core.errors import HostError, RepositoryError
from ..core.facts import BrokenHold, Held
from ..core.history import Chain
from ..core.hosts import Host
from ..core.ledger import Record
from ..core.policy import FailPolicy
from ..core.requests import Request
from ..transports import Transport

M = TypeVar("M", bound=BaseModel)


class Targets(Protocol):
    """The fleet, as stories see it: see ``remote.fleet.Fleet``."""

    def ask(
        self,
        requests: Mapping[str, Sequence[Request]],
        reply: type[M],
        *,
        seen: Callable[[str], None] | None = None,
        together: bool = False,
    ) -> dict[str, M | HostError]:
        """Send requests and return what each host answered, or why it did not."""


class Progress(Protocol):
    """One line per stage of a story."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
        """Show a stage; what is returned is called with the name of each host that is through."""

    def say(self, line: str) -> None:
        """Show one plain line."""


class Shield(Protocol):
    """A stretch that Ctrl-C does not stop in the middle."""

    interrupted: bool
    state: str  # what is said where it is stopped all the same


class Waiting(Protocol):
    """What this operator remembers of a ledger."""

    @property
    def waiting(self) -> tuple[Record, ...]:
        """Records that came to be without the hub."""


class Book(Protocol):
    """The ledger and the lock; ``remote.ledger.Book`` says what each does."""

    def knock(self, wait_s: float) -> bool: ...  # noqa: D102
    def hold(self, why: str, wait_s: float = 0.0) -> Held: ...  # noqa: D102
    def let_go(self) -> None: ...  # noqa: D102
    def break_hold(self) -> BrokenHold: ...  # noqa: D102
    def read(self) -> Chain: ...  # noqa: D102
    def append(self, chain: Chain, records: Sequence[Record]) -> Chain: ...  # noqa: D102
    def spread_early(self, chain: Chain) -> None: ...  # noqa: D102
    def spread(self, chain: Chain) -> Mapping[str, RepositoryError]: ...  # noqa: D102
    def remembered(self) -> Waiting: ...  # noqa: D102
    def keep(self, records: Sequence[Record]) -> None: ...  # noqa: D102
    def drop(self, records: Sequence[Record]) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Hands:
    """Everything with an effect, and the choices of this one run."""

    settings: Settings
    hosts: Sequence[Host]
    fleet: Targets
    progress: Progress
    transport: Transport
    policy: FailPolicy
    now: Callable[[], datetime]
    elapsed: Callable[[], float]
    shield: Callable[[], AbstractContextManager[Shield]]
    failpoint: Callable[[str], None]
    nonce: str
    by: str
    book: Book
    reason: str = ""
    config: str = ""  # what the configuration is called in the ledger, where that is not its digest
    wait_s: float = 0.0  # how long to wait for the environment's lock
    new_hosts: bool = False  # go on though the ledger knows other hosts
    lost_records: bool = False  # go on though the ledger lost what was seen of it
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def config_digest(self) -> str:
        """What tells this configuration from others."""
        return self.config or self.settings.digest

    def ask(
        self, title: str, requests: Mapping[str, Sequence[Request]], reply: type[M], *, together: bool = False
    ) -> dict[str, M | HostError]:
        """Ask the fleet, show it as one stage of the story, and keep the seconds that it took."""
        began = self.elapsed()
        with self.progress.stage(title, len(requests)) as seen:
            answers = self.fleet.ask(requests, reply, seen=seen, together=together)
        self.timings_s[title] = self.timings_s.get(title, 0.0) + self.elapsed() - began
        return answers
