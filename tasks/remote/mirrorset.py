"""All mirrors of one environment as one thing: made, listed, pushed to side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from ..agent.mirror import make_mirror
from ..agent.problem import Problem
from ..agent.wire import Wire
from ..core.config import MirrorConfig, Settings
from ..core.errors import HostError, RepositoryError, SkeinError
from ..core.facts import Changed, Finding
from ..core.requests import Request
from .fleet import Fleet
from .mirrors import Mirror, push_all
from .source import Source


class MirrorSet:
    """The mirrors in the order of the configuration. ``fleet`` reaches those that are not on this machine.

    ``source`` opens the source when it is needed: mirrors can be made and looked at without one.
    """

    def __init__(self, settings: Settings, fleet: Fleet, source: Callable[[], Source]) -> None:
        self._settings, self._fleet, self._source = settings, fleet, source

    @cached_property
    def _opened(self) -> dict[str, Mirror | RepositoryError]:
        mirrors = self._settings.mirrors
        with ThreadPoolExecutor(max_workers=len(mirrors)) as pool:
            return dict(zip([mirror.name for mirror in mirrors], pool.map(self._open, mirrors), strict=True))

    def hub_refs(self, prefix: str) -> dict[str, str]:
        """Return the hub's refs below ``prefix``; raise RepositoryError where it cannot say."""
        return self._hub().refs(prefix)

    def bring(self, ref: str, commit: str) -> None:
        """Fetch a release commit that another machine made from the hub."""
        self._hub().fetch(self._source(), [f"{commit}:{ref}"], self._settings.targets.stage_timeout)

    def push(self, refspecs: Sequence[str]) -> dict[str, RepositoryError]:
        """Push to all side by side, atomically on each; return those that failed, raise the hub's trouble."""
        hub = self._hub()
        reached = [mirror for mirror in self._opened.values() if isinstance(mirror, Mirror)]
        pushed = push_all(reached, self._source(), refspecs, self._settings.targets.stage_timeout)
        if trouble := pushed[hub.name]:
            raise trouble
        unreached = {name: mirror for name, mirror in self._opened.items() if isinstance(mirror, RepositoryError)}
        return {**unreached, **{name: error for name, error in pushed.items() if error}}

    def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]:
        """Make sure that every mirror is there; return what was changed on each, or why it could not be."""
        orders = {
            mirror.name: (Request("mirror", {"path": mirror.path}),)
            for mirror in self._settings.mirrors
            if mirror.server
        }
        answers: dict[str, Changed | HostError] = self._fleet.ask(orders, Changed)
        made: dict[str, tuple[str, ...] | SkeinError] = {}
        for mirror in self._settings.mirrors:
            answer = answers[mirror.name] if mirror.server else _make_here(mirror.path)
            made[mirror.name] = answer if isinstance(answer, SkeinError) else answer.changed
        return made

    def findings(self) -> tuple[Finding, ...]:
        """Try whether each mirror can be read from this machine."""
        found = []
        for name, mirror in self._opened.items():
            try:
                if isinstance(mirror, RepositoryError):
                    raise mirror
                mirror.refs("refs/skein/none/")
            except RepositoryError as error:
                found.append(Finding(what=f"mirror {name}", ok=False, message=str(error)))
            else:
                found.append(Finding(what=f"mirror {name}", ok=True, message="can be read from this machine"))
        return tuple(found)

    def _open(self, mirror: MirrorConfig) -> Mirror | RepositoryError:
        if mirror.server is None:
            return Mirror(mirror.name, os.path.expanduser(mirror.path), None)
        try:
            return Mirror(mirror.name, mirror.path, self._fleet.connection(mirror.name))
        except HostError as error:
            return RepositoryError(f"mirror {mirror.name} is out of reach: {error}")

    def _hub(self) -> Mirror:
        hub = self._opened[self._settings.mirrors[0].name]
        if isinstance(hub, RepositoryError):
            raise RepositoryError(f"{hub}; it is the hub: without it nothing can be released")
        return hub


def _make_here(path: str) -> Changed | RepositoryError:
    try:
        return Changed(changed=tuple(make_mirror(Wire(), {"path": os.path.expanduser(path)})["changed"]))
    except Problem as problem:
        return RepositoryError(str(problem))
