"""``swarm``: the hosts carry the delta among themselves; whoever takes no part in that asks the mirrors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.facts import Probe
from ..core.hosts import Host
from ..core.pricing import SWARM, Carried
from ..core.release import Release
from ..core.requests import Delta, MirrorUrl, Request, fetch
from ..core.swarm import LEAST
from . import Load
from .inline import InlineTransport


@dataclass
class SwarmTransport:
    """``inline`` finds the deltas, and carries those that are too small to share.

    ``wanted`` are the hosts that are to be served in this run, ``joined`` those that take part: swarm's name and delta.
    """

    inline: InlineTransport
    wanted: dict[str, Probe] = field(default_factory=dict)
    joined: dict[str, tuple[str, Delta]] = field(default_factory=dict)
    name: str = SWARM

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        """Learn who is to be served."""
        self.wanted = dict(probes)

    def groups(self, release: Release) -> dict[Delta, list[str]]:
        """Return the hosts that need the same delta, where that is worth it, the largest group first."""
        found: dict[Delta, list[str]] = {}
        for name, probe in self.wanted.items():
            delta = self._delta(release, probe)
            if delta:
                found.setdefault(delta, []).append(name)
        return dict(sorted(found.items(), key=lambda each: -len(each[1])))

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return one fetch that waits for the swarm, and names the mirrors for when that does not bring it."""
        if host.name not in self.joined:
            road = self.inline if self._delta(release, probe) is None else self.inline.git
            return road.bring(release, host, probe)
        swarm, delta = self.joined[host.name]
        timeout_s = self.inline.git.timeout_s
        return (fetch(release, self.mirrors_for(host), timeout_s, self.spread_s(host), delta, swarm),)

    def load(self, release: Release, probe: Probe) -> Load:
        """Return the delta's size, or what ``inline`` would do."""
        delta = self._delta(release, probe)
        if delta is None:
            return self.inline.load(release, probe)
        return Load(SWARM, len(delta.pack), "the hosts carry it among themselves")

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Return the mirrors in the order of ``git``."""
        return self.inline.mirrors_for(host)

    def spread_s(self, host: Host) -> float:
        """Return the seconds that ``git`` would spread over."""
        return self.inline.spread_s(host)

    def _delta(self, release: Release, probe: Probe) -> Delta | None:
        delta = self.inline.delta(release, probe)
        return delta if isinstance(delta, Delta) and len(delta.pack) >= LEAST else None
