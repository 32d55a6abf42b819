"""``git``: each target fetches one object id, shallow on the release chain, from its nearest mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.config import MirrorConfig
from ..core.hosts import Host
from ..core.release import Release
from ..core.requests import MirrorUrl, Request, fetch

NEAR, FAR, LAST = 0, 1, 2


@dataclass(frozen=True)
class GitTransport:
    """The mirrors in the order of the configuration, the hub first; ``user`` logs in at those that name none."""

    mirrors: Sequence[MirrorConfig]
    user: str | None
    timeout_s: float
    name: str = "git"

    def bring(self, release: Release, host: Host) -> tuple[Request, ...]:
        """Return one fetch; the agent orders mirrors of one rank by measured round trip and fails over."""
        return (fetch(release, self.mirrors_for(host), self.timeout_s),)

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Rank the mirrors for a target's zone: those of the zone, then the rest, the hub last of these."""
        ranked = [
            MirrorUrl(mirror.name, mirror.target_url(self.user), self._rank(mirror, host.zone, hub=place == 0))
            for place, mirror in enumerate(self.mirrors)
        ]
        return tuple(sorted(ranked, key=lambda mirror: mirror.rank))

    @staticmethod
    def _rank(mirror: MirrorConfig, zone: str | None, *, hub: bool) -> int:
        if zone is not None and mirror.zone == zone:
            return NEAR
        return LAST if hub else FAR
