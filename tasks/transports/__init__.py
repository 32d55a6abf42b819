"""Floor 1: how the bytes of a release reach a target. One file per transport, one small protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.facts import Probe
from ..core.hosts import Host
from ..core.pricing import Carried
from ..core.release import Release
from ..core.requests import MirrorUrl, Request


@dataclass(frozen=True)
class Load:
    """What a target will be sent: by which carrier, how many bytes, None where that is not known, and why that way."""

    by: str
    bytes: int | None
    why: str


class Transport(Protocol):
    """Brings the objects of a release to a target; staging, checking and flipping are the same for all."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        """Learn who is to get a release, and what earlier runs measured, newest first; before anything is brought."""

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return the requests after which the target, which said ``probe``, has the release commit, complete."""

    def load(self, release: Release, probe: Probe) -> Load:
        """Return what ``bring`` will have moved, and the reason in a few words."""

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Return where the target would fetch from, nearest first; nothing for a transport without mirrors."""

    def spread_s(self, host: Host) -> float:
        """Return the seconds over which targets spread their log-ins at a mirror; none for a transport without."""
