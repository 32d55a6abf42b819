"""Where a ledger's book is kept here: what is remembered in the state, what can be had again in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

from ..core.config import Settings
from .ledger import Book
from .memory import Memory
from .mirrorset import MirrorSet
from .store import Store


def open_book(
    settings: Settings,
    mirrors: MirrorSet,
    enter: Callable[[AbstractContextManager[Store]], Store],
    state: Path,
    cached: Path,
    operator: str,
    *,
    anew: bool,
) -> Book:
    """Return the book of one environment; ``enter`` keeps open what is opened for it.

    Two environments of one name, of other apps or at other hubs, have nothing in common.
    """
    hub = settings.mirrors[0]
    where = "\n".join((settings.app.name, settings.environment, hub.name, hub.path))
    name = f"{settings.environment}-{hashlib.sha256(where.encode()).hexdigest()[:16]}"
    store = cache(lambda: enter(Store(cached / "ledgers" / f"{name}.git")))
    memory = Memory(state / f"{name}.json")
    return Book(settings.environment, mirrors, store, memory, operator, anew=anew)
