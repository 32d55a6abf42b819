"""From what the operator asked for to a release that stands on the mirrors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ..core.errors import RepositoryError, SkeinError
from ..core.facts import Difference, Present, Probe
from ..core.hosts import fold
from ..core.plan import Commits
from ..core.plausible import believed
from ..core.pricing import Carried
from ..core.release import ID, NUMBER_MOST, Release, number_of, release_ref
from .hands import Hands
from .mirrors import refuse_too_many


class SourceRepository(Protocol):
    """The source as this story uses it; ``remote.source.Source`` says what each does."""

    def resolve(self, ref: str | None) -> str: ...  # noqa: D102
    def refuse_dirty(self, ref: str | None) -> None: ...  # noqa: D102
    def snapshot(self, when: datetime) -> str: ...  # noqa: D102
    def tree_of(self, commit: str) -> str: ...  # noqa: D102
    def has(self, oid: str) -> bool: ...  # noqa: D102
    def releases(self, environment: str) -> dict[str, str]: ...  # noqa: D102
    def tags(self) -> tuple[str, ...]: ...  # noqa: D102
    def read_release(self, environment: str, identity: str, commit: str) -> Release: ...  # noqa: D102
    def refspecs(self, release: Release) -> Sequence[str]: ...  # noqa: D102
    def changes(self, old: str | None, new: str, most: int = 0) -> Difference: ...  # noqa: D102
    def commits(self, old: str, new: str, most: int) -> Commits | None: ...  # noqa: D102
    def weight(self, base: str | None, commit: str) -> int: ...  # noqa: D102
    def rest(self, release: Release) -> bytes | None: ...  # noqa: D102
    def draft_release(  # noqa: D102
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release: ...
    def make_release(  # noqa: D102
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release: ...


class Mirrors(Protocol):
    """All mirrors, the hub first; ``remote.mirrors`` does it."""

    def hub_refs(self, prefix: str) -> dict[str, str]:
        """Return the hub's refs below ``prefix``; raise RepositoryError where it cannot say."""

    def bring(self, ref: str, commit: str) -> None:
        """Fetch a release commit that another machine made from the hub into the operator's own repository."""

    def unreadable(self) -> Mapping[str, SkeinError]:
        """Return the mirrors that cannot be read from here, and why."""

    def push(self, refspecs: Sequence[str]) -> dict[str, RepositoryError]:
        """Push to all mirrors side by side, atomically on each; return those that failed, raise where the hub did."""

    def detours(self) -> Sequence[str]:
        """Say what did not go the short way."""


