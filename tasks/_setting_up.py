"""The desk's part for set-up: files of the operator read, and fleets logged in as whoever may do the work."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ._cli import Asked
from .core.config import Settings
from .core.config_values import check_user
from .core.errors import UsageError
from .core.hosts import Host
from .core.pins import ScanReport
from .core.preparation import SHARED_MOST, Wishes, fingerprints, public_keys, shared_files
from .core.requests import Request
from .flows.hands import Hands
from .flows.setup import SettingUp
from .remote.fleet import Fleet
from .remote.mirror_keys import MirrorKeys
from .remote.mirrorset import MirrorSet
from .remote.scan import scan
from .remote.source import Source
from .remote.ssh import Connector
from .remote.wheels import Wheels

ROOT = "root"


class Opening(Protocol):
    """Opens a fleet; with ``owning`` its agents begin as root and become others: see ``remote.owning``."""

    def __call__(
        self,
        hosts: Iterable[Host],
        where: Mapping[str, object],
        become: str | None,
        owning: Mapping[str, Request] | None = None,
    ) -> Fleet: ...


@dataclass(frozen=True)
class Logins:
    """The fleets of one set-up: who logs in where, and as whom the agents work there.

    With ``--user`` that one logs in everywhere, and each agent becomes the user who would have logged in without; one
    that is not root becomes root first, by sudo.
    """

    settings: Settings
    connector: Connector
    opening: Opening
    hosts: Sequence[Host]
    asked: Asked
    cache: Path

    def setting_up(
        self, hands: Hands, usual_targets: Fleet, usual_mirrors: Fleet, source: Callable[[], Source]
    ) -> SettingUp:
        """Wire one run of set-up; the usual fleets are those that deploy."""
        wishes = wished(self.settings, self.asked)
        mirrors, targets = self.mirrors(usual_mirrors), self.targets(usual_targets)
        return SettingUp(
            replace(hands, fleet=targets),
            MirrorSet(self.settings, mirrors, source),
            MirrorKeys(self.settings, mirrors, self.connector),
            self.gates(targets),
            wishes,
            Wheels(self.settings, mirrors, self.cache / "wheels", self.asked.wheels) if self._is_swarming else None,
        )

    @property
    def _is_swarming(self) -> bool:
        return self.settings.transport.swarm.enabled

    def targets(self, usual: Fleet) -> Fleet:
        """Return the fleet that prepares the targets."""
        if self.asked.user is None:
            return usual
        targets = self.settings.targets
        base = targets.deploy_to
        fields = {
            "deploy_to": base,
            "link": targets.link,
            "environment": self.settings.environment,
            "parents": [posixpath.dirname(targets.link)] if targets.link else [],
            "directories": [base, f"{base}/releases", f"{base}/shared"],
            "trees": [f"{base}/.skein"],
        }
        owners = {host.name: targets.become or self.connector.endpoint(host).user for host in self.hosts}
        return self._as_root(self.hosts, {name: {**fields, "owner": owner} for name, owner in owners.items()})

    def gates(self, targets: Fleet) -> Fleet:
        """Return the fleet that writes the authorized_keys of the user who logs in to deploy."""
        if not self.settings.targets.become:
            return targets
        if self.asked.user is None:
            return self.opening(self.hosts, {}, None)
        owners = {host.name: {"owner": self.connector.endpoint(host).user} for host in self.hosts}
        return self._as_root(self.hosts, owners)

    def mirrors(self, usual: Fleet) -> Fleet:
        """Return the fleet that prepares the mirrors."""
        if self.asked.user is None:
            return usual
        servers = {mirror.server: mirror.path for mirror in self.settings.mirrors if mirror.server}
        owners = {host: self.connector.endpoint(host).user for host in servers}
        fields = {host.name: {"owner": owners[host], "parents": [path]} for host, path in servers.items()}
        return self._as_root(list(servers), fields)

    def _as_root(self, hosts: Sequence[Host], fields: Mapping[str, Mapping[str, object]]) -> Fleet:
        owning = {name: Request("own", each) for name, each in fields.items()}
        become = None if self.asked.user == ROOT else ROOT
        return self.opening([replace(host, user=self.asked.user) for host in hosts], {}, become, owning)


def wished(settings: Settings, asked: Asked) -> Wishes:
    """Read what the command line names; raise UsageError where a file cannot be read or is not what it should be."""
    targets = settings.targets
    try:
        check_user(asked.user or ROOT)
    except ValueError as error:
        raise UsageError(f"--user: {error}") from error
    named = shared_files(asked.shared, targets.linked_files, targets.linked_dirs)
    files = {path: _read(file, "--shared") for path, file in named.items()}
    if sum(map(len, files.values())) > SHARED_MOST:
        raise UsageError(f"--shared: more than {SHARED_MOST} bytes in all; give fewer files at once, or copy them")
    keys = public_keys(_text(asked.restrict, "--restrict"), asked.restrict) if asked.restrict else ()
    return Wishes(asked.dry, asked.prune, asked.overwrite, files, keys)


def pinned(settings: Settings, hosts: Sequence[Host], file: str | None) -> ScanReport:
    """Look for host keys of mirrors and ``hosts`` that are not pinned, and pin those that a file of --trust names."""
    trusted = None if file is None else fingerprints(_text(file, "--trust"), file)
    servers = [host for host in (settings.source.server, *(mirror.server for mirror in settings.mirrors)) if host]
    return scan(settings.environment, settings.ssh, [*servers, *hosts], trusted)


def _text(file: str, option: str) -> str:
    return _read(file, option).decode("utf-8", "replace")


def _read(file: str, option: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{option}: {file} cannot be read: {error.strerror}") from error
