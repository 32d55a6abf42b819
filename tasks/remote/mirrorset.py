"""All mirrors of one environment as one thing: made, listed, pushed to side by side, looked at, brought level."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel

from ..core.config import Settings
from ..core.errors import HostError, RepositoryError, SkeinError, UnreachableError, UsageError
from ..core.facts import Changed, Finding, MirrorState, Retained, Synced
from ..core.requests import QUICK_S, Request
from .fleet import Fleet
from .here import ask_here
from .mirrors import Mirror, Operators, push_all
from .once import Once
from .source import Source

M = TypeVar("M", bound=BaseModel)
RELEASES, TAGS = "refs/skein/releases/", "refs/tags/release/"
TAKEN = "refs/skein/sync/"
AT_ONCE = 250
"""Releases in one push: a command line that a shell of another machine reads has its limit, 128 KB."""


class MirrorSet:
    """The mirrors in the order of the configuration. ``fleet`` reaches those that are not on this machine.

    ``source`` opens the source when it is needed: mirrors can be made and looked at without one.
    """

    def __init__(self, settings: Settings, fleet: Fleet, source: Callable[[], Source]) -> None:
        self._settings, self._fleet, self._source = settings, fleet, source
        self._deadline_s = settings.targets.stage_timeout
        self._each = Once(self._open)

    @cached_property
    def _opened(self) -> dict[str, Mirror | RepositoryError]:
        with ThreadPoolExecutor(max_workers=len(self.names)) as pool:
            return dict(zip(self.names, pool.map(self._each.get, self.names), strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """What the mirrors are called, the hub first."""
        return tuple(mirror.name for mirror in self._settings.mirrors)

    def one(self, name: str) -> Mirror:
        """Return one mirror, opened without a look at the others; raise RepositoryError where it is out of reach."""
        mirror = self._each.get(name)
        if isinstance(mirror, Mirror) and not mirror.is_connected:
            mirror = self._each.again(name)
        if isinstance(mirror, RepositoryError):
            raise mirror
        return mirror

    def knock(self, name: str, wait_s: float) -> bool:
        """Begin to open one mirror; tell whether that came to an end, well or not, within so long."""
        knocking = threading.Thread(target=self._each.get, args=(name,), name="skein-knock", daemon=True)
        knocking.start()
        knocking.join(wait_s)
        return not knocking.is_alive()

    def ask_one(
        self, name: str, verb: str, fields: Mapping[str, object], reply: type[M], timeout_s: float = QUICK_S
    ) -> M:
        """Ask the agent on one mirror; raise RepositoryError with its reason where it does not answer."""
        self.one(name)  # which somebody may be opening just now
        answer = self._ask(verb, fields, reply, timeout_s, (name,))[name]
        if isinstance(answer, SkeinError):
            away = " is out of reach" if isinstance(answer, UnreachableError) else ""
            raise RepositoryError(f"mirror {name}{away}: {answer}")
        return answer

    def extend(
        self, names: Iterable[str], store: Operators, ref: str, commit: str, deadline_s: float
    ) -> dict[str, RepositoryError]:
        """Move a ref forward on mirrors side by side; return those that failed."""

        def extend(name: str) -> RepositoryError | None:
            try:
                self.one(name).extend(store, ref, commit, deadline_s)
            except RepositoryError as error:
                return error
            return None

        each = tuple(names)
        with ThreadPoolExecutor(max_workers=max(1, len(each))) as pool:
            return {name: error for name, error in zip(each, pool.map(extend, each), strict=True) if error}

    def hub_refs(self, prefix: str) -> dict[str, str]:
        """Return the hub's refs below ``prefix``; raise RepositoryError where it cannot say."""
        return self._hub().refs(prefix)

    def bring(self, ref: str, commit: str) -> None:
        """Fetch a release commit that another machine made from the hub."""
        self._hub().fetch(self._source(), [f"{commit}:{ref}"], self._deadline_s)

    def push(self, refspecs: Sequence[str]) -> dict[str, RepositoryError]:
        """Push to all side by side, atomically on each; return those that failed, raise the hub's trouble.

        A mirror that was down before gets the releases that it lacks in the same push.
        """
        hub = self._hub()
        reached = [mirror for mirror in self._opened.values() if isinstance(mirror, Mirror)]
        with self._taken():
            missed = self._missed(hub, reached)
            pushed = push_all(reached, self._source(), refspecs, self._deadline_s, missed)
        if trouble := pushed[hub.name]:
            raise trouble
        unreached = {name: mirror for name, mirror in self._opened.items() if isinstance(mirror, RepositoryError)}
        return {**unreached, **{name: error for name, error in pushed.items() if error}}

    def detours(self) -> tuple[str, ...]:
        """Say which mirrors the source's machine could not log in to, so that all went over this machine's line."""
        reached = [mirror for mirror in self._opened.values() if isinstance(mirror, Mirror) and mirror.detour]
        told = "the source's machine cannot log in at mirror {}, so what it lacked went over this machine's line: {}"
        return tuple(told.format(mirror.name, mirror.detour) for mirror in reached)

    def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]:
        """Make sure that every mirror is there; return what was changed on each, or why it could not be."""
        made = self._ask("mirror", {}, Changed, QUICK_S)
        return {name: each if isinstance(each, SkeinError) else each.changed for name, each in made.items()}

    def findings(self) -> tuple[Finding, ...]:
        """Try whether each mirror can be read here, and written to by the source's machine where that is another."""
        bad = self.unreadable()
        told = {name: str(bad.get(name, "can be read from this machine")) for name in self.names}
        read = [Finding(what=f"mirror {name}", ok=name not in bad, message=told[name]) for name in self.names]
        return (*read, *self._pushing([name for name in self.names if name not in bad]))

    def _pushing(self, names: Iterable[str]) -> Iterator[Finding]:
        server = self._settings.source.server
        if server is None:
            return
        for name in names:
            try:
                why = self.one(name).detour_of(self._source().private)
            except RepositoryError:
                return  # what keeps from the source is told of the source
            lacks = f"{server.name} cannot log in there, so releases go over this machine's line: {why}"
            can = f"{server.name} can log in there"
            yield Finding(what=f"push to {name}", ok=not why, message=lacks if why else can)

    def unreadable(self) -> dict[str, SkeinError]:
        """Return the mirrors that cannot be read from this machine, and why."""
        listed = self.refs(("refs/skein/none/",))
        return {name: refs for name, refs in listed.items() if isinstance(refs, SkeinError)}

    def refs(self, prefixes: Sequence[str] = ("refs/skein/", TAGS)) -> dict[str, dict[str, str] | SkeinError]:
        """Return every mirror's refs below the prefixes, or why it cannot be read."""

        def read(mirror: Mirror | RepositoryError) -> dict[str, str] | SkeinError:
            try:
                if isinstance(mirror, RepositoryError):
                    return mirror
                return {ref: oid for prefix in prefixes for ref, oid in mirror.refs(prefix).items()}
            except RepositoryError as error:
                return error

        with ThreadPoolExecutor(max_workers=len(self._opened)) as pool:
            return dict(zip(self._opened, pool.map(read, self._opened.values()), strict=True))

    def look(self) -> dict[str, MirrorState | SkeinError]:
        """Have every mirror looked at from inside, by the agent; nothing is changed there."""
        return self._ask("mirror_look", {"timeout_s": self._deadline_s}, MirrorState, self._deadline_s + QUICK_S)

    def retire(self, refs: Mapping[str, str]) -> dict[str, Retained | SkeinError]:
        """Have every mirror drop these refs, if they stand for these objects, and repack."""
        fields = {"refs": dict(refs), "timeout_s": self._deadline_s}
        return self._ask("retain", fields, Retained, self._deadline_s + 10 * QUICK_S)

    def sync(self, origin: str | None = None) -> dict[str, Synced | SkeinError]:
        """Bring every mirror to what one of them has, by default the hub: all refs that it lacks at once, none moved.

        Raise UsageError where no mirror is called ``origin``, and RepositoryError where that one cannot be read.
        """
        name = origin or self._settings.mirrors[0].name
        if name not in self._opened:
            raise UsageError(f"no mirror is called {name}; there are: {', '.join(self._opened)}")
        first = self._opened[name]
        there = self.refs()
        wanted = there.pop(name)
        if isinstance(first, RepositoryError) or isinstance(wanted, SkeinError):
            raise RepositoryError(
                f"{first if isinstance(first, RepositoryError) else wanted}; nothing can be taken from it"
            )
        with self._taken():
            return {other: self._level(first, other, wanted, has) for other, has in there.items()}

    def _level(
        self, first: Mirror, name: str, wanted: Mapping[str, str], has: dict[str, str] | SkeinError
    ) -> Synced | SkeinError:
        mirror = self._opened[name]
        if isinstance(mirror, RepositoryError) or isinstance(has, SkeinError):
            return mirror if isinstance(mirror, RepositoryError) else has  # type: ignore[return-value]
        differs = {ref for ref, oid in has.items() if wanted.get(ref, oid) != oid}
        stuck = {ref for ref in differs if ref.startswith((RELEASES, TAGS))}
        lacking = {ref: oid for ref, oid in wanted.items() if ref not in has}
        grown = {ref: wanted[ref] for ref in differs - stuck}
        try:
            self._carry(first, mirror, lacking)
            self._carry(first, mirror, grown)
        except RepositoryError as error:
            return error
        extra = sorted(has.keys() - wanted.keys())
        return Synced(brought=(*sorted(lacking), *sorted(grown)), differs=tuple(sorted(stuck)), extra=tuple(extra))

    def _carry(self, first: Mirror, mirror: Mirror, refs: Mapping[str, str]) -> None:
        """Take what the operator's own repository lacks from ``first``, then push all refs to ``mirror``."""
        source = self._source()
        self._take(first, refs.values())
        specs = [f"{oid}:{ref}" for ref, oid in sorted(refs.items())]
        for start in range(0, len(specs), AT_ONCE):
            mirror.push(source, specs[start : start + AT_ONCE], self._deadline_s)

    def _take(self, mirror: Mirror, wanted: Iterable[str]) -> None:
        """Fetch objects into the operator's own repository, each below a ref named by itself."""
        source = self._source()
        missing = [oid for oid in dict.fromkeys(wanted) if not source.has(oid)]
        for start in range(0, len(missing), AT_ONCE):
            specs = [f"{oid}:{TAKEN}{oid}" for oid in missing[start : start + AT_ONCE]]
            mirror.fetch(source, specs, self._deadline_s)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Drop at the end the refs that ``_take`` made."""
        try:
            yield
        finally:
            private = self._source().private
            names = private.refs(TAKEN.rstrip("/"))
            orders = "".join(f"delete {name}\n" for name in names)
            if orders:
                private.run("cannot drop refs", "update-ref", "--stdin", stdin=orders.encode())

    def _missed(self, hub: Mirror, mirrors: Sequence[Mirror]) -> dict[str, tuple[str, ...]]:
        """Return the refspecs of releases that the hub has and other mirrors lack, for they were down."""
        if len(mirrors) < 2:
            return {}
        there = self.refs((RELEASES,))
        wanted = there[hub.name]
        missed: dict[str, tuple[str, ...]] = {}
        if isinstance(wanted, SkeinError):
            return missed  # the push will say why
        tags: dict[str, str] = {}
        for mirror in mirrors:
            has = there[mirror.name]
            lacking = [] if isinstance(has, SkeinError) else [ref for ref in wanted if ref not in has][-AT_ONCE:]
            if lacking:
                tags = tags or hub.refs(TAGS)
                names = [TAGS + ref.rpartition("/")[2] for ref in lacking]
                refs = {ref: wanted[ref] for ref in lacking} | {tag: tags[tag] for tag in names if tag in tags}
                self._take(hub, refs.values())
                missed[mirror.name] = tuple(f"{oid}:{ref}" for ref, oid in sorted(refs.items()))
        return missed

    def _ask(
        self,
        verb: str,
        fields: Mapping[str, object],
        reply: type[M],
        timeout_s: float,
        names: Sequence[str] | None = None,
    ) -> dict[str, M | SkeinError]:
        """Ask the agent on every mirror, or here for mirrors on this machine; return the answers in order."""
        app = self._settings.app.name
        asked = [mirror for mirror in self._settings.mirrors if names is None or mirror.name in names]
        orders = {
            mirror.name: (Request(verb, {"path": mirror.path, "app": app, **fields}, timeout_s),) for mirror in asked
        }
        there = {mirror.name for mirror in asked if mirror.server}
        answers = self._fleet.ask({name: orders[name] for name in there}, reply)
        return {
            name: answers[name] if name in there else ask_here(request, reply) for name, (request,) in orders.items()
        }

    def _open(self, name: str) -> Mirror | RepositoryError:
        mirror = next(each for each in self._settings.mirrors if each.name == name)
        app = self._settings.app.name
        if mirror.server is None:
            return Mirror(mirror.name, os.path.expanduser(mirror.path), None, app)
        try:
            url = mirror.ssh_url(self._settings.ssh.user)
            return Mirror(mirror.name, mirror.path, self._fleet.connection(mirror.name), app, url)
        except HostError as error:
            return RepositoryError(f"mirror {mirror.name} is out of reach: {error}")

    def _hub(self) -> Mirror:
        hub = self._opened[self._settings.mirrors[0].name]
        if isinstance(hub, RepositoryError):
            raise RepositoryError(f"{hub}; it is the hub: without it nothing can be released")
        return hub
