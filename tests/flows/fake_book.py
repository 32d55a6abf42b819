"""A ledger that is not on any hub: the same rules, in memory, and a hub that fails where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from ledger_records import links_of

from tasks.core.errors import OvertakenError, RepositoryError
from tasks.core.facts import BrokenHold, Difference, Held
from tasks.core.history import Chain, prove
from tasks.core.ledger import Record

SINCE = "2026-01-01T00:00:00Z"


@dataclass
class FakeBook:
    """``records`` are the hub's, oldest first; ``down`` takes the hub away; ``meanwhile`` is what others do just then.

    ``holder`` has the lock; "" is nobody and "ann@laptop" is us. So many times as ``lapses`` says our session is lost;
    ``on_hold`` is what happens while the lock is waited for;
    a ``silent`` hub does not answer at once.
    """

    records: list[Record] = field(default_factory=list)
    waiting: list[Record] = field(default_factory=list)
    holder: str = ""
    down: bool = False
    full: bool = False  # nothing can be kept on this machine
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    lagging: dict[str, RepositoryError] = field(default_factory=dict)
    spreads: int = 0
    spread_to: int = 0
    early: list[int] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    lapses: int = 0
    silent: bool = False
    on_hold: Callable[[], None] = lambda: None
    on_mirror: dict[str, str] = field(default_factory=dict)
    origin: str | None = "mirror-1"
    compared: list[tuple[str, str]] = field(default_factory=list)

    def knock(self, wait_s: float) -> bool:
        return not self.silent

    def hold(self, why: str, wait_s: float = 0.0) -> Held:
        self._reach()
        if self.lapses:
            self.lapses -= 1
            self.holder = ""
            raise RepositoryError("mirror mirror-1 is out of reach: the lease lapsed")
        self.on_hold()
        self.waited_s.append(wait_s)
        self.holder = self.holder or "ann@laptop"
        return Held(held=self.holder == "ann@laptop", who=self.holder, since=SINCE, why="a\nmigration")

    def let_go(self) -> None:
        self.holder = ""

    def break_hold(self) -> BrokenHold:
        self._reach()
        self.broken.append(self.holder)
        self.holder, who = "", self.holder
        return BrokenHold(broken=True, who=who, since=SINCE, why="")

    def read(self) -> Chain:
        self._reach()
        return self.chain

    def append(self, chain: Chain, records: Sequence[Record]) -> Chain:
        self._reach()
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self._reach()
        if chain.head != self.chain.head:
            raise OvertakenError("somebody else wrote into the ledger")
        self.records += records
        return self.chain

    def spread_early(self, chain: Chain) -> None:
        self.early.append(chain.number)

    def spread(self, chain: Chain) -> Mapping[str, RepositoryError]:
        self.spreads += 1
        self.spread_to = chain.number
        return self.lagging

    def remembered(self) -> SimpleNamespace:
        return SimpleNamespace(waiting=tuple(self.waiting))

    def keep(self, records: Sequence[Record]) -> None:
        if self.full:
            raise RepositoryError("no space left on this machine")
        self.waiting += records

    def drop(self, records: Sequence[Record]) -> None:
        self.waiting = [one for one in self.waiting if one not in records]

    def copy(self) -> SimpleNamespace:
        chain = Chain(self.chain.links, tuple(self.waiting))
        troubles = () if self.origin == "mirror-1" else ("mirror-1 is out of reach",)
        return SimpleNamespace(chain=chain, mirror=self.origin, seen_at=1_767_225_600.0, troubles=troubles)

    def releases(self, mirror: str) -> dict[str, str]:
        return self.on_mirror

    def difference(self, mirror: str | None, old: str, new: str, most: int) -> Difference:
        self.compared.append((old, new))
        return Difference(
            counts={"added": 2, "changed": 1, "removed": 0}, names={"added": ("a\nb",), "changed": ("c",)}
        )

    @property
    def chain(self) -> Chain:
        return prove(links_of(*self.records), "prod")

    def end(self) -> None:
        """End a run: its lock is gone with it."""
        if self.holder == "ann@laptop":
            self.holder = ""

    def _reach(self) -> None:
        if self.down:
            raise RepositoryError("mirror mirror-1 is out of reach")
