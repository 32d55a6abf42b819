"""Libtorrent for machines that cannot fetch it: wheels that pip finds for them here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from ..core.config import Settings
from ..core.errors import HostError, RepositoryError
from ..core.facts import LibraryKind
from ..core.requests import Request
from ..core.text import printable
from .fleet import Fleet

M = TypeVar("M", bound=BaseModel)
NEEDED = "libtorrent>=2.0.7"
PIP_S = 300.0
OLDEST_GLIBC = 17
"""The minor version that the oldest wheels still in use were built for (PEP 600)."""


class Wheels:
    """Wheels by the kind of host, of ``given``, a folder of the operator's, else of pip's index; kept in ``folder``."""

    def __init__(self, settings: Settings, mirrors: Fleet, folder: Path, given: str | None) -> None:
        self._settings, self._fleet, self._folder, self._given = settings, mirrors, folder, given

    def at_mirrors(self, requests: Mapping[str, Request], reply: type[M]) -> dict[str, M | HostError]:
        """Ask mirrors that are not on this machine, at their paths."""
        paths = {mirror.name: mirror.path for mirror in self._settings.mirrors}
        orders = {
            name: (Request(each.verb, {**each.fields, "path": paths[name]}, each.timeout_s, each.payload),)
            for name, each in requests.items()
        }
        return self._fleet.ask(orders, reply)

    def mirrors(self) -> tuple[str, ...]:
        """Return the mirrors that can take part in a swarm: those that are not on this machine."""
        return tuple(mirror.name for mirror in self._settings.mirrors if mirror.server)

    def wheel(self, kind: LibraryKind) -> bytes:
        """Return the wheel for a kind of host; raise RepositoryError where there is none, or none can be had."""
        platforms = _platforms(kind)
        if not kind.python or not platforms:
            raise RepositoryError(f"there is no wheel of libtorrent for {_shown(kind)}")
        folder = self._folder / f"{kind.python}-{kind.machine}-{kind.libc.replace(' ', '-')}"
        found = sorted(folder.glob("*.whl")) if not self._given else []
        if not found:
            self._download(kind, platforms, folder)
            found = sorted(folder.glob("*.whl"), key=os.path.getmtime)
        if not found:
            raise RepositoryError(f"pip brought no wheel of libtorrent for {_shown(kind)}")
        return found[-1].read_bytes()

    def _download(self, kind: LibraryKind, platforms: tuple[str, ...], folder: Path) -> None:
        """Have pip choose and bring the wheel: it knows which fit."""
        folder.mkdir(0o700, parents=True, exist_ok=True)
        tag = "cp" + kind.python.replace(".", "")
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        words += ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--abi={tag}"]
        words += [f"--python-version={kind.python}", *(f"--platform={each}" for each in platforms), f"--dest={folder}"]
        words += ["--no-index", f"--find-links={Path(self._given).expanduser().resolve()}"] if self._given else []
        try:
            done = subprocess.run([*words, NEEDED], stdin=subprocess.DEVNULL, capture_output=True, timeout=PIP_S)
        except subprocess.TimeoutExpired as error:
            raise RepositoryError(
                f"pip had brought no libtorrent after {PIP_S:.0f} s: name a folder, --wheels"
            ) from error
        if done.returncode:
            lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("ERROR")]
            said = printable(lines[-1] if lines else "it said nothing")
            raise RepositoryError(
                f"no wheel of libtorrent for {_shown(kind)}: {said}; name a folder of wheels, --wheels"
            )


def _platforms(kind: LibraryKind) -> tuple[str, ...]:
    """Return the platform tags that a host takes (PEP 600, PEP 656), none where there are no wheels for its like."""
    name, _, version = kind.libc.partition(" ")
    minor = int(version.partition(".")[2].partition(".")[0] or 0) if version.replace(".", "").isdigit() else 0
    if name == "glibc":
        tags = [f"manylinux_2_{each}_{kind.machine}" for each in range(minor, OLDEST_GLIBC - 1, -1)]
        return (*tags, f"manylinux2014_{kind.machine}") if tags else ()
    return tuple(f"musllinux_1_{each}_{kind.machine}" for each in range(2, 0, -1)) if name == "musl" else ()


def _shown(kind: LibraryKind) -> str:
    python = f"CPython {kind.python}" if kind.python else "a Python that is not CPython"
    return f"{python} on {kind.machine}, {kind.libc.strip() or 'libc unknown'}"
