"""What one command was asked to use: which transport, and where it gets its deltas; which limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from .core.config import Settings
from .core.errors import RepositoryError, UsageError
from .core.hosts import Host
from .core.policy import FailPolicy, read_limit
from .core.pricing import GIT, INLINE, SWARM
from .core.release import Release
from .flows.hands import Hands
from .flows.swarming import Crew, Swarming
from .remote.source import Source
from .transports import Transport
from .transports.auto import AutoTransport
from .transports.git import GitTransport
from .transports.inline import LARGE, SMALL, InlineTransport
from .transports.swarm import SwarmTransport

AUTO = "auto"


def choose(asked: str | None, settings: Settings, hosts: Sequence[Host], source: Callable[[], Source]) -> Transport:
    """Return the transport for ``hosts`` that was asked for, or configured; raise UsageError where there is none."""
    kind = asked or settings.transport.kind
    timeout_s, width = settings.targets.stage_timeout, settings.ssh.connections
    if kind not in (AUTO, INLINE, GIT, SWARM):
        raise UsageError(f"--transport {kind!r}: auto, inline, git and swarm are what there is")
    if kind == SWARM and not is_swarm_allowed(settings):
        needed = "transport.swarm must have enabled = true, and the source be on this machine"
        raise UsageError(f"--transport swarm: it opens a port on every host: {needed}")
    most = SMALL if kind == AUTO and settings.source.host else LARGE  # what is made elsewhere must come here first

    @cache
    def opened() -> Source | None:
        try:
            return source()
        except RepositoryError:
            return None  # a rollback needs no source: the mirrors have the release

    @cache
    def make(base: str | None, release: Release) -> bytes | None:
        found = opened()
        try:
            return found.delta(base, release, most) if found else None
        except RepositoryError:
            return None

    @cache
    def weigh(base: str | None, release: Release) -> int | None:
        found = opened()
        known = found and all(found.has(commit) for commit in (release.commit, base) if commit)
        return found.weight(base, release.commit) if found and known else None

    git = GitTransport(settings.mirrors, settings.ssh.user, timeout_s, hosts, width, weigh)
    inline = InlineTransport(git, make, most, is_whole=most == LARGE)
    swarm = SwarmTransport(inline)
    auto = AutoTransport(inline, {SWARM: swarm} if is_swarm_allowed(settings) else {})
    found: dict[str, Transport] = {GIT: git, INLINE: inline, SWARM: swarm, AUTO: auto}
    return found[kind]


def is_swarm_allowed(settings: Settings) -> bool:
    """Tell whether hosts may carry releases among themselves, from a source that is this machine."""
    return settings.transport.swarm.enabled and settings.source.host is None


def swarming(hands: Hands, crew: Crew) -> Swarming | None:
    """Return the swarms of a deploy, where its transport may choose one."""
    transport = hands.transport
    found = transport.others.get(SWARM) if isinstance(transport, AutoTransport) else transport
    return Swarming(hands, found, crew) if isinstance(found, SwarmTransport) else None


def policy(settings: Settings, asked: str | None) -> FailPolicy:
    """Return the limits in force: those of the configuration, or ``--fail-limit`` alone."""
    if asked is not None:
        return FailPolicy(read_limit(asked))
    groups = settings.targets.groups.items()
    limits = {name: group.fail_limit for name, group in groups if group.fail_limit is not None}
    return FailPolicy(settings.targets.fail_limit, limits)
