"""Floor 1: how the bytes of a release reach a target. One file per transport, one small protocol."""

from __future__ import annotations

from typing import Protocol

from ..core.facts import Probe
from ..core.hosts import Host
from ..core.release import Release
from ..core.requests import MirrorUrl, Request


class Transport(Protocol):
    """Brings the objects of a release to a target; staging, checking and flipping are the same for all."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        """Return the requests after which the target, which said ``probe``, has the release commit, complete."""

    def why(self, release: Release, probe: Probe) -> str:
        """Return the reason for what ``bring`` asks for, in a few words."""

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        """Return where the target would fetch from, nearest first; nothing for a transport without mirrors."""

    def spread_s(self, host: Host) -> float:
        """Return the seconds over which targets spread their log-ins at a mirror; none for a transport without."""
