"""Set-up's part for swarms: each mirror and target that lacks libtorrent is given the one for its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel

from ..core.errors import HostError, RepositoryError
from ..core.facts import Changed, LibraryKind
from ..core.hosts import fold
from ..core.requests import Request
from .hands import Hands

M = TypeVar("M", bound=BaseModel)
LAY_S = 300.0
Changes = dict[str, tuple[str, ...]]


class Wheels(Protocol):
    """Where libtorrent is had for others; ``remote.wheels`` says what each does."""

    def at_mirrors(self, requests: Mapping[str, Request], reply: type[M]) -> dict[str, M | HostError]: ...  # noqa: D102
    def mirrors(self) -> tuple[str, ...]: ...  # noqa: D102
    def wheel(self, kind: LibraryKind) -> bytes: ...  # noqa: D102


def furnish(hands: Hands, wheels: Wheels, targets: Iterable[str]) -> tuple[Changes, Changes, list[str]]:
    """Give mirrors and targets the library; return what was changed on either, and why some can take no part."""
    found = hands.ask("libraries", dict.fromkeys(targets, (Request("library_look"),)), LibraryKind)
    order = dict.fromkeys(wheels.mirrors(), Request("mirror_library_look"))
    at_mirrors = wheels.at_mirrors(order, LibraryKind)
    packs: dict[LibraryKind, bytes] = {}
    why: dict[str, list[str]] = {}
    for name, kind in (*found.items(), *at_mirrors.items()):
        if isinstance(kind, HostError):
            why.setdefault(str(kind), []).append(name)
        elif kind.why and kind.same not in packs:
            try:
                packs[kind.same] = wheels.wheel(kind)
            except RepositoryError as error:
                why.setdefault(str(error), []).append(name)
    lacking = {name: kind for name, kind in found.items() if isinstance(kind, LibraryKind) and kind.same in packs}
    orders = {name: (_lay("library", packs[kind.same]),) for name, kind in lacking.items() if kind.why}
    laid = hands.ask("libraries", orders, Changed)
    others = {name: kind for name, kind in at_mirrors.items() if isinstance(kind, LibraryKind) and kind.same in packs}
    there = {name: _lay("mirror_library", packs[kind.same]) for name, kind in others.items() if kind.why}
    laid_there = wheels.at_mirrors(there, Changed)
    for name, answer in (*laid.items(), *laid_there.items()):
        if isinstance(answer, HostError):
            why.setdefault(str(answer), []).append(name)
    notes = [f"cannot take part in a swarm: {fold(names)}: {told}" for told, names in why.items()]
    return _changes(laid_there), _changes(laid), notes


def _lay(verb: str, wheel: bytes) -> Request:
    return Request(verb, {}, LAY_S, wheel)


def _changes(answers: Mapping[str, Changed | HostError]) -> Changes:
    return {name: answer.changed for name, answer in answers.items() if isinstance(answer, Changed)}
