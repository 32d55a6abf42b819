"""Which releases are marked bad: those that a rollback left for an older one, until somebody chooses them again.

Nobody writes the mark down: it follows from the ledger's decisions, and, so that it holds without the hub, from what
each host keeps of its own flips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .facts import Probe


@dataclass(frozen=True)
class Marks:
    """By release: the newest turn that made it live anywhere, and the newest of a rollback that left it."""

    chosen: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def bad(self) -> frozenset[str]:
        """The releases that were left and not chosen since."""
        return frozenset(identity for identity, turn in self.left.items() if turn > self.chosen.get(identity, 0))

    def __or__(self, other: Marks) -> Marks:
        """Return what both know together."""
        return Marks(_newest(self.chosen, other.chosen), _newest(self.left, other.left))


def seen_by(probes: Iterable[Probe]) -> Marks:
    """Return what hosts know; a turn above the newest that a host has seen is not believed."""
    marks = Marks()
    for probe in probes:
        known = (
            {each: turn for each, turn in turns.items() if turn <= probe.turn} for turns in (probe.chosen, probe.left)
        )
        marks |= Marks(*known)
    return marks


def _newest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {identity: max(one.get(identity, 0), other.get(identity, 0)) for identity in {**one, **other}}
