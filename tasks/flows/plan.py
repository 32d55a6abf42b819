"""`fab deploy --plan` and `fab rollback --plan`: the same story up to where it would change something, and told on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

from ..core import requests
from ..core.errors import RepositoryError
from ..core.facts import Difference, Foreseen, Probe
from ..core.history import Chain, who_and_when
from ..core.hosts import fold
from ..core.plan import INLINE, MIRROR, NAMES_MOST, SUBJECTS_MOST, SWARM, THERE, Commits, Plan, Way, grouped
from ..core.release import Adopted, Release, check_id
from ..core.report import Outcome
from ..core.requests import Request
from .entering import last_of_fleet
from .hands import Hands
from .look import advice, look
from .marking import warned
from .recording import Recording, next_turn
from .releasing import Releasing
from .rollback import choose
from .rollout import Failures, Rollout


class History(Protocol):
    """What tells two releases apart, as far as their objects are here; ``remote.source.Source`` says what each does."""

    def has(self, oid: str) -> bool: ...  # noqa: D102
    def changes(self, old: str | None, new: str, most: int = 0) -> Difference: ...  # noqa: D102
    def commits(self, old: str, new: str, most: int) -> Commits | None: ...  # noqa: D102
    def weight(self, base: str | None, commit: str) -> int: ...  # noqa: D102


def plan_deploy(work: Releasing, words: Sequence[str]) -> Plan:
    """Say what a deploy would do now; ``words`` are the options it would be asked with.

    Raise what a deploy would raise before it changes anything, but take no lock: who has it is not asked.
    """
    commit, tree = work.resolve()
    words = (*words, *(["--snapshot"] if work.snapshot else ["--ref", commit]))
    planning = Planning(work.hands, "deploy", words)
    refused = planning.look()
    if refused:
        return refused
    if not planning.failures and work.is_served(commit, tree, planning.probes):
        return planning.nothing_to_do()
    release, is_new = work.foresee(commit, tree, planning.probes)
    planning.notes += [*work.notes, *warned(planning.recording.chain, planning.probes, release)]
    return planning.foresee(release, work.source, is_new=is_new)


def plan_rollback(hands: Hands, to: str | None, words: Sequence[str], source: Callable[[], History]) -> Plan:
    """Say what a rollback would do now. Like that it needs nothing but the targets: without the source it says less."""
    wanted = check_id(to) if to is not None else None
    planning = Planning(hands, "rollback", words)
    refused = planning.look()
    if refused:
        return refused
    release, notes = choose(planning.recording.chain, planning.probes, wanted, hands.settings.environment)
    planning.notes += notes
    planning.words = (*words, "--to", release.id)
    try:
        history = source()
    except RepositoryError:
        history = None
    return planning.foresee(release, history)


class Compared:
    """A release held against what targets serve, as far as their objects are here; each pair is compared once."""

    def __init__(self, release: Release | Adopted, history: History | None) -> None:
        self.release, self._history = release, history
        self.weight = cache(self._weight)

    def to(self, probe: Probe) -> tuple[Commits | None, Difference | None]:
        """Return how the commits lie, and which files differ; None for what cannot be told."""
        release, history, live = self.release, self._history, probe.live
        if history is None or isinstance(release, Adopted) or not history.has(release.tree):
            return None, None
        if probe.current is None:
            return None, history.changes(None, release.tree, NAMES_MOST)
        if live is None:
            return None, None
        commits = history.commits(live.source_commit, release.source_commit, SUBJECTS_MOST)
        return commits, history.changes(live.tree, release.tree, NAMES_MOST) if history.has(live.tree) else None

    def _weight(self, base: str | None) -> int | None:
        """Return about what a mirror sends to who has ``base``, a release commit, or nothing."""
        release, history = self.release, self._history
        if history is None or isinstance(release, Adopted):
            return None
        known = all(history.has(commit) for commit in (release.commit, base) if commit)
        return history.weight(base, release.commit) if known else None


class Planning:
    """One look ahead, over the sessions that a run would use. ``failures`` grows as it would there."""

    def __init__(self, hands: Hands, kind: str, words: Sequence[str]) -> None:
        self.hands, self.kind, self.words = hands, kind, words
        self.probes: dict[str, Probe] = {}
        self.failures: Failures = {}
        self.notes: list[str] = []

    def look(self) -> Plan | None:
        """Read the ledger and probe every target; return the end of the plan where too many are not as they must be."""
        self.recording = Recording.ahead(self.hands, self.kind)
        self.probes, self.failures = look(self.hands, settle=False)
        self.recording.meet(self.probes)
        self.notes += self.recording.notes
        if self.recording.chain:
            self.notes += _doubts(self.recording.chain, self.hands.config_digest)
        if left := [name for name, probe in self.probes.items() if probe.unsettled]:
            self.notes.append(f"a killed run left something on {fold(left)}, which would be settled first")
        verdict = self.hands.policy.verdict(self.hands.hosts, self.failures)
        return self.refused(verdict) if verdict else None

    def refused(self, verdict: str) -> Plan:
        """End where a run would end because too many targets failed."""
        return self._plan(5, f"nothing would change: {verdict}", next_step=advice(self.hands, self.failures))

    def nothing_to_do(self) -> Plan:
        """End where a deploy would find all done."""
        told = f"nothing to do: every target of {self.hands.settings.environment} serves that commit already"
        return self._plan(0, told, already=tuple(self.probes))

    def foresee(self, release: Release | Adopted, history: History | None, *, is_new: bool = False) -> Plan:
        """Have every target that would flip say what it would do, and put that together."""
        hands, probes = self.hands, self.probes
        waiting = [host for host in hands.hosts if host.name in probes and probes[host.name].current != release.id]
        rollout = Rollout(hands, self.kind, release, probes, self.failures, self.recording)
        rollout.meet(host.name for host in waiting)
        brought = {host.name: rollout.bring(host)[0] for host in waiting}
        targets = hands.settings.targets
        orders = {name: (requests.foresee(each, release.id, self.kind, targets),) for name, each in brought.items()}
        answers = hands.ask("foresee", orders, Foreseen)
        rollout.keep_failures(answers)
        if verdict := rollout.verdict():
            return self.refused(f"{verdict} before the flip")
        found = {name: each for name, each in answers.items() if isinstance(each, Foreseen)}
        compared = Compared(release, history)
        ways = {name: self._way(compared, name, each, brought[name]) for name, each in found.items()}
        lives = {probes[name].current: probes[name] for name in found}
        already = tuple(name for name, probe in probes.items() if probe.current == release.id)
        called = f"release {release.number}" if is_new and isinstance(release, Release) else release.id
        return self._plan(
            0,
            f"{called} would go live on {len(found)} of {len(hands.hosts)} targets",
            release=release,
            is_new=is_new,
            turn=next_turn(self.recording.begun, probes),
            groups=grouped(
                probes,
                ways,
                {name: each.pruned for name, each in found.items()},
                {live: compared.to(probe) for live, probe in lives.items()},
            ),
            already=already,
            predicted_s=rollout.predicted_s,
            next_step=shlex.join(("fab", self.kind, "--env", hands.settings.environment, *self.words)),
        )

    def _way(self, compared: Compared, name: str, found: Foreseen, bring: Request) -> Way:
        probe, carried = self.probes[name], len(bring.payload)
        if found.here or isinstance(compared.release, Adopted):
            return Way(THERE, 0, None, (), "it is there already")
        transport = self.hands.transport
        load = transport.load(compared.release, probe)
        why = f"{transport.name}: {load.why}"
        if load.by == SWARM and not found.restricted:
            return Way(SWARM, load.bytes, None, tuple(found.mirrors), why)
        if found.inline:
            return Way(INLINE, carried, str(bring.fields["base"]).rpartition("/")[2] or None, (), why)
        base = probe.live.commit if probe.live else None
        if carried and found.restricted:
            why = "the key is restricted and brings no bytes of its own"
        elif carried:
            why, base = "the target's repository lacks what the delta builds on", None
        return Way(MIRROR, compared.weight(base), None, found.mirrors, why)

    def _plan(self, exit_code: int, headline: str, **told: Any) -> Plan:
        hands = self.hands
        return Plan(
            self.kind,
            hands.settings.environment,
            exit_code,
            headline,
            failed=tuple(Outcome.of(name, error) for name, error in self.failures.items()),
            bounds=hands.policy.bounds(hands.hosts),
            notes=tuple(self.notes),
            **told,
        )


def _doubts(chain: Chain, config: str) -> list[str]:
    """Say what of the ledger a run would meet: a freeze, another run, records that wait, another configuration."""
    notes = []
    if freeze := chain.frozen:
        notes.append(f"frozen by {who_and_when(freeze)}: a run is refused, exit 4, until fab unlock ends that")
    if left := chain.unfinished:
        notes.append(f"what became of {left.release}, by {who_and_when(left)}, is not recorded: is that run under way?")
    if chain.waiting:
        notes.append(f"{len(chain.waiting)} records of this machine wait for the hub and would be entered first")
    last = last_of_fleet(chain)
    if last and last.config != config:
        notes.append("the configuration is not that of the last decision: the ledger would get a record of that first")
    return notes
