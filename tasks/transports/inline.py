"""``inline``: a delta rides on the session that is open anyway; whoever it does not fit asks the mirrors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.facts import Probe
from ..core.hosts import Host
from ..core.pricing import INLINE, Carried
from ..core.release import Release, release_ref
from ..core.requests import Delta, MirrorUrl, Request, fetch
from ..core.text import size
from . import Load
from .git import GitTransport

SMALL = 1 << 20
"""Bytes; up to here, and to a few hundred hosts, nothing beats the session that is open (docs/figures.md)."""

LARGE = 1 << 26
"""Bytes; more than this no session carries: deployer and agent hold the delta in memory."""

MakeDelta = Callable[[str | None, Release], bytes | None]
"""Return the thin pack from a release commit, or from nothing, to a release; None where that cannot be told here."""


@dataclass(frozen=True)
class InlineTransport:
    """``make`` is asked once per distinct base; a delta of more than ``most`` bytes is left to ``git``.

    Where ``is_whole`` a target without a base gets the whole release this way too.
    """

    git: GitTransport
    make: MakeDelta
    most: int
    is_whole: bool
    name: str = INLINE

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        """Learn nothing: each target has its session."""

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return one fetch that carries the delta, and names the mirrors for when it does not apply."""
        delta = self.delta(release, probe)
        if not isinstance(delta, Delta):
            return self.git.bring(release, host, probe)
        return (fetch(release, self.mirrors_for(host), self.git.timeout_s, self.spread_s(host), delta),)

    def load(self, release: Release, probe: Probe) -> Load:
        """Return the delta's size, or why it is left to the mirrors."""
        delta = self.delta(release, probe)
        if isinstance(delta, Delta):
            return Load(INLINE, len(delta.pack), f"a delta of at most {size(self.most)} rides on the session")
        return replace(self.git.load(release, probe), why=delta)

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Return the mirrors in the order of ``git``."""
        return self.git.mirrors_for(host)

    def spread_s(self, host: Host) -> float:
        """Return the seconds that ``git`` would spread over."""
        return self.git.spread_s(host)

    def delta(self, release: Release, probe: Probe) -> Delta | str:
        """Return what makes the release of what the host has, best of what it serves; or why nothing does."""
        if release.id in probe.releases:
            return "it is there already"
        for identity in sorted(probe.releases, key=lambda name: (name == probe.current, name), reverse=True):
            commit = probe.releases[identity].commit
            pack = self.make(commit, release)
            if pack is not None:
                delta = Delta(release_ref(release.environment, identity), commit, pack)
                return delta if len(pack) <= self.most else f"the delta is above {size(self.most)}"
        pack = self.make(None, release) if self.is_whole else None
        if pack and len(pack) <= self.most:
            return Delta("", "", pack)
        if not probe.releases:
            return "there is no release yet"
        return f"no release there is known here, or what changed is above {size(LARGE)}"
