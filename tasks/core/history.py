"""A ledger as it was read: proved to be whole; and what follows from it: what is wanted where, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from .errors import LedgerError
from .ledger import ANEW, Broken, Decided, Ended, Frozen, Record, Result, Thawed, as_utc, names_of
from .marks import Marks
from .pricing import Carried

UNHEARD = ("unreachable", "failed")
"""States that say nothing of what is live on a host unless they name it."""


@dataclass(frozen=True)
class Link:
    """One record in its place: its commit and those that it names as its parents."""

    commit: str
    parents: tuple[str, ...]
    record: Record


@dataclass(frozen=True)
class Head:
    """The end of a ledger that somebody saw: the commit of record ``number``."""

    commit: str
    number: int
    by: str = "this machine"


@dataclass(frozen=True)
class Known:
    """What became of one host by the newest record that tells: ``release`` is None where that is not known, or none."""

    release: str | None
    state: str
    reason: str
    at: datetime
    turn: int


@dataclass(frozen=True)
class Chain:
    """The links of one environment, newest first; ``waiting`` are records that the hub does not have yet."""

    links: tuple[Link, ...] = ()
    waiting: tuple[Record, ...] = field(default=())

    @property
    def head(self) -> str | None:
        """The newest commit."""
        return self.links[0].commit if self.links else None

    @property
    def number(self) -> int:
        """The newest record's number, 0 where there is none."""
        return self.links[0].record.number if self.links else 0

    @cached_property
    def turn(self) -> int:
        """The highest turn that was taken."""
        return max((record.turn for record in self.records), default=0)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, newest first: those that wait for the hub, then those of the ledger."""
        return (*reversed(self.waiting), *(link.record for link in self.links))

    @cached_property
    def decisions(self) -> tuple[Decided, ...]:
        """All decisions, the highest turn first, whenever they were entered."""
        found = [record for record in self.records if isinstance(record, Decided)]
        return tuple(sorted(found, key=lambda record: record.turn, reverse=True))

    @cached_property
    def outcomes(self) -> dict[str, Ended]:
        """The newest outcome of every decision that has one."""
        found: dict[str, Ended] = {}
        for record in self.records:
            if isinstance(record, Ended):
                found.setdefault(record.decision, record)
        return found

    @cached_property
    def standing(self) -> tuple[Decided, ...]:
        """The decisions that were not undone, the highest turn first."""
        return tuple(one for one in self.decisions if not self.is_undone(one))

    @cached_property
    def carried(self) -> tuple[Carried, ...]:
        """What carriers were measured to do, the newest run first."""
        return tuple(each for record in self.records if isinstance(record, Ended) for each in record.carried)

    def is_undone(self, decision: Decided) -> bool:
        """Tell whether a decision was given up or put back everywhere."""
        ended = self.outcomes.get(decision.decision)
        return ended is not None and ended.undone

    @property
    def desired(self) -> Decided | None:
        """The decision that says what is to be live; None before the first."""
        return self.standing[0] if self.standing else None

    def desired_on(self, host: str) -> Decided | None:
        """Return the newest decision that names this host: others may have been for a part of the fleet alone."""
        return self._wanted.get(host)

    @property
    def unfinished(self) -> Decided | None:
        """The newest decision, if nobody wrote what became of it: its run is under way, or was killed."""
        newest = self.decisions[0] if self.decisions else None
        return newest if newest and newest.decision not in self.outcomes else None

    @property
    def frozen(self) -> Frozen | None:
        """The freeze that holds, if one does."""
        newest = next((record for record in self.records if isinstance(record, Frozen | Thawed)), None)
        return newest if isinstance(newest, Frozen) else None

    def broken_since(self, number: int) -> Broken | None:
        """Return the record of a lock that was broken after record ``number``."""
        return next((one for one in self.records if isinstance(one, Broken) and one.number > number), None)

    @cached_property
    def marks(self) -> Marks:
        """What decisions say of releases: which were chosen and which were left, when last."""
        rising = self.standing[::-1]
        chosen = {one.release: one.turn for one in rising}
        return Marks(chosen, {identity: one.turn for one in rising for identity in one.left})

    def left_by(self, release: str) -> Decided | None:
        """Return the newest rollback that left a release."""
        return next((one for one in self.standing if release in one.left), None)

    def known(self, host: str) -> Known | None:
        """Return what became of a host by the highest turn whose outcome tells; None where nothing was ever told."""
        return self._known.get(host)

    def history(self, host: str) -> tuple[tuple[Decided, Result | None], ...]:
        """Return the decisions that name a host, the highest turn first, and what became of each there."""
        told = []
        for decision in self.decisions:
            if host in names_of(decision.targets):
                ended = self.outcomes.get(decision.decision)
                results = ended.results if ended else ()
                told.append((decision, next((one for one in results if host in names_of(one.hosts)), None)))
        return tuple(told)

    @cached_property
    def _wanted(self) -> dict[str, Decided]:
        found: dict[str, Decided] = {}
        for decision in self.standing:
            for host in names_of(decision.targets):
                found.setdefault(host, decision)
        return found

    @cached_property
    def _known(self) -> dict[str, Known]:
        found: dict[str, Known] = {}
        for decision in reversed(self.decisions):
            ended = self.outcomes.get(decision.decision)
            for result in ended.results if ended else ():
                for host in names_of(result.hosts):
                    before = found.get(host)
                    release = result.release
                    if release is None and result.state in UNHEARD and before:
                        release = before.release
                    since = before.at if before and before.release == release else ended.at if ended else decision.at
                    found[host] = Known(release, result.state, result.reason, since, decision.turn)
        return found


def prove(links: Sequence[Link], environment: str, seen: Iterable[Head] = ()) -> Chain:
    """Return the links as a chain; raise LedgerError unless it is whole and holds every head that was ``seen``.

    Each record must name the one before it as its only parent, and numbers must fall by one from link to link down to
    1. A turn never falls, but for what was entered late.
    """
    for place, link in enumerate(links):
        number, older = link.record.number, links[place + 1] if place + 1 < len(links) else None
        here = f"record {number} of the ledger of {environment} ({link.commit[:12]})"
        if link.record.environment != environment:
            raise LedgerError(f"{here} is one of {link.record.environment}: it does not belong there: {ANEW}")
        if link.parents != ((older.commit,) if older else ()):
            raise LedgerError(f"{here} does not follow the record before it: the ledger was edited: {ANEW}")
        if number != (older.record.number if older else 0) + 1:
            told = f"comes after record {older.record.number}" if older else "is the first one there"
            raise LedgerError(f"{here} {told}: records were removed or reordered: {ANEW}")
        late = isinstance(link.record, Decided | Ended) and link.record.late
        if older and not late and link.record.turn < older.record.turn:
            raise LedgerError(f"{here} has turn {link.record.turn}, below {older.record.turn}: it was edited: {ANEW}")
    places = {link.commit: link.record.number for link in links}
    for head in seen:
        if places.get(head.commit) != head.number:
            raise LedgerError(_lacks(links, environment, head))
    return Chain(tuple(links))


def _lacks(links: Sequence[Link], environment: str, head: Head) -> str:
    newest = links[0].record.number if links else 0
    ends = f"ends with record {newest}" if links else "is empty"
    what, mend = f"was rewritten: it {ends}", ANEW
    if newest < head.number:
        what = f"was truncated: it {ends}"
        mend = "bring it back from a mirror that has it (invoke mirrors.check, fab mirrors.sync --from MIRROR)"
    return (
        f"the ledger of {environment} {what}, and {head.by} saw record {head.number} as {head.commit[:12]}, which is "
        f"not in it: {mend}, or, if those records are lost for good, go on without them with --lost-records"
    )


def told_of(record: Record) -> str:
    """Say in a few words what a record is about."""
    match record:
        case Decided():
            return f"{record.release}, and {', '.join(record.left)} marked bad" if record.left else record.release
        case Ended():
            return f"exit {record.exit_code}: {record.headline}"
        case Broken():
            return f"the lock of {record.holder} since {record.since}"
        case Frozen() | Thawed():
            return ""
    added = [f"+{','.join(record.added)}"] if record.added else []
    gone = [f"-{','.join(record.gone)}"] if record.gone else []
    return " ".join([f"config {record.config[:12]}", *added, *gone])


def who_and_when(record: Record) -> str:
    """Say who wrote a record, when and why."""
    why = f" ({record.reason})" if record.reason else ""
    return f"{record.by}@{record.machine} at {as_utc(record.at)}{why}"
