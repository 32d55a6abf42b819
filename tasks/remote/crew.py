"""The machines of a swarm that are no targets: its source, which is this one, and the mirrors behind connections."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import BaseModel

from ..agent.problem import Problem, explain
from ..agent.swarm import end, go, leave, meet
from ..agent.wire import Wire
from ..core.config import Settings
from ..core.errors import HostError, RepositoryError
from ..core.facts import Joined, Moved
from ..core.hosts import Host
from ..core.requests import Request
from .fleet import Fleet
from .ssh import Connector

M = TypeVar("M", bound=BaseModel)
ANY_PORT = 9


class LocalCrew:
    """A resource: what it began on this machine ends with it. ``folder`` is for what the source hands out."""

    def __init__(self, settings: Settings, fleet: Fleet, connector: Connector, folder: Path) -> None:
        self._settings, self._fleet, self._connector = settings, fleet, connector
        self._folder = folder / f"{settings.app.name}-{settings.environment}"
        self._wire = Wire()
        self._begun: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in self._begun:
            end(name)

    def mirrors(self) -> Mapping[str, Host]:
        """Return the mirrors that are not on this machine; those that are have no link to spare."""
        return {mirror.name: mirror.server for mirror in self._settings.mirrors if mirror.server}

    def ask(self, verb: str, requests: Mapping[str, Request], reply: type[M]) -> dict[str, M | HostError]:
        """Ask mirrors, at their paths."""
        paths = {mirror.name: mirror.path for mirror in self._settings.mirrors}
        app = self._settings.app.name
        orders = {
            name: (Request(each.verb, {**each.fields, "path": paths[name], "app": app}, each.timeout_s, each.payload),)
            for name, each in requests.items()
        }
        return self._fleet.ask(orders, reply)

    def seed(self, request: Request, pack: bytes, toward: str) -> Joined:
        """Have this machine be the source of ``pack``; it listens where a host at ``toward`` would reach it.

        Raise RepositoryError where it cannot.
        """
        found = find_spec("libtorrent")
        if not found or not found.origin:
            raise RepositoryError("libtorrent is not installed on this machine: run pip install libtorrent")
        folder = self._folder / str(request.fields["name"])[:16]
        file = folder / "pack"
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            file.write_bytes(pack)
            fields = {**request.fields, "path": str(folder), "pack": str(file), "address": _own_address(toward)}
            library = os.path.dirname(os.path.dirname(found.origin))
            answer = meet(self._wire, {**fields, "libraries": [library], "payload": request.payload})
        except Problem as problem:
            raise RepositoryError(f"this machine cannot be the source of a swarm: {problem}") from problem
        except OSError as error:
            raise RepositoryError(f"this machine cannot be the source of a swarm: {explain(error)}") from error
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
        self._begun.append(str(request.fields["name"]))
        return Joined.model_validate(answer)

    def go(self, request: Request) -> None:
        """Tell the source whom to serve."""
        go(self._wire, dict(request.fields))

    def leave(self, name: str) -> Moved:
        """End the source's part; return what it sent."""
        return Moved.model_validate(leave(self._wire, {"name": name}))

    def address(self, host: Host) -> str | None:
        """Return the address at which this machine reaches a host, where that can be told here."""
        endpoint = self._connector.endpoint(host)
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(endpoint.address, endpoint.port, type=socket.SOCK_STREAM)
            return str(ipaddress.ip_address(found[0][4][0]))
        return None


def _own_address(toward: str) -> str:
    """Return the address that this machine has on its way to another: the kernel tells, and nothing is sent."""
    family = socket.AF_INET6 if ":" in toward else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((toward, ANY_PORT))
        return str(probe.getsockname()[0])
