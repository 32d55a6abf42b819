"""``git``: each target fetches one object id, shallow on the release chain, from its nearest mirror."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..core.config import MirrorConfig
from ..core.facts import Probe
from ..core.hosts import Host
from ..core.pricing import GIT, Carried
from ..core.release import Release
from ..core.requests import MirrorUrl, Request, fetch
from . import Load

NEAR, FAR, LAST = 0, 1, 2
LOG_INS_AT_ONCE = 8
"""What a stock sshd takes without turning any away (sshd_config(5), MaxStartups 10:30:100)."""

HANDSHAKE_S = 0.25
SPREAD_MOST_S = 30.0

Weigh = Callable[[str | None, Release], int | None]
"""Return about what a mirror sends to who has a release commit, or nothing; None where that cannot be told here."""


@dataclass(frozen=True)
class GitTransport:
    """The mirrors in the order of the configuration, the hub first; ``user`` logs in at those that name none.

    ``hosts`` are all that fetch in this run, at most ``width`` of them at once.
    """

    mirrors: Sequence[MirrorConfig]
    user: str | None
    timeout_s: float
    hosts: Sequence[Host] = ()
    width: int = 64
    weigh: Weigh = lambda base, release: None
    name: str = GIT

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        """Learn nothing: each target is on its own."""

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return one fetch; the agent orders mirrors of one rank by measured round trip and fails over."""
        return (fetch(release, self.mirrors_for(host), self.timeout_s, self.spread_s(host)),)

    def load(self, release: Release, probe: Probe) -> Load:
        """Return the estimate of what the target's mirror sends."""
        base = probe.live.commit if probe.live else None
        return Load(GIT, self.weigh(base, release), "every target asks the mirrors")

    def spread_s(self, host: Host) -> float:
        """Return the seconds over which the targets of this host's nearest mirrors spread, none where they are few."""
        together = min(self.width, self._neighbours[self._nearest(host.zone)])
        if together <= LOG_INS_AT_ONCE:
            return 0.0
        return min(SPREAD_MOST_S, together / LOG_INS_AT_ONCE * HANDSHAKE_S)

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Rank the mirrors for a target's zone: those of the zone, then the rest, the hub last of these."""
        ranked = [
            MirrorUrl(mirror.name, mirror.target_url(self.user), self._rank(mirror, host.zone, hub=place == 0))
            for place, mirror in enumerate(self.mirrors)
        ]
        return tuple(sorted(ranked, key=lambda mirror: mirror.rank))

    @cached_property
    def _neighbours(self) -> Counter[frozenset[int]]:
        return Counter(self._nearest(host.zone) for host in self.hosts)

    def _nearest(self, zone: str | None) -> frozenset[int]:
        ranks = [self._rank(mirror, zone, hub=place == 0) for place, mirror in enumerate(self.mirrors)]
        return frozenset(place for place, rank in enumerate(ranks) if rank == min(ranks))

    @staticmethod
    def _rank(mirror: MirrorConfig, zone: str | None, *, hub: bool) -> int:
        if zone is not None and mirror.zone == zone:
            return NEAR
        return LAST if hub else FAR
