"""What a deploy or rollback would do, as one frozen value: hosts that go the same way are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from .facts import Difference, Probe
from .policy import Bound
from .release import Adopted, Release
from .report import Outcome

FORMAT = 1
NAMES_MOST, SUBJECTS_MOST = 20, 10

THERE, INLINE, SWARM, MIRROR = "there", "inline", "swarm", "mirror"

T = TypeVar("T")


@dataclass(frozen=True)
class Commits:
    """How two commits of the source lie to each other; ``subjects`` are the newest of those ``ahead``, newest first.

    ``behind`` are those of the old one that the new one lacks.
    """

    ahead: int
    behind: int
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """How the release comes to one host: ``bytes`` is an estimate where a mirror gives them, None where not known.

    ``base`` is the release that a delta builds on, ``mirrors`` who is asked, in this order.
    """

    by: str
    bytes: int | None
    base: str | None
    mirrors: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Group:
    """The hosts that serve one release now, None: nothing; what differs is None where it cannot be told here."""

    live: str | None
    hosts: tuple[str, ...]
    commits: Commits | None
    files: Difference | None
    ways: tuple[tuple[Way, tuple[str, ...]], ...]
    pruned: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]  # (release ids, hosts)


@dataclass(frozen=True)
class Plan:
    """The end of a look ahead. ``release`` is None where it was not come so far; ``is_new``: it would be made.

    One that is new has its number already; its id and commit would carry the time of the deploy.
    """

    command: str
    environment: str
    exit_code: int
    headline: str
    release: Release | Adopted | None = None
    is_new: bool = False
    turn: int | None = None
    groups: tuple[Group, ...] = ()
    already: tuple[str, ...] = ()
    predicted_s: Mapping[str, float] = field(default_factory=dict)  # by carrier, for the bytes alone
    failed: tuple[Outcome, ...] = ()
    bounds: tuple[Bound, ...] = ()
    notes: tuple[str, ...] = ()
    next_step: str = ""

    @property
    def bytes(self) -> int:
        """What all hosts together would be sent, as far as it is known; see ``is_estimate``."""
        return sum((way.bytes or 0) * len(hosts) for group in self.groups for way, hosts in group.ways)

    @property
    def is_estimate(self) -> bool:
        """Whether some of the bytes are not known exactly."""
        return any(way.by == MIRROR for group in self.groups for way, _ in group.ways)

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": self.command,
            "plan": True,
            "environment": self.environment,
            "exit_code": self.exit_code,
            "headline": self.headline,
            "release": self._release(),
            "turn": self.turn,
            "bytes": self.bytes,
            "is_estimate": self.is_estimate,
            "groups": [_group(group) for group in self.groups],
            "already_live": list(self.already),
            "predicted_s": dict(self.predicted_s),
            "failed": [asdict(one) for one in self.failed],
            "limits": [asdict(bound) for bound in self.bounds],
            "notes": list(self.notes),
            "next": self.next_step,
        }

    def _release(self) -> dict[str, object] | None:
        match self.release:
            case None:
                return None
            case Adopted(identity):
                return {"id": identity, "is_new": False}
            case release:
                made = {"id": release.id, "commit": release.commit}
                told = {"number": release.number, "source_commit": release.source_commit, "tree": release.tree}
                return {**(dict.fromkeys(made) if self.is_new else made), **told, "is_new": self.is_new}


def _group(group: Group) -> dict[str, object]:
    return {
        "live": group.live,
        "hosts": list(group.hosts),
        "commits": asdict(group.commits) if group.commits else None,
        "files": group.files.model_dump(mode="json") if group.files else None,
        "ways": [{**asdict(way), "is_estimate": way.by == MIRROR, "hosts": list(hosts)} for way, hosts in group.ways],
        "pruned": [{"releases": list(ids), "hosts": list(hosts)} for ids, hosts in group.pruned],
    }


def grouped(
    probes: Mapping[str, Probe],
    ways: Mapping[str, Way],
    pruned: Mapping[str, tuple[str, ...]],
    differences: Mapping[str | None, tuple[Commits | None, Difference | None]],
) -> tuple[Group, ...]:
    """Fold the hosts that have a way by what they serve now, those that serve the newest first."""
    lives: dict[str | None, list[str]] = {}
    for name in ways:
        lives.setdefault(probes[name].current, []).append(name)
    return tuple(
        Group(
            live,
            tuple(lives[live]),
            *differences[live],
            _folded((ways[name], name) for name in lives[live]),
            _folded((pruned[name], name) for name in lives[live] if pruned[name]),
        )
        for live in sorted(lives, key=lambda live: live or "", reverse=True)
    )


def _folded(pairs: Iterable[tuple[T, str]]) -> tuple[tuple[T, tuple[str, ...]], ...]:
    found: dict[T, list[str]] = {}
    for value, name in pairs:
        found.setdefault(value, []).append(name)
    return tuple((value, tuple(names)) for value, names in found.items())
