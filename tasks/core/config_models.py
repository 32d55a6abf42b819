"""The shape of a configuration: one frozen class per table. ``config/example.toml`` says what every key means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from . import config_values as values
from .hosts import Host, expand

Filled = TypeVar("Filled")


def _check_filled(value: Filled) -> Filled:
    if not value:
        raise ValueError("must not be empty")
    return value


def _check_one(entry: HostEntry) -> HostEntry:
    if len(expand(entry.name)) != 1:
        raise ValueError("must name one host, not a range")
    return entry


def _check_kind(kind: str) -> str:
    if kind not in ("auto", "inline", "git", "swarm"):
        raise ValueError(f"{kind} is not supported yet: use auto, inline, git or swarm")
    return kind


Label = Annotated[str, AfterValidator(values.check_label)]
User = Annotated[str, AfterValidator(values.check_user)]
Gateway = Annotated[str, AfterValidator(values.check_gateway)]
Path = Annotated[str, AfterValidator(values.check_path)]
Relative = Annotated[str, AfterValidator(values.check_relative)]
Word = Annotated[str, AfterValidator(values.check_word)]
FailLimit = Annotated[int | str, PlainValidator(values.check_fail_limit)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]
Kind = Literal["auto", "git", "inline", "swarm", "rsync", "rsyncd", "nfs"]


class Table(BaseModel):
    """A table of the file: unknown keys and values of another type are mistakes, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class HostEntry(Table):
    """A host, or a range of hosts that are reached alike; in the file a bare string is its ``name``."""

    name: Annotated[str, AfterValidator(values.check_pattern)]
    address: Annotated[str, AfterValidator(values.check_address)] | None = None
    port: Port | None = None
    user: User | None = None
    gateway: Gateway | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, (Mapping, HostEntry)):
            raise ValueError("must be a host's name or a table with name, address, port, user, gateway")
        return value

    @model_validator(mode="after")
    def _check_address(self) -> HostEntry:
        if self.address and len(expand(self.name)) != 1:
            raise ValueError("an address belongs to one host, not to a range")
        return self

    def as_host(self, zone: str | None = None) -> Host:
        """Return the one host that this entry names."""
        return Host(self.name, "", zone, self.address, self.port, self.user, self.gateway)


OneHost = Annotated[HostEntry, AfterValidator(_check_one)]


class AppConfig(Table):
    """The one thing deployed."""

    name: Label


class SourceConfig(Table):
    """The git repository that holds the files."""

    path: Path
    host: OneHost | None = None
    branch: Annotated[str, AfterValidator(values.check_branch)] = "main"
    subdir: Relative | None = None
    signing_key: Annotated[str, AfterValidator(values.check_key)] | None = None

    @property
    def server(self) -> Host | None:
        """The machine that holds the files; None for this one."""
        return self.host.as_host() if self.host else None


class MirrorConfig(Table):
    """A bare repository that targets fetch from; without ``host`` it is on this machine."""

    host: OneHost | None = None
    path: Annotated[str, AfterValidator(values.check_repository)]
    zone: Label | None = None
    url: Annotated[str, AfterValidator(values.check_url)] | None = None

    @property
    def name(self) -> str:
        """What messages call this mirror; no other mirror of the environment has the same name."""
        return self.host.name if self.host else f"this machine:{self.path}"

    @property
    def server(self) -> Host | None:
        """The host to connect to; None for this machine."""
        return self.host.as_host(self.zone) if self.host else None

    def target_url(self, user: str | None) -> str:
        """Return the address at which targets fetch; ``user`` is for a mirror that names none of its own."""
        return self.url or self.ssh_url(user)

    def ssh_url(self, user: str | None) -> str:
        """Return the address at which the source's machine pushes; the path alone for a mirror on this machine."""
        if self.url and self.url.startswith("ssh://"):
            return self.url
        if not self.host:
            return self.path
        login = self.host.user or user
        address = self.host.address or self.host.name
        shown = f"[{address}]" if ":" in address else address
        path = quote(f"/{self.path}" if self.path.startswith("~") else self.path)
        port = f":{self.host.port}" if self.host.port else ""
        return f"ssh://{f'{login}@' if login else ''}{shown}{port}{path}"


class SshConfig(Table):
    """How hosts are reached; what a group or a host says goes before it. Durations are in seconds."""

    user: User | None = None
    known_hosts: Path = "~/.ssh/known_hosts"
    identity_file: Path | None = None
    agent: bool = False
    gateway: Gateway | None = None
    connections: Annotated[int, Field(ge=1, le=1000)] = 64
    connect_timeout: Seconds = 10
    config_file: Path | None = None


class GroupConfig(Table):
    """Targets that are alike."""

    hosts: Annotated[tuple[HostEntry, ...], AfterValidator(_check_filled)]
    zone: Label | None = None
    fail_limit: FailLimit | None = None
    gateway: Gateway | None = None
    user: User | None = None
    port: Port | None = None


class TargetsConfig(Table):
    """Where and how the targets serve the release. Durations are in seconds."""

    deploy_to: Path
    link: Path | None = None
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    linked_dirs: tuple[Relative, ...] = ()
    linked_files: tuple[Relative, ...] = ()
    fail_limit: FailLimit = 0
    mirror_fail_limit: FailLimit = "100%"
    become: User | None = None
    after_flip: Annotated[tuple[Word, ...], AfterValidator(_check_filled)] | None = None
    after_flip_timeout: Seconds = 60
    stage_timeout: Seconds = 900
    reuse_after: Annotated[int, Field(ge=0)] | Literal["never"] = 3600
    verify: Literal["written", "full"] = "written"
    groups: Annotated[dict[Label, GroupConfig], AfterValidator(_check_filled)]


class SwarmConfig(Table):
    """Private torrents between the hosts; off unless enabled."""

    enabled: bool = False
    port: Port = 6881


class TransportConfig(Table):
    """How the bytes reach a target."""

    kind: Annotated[Kind, AfterValidator(_check_kind)] = "auto"
    swarm: SwarmConfig = SwarmConfig()


class Settings(Table):
    """One environment's configuration, checked."""

    environment: str
    app: AppConfig
    source: SourceConfig
    mirrors: Annotated[tuple[MirrorConfig, ...], AfterValidator(_check_filled)]
    ssh: SshConfig = SshConfig()
    targets: TargetsConfig
    transport: TransportConfig = TransportConfig()

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """Every target, in the file's order; where neither host nor group says how to reach it, ``ssh`` does."""
        return tuple(self._expanded())

    def _expanded(self) -> Iterator[Host]:
        for group, table in self.targets.groups.items():
            for entry in table.hosts:
                reach = (entry.port or table.port, entry.user or table.user, entry.gateway or table.gateway)
                for name in expand(entry.name):
                    yield Host(name, group, table.zone, entry.address, *reach)

    @property
    def zones(self) -> tuple[str, ...]:
        """The mirrors' zones, each once, in the mirrors' order."""
        return tuple(dict.fromkeys(mirror.zone for mirror in self.mirrors if mirror.zone))

    @property
    def link(self) -> str:
        """Where the link that is flipped stands on every target."""
        return self.targets.link or f"{self.targets.deploy_to}/current"

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that is configured: two files that mean the same have the same."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
