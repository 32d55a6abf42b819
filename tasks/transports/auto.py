"""``auto``: whatever brings this release to these targets first, by what earlier runs measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..core.facts import Probe
from ..core.hosts import Host
from ..core.pricing import GIT, INLINE, Carried, choose, learned
from ..core.release import Release
from ..core.requests import Delta, MirrorUrl, Request
from . import Load, Transport
from .inline import InlineTransport


@dataclass
class AutoTransport:
    """``inline`` knows what each target lacks; ``others`` are what may carry that instead, besides ``git``.

    Targets that lack the same are one group, and the carrier is chosen for each group.
    """

    inline: InlineTransport
    others: Mapping[str, Transport] = field(default_factory=dict)
    name: str = "auto"
    _chosen: dict[str, tuple[str, str]] = field(default_factory=dict)  # base commit: carrier, why

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        """Price every carrier for every group and choose; each carrier then meets those that it serves."""
        rates = learned(past, len(self.inline.git.mirrors))
        groups: dict[str, dict[str, Probe]] = {}
        for name, probe in probes.items():
            delta = self.inline.delta(release, probe)
            if isinstance(delta, Delta):
                groups.setdefault(delta.base_commit, {})[name] = probe
        parts: dict[str, dict[str, Probe]] = {}
        for base, members in groups.items():
            size = self.inline.load(release, next(iter(members.values()))).bytes or 0
            prices = {by: rates.seconds(by, len(members), size) for by in (INLINE, *self.others, GIT)}
            by = choose(prices, size * len(members))
            told = ", ".join(f"{other} {seconds:.1f} s" for other, seconds in prices.items() if other != by)
            self._chosen[base] = by, f"{by} takes about {prices[by]:.1f} s for {len(members)} such targets, {told}"
            parts.setdefault(by, {}).update(members)
        for by, members in parts.items():
            self._carrier(by).meet(release, members, past)

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return the requests of the carrier that was chosen for what this target lacks."""
        return self._carrier(self._choice(release, probe)[0]).bring(release, host, probe)

    def load(self, release: Release, probe: Probe) -> Load:
        """Return what the chosen carrier moves, and the prices that it was chosen by."""
        by, why = self._choice(release, probe)
        load = self._carrier(by).load(release, probe)
        return replace(load, why=why or load.why)

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Return the mirrors in the order of ``git``, which every carrier falls back to."""
        return self.inline.mirrors_for(host)

    def spread_s(self, host: Host) -> float:
        """Return the seconds that ``git`` would spread over."""
        return self.inline.spread_s(host)

    def _choice(self, release: Release, probe: Probe) -> tuple[str, str]:
        delta = self.inline.delta(release, probe)
        return self._chosen.get(delta.base_commit, (INLINE, "")) if isinstance(delta, Delta) else (INLINE, "")

    def _carrier(self, by: str) -> Transport:
        return self.inline if by == INLINE else self.inline.git if by == GIT else self.others[by]
