"""Which source one command deploys from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ._here import cache_folder, operator
from .core.config import Settings
from .core.hosts import Host
from .remote.far_source import FarSource
from .remote.fleet import Fleet
from .remote.source import Source


def choose_source(settings: Settings, fleet: Callable[[Host], Fleet]) -> Source:
    """Return the source on this machine, or the one on another that ``fleet`` reaches; it is not open yet."""
    told = settings.source
    if told.server:
        make: Callable[..., Source] = partial(FarSource, fleet(told.server), told.server, told.path)
    else:
        make = partial(Source, Path(told.path).expanduser(), cache_folder() / "repositories")
    return make(operator=operator(), branch=told.branch, subdir=told.subdir, signing_key=told.signing_key)
