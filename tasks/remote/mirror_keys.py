"""Who may read the mirrors over ssh, and what their host keys are: the two halves of targets' own keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..core.config import MirrorConfig, Settings
from ..core.errors import HostError, RepositoryError, SkeinError
from ..core.facts import Admitted
from ..core.requests import Request
from .endpoints import with_port
from .fleet import Fleet
from .here import ask_here
from .known_hosts import KnownHosts
from .ssh import Connector


@dataclass(frozen=True)
class MirrorKeys:
    """The mirrors that targets reach over ssh; ``fleet`` reaches those that are not on this machine."""

    settings: Settings
    fleet: Fleet
    connector: Connector

    @property
    def needed(self) -> bool:
        """Whether targets need keys at all."""
        return bool(self._mirrors)

    @property
    def _mirrors(self) -> dict[str, MirrorConfig]:
        user = self.settings.ssh.user
        return {each.name: each for each in self.settings.mirrors if each.target_url(user).startswith("ssh://")}

    def pins(self) -> tuple[str, ...]:
        """Return the mirrors' lines of known_hosts for targets, as the operator's file has their keys.

        Each has every name that a target may use. Raise RepositoryError that lists the mirrors whose key is not pinned.
        """
        known = KnownHosts.read(Path(self.settings.ssh.known_hosts).expanduser())
        lines: dict[str, None] = {}
        unknown = []
        for name, mirror in self._mirrors.items():
            url = urlsplit(mirror.target_url(self.settings.ssh.user))
            names = [with_port(url.hostname or "", url.port or 22)]
            names += self.connector.endpoint(mirror.server).host_key_names if mirror.server else ()
            keys = known.keys_for(names)
            shown = ",".join(dict.fromkeys(each.lower() for each in names))
            lines |= dict.fromkeys(f"{shown} {key.get_name()} {key.get_base64()}" for key in keys)
            unknown += [] if keys else [f"{name} ({shown})"]
        if unknown:
            file = self.settings.ssh.known_hosts
            raise RepositoryError(f"{file} has no host key of {', '.join(unknown)}: pin it, with fab setup --trust")
        return tuple(lines)

    def authorize(self, keys: Mapping[str, str], *, prune: bool, dry: bool) -> dict[str, Admitted | SkeinError]:
        """Let the targets' ``keys``, by target, read each mirror and do nothing else there."""
        prefix = f"skein:{self.settings.app.name}:{self.settings.environment}:"
        fields = {
            "keys": {prefix + name: key for name, key in keys.items()},
            "known": [prefix + host.name for host in self.settings.hosts],
            "prefix": prefix,
            "prune": prune,
            "dry": dry,
        }
        orders = {name: Request("authorize", {**fields, "path": mirror.path}) for name, mirror in self._mirrors.items()}
        strangers = {} if dry else {name: self._stranger(mirror) for name, mirror in self._mirrors.items()}
        strange = {name: error for name, error in strangers.items() if error}
        there = {name: (order,) for name, order in orders.items() if self._mirrors[name].server and name not in strange}
        answers: dict[str, Admitted | HostError] = self.fleet.ask(there, Admitted)
        here = {name: ask_here(order, Admitted) for name, order in orders.items() if not self._mirrors[name].server}
        return {name: strange.get(name) or {**here, **answers}[name] for name in orders}

    def _stranger(self, mirror: MirrorConfig) -> RepositoryError | None:
        """Say so where targets log in to a mirror as another user than we do: whose keys are not ours to write."""
        theirs = urlsplit(mirror.target_url(self.settings.ssh.user)).username
        if mirror.server is None or theirs is None:
            return None
        ours = self.connector.endpoint(mirror.server).user
        if theirs == ours:
            return None
        told = f"targets log in there as {theirs}, and Skein as {ours}: give {theirs} the lines of fab setup --print"
        return RepositoryError(told)