class Swarm(Protocol):
    """The swarms of this deploy: see ``swarming.Swarming``."""

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> bool: ...  # noqa: D102
    def spread(self, release: Release, refs: Mapping[str, str], rest: bytes) -> None: ...  # noqa: D102
    def end(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass
class Releasing:
    """One run's way from a ref, or the files on disk, to a release on the mirrors."""

    hands: Hands
    source: SourceRepository
    mirrors: Mirrors
    ref: str | None = None
    snapshot: bool = False
    notes: list[str] = field(default_factory=list)
    swarm: Swarm | None = None

    def resolve(self) -> tuple[str, str]:
        """Return the commit that is meant and the tree to deploy, resolved once; only object ids travel further."""
        if self.snapshot:
            commit = self.source.snapshot(self.hands.now())
            tree = self.source.tree_of(commit)
        else:
            commit = self.source.resolve(self.ref)
            self.source.refuse_dirty(self.ref)
            tree = self.source.tree_of(commit)
        self.hands.failpoint("deploy.resolved")
        return commit, tree

    def is_served(self, commit: str, tree: str, probes: Mapping[str, Probe]) -> bool:
        """Tell whether what is live everywhere is what is wanted: for files on disk, the same bytes are enough."""
        return all(probe.live and self._is_it(commit, tree, probe.live) for probe in probes.values())

    def release(self, commit: str, tree: str, probes: Mapping[str, Probe], past: Sequence[Carried] = ()) -> Release:
        """Return the release of that commit, on the mirrors: the newest one where it is that, else a new one.

        ``past`` is what carriers did in earlier runs: a swarm, where one is chosen, brings it to mirrors and targets.
        """
        with self.hands.progress.stage("release", 1) as seen:
            began = self.hands.elapsed()
            release, _ = self._newest_or_new(commit, tree, probes, self.source.make_release)
            self.hands.failpoint("deploy.tagged")
            swarm = self.swarm if self.swarm and self.swarm.meet(release, probes, past) else None
            rest = self.source.rest(release) if swarm else None
            if swarm and rest is not None:
                swarm.spread(release, _refs(self.source.refspecs(release)), rest)
            failed = self.mirrors.push(self.source.refspecs(release))
            refuse_too_many(self.hands.settings, failed)
            self.notes += self.mirrors.detours()
            self.notes += [f"mirror {name} did not take the release: {error}" for name, error in failed.items()]
            if swarm and rest is None:
                swarm.spread(release, {}, b"")
            self.hands.timings_s["release"] = self.hands.elapsed() - began
            seen(release.id)
        return release

    def foresee(self, commit: str, tree: str, probes: Mapping[str, Probe]) -> tuple[Release, bool]:
        """Return what ``release`` would, and whether it would be new: then a draft, known to nobody by any name.

        Raise RepositoryError where too many mirrors are out of reach.
        """
        release, is_new = self._newest_or_new(commit, tree, probes, self.source.draft_release)
        failed = self.mirrors.unreadable()
        refuse_too_many(self.hands.settings, failed)
        self.notes += [f"mirror {name} would not take the release: {error}" for name, error in failed.items()]
        return release, is_new

    def _is_it(self, commit: str, tree: str, release: Present | Release) -> bool:
        return release.tree == tree and (release.source_commit == commit or self.snapshot)

    def _newest_or_new(
        self, commit: str, tree: str, probes: Mapping[str, Probe], make: Callable[..., Release]
    ) -> tuple[Release, bool]:
        environment = self.hands.settings.environment
        on_hub = self._on_hub(environment)
        known = {**self.source.releases(environment), **on_hub}
        newest = self._read_newest(environment, known, on_hub)
        if newest and self._is_it(commit, tree, newest):
            return newest, False
        number = self._highest({*known, *self.source.tags()}, probes) + 1
        if number > NUMBER_MOST:
            raise RepositoryError(
                f"release numbers end at {NUMBER_MOST}: a person must drop the tag and ref that has it"
            )
        parent = newest.commit if newest else None
        return make(environment, number, commit, tree, parent, self.hands.now()), True

    def _highest(self, known: Iterable[str], probes: Mapping[str, Probe]) -> int:
        """Return the highest release number that source, hub or a target has; a target is believed within a bound."""
        there = {name: max(map(number_of, probe.releases), default=0) for name, probe in probes.items()}
        number, odd = believed(there, max(map(number_of, known), default=0))
        if odd:
            self.notes.append(f"release numbers far above all that source and hub know were passed over on {fold(odd)}")
        return number

    def _on_hub(self, environment: str) -> dict[str, str]:
        prefix = release_ref(environment, "")
        refs = self.mirrors.hub_refs(prefix + "*")
        named = {ref.removeprefix(prefix): commit for ref, commit in refs.items()}
        return {identity: commit for identity, commit in named.items() if ID.fullmatch(identity)}

    def _read_newest(self, environment: str, known: Mapping[str, str], on_hub: Mapping[str, str]) -> Release | None:
        if not known:
            return None
        identity = max(known, key=number_of)
        if not self.source.has(known[identity]) and identity in on_hub:
            self.mirrors.bring(release_ref(environment, identity), known[identity])
        return self.source.read_release(environment, identity, known[identity])


def _refs(refspecs: Sequence[str]) -> dict[str, str]:
    """Return the refs that refspecs make, and at what."""
    return {ref: oid for oid, _, ref in (spec.partition(":") for spec in refspecs)}
