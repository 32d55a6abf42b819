"""What it takes to carry bytes to targets: a model per carrier, with rates learned from what earlier runs measured.

``inline`` and ``git`` send every target its own copy, so all of them share one link or two; in a ``swarm`` each target
sends on what it gets, so that the time depends on one host's link and hardly on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

INLINE, GIT, SWARM = "inline", "git", "swarm"

MANY = 4 << 20
"""Bytes to all targets together; from here on their number tells a rate, below it what a target costs besides."""

EACH_S = {INLINE: 0.01, GIT: 0.06, SWARM: 0.03}
"""Seconds per target besides the bytes, until they were measured: a log-in at a mirror takes most (docs/figures.md)."""

START_S = {INLINE: 0.0, GIT: 0.3, SWARM: 2.0}
RATE = 12_500_000.0
"""Bytes per second, until one was measured: 100 Mbit/s."""

SWARM_FACTOR = 1.5
"""How much longer a planned swarm takes than one link does for one copy: 1.4 to 1.8 (docs/figures.md)."""

RECENT = 5


class Carried(BaseModel):
    """What one carrier did in one run: ``bytes`` to all its targets together, ``seconds`` from first to last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(max_length=20)
    hosts: int = Field(gt=0, lt=1 << 32)
    bytes: int = Field(ge=0, lt=1 << 63)
    seconds: float = Field(ge=0, lt=1 << 31, allow_inf_nan=False)


@dataclass(frozen=True)
class Rates:
    """Per carrier, as far as measured: seconds that a target takes besides its bytes, and bytes per second.

    ``mirrors`` is how many send side by side where ``git`` was not measured yet.
    """

    each_s: dict[str, float] = field(default_factory=dict)
    per_s: dict[str, float] = field(default_factory=dict)
    mirrors: int = 1

    def seconds(self, by: str, hosts: int, size: int) -> float:
        """Return how long ``by`` takes to bring ``size`` bytes to each of ``hosts`` targets."""
        return _besides(self, by, hosts) + _weight(by, hosts, size) / self._rate(by)

    def _rate(self, by: str) -> float:
        """Return the rate of a carrier; one that never carried much is not believed to have faster links."""
        links = self.mirrors if by == GIT else 1
        return self.per_s.get(by) or links * min([RATE, *self.per_s.values()])


def learned(past: Iterable[Carried], mirrors: int = 1) -> Rates:
    """Return what earlier runs, newest first, tell of each carrier: the median of the last few counts.

    Small loads tell what a target costs besides the bytes; that known, large ones tell the rate.
    """
    runs = list(past)
    kinds = {run.by for run in runs}
    few = {
        by: [max(0.0, run.seconds - START_S.get(by, 0.0)) / run.hosts for run in _of(runs, by, small=True)]
        for by in kinds
    }
    rates = Rates({by: max(EACH_S.get(by, 0.0), median(each)) for by, each in few.items() if each}, {}, mirrors)
    for by in kinds:
        many = [_rate(run, rates) for run in _of(runs, by, small=False)]
        if many:
            rates.per_s[by] = median(many)
    return rates


def choose(prices: Mapping[str, float], size: int) -> str:
    """Return the carrier for ``size`` bytes to all together: the cheapest, of equals the first.

    Little rides on the session: what that takes every other carrier takes too, and more, so that only noise could tell
    otherwise.
    """
    return INLINE if size < MANY else min(prices, key=lambda by: prices[by])


def _of(runs: Sequence[Carried], by: str, *, small: bool) -> list[Carried]:
    return [run for run in runs if run.by == by and (run.bytes < MANY) == small][:RECENT]


def _besides(rates: Rates, by: str, hosts: int) -> float:
    return START_S.get(by, 0.0) + hosts * rates.each_s.get(by, EACH_S.get(by, 0.0))


def _weight(by: str, hosts: int, size: int) -> float:
    """Return the bytes that the narrowest link has to carry."""
    return SWARM_FACTOR * size if by == SWARM else float(hosts * size)


def _rate(run: Carried, rates: Rates) -> float:
    """Return the bytes per second of a run; at most half of its time is put down to anything but the bytes."""
    spent = max(run.seconds / 2, run.seconds - _besides(rates, run.by, run.hosts))
    return _weight(run.by, run.hosts, run.bytes // run.hosts) / max(spent, 1e-3)
