"""`setup`: mirrors made, targets prepared with keys of their own, and who may do what with which key written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..core.errors import HostError, SkeinError
from ..core.facts import Admitted, Prepared, Probe
from ..core.hosts import Host, fold
from ..core.plausible import twins
from ..core.preparation import Wishes, short_name
from ..core.requests import Request, admit_gate, prepare, share
from ..core.setup_report import SetupReport
from .entering import try_lock
from .furnishing import Changes, Wheels, furnish
from .hands import Hands, Targets


class Mirrors(Protocol):
    """The mirrors, as set-up sees them: see ``remote.mirrorset`` and ``remote.mirror_keys``."""

    def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]:
        """Make sure that every mirror is there; return what was changed on each, or why it could not be."""


class Keys(Protocol):
    """Who may read the mirrors over ssh."""

    @property
    def needed(self) -> bool: ...  # noqa: D102

    def pins(self) -> tuple[str, ...]:
        """Return the mirrors' lines of known_hosts; raise RepositoryError where one is not pinned."""

    def authorize(self, keys: Mapping[str, str], *, prune: bool, dry: bool) -> Mapping[str, Admitted | SkeinError]:
        """Let keys, by target, read every mirror."""


@dataclass(frozen=True)
class SettingUp:
    """One run of set-up; ``logins`` reaches the targets as the user whose authorized_keys is written there."""

    hands: Hands
    mirrors: Mirrors
    keys: Keys
    logins: Targets
    wishes: Wishes = field(default_factory=Wishes)
    wheels: Wheels | None = None  # where hosts may carry releases among themselves

    def run(self) -> SetupReport:
        """Make the mirrors, prepare the targets, let their keys in at the mirrors, and restricted keys in at them.

        Not next to another run: raise LockedError where one has the lock. Where there is no hub yet there is no other
        run, and the lock is taken once it is made. A freeze is no trouble: nothing that is served changes.
        """
        pins = self.keys.pins() if self.keys.needed else ()
        unlocked = try_lock(self.hands)
        with self.hands.progress.stage("mirrors", 1) as seen:
            mirrors = self.mirrors.make()
            seen("mirrors")
        unlocked = unlocked and try_lock(self.hands)
        targets = self._prepare(pins)
        ready = {name: answer for name, answer in targets.items() if not isinstance(answer, HostError)}
        findings = _Findings(
            dict(mirrors), {name: _changes(answer) for name, answer in targets.items()}, notes=unlocked
        )
        findings.troubles |= {
            name: [problem.message for problem in answer.problems] for name, answer in ready.items() if answer.problems
        }
        if self.keys.needed:
            findings.merge(findings.mirrors, self._let_in_at_mirrors(ready))
        if self.wheels:
            findings.furnished(*furnish(self.hands, self.wheels, ready))
        if self.wishes.admit:
            findings.merge(findings.targets, self._let_in_at_targets(ready))
        return findings.report(self.hands.settings.environment, self.wishes)

    def _prepare(self, pins: tuple[str, ...]) -> dict[str, Prepared | HostError]:
        """Prepare every target that answers and is not another one's twin: the two would wait for each other's lock."""
        seen = self.hands.ask("look", {host.name: (Request("probe"),) for host in self.hands.hosts}, Probe)
        failed = {name: answer for name, answer in seen.items() if isinstance(answer, HostError)}
        failed |= twins({name: answer for name, answer in seen.items() if isinstance(answer, Probe)})
        orders = {host.name: self._orders(host, pins) for host in self.hands.hosts if host.name not in failed}
        answers = {**failed, **self.hands.ask("targets", orders, Prepared)}
        return {host.name: answers[host.name] for host in self.hands.hosts}

    def _orders(self, host: Host, pins: tuple[str, ...]) -> tuple[Request, ...]:
        settings, wishes = self.hands.settings, self.wishes
        comment = f"skein:{settings.app.name}:{settings.environment}:{host.name}" if self.keys.needed else None
        policy = self._policy(host) if wishes.admit else None
        orders = [prepare(comment, pins, policy)]
        if wishes.shared:
            orders.append(share(wishes.shared, replace=wishes.replace))
        return tuple(orders)

    def _policy(self, host: Host) -> dict[str, object]:
        """Say what a restricted key may do on a target: deploy what these mirrors have, to this one place."""
        targets = self.hands.settings.targets
        return {
            "deploy_to": targets.deploy_to,
            "link": targets.link,
            "environment": self.hands.settings.environment,
            "linked_dirs": list(targets.linked_dirs),
            "linked_files": list(targets.linked_files),
            "keep": targets.keep,
            "after_flip": list(targets.after_flip) if targets.after_flip else None,
            "mirrors": sorted({mirror.url for mirror in self.hands.transport.mirrors_for(host)}),
        }

    def _let_in_at_mirrors(self, ready: Mapping[str, Prepared]) -> Mapping[str, Admitted | SkeinError]:
        keys = {name: answer.public for name, answer in ready.items() if answer.public}
        return self.keys.authorize(keys, prune=self.wishes.prune, dry=self.wishes.dry)

    def _let_in_at_targets(self, ready: Mapping[str, Prepared]) -> Mapping[str, Admitted | SkeinError]:
        settings, wishes = self.hands.settings, self.wishes
        prefix = f"skein-gate:{settings.app.name}:{settings.environment}:"
        keys = {prefix + short_name(key): key for key in wishes.admit}
        orders = {
            name: (
                admit_gate(
                    {"prefix": prefix, "keys": keys, "known": list(keys), "prune": wishes.prune, "dry": wishes.dry},
                    gate=answer.gate,
                    interpreter=answer.interpreter,
                    home=settings.targets.deploy_to,
                    become=settings.targets.become,
                ),
            )
            for name, answer in ready.items()
        }
        return self.logins.ask(orders, Admitted)


