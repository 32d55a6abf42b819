"""One run and the ledger: the lock before anything, the decision before the flip, what became of it at the end.

A deploy needs the hub: trouble with it or with the ledger ends the run before anything changes. A rollback needs only
the targets: it goes on without, and its records wait here for the next run that reaches the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..core.errors import LedgerError, RepositoryError
from ..core.facts import Probe
from ..core.history import Chain, Head, prove
from ..core.ledger import Decided, Ended, Record, Result, folded, names_of
from ..core.pricing import Carried
from ..core.release import Adopted, Release
from ..core.report import Outcome, Report, State
from ..core.requests import Decision
from ..core.text import printable
from .entering import (
    append,
    enter_waiting,
    entry,
    keep_lock,
    last_of_fleet,
    reconfigured,
    refuse_frozen,
    refuse_other_hosts,
    take_lock,
)
from .hands import Hands

NOTHING_CAME_OF_IT = (4, 5, 10)
"""Exit codes after a decision that say that nothing of it is live anywhere."""

REASON_MOST = 500


@dataclass
class Recording:
    """One run's dealings with the ledger.

    ``chain`` is what it knows of it, None where the hub takes no part; ``begun`` is what was read first.
    """

    hands: Hands
    kind: str  # "deploy" or "rollback"
    chain: Chain | None = None
    begun: Chain = field(default_factory=Chain)
    decided: Decided | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, hands: Hands, kind: str) -> Recording:
        """Take the lock and read the ledger.

        Raise LockedError where somebody else is at work or the environment is frozen, UsageError where the ledger knows
        other hosts, and, for a deploy, RepositoryError where the hub is out of reach or its ledger is not whole.
        """
        run = cls(hands, kind)
        with hands.progress.stage("lock", 1) as seen:
            began = hands.elapsed()
            with run.spared():
                take_lock(hands)
                run.chain = run.begun = enter_waiting(hands, hands.book.read())
            hands.timings_s["lock"] = hands.elapsed() - began
            seen("hub")
        if run.chain:
            refuse_frozen(hands, run.chain)
            refuse_other_hosts(hands, run.chain)
        return run

    @classmethod
    def ahead(cls, hands: Hands, kind: str) -> Recording:
        """Read the ledger as ``begin`` does, but take no lock and enter nothing; a freeze is no trouble either."""
        run = cls(hands, kind)
        with run.spared():
            run.chain = run.begun = replace(hands.book.read(), waiting=hands.book.remembered().waiting)
        if run.chain:
            refuse_other_hosts(hands, run.chain)
        return run

    @property
    def measured(self) -> tuple[Carried, ...]:
        """What carriers did in earlier runs, newest first."""
        return self.begun.carried

    def meet(self, probes: Mapping[str, Probe]) -> None:
        """Hold what targets saw of the ledger against it; raise LedgerError, for a deploy, where it lost that."""
        if self.chain and not self.hands.lost_records:
            with self.spared():
                heads = [
                    Head(probe.ledger.head, probe.ledger.number, name) for name, probe in probes.items() if probe.ledger
                ]
                try:
                    prove(self.chain.links, self.hands.settings.environment, heads)
                except LedgerError:
                    keep_lock(self.hands, self.chain)  # what targets saw may be newer, where this run was overtaken
                    raise

    def keep_lock(self) -> None:
        """Make sure that nobody overtook this run; raise LockedError where somebody did."""
        with self.spared():
            if self.chain:
                keep_lock(self.hands, self.chain)

    @contextmanager
    def spared(self) -> Iterator[None]:
        """Let a rollback go on without the hub, and everything else end, where the block meets trouble with it."""
        try:
            yield
        except RepositoryError as error:
            if self.kind != "rollback":
                raise
            self.chain = None
            self.notes.append(f"without the ledger, which gets its record with the next run that reaches it: {error}")

    def decide(self, release: Release | Adopted, probes: Mapping[str, Probe]) -> Decision:
        """Write the decision down, and so take the next turn, above all that the ledger or any target has seen.

        Raise LockedError where somebody else decided, froze or broke our lock meanwhile.
        """
        with self.spared():
            if self.chain:
                keep_lock(self.hands, self.chain)
                self.chain = append(self.hands, self.chain, lambda chain: self._records(chain, release, probes))
                self.decided = self.chain.decisions[0]
        decided, head = self.decided, None
        if self.chain:
            self.hands.book.spread_early(self.chain)
            head = {"head": self.chain.head, "number": self.chain.number}
        if decided is None:
            decided = self.decided = self._decision(self.begun, release, probes)
            self.notes += self._kept(decided)
        return Decision(decided.turn, decided.decision, self.kind, self.hands.by, self.hands.reason, head)

    def finish(self, report: Report) -> Report:
        """Write down what became of the decision, if there was one, and bring the ledger to the mirrors."""
        decided = self.decided
        if decided is None:
            return report
        notes: list[str] = []
        chain = self.chain
        try:
            if chain:
                chain = append(self.hands, chain, lambda chain: [self._outcome(chain, decided, report)], freely=True)
            else:
                notes = self._kept(self._outcome(self.begun, decided, report))
        except RepositoryError as error:
            notes = [f"what became of this is not in the ledger yet, and follows with the next run: {error}"]
            notes = self._kept(self._outcome(self.begun, decided, report)) or notes
        lagging = self.hands.book.spread(chain) if chain else {}
        notes += [f"mirror {name} did not take the ledger: {error}" for name, error in lagging.items()]
        return replace(report, notes=tuple(dict.fromkeys((*report.notes, *notes))))

    def settle(self, report: Report) -> Report:
        """Finish what a killed run decided, where this run found all of it live."""
        left = self.chain.unfinished if self.chain else None
        if left and left.release == report.release and set(names_of(left.targets)) <= {o.host for o in report.outcomes}:
            self.decided = left
        return self.finish(report)

    def _kept(self, record: Record) -> list[str]:
        """Keep a record here until the hub can take it; say so where that fails, for it must not stop a rollback."""
        try:
            self.hands.book.keep([record])
        except RepositoryError as error:
            return [f"the ledger will lack that this happened, for it could not be kept here either: {error}"]
        return []

    def _records(self, chain: Chain, release: Release | Adopted, probes: Mapping[str, Probe]) -> list[Record]:
        last = last_of_fleet(chain)
        if last is None or last.config == self.hands.config_digest:
            return [self._decision(chain, release, probes)]
        decision = self._decision(chain, release, probes)
        return [
            reconfigured(self.hands, chain, last),
            decision.model_copy(update={"number": decision.number + 1}),
        ]

    def _decision(self, chain: Chain, release: Release | Adopted, probes: Mapping[str, Probe]) -> Decided:
        hands = self.hands
        turn = next_turn(chain, probes)
        before: dict[str | None, list[str]] = {}
        for name, probe in probes.items():
            before.setdefault(probe.current, []).append(name)
        fields = {
            "kind": self.kind,
            "decision": f"{turn}-{release.id}-{hands.nonce}",
            "release": release.id,
            **{name: getattr(release, name, None) for name in ("commit", "tree", "source_commit")},
            "before": [(identity, folded(names)) for identity, names in before.items()],
            "targets": folded(host.name for host in hands.hosts),
            "fail_limit": hands.policy.overall,
            "group_limits": dict(hands.policy.groups),
            "late": self.chain is None,
        }
        return Decided.model_validate({**entry(hands, chain.number + 1, turn), **fields})

    def _outcome(self, chain: Chain, decided: Decided, report: Report) -> Ended:
        fields = {
            "decision": decided.decision,
            "exit_code": report.exit_code,
            "headline": printable(report.headline, REASON_MOST),
            "undone": _came_to_nothing(report),
            "results": _results(report.outcomes),
            "carried": report.carried,
            "late": decided.late or decided.turn < chain.turn,
        }
        return Ended.model_validate({**entry(self.hands, chain.number + 1, decided.turn), **fields})


def _came_to_nothing(report: Report) -> bool:
    """Tell whether nothing of a decision is live anywhere by this run: also where Ctrl-C came before the flip."""
    interrupted = report.exit_code == 130 and not any(
        one.state in (State.LIVE, State.UNKNOWN) for one in report.outcomes
    )
    return report.exit_code in NOTHING_CAME_OF_IT or interrupted


def next_turn(chain: Chain, probes: Mapping[str, Probe]) -> int:
    """Return the turn that a decision takes: above all that the ledger or any target has seen."""
    return max([chain.turn, *(probe.turn for probe in probes.values())]) + 1


def _results(outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    alike: dict[tuple[str, str | None, str, str], list[str]] = {}
    for one in outcomes:
        key = (one.state.value, one.release, one.code, printable(one.reason, REASON_MOST))
        alike.setdefault(key, []).append(one.host)
    return [
        Result(state=state, release=release, code=code, reason=reason, hosts=folded(hosts)).model_dump()
        for (state, release, code, reason), hosts in alike.items()
    ]
