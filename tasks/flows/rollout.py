"""From a release that exists to one that is live: stage, barrier, flip, confirm. Deploy and rollback end here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..core import requests
from ..core.errors import HostError, RefusedError
from ..core.facts import Done, Flipped, Probe, Pruned, Reverted, Staged
from ..core.hosts import Host, fold
from ..core.pricing import Carried, learned
from ..core.release import Adopted, Release
from ..core.report import Outcome, Report, State
from ..core.requests import Decision, Request
from ..transports import Load
from .carrying import carried, predicted
from .hands import Hands, Shield
from .recording import Recording

T = TypeVar("T")
Failures = dict[str, HostError]


@dataclass
class Rollout:
    """One release on its way to one selection of hosts. ``failures`` grows; whoever is in it is quarantined."""

    hands: Hands
    kind: str  # "deploy" or "rollback"
    release: Release | Adopted
    probes: dict[str, Probe]
    failures: Failures
    recording: Recording
    notes: list[str] = field(default_factory=list)
    shield: Shield | None = None
    skew_s: float | None = None
    carried: tuple[Carried, ...] = ()
    predicted_s: dict[str, float] = field(default_factory=dict)
    flipped: dict[str, Flipped] = field(default_factory=dict)
    reverted: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    overtaken: set[str] = field(default_factory=set)  # something else became live there since the first look

    def run(self) -> Report:
        """Tell the story; every way it can end is a Report with its exit code."""
        waiting = [name for name, probe in self.probes.items() if probe.current != self.release.id]
        self.recording.keep_lock()
        self.stage(waiting)
        verdict = self.verdict()
        if verdict:
            locked = any(error.code == "locked" for error in self.failures.values())
            return self.report(4 if locked else 5, f"nothing changed: {verdict} before the flip")
        staged = [name for name in waiting if name not in self.failures]
        with self.hands.shield() as self.shield:
            decision = self.recording.decide(self.release, self.probes)
            self.hands.failpoint("deploy.barrier")
            report = (
                self.back_out() if self.shield.interrupted else self.carried_through(self.go_live(staged, decision))
            )
            return self.carried_through(self.recording.finish(report))

    def back_out(self) -> Report:
        """End between the decision and the flip."""
        return self.report(130, "nothing changed: interrupted before the flip, and the decision taken back")

    def carried_through(self, report: Report) -> Report:
        """Say in a report, once, that Ctrl-C came after the flip had begun."""
        if not self.shield or not self.shield.interrupted or report.exit_code == 130:
            return report
        told = "interrupted after the flip had begun: it was carried through to the end"
        return replace(report, exit_code=report.exit_code or 130, notes=(*report.notes, told))

    def at(self, state: str) -> None:
        """Keep what a second Ctrl-C would say true."""
        if self.shield:
            self.shield.state = f"{state}; invoke status --env {self.hands.settings.environment} --live asks them"

    def stage(self, names: Iterable[str]) -> None:
        """Bring, unpack, check and arm on each host; nothing visible changes."""
        arm = requests.arm(self.release.id)
        names = list(names)
        loads = self.meet(names)
        hosts = {host.name: host for host in self.hands.hosts}
        answers = self.hands.ask("stage", {name: (*self.bring(hosts[name]), arm) for name in names}, Staged)
        self.keep_failures(answers)
        self.carried = carried(_good(answers), loads)
        skipped: dict[str, list[str]] = {}
        for name, staged in _good(answers).items():
            for each in staged.skipped:
                skipped.setdefault(f"mirror {each.mirror} was skipped: {each.reason}", []).append(name)
        self.notes += [f"{why} ({fold(names)})" for why, names in skipped.items()]
        self.hands.failpoint("deploy.staged")

    def meet(self, names: Iterable[str]) -> dict[str, Load]:
        """Let the transport choose how each host gets the release; return what it will be sent."""
        if isinstance(self.release, Adopted):
            return {}
        release, transport, past = self.release, self.hands.transport, self.recording.measured
        probes = {name: self.probes[name] for name in names}
        transport.meet(release, probes, past)
        loads = {name: transport.load(release, probe) for name, probe in probes.items()}
        self.predicted_s = predicted(loads, learned(past, len(self.hands.settings.mirrors)))
        return loads

    def bring(self, host: Host) -> tuple[Request, ...]:
        """Return what has a host get the release and unpack it; one that was adopted can only be there already."""
        if isinstance(self.release, Adopted):
            return (requests.stage_adopted(self.release),)
        unpack = requests.stage(self.release, self.hands.settings.targets)
        return (*self.hands.transport.bring(self.release, host, self.probes[host.name]), unpack)

    def go_live(self, names: list[str], decision: Decision) -> Report:
        """Flip everywhere at once, run ``after_flip``, and either confirm or undo."""
        self.at(f"in the middle of the flip: some targets may serve {self.release.id} already")
        self.flip(names, decision)
        self.at(
            f"after the flip: {fold(self.flipped)} may serve {self.release.id}, and what became of it is not recorded"
        )
        verdict = self.verdict()
        if verdict and not self.flipped and not self.unknown:
            told = "; somebody else deployed meanwhile" if self.overtaken else ""
            return self.report(4 if self.overtaken else 5, f"nothing changed: {verdict}{told}")
        self.hands.failpoint("deploy.flipped")
        self.run_after_flip(list(self.flipped))
        verdict = self.verdict()
        if verdict:
            return self.give_up(verdict, decision)
        broken = [name for name in self.flipped if name in self.failures]
        self.revert(broken, decision)
        self.hands.failpoint("deploy.confirm")
        live = [name for name in self.flipped if name not in self.failures]
        live = self.confirm(live, decision)
        if self.overtaken and not live and not self.already():
            return self.report(4, f"was live for a moment: somebody else deployed meanwhile to {fold(self.overtaken)}")
        if self.failures:
            return self.report(12, f"live on {len(live) + self.already()} of {len(self.hands.hosts)} targets")
        return self.report(0, f"live on all {len(self.hands.hosts)} targets")

    def flip(self, names: list[str], decision: Decision) -> None:
        """Send the go to all armed sessions without waiting for any; ask again where an answer was lost."""
        orders = {name: (requests.flip(self.release.id, self.probes[name].current, decision),) for name in names}
        answers = self.hands.ask("flip", orders, Flipped, together=True)
        self.flipped = _good(answers)
        at = [flipped.at - self.probes[name].offset_s for name, flipped in self.flipped.items()]
        self.skew_s = max(at) - min(at) if at else None
        if unsure := _bad(answers):
            self.look_again(unsure)

    def look_again(self, lost: Mapping[str, HostError]) -> None:
        """Settle hosts that did not say that they flipped: the link says what happened."""
        found = self.hands.ask("look again", {name: (Request("settle"),) for name in lost}, Probe)
        for name, probe in found.items():
            if isinstance(probe, Probe) and probe.current == self.release.id:
                self.flipped[name] = Flipped(at=probe.current_since or probe.clock)
                if isinstance(lost[name], RefusedError):
                    self.failures[name] = lost[name]  # it flipped and could not make that durable: to be put back
                continue
            self.failures[name] = lost[name]
            if isinstance(probe, HostError):
                self.unknown.add(name)
                continue
            if probe.current != self.probes[name].current:
                self.overtaken.add(name)
            self.probes[name] = probe

    def confirm(self, names: list[str], decision: Decision) -> list[str]:
        """Have hosts record the flip and prune; return those on which it is live still, as far as can be told."""
        lost = _bad(self.hands.ask("confirm", {name: (requests.confirm(decision),) for name in names}, Done))
        settle = {name: (Request("settle"),) for name in lost}
        found = self.hands.ask("look once more", settle, Probe) if lost else {}
        for name, probe in _good(found).items():
            self.overtake(name, probe.current)
        names = [name for name in names if name not in self.overtaken]
        if unsettled := _bad(found):
            told = "live, but not yet in its own record, which settles at the next contact"
            self.notes.append(f"{told}: {fold(unsettled)}")
        prune = requests.prune(self.hands.settings.targets)
        spared = _bad(self.hands.ask("prune", {name: (prune,) for name in names if name not in lost}, Pruned))
        self.notes += [f"old releases were not pruned on {name}: {error}" for name, error in spared.items()]
        return names

    def overtake(self, name: str, current: str | None) -> None:
        """Count a host as failed where neither this release is live nor what was before: somebody else deployed."""
        if current not in (self.release.id, self.probes[name].current):
            self.overtaken.add(name)
            self.failures[name] = RefusedError("overtaken", "somebody else deployed here meanwhile")
            self.probes[name] = self.probes[name].model_copy(update={"current": current})

    def run_after_flip(self, names: list[str]) -> None:
        """Run the operator's command on hosts that flipped; where it fails the host counts as failed."""
        targets = self.hands.settings.targets
        if targets.after_flip and names:
            order = requests.after_flip(targets.after_flip, targets.after_flip_timeout)
            self.keep_failures(self.hands.ask("after_flip", dict.fromkeys(names, (order,)), Done))

    def give_up(self, verdict: str, decision: Decision) -> Report:
        """Undo the flip on every host that made it."""
        mixed = self.revert(list(self.flipped), decision) or self.unknown
        if mixed:
            return self.report(13, f"{verdict}, and not every target could be put back: {fold(mixed)} need a person")
        if self.overtaken:
            told = f"{verdict}; nothing of this run is live: somebody else deployed meanwhile to {fold(self.overtaken)}"
            return self.report(4, told)
        return self.report(10, f"{verdict} after the flip: every target was put back to what it served before")

    def revert(self, names: list[str], decision: Decision) -> set[str]:
        """Put hosts back to what was live before, run ``after_flip`` for that too; return those that did not answer."""
        if not names:
            return set()
        answers = self.hands.ask("revert", {name: (requests.revert(decision),) for name in names}, Reverted)
        for name, answer in _good(answers).items():
            self.overtake(name, answer.current)
        away = {name for name, answer in _good(answers).items() if answer.current != self.release.id}
        back = away - self.overtaken
        self.reverted |= back
        targets = self.hands.settings.targets
        again = [name for name in names if name in back and self.probes[name].current]
        if targets.after_flip and again:
            order = requests.after_flip(targets.after_flip, targets.after_flip_timeout)
            failed = _bad(self.hands.ask("after_flip, for what was put back", dict.fromkeys(again, (order,)), Done))
            self.notes += [f"after_flip failed again on {name}, put back: {error}" for name, error in failed.items()]
        lost = set(names) - away
        self.unknown |= lost
        return lost

    def keep_failures(self, answers: Mapping[str, object]) -> None:
        """Quarantine the hosts that did not do what was asked."""
        self.failures |= {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}

    def verdict(self) -> str | None:
        """Return why the run must be given up, or None."""
        return self.hands.policy.verdict(self.hands.hosts, self.failures)

    def already(self) -> int:
        """Count the hosts on which the release was live before the run."""
        return sum(probe.current == self.release.id for probe in self.probes.values())

    def report(self, exit_code: int, headline: str) -> Report:
        """Make the report from where every host stands now."""
        environment = self.hands.settings.environment
        step = f"invoke status --env {environment} shows what is live; fab rollback --env {environment} goes one back"
        if exit_code in (4, 5, 12) and not self.overtaken:
            step = "mend the targets named above, then run the same command again: it touches only those"
        elif exit_code == 130:
            step = "run the same command again: it goes on where this one ended"
        elif exit_code == 10:
            step = f"mend the cause, then deploy again; invoke status --env {environment} shows what is live"
        elif exit_code == 13:
            step = f"invoke status --env {environment} shows what is live where; then deploy or roll back"
        return Report(
            command=self.kind,
            environment=environment,
            exit_code=exit_code,
            headline=f"{self.release.id}: {headline}",
            release=self.release.id,
            outcomes=tuple(self.outcome(host.name) for host in self.hands.hosts),
            notes=tuple(self.notes),
            next_step=step,
            skew_s=self.skew_s,
            timings_s=dict(self.hands.timings_s),
            carried=self.carried,
            predicted_s=self.predicted_s,
        )

    def outcome(self, name: str) -> Outcome:
        """Say where one host stands now."""
        probe, error = self.probes.get(name), self.failures.get(name)
        before = probe.current if probe else None
        if name in self.unknown:
            why = str(error) if error else "it could not be put back"
            return Outcome(name, State.UNKNOWN, None, error.code if error else "", why)
        if error is not None:
            return Outcome.of(name, error, before)
        if name in self.reverted:
            return Outcome(name, State.REVERTED, before)
        if name in self.flipped:
            return Outcome(name, State.LIVE, self.release.id)
        return Outcome(name, State.ALREADY if before == self.release.id else State.UNTOUCHED, before)


def _good(answers: Mapping[str, T | HostError]) -> dict[str, T]:
    return {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}


def _bad(answers: Mapping[str, object]) -> Failures:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