@dataclass
class _Findings:
    """What is gathered until it becomes a report."""

    mirrors: dict[str, tuple[str, ...] | SkeinError]
    targets: dict[str, tuple[str, ...] | SkeinError]
    troubles: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    printed: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def merge(
        self, machines: dict[str, tuple[str, ...] | SkeinError], answers: Mapping[str, Admitted | SkeinError]
    ) -> None:
        """Add what became of lines in authorized_keys to what was changed on machines."""
        for name, answer in answers.items():
            before = machines[name]
            if isinstance(answer, SkeinError):
                if not isinstance(before, SkeinError):  # or it says the same twice
                    self.troubles.setdefault(name, []).append(str(answer))
                continue
            if not isinstance(before, SkeinError):
                machines[name] = (*before, *_changed_lines(answer))
            self.printed[name] = answer.lines
            self.troubles.setdefault(name, []).extend(_taken(answer))
            if answer.left:
                self.notes.append(f"{name} still lets in {_named(answer.left)}: --prune-keys ends that")

    def furnished(self, mirrors: Changes, targets: Changes, notes: Iterable[str]) -> None:
        """Add what was changed for swarms."""
        for machines, changes in ((self.mirrors, mirrors), (self.targets, targets)):
            for name, changed in changes.items():
                before = machines[name]
                machines[name] = before if isinstance(before, SkeinError) else (*before, *changed)
        self.notes += notes

    def report(self, environment: str, wishes: Wishes) -> SetupReport:
        """Freeze it; lines for authorized_keys are shown only to those who asked for them."""
        return SetupReport(
            environment,
            self.mirrors,
            self.targets,
            {name: tuple(told) for name, told in self.troubles.items() if told},
            self.printed if wishes.dry else {},
            tuple(self.notes),
        )


def _changed_lines(answer: Admitted) -> list[str]:
    done = {"let in": answer.added, "let in with another key": answer.replaced, "no longer let in": answer.removed}
    return [f"{what} {_named(marks)}" for what, marks in done.items() if marks]


def _taken(answer: Admitted) -> list[str]:
    """Say which keys were not let in, for another line has them: sshd takes the first line that fits."""
    told = []
    if strangers := [mark for mark in answer.taken if mark not in answer.rivals]:
        said = f"the key of {_named(strangers)} stands in a line of authorized_keys that is not Skein's"
        told.append(f"{said}: remove that line, then run again")
    for mark, rival in answer.rivals.items():
        said = f"the key of {_named([mark])} is let in there as {rival} already, and one key leads to one place"
        told.append(f"{said}: use another key, or remove that line")
    return told


def _named(marks: Iterable[str]) -> str:
    return fold(mark.rpartition(":")[2] for mark in marks)


def _changes(answer: Prepared | HostError) -> tuple[str, ...] | SkeinError:
    return answer if isinstance(answer, HostError) else (*answer.changed, *answer.shared)
