"""`adopt`: what targets serve already becomes their first release, without being copied, and goes back the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from ..core import requests
from ..core.errors import HostError, RepositoryError
from ..core.facts import Adoption, Changed
from ..core.hosts import fold
from ..core.release import release_id
from ..core.requests import Request
from ..core.text import printable
from .entering import refuse_frozen, try_lock
from .hands import Hands

FORMAT = 1


@dataclass(frozen=True)
class HostAdoption:
    """One host: what was done there, else what is to be said of it; what to know; and why it could not be."""

    done: tuple[str, ...] = ()
    told: str = ""
    notes: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class AdoptReport:
    """All hosts; ``release`` is the id that was given, None where nothing was adopted."""

    environment: str
    release: str | None
    hosts: Mapping[str, HostAdoption]
    next_step: str = ""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """5 where any host could not do it, else 0."""
        return 5 if any(host.trouble for host in self.hosts.values()) else 0

    def lines(self) -> list[str]:
        """Say it for people, equal hosts folded."""
        told_by: dict[str, list[str]] = {}
        for name, host in self.hosts.items():
            told_by.setdefault(host.trouble or "; ".join(host.done) or host.told, []).append(name)
            for note in host.notes:
                told_by.setdefault(f"note: {note}", []).append(name)
        said = [f"{fold(names)}: {printable(told, 500)}" for told, names in told_by.items()]
        said += [f"note: {printable(note, 600)}" for note in self.notes]
        return [*said, f"next: {self.next_step}"] if self.next_step else said

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "adopt",
            "environment": self.environment,
            "exit_code": self.exit_code,
            "release": self.release,
            "notes": list(self.notes),
            "targets": [
                {
                    "host": name,
                    "done": list(host.done),
                    "told": host.told,
                    "notes": list(host.notes),
                    "trouble": host.trouble,
                }
                for name, host in self.hosts.items()
            ],
        }


def adopt(hands: Hands, *, undo: bool, plan: bool, gap: bool) -> AdoptReport:
    """Look at every host, then have each that can adopt, or with ``undo`` give back; with ``plan`` only look.

    No host waits for another, for what is served is the same before and after. All get one id, so that the fleet can be
    rolled back to it. Raise LockedError where somebody is at work or froze the environment; without the hub it goes on,
    for it needs only the targets.
    """
    notes = () if plan else _guard(hands)
    found = _look(hands, undo=undo, settle=not plan)
    due = {name: each for name, each in found.items() if isinstance(each, Adoption) and each.due}
    environment = hands.settings.environment
    if plan or not due:
        step = f"fab adopt --env {environment}" + " --undo" * undo if due else ""
        return AdoptReport(environment, None, {name: _one(each) for name, each in found.items()}, step, notes)
    identity, step, order = None, "", requests.give_back(gap=gap)
    if not undo:
        identity, step = _identity(hands, found), f"fab deploy --env {environment}"
        order = requests.adopt(identity, hands.by, hands.reason, gap=gap)
    done = hands.ask("give back" if undo else "adopt", dict.fromkeys(due, (order,)), Changed)
    hosts = {name: _one(each, done.get(name)) for name, each in found.items()}
    return AdoptReport(environment, identity, hosts, step, notes)


def _guard(hands: Hands) -> tuple[str, ...]:
    """Take the lock and refuse a freeze, as far as the hub can be asked."""
    notes = try_lock(hands)
    try:
        if not notes:
            refuse_frozen(hands, hands.book.read())
    except RepositoryError as error:
        notes = [f"without the ledger, so a freeze would not be seen: {error}"]
    return tuple(notes)


def _look(hands: Hands, *, undo: bool, settle: bool) -> dict[str, Adoption | HostError]:
    """Ask every host, and once more where a killed run left its record open, which the host's lock alone settles."""
    targets = hands.settings.targets
    look = requests.adoption(targets.linked_dirs, targets.linked_files, undo=undo)
    found = hands.ask("look", {host.name: (look,) for host in hands.hosts}, Adoption)
    left = [name for name, each in found.items() if isinstance(each, Adoption) and each.unsettled]
    if left and settle:
        found |= hands.ask("settle", {name: (Request("settle"), look) for name in left}, Adoption)
    return found


def _identity(hands: Hands, found: Mapping[str, Adoption | HostError]) -> str:
    """Return what hosts that were first have, where no other release of a host has that id, else a new one.

    Its number is 0: it is before the environment's first release.
    """
    looks = [each for each in found.values() if isinstance(each, Adoption)]
    known = max((identity for each in looks for identity in each.adopted), default=None)
    if known and not any(known in each.adopted for each in looks if each.due):
        return known
    return release_id(hands.now(), 0, sha256(f"{hands.by} {hands.nonce}".encode()).hexdigest())


def _one(found: Adoption | HostError, done: Changed | HostError | None = None) -> HostAdoption:
    if isinstance(found, HostError):
        return HostAdoption(trouble=str(found))
    if isinstance(done, HostError):
        return HostAdoption(notes=found.notes, trouble=str(done))
    return HostAdoption(done.changed if done else (), found.told, found.notes)
