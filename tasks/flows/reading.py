"""What the ledger tells, with access to the hub or any one mirror, or to nothing but what was seen here before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import RepositoryError, UsageError
from ..core.facts import Difference
from ..core.history import Chain, told_of
from ..core.hosts import fold
from ..core.ledger import Record, as_utc, names_of
from ..core.release import ID, check_id, number_of
from ..core.text import printable
from ..core.told import Told
from .marking import told_bad
from .status import FleetStatus, HostStatus

NAMES_MOST = 50


class Copy(Protocol):
    """A ledger as it could be read: see ``remote.ledger.Copy``."""

    @property
    def chain(self) -> Chain: ...  # noqa: D102
    @property
    def mirror(self) -> str | None: ...  # noqa: D102
    @property
    def seen_at(self) -> float: ...  # noqa: D102
    @property
    def troubles(self) -> tuple[str, ...]: ...  # noqa: D102


class Library(Protocol):
    """Where ledgers are read; ``remote.ledger.Book`` says what each does."""

    def copy(self) -> Copy: ...  # noqa: D102
    def releases(self, mirror: str) -> dict[str, str]: ...  # noqa: D102
    def difference(self, mirror: str | None, old: str, new: str, most: int) -> Difference: ...  # noqa: D102


@dataclass(frozen=True)
class Reader:
    """One look at the ledger of ``environment``, which has ``hosts`` now; ``now`` is in seconds since 1970."""

    environment: str
    hub: str
    hosts: Sequence[str]
    library: Library
    now: Callable[[], float]

    def status(self, hosts: Sequence[str]) -> FleetStatus:
        """Tell what is live where as far as the ledger knows, and what differs from what was decided."""
        copy = self.library.copy()
        chain = copy.chain
        desired = chain.desired
        return FleetStatus(
            environment=self.environment,
            desired=desired.release if desired else None,
            hosts=tuple(_host(chain, host) for host in hosts),
            source="ledger",
            notes=(*self._provenance(copy), *_newly_bad(chain)),
            ledger=self._document(copy),
            bad=tuple(sorted(chain.marks.bad)),
        )

    def log(self, limit: int) -> Told:
        """List the newest records."""
        if limit < 1:
            raise UsageError(f"--limit {limit}: how many records to list, 1 or more")
        copy = self.library.copy()
        shown = copy.chain.records[:limit]
        rows = tuple(_row(record) for record in shown)
        document = {"ledger": self._document(copy), "records": [record.model_dump(mode="json") for record in shown]}
        headers = ("nr", "turn", "when", "who", "what", "", "reason")
        return Told("log", self.environment, tuple(self._provenance(copy)), headers, rows, document)

    def releases(self, limit: int) -> Told:
        """List the newest releases: who deployed them first, where they are live, which are marked bad."""
        if limit < 1:
            raise UsageError(f"--limit {limit}: how many releases to list, 1 or more")
        copy = self.library.copy()
        on_mirror = self._on_mirror(copy)
        first = {one.release: one for one in reversed(copy.chain.decisions)}
        ids = sorted({*filter(ID.fullmatch, on_mirror), *first}, key=number_of, reverse=True)[:limit]
        live = _live(copy.chain)
        bad = copy.chain.marks.bad
        rows, listed = [], []
        for identity in ids:
            decided = first.get(identity)
            hosts = live.get(identity, [])
            marks = [f"live on {fold(hosts)}"] if hosts else []
            marks += [told_bad(copy.chain, identity).partition(" is ")[2]] if identity in bad else []
            who = f"{decided.by}@{decided.machine}" if decided else "-"
            rows.append((identity, as_utc(decided.at) if decided else "-", who, "; ".join(marks)))
            at = decided.at.isoformat() if decided else None
            said = {"release": identity, "at": at, "by": who, "live": hosts, "bad": identity in bad}
            listed.append({**said, "marks": marks})
        document = {"ledger": self._document(copy), "releases": listed}
        headers = ("release", "first decided", "by", "")
        return Told("releases", self.environment, tuple(self._provenance(copy)), headers, tuple(rows), document)

    def diff(self, old: str, new: str) -> Told:
        """Tell which files differ between two releases, named by id or number; a mirror that has both compares them."""
        copy = self.library.copy()
        commits = {one.release: one.commit for one in copy.chain.decisions if one.commit} | self._on_mirror(copy)
        a, b = (_find(commits, name) for name in (old, new))
        found = self.library.difference(copy.mirror, commits[a], commits[b], NAMES_MOST)
        lines = []
        for kind, sign in (("added", "+"), ("changed", "~"), ("removed", "-")):
            names = found.names.get(kind, ())
            lines += [f"{sign} {printable(name, 1000)}" for name in names]
            more = found.counts.get(kind, 0) - len(names)
            lines += [f"{sign} and {more} more" if more > 0 else ""]
        counts = ", ".join(f"{found.counts.get(kind, 0)} {kind}" for kind in ("added", "changed", "removed"))
        document = {"from": a, "to": b, "counts": found.counts, "names": found.names}
        return Told("diff", self.environment, (*filter(None, lines), f"{a} to {b}: {counts}"), document=document)

    def history(self, host: str) -> Told:
        """Tell what was decided for one host, newest first, and what became of it there."""
        copy = self.library.copy()
        known = {name for one in copy.chain.decisions for name in names_of(one.targets)}
        if host not in known and host not in self.hosts:
            raise UsageError(f"no host of {self.environment} is or was named {printable(repr(host), 80)}")
        rows, listed = [], []
        for decided, result in copy.chain.history(host):
            state = result.state if result else "not known"
            reason = result.reason if result else ""
            live = result.release if result else None
            place = (str(decided.turn), as_utc(decided.at), _who(decided), decided.kind, decided.release)
            rows.append((*place, state, reason))
            said = {"turn": decided.turn, "at": decided.at.isoformat(), "by": _who(decided), "kind": decided.kind}
            listed.append({**said, "release": decided.release, "state": state, "live": live, "reason": reason})
        headers = ("turn", "when", "who", "what", "release", "became", "reason")
        document = {"ledger": self._document(copy), "host": host, "decisions": listed}
        lines = [*([] if rows else [f"nothing was decided for {host} yet"]), *self._provenance(copy)]
        return Told("history", self.environment, tuple(lines), headers, tuple(rows), document)

    def _provenance(self, copy: Copy) -> list[str]:
        """Say where this is from, unless it is from the hub and all is well."""
        chain = copy.chain
        lines = list(copy.troubles)
        upto = f"up to record {chain.number}"
        upto += f" of {as_utc(chain.links[0].record.at)}" if chain.links else ""
        if copy.mirror is None:
            age = _age(self.now() - copy.seen_at)
            lines.append(f"no mirror is in reach: this is what was seen here {age} ago, {upto}")
        elif copy.mirror != self.hub:
            lines.append(f"the hub, {self.hub}, did not answer: this is the copy of {copy.mirror}, {upto}")
        if not chain.decisions:
            lines.append("no deploy was recorded yet: the next one begins that; invoke status --live asks the targets")
        if freeze := chain.frozen:
            lines.append(f"frozen by {_who(freeze)} at {as_utc(freeze.at)}: {freeze.reason}")
        if chain.waiting:
            told = "records of this machine wait for the hub: the next deploy, rollback, lock or unlock enters them"
            lines.append(f"{len(chain.waiting)} {told}")
        return lines

    def _document(self, copy: Copy) -> dict[str, object]:
        chain = copy.chain
        return {
            "from": copy.mirror,
            "seen_at": copy.seen_at,
            "record": chain.number,
            "at": chain.links[0].record.at.isoformat() if chain.links else None,
            "turn": chain.turn,
            "frozen": chain.frozen.reason if chain.frozen else None,
            "waiting": len(chain.waiting),
            "troubles": list(copy.troubles),
        }

    def _on_mirror(self, copy: Copy) -> dict[str, str]:
        if copy.mirror is None:
            return {}
        try:
            return self.library.releases(copy.mirror)
        except RepositoryError:
            return {}  # the ledger names most of them


def _host(chain: Chain, host: str) -> HostStatus:
    wanted, known = chain.desired_on(host), chain.known(host)
    release, since = (known.release, known.at.timestamp()) if known else (None, None)
    troubles = []
    if wanted and (known is None or known.turn < wanted.turn):
        troubles.append(f"{wanted.release} was decided by {_who(wanted)}, what became of it was not recorded")
    elif wanted and known and release != wanted.release:
        troubles.append(f"behind: {wanted.release} is wanted")
    if known and (known.reason or known.state == "unknown"):
        troubles.append(": ".join(filter(None, (known.state, known.reason))))
    return HostStatus(host, release, since if release else None, None, "; ".join(troubles))


def _newly_bad(chain: Chain) -> list[str]:
    """Name the bad releases that are newer than what is wanted: those of long ago are of no interest."""
    desired = chain.desired
    newer = sorted(each for each in chain.marks.bad if desired and number_of(each) > number_of(desired.release))
    return [told_bad(chain, identity) for identity in newer]


def _live(chain: Chain) -> dict[str, list[str]]:
    live: dict[str, list[str]] = {}
    for host in sorted({name for one in chain.decisions[:1] for name in names_of(one.hosts)}):
        known = chain.known(host)
        if known and known.release:
            live.setdefault(known.release, []).append(host)
    return live


def _find(commits: dict[str, str], name: str) -> str:
    if name.isdigit():
        found = [identity for identity in commits if ID.fullmatch(identity) and number_of(identity) == int(name)]
    else:
        found = [identity for identity in commits if identity == check_id(name)]
    if len(found) != 1:
        known = ", ".join(sorted(filter(ID.fullmatch, commits))[-10:]) or "none"
        raise UsageError(f"no one release is called {printable(name, 80)}; the newest are: {known}")
    return found[0]


def _row(record: Record) -> tuple[str, ...]:
    about = told_of(record)
    return (str(record.number), str(record.turn), as_utc(record.at), _who(record), record.kind, about, record.reason)


def _who(record: Record) -> str:
    return f"{record.by}@{record.machine}"


def _age(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} seconds"
