"""`mirrors.check` and `mirrors.sync`: is every mirror what the hub is, and how it becomes so again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.config import Settings
from ..core.errors import HostError, RepositoryError, SkeinError, TooManyFailedError, UsageError
from ..core.facts import Finding, MirrorState, Probe, Retained, Synced
from ..core.hosts import fold
from ..core.policy import allowed
from ..core.release import ID, number_of, release_ref
from ..core.requests import Request
from .hands import Hands

FORMAT = 1
RELEASES = ("refs/skein/releases/", "refs/tags/release/")
LEDGERS = "refs/skein/ledger/"
NAMED_MOST = 3

Refs = Mapping[str, str]


class MirrorHands(Protocol):
    """All mirrors, the hub first; ``remote.mirrorset.MirrorSet`` says what each does."""

    def refs(self) -> Mapping[str, dict[str, str] | SkeinError]: ...  # noqa: D102
    def look(self) -> Mapping[str, MirrorState | SkeinError]: ...  # noqa: D102
    def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]: ...  # noqa: D102
    def sync(self, origin: str | None) -> Mapping[str, Synced | SkeinError]: ...  # noqa: D102
    def retire(self, refs: Refs) -> Mapping[str, Retained | SkeinError]: ...  # noqa: D102


@dataclass(frozen=True)
class MirrorsReport:
    """What was found of, or done to, each mirror; ``failure`` is the exit code where anything is wrong."""

    command: str
    environment: str
    failure: int
    mirrors: tuple[tuple[str, tuple[Finding, ...]], ...]

    @property
    def exit_code(self) -> int:
        """0 where all is well."""
        return 0 if all(finding.ok for _, findings in self.mirrors for finding in findings) else self.failure

    def lines(self) -> list[str]:
        """Say it for people: trouble in full, what is well in one line."""
        lines = []
        for name, findings in self.mirrors:
            wrong = [f"{finding.what}: {finding.message}" for finding in findings if not finding.ok]
            well = [finding.message or finding.what for finding in findings if finding.ok]
            lines += [f"mirror {name}: {each}" for each in wrong]
            lines += [f"mirror {name}: {'; '.join(well)}"] if well else []
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": self.command,
            "environment": self.environment,
            "exit_code": self.exit_code,
            "mirrors": [
                {"mirror": name, "findings": [finding.model_dump() for finding in findings]}
                for name, findings in self.mirrors
            ],
        }


def check_mirrors(hands: Hands, mirrors: MirrorHands) -> MirrorsReport:
    """Look at every mirror from here and from inside, and compare it with the hub; change nothing."""
    settings = hands.settings
    with hands.progress.stage("mirrors", len(settings.mirrors)) as seen:
        refs, states = mirrors.refs(), mirrors.look()
        for name in refs:
            seen(name)
    hub = settings.mirrors[0].name
    standard = {name: found for name, found in refs.items() if not isinstance(found, SkeinError)}
    wanted = standard.get(hub, {})
    found = tuple(
        (
            name,
            (
                *_against_hub(settings.environment, hub, wanted, name, refs[name], hub in standard),
                *_inside(states[name]),
            ),
        )
        for name in refs
    )
    return MirrorsReport("mirrors.check", settings.environment, 6, found)


def sync_mirrors(hands: Hands, mirrors: MirrorHands, origin: str | None, keep: int) -> MirrorsReport:
    """Bring every mirror to what the hub, or ``origin``, has; with ``keep`` retire old releases everywhere.

    With ``origin``, a mirror that is not there any more is made anew first: so a lost hub comes back in one step.
    Raise UsageError for a ``keep`` below nothing, and TooManyFailedError where it cannot be told what is live: then
    nothing is done at all.
    """
    if keep < 0:
        raise UsageError(f"--keep {keep}: the number of newest releases that the mirrors keep")
    needed = _needed(hands) if keep else set()
    environment = hands.settings.environment
    with hands.progress.stage("sync", len(hands.settings.mirrors)) as seen:
        made = mirrors.make() if origin else {}
        synced = mirrors.sync(origin)
        found = {name: [*_made(made.get(name)), _brought(answer)] for name, answer in synced.items()}
        if keep:
            old = retired(_all(mirrors.refs().values()), environment, keep, needed)
            for name, answer in mirrors.retire(old).items() if old else ():
                found.setdefault(name, []).append(_dropped(answer))
        for name in found:
            seen(name)
    rows = tuple((name, tuple(findings)) for name, findings in found.items())
    return MirrorsReport("mirrors.sync", environment, 3, rows)


def retired(refs: Refs, environment: str, keep: int, needed: Collection[str]) -> dict[str, str]:
    """Return the refs of the releases of an environment that mirrors may drop, with what they stand for.

    Kept are the ``keep`` newest by number, and ``needed``: those that are live on a target, or were before.
    """
    prefix = release_ref(environment, "")
    known = [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]
    ids = sorted(filter(ID.fullmatch, known), key=number_of)
    old = [identity for identity in ids[: max(0, len(ids) - keep)] if identity not in needed]
    names = [name for identity in old for name in (prefix + identity, f"refs/tags/release/{identity}")]
    return {name: refs[name] for name in names if name in refs}


def refuse_too_many(settings: Settings, failed: Mapping[str, SkeinError]) -> None:
    """Raise RepositoryError where more mirrors besides the hub failed than ``targets.mirror_fail_limit`` allows."""
    others, limit = len(settings.mirrors) - 1, settings.targets.mirror_fail_limit
    if len(failed) > allowed(limit, others):
        told = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RepositoryError(
            f"{len(failed)} of {others} mirrors besides the hub cannot take the release, more than "
            f"targets.mirror_fail_limit = {limit} allows; the targets were not touched: {told}"
        )


def _needed(hands: Hands) -> set[str]:
    """Return what is live anywhere and what was live before that; raise TooManyFailedError where a host cannot say."""
    orders = {host.name: (Request("probe"),) for host in hands.hosts}
    needed: set[str] = set()
    silent = []
    for name, answer in hands.ask("probe", orders, Probe).items():
        if isinstance(answer, HostError) or answer.problems:
            silent.append(name)
        else:
            needed |= {*answer.stack[-2:], *filter(None, [answer.current])}
    if silent:
        raise TooManyFailedError(f"nothing was changed: it cannot be told what is live on {fold(silent)}")
    return needed


def _against_hub(
    environment: str, hub: str, wanted: Refs, name: str, refs: Refs | SkeinError, is_known: bool
) -> Iterable[Finding]:
    if isinstance(refs, SkeinError):
        yield Finding(what="reachable", ok=False, message=str(refs))
        return
    yield Finding(what="reachable", ok=True, message="reachable")
    if not is_known:
        yield Finding(what="complete", ok=False, message=f"cannot be told: the hub, {hub}, is out of reach")
        return
    releases = {ref: oid for ref, oid in wanted.items() if ref.startswith(RELEASES)}
    lacking = sorted(ref for ref in releases if ref not in refs)
    differs = sorted(ref for ref, oid in releases.items() if refs.get(ref, oid) != oid)
    mine, newest = _newest(refs, environment), _newest(wanted, environment)
    trouble = []
    if lacking:
        behind = f"{newest - mine} releases behind" if mine < newest else "releases are missing"
        trouble.append(f"{behind}, it lacks {_some(lacking)}: run fab mirrors.sync")
    if differs:
        trouble.append(f"other objects than the hub's stand at {_some(differs)}: a person must find out why")
    ledgers = sorted(ref for ref, oid in wanted.items() if ref.startswith(LEDGERS) and refs.get(ref) != oid)
    if ledgers:
        trouble.append(
            f"it has another {_some(ledgers)} than the hub: run fab mirrors.sync, or, where the hub lost records, as "
            f"invoke check tells, fab mirrors.sync --from {name}"
        )
    if mine > newest:
        trouble.append(f"it has release {mine} and the hub only {newest}: run fab mirrors.sync --from {name}")
    well = f"complete up to release {mine}" if mine else "complete: no release yet"
    yield Finding(what="complete", ok=not trouble, message="; ".join(trouble) or well)


def _inside(state: MirrorState | SkeinError) -> Iterable[Finding]:
    if isinstance(state, SkeinError):
        return (Finding(what="inside", ok=False, message=str(state)),)
    free = f"{state.free_bytes / 1e9:.1f} GB and {state.free_inodes} inodes free"
    return (*state.findings, Finding(what="free", ok=True, message=free))


def _made(answer: tuple[str, ...] | SkeinError | None) -> Iterable[Finding]:
    """Say what making a mirror changed; why it could not be made is what bringing it level says too."""
    return (Finding(what="made", ok=True, message="; ".join(answer)),) if isinstance(answer, tuple) and answer else ()


def _brought(answer: Synced | SkeinError) -> Finding:
    if isinstance(answer, SkeinError):
        return Finding(what="sync", ok=False, message=str(answer))
    said = [f"brought {len(answer.brought)} refs" if answer.brought else "nothing to bring"]
    said += [f"it has besides {_some(answer.extra)}"] if answer.extra else []
    said += [f"other objects stand at {_some(answer.differs)}: they were not touched"] if answer.differs else []
    return Finding(what="sync", ok=not answer.differs, message="; ".join(said))


def _dropped(answer: Retained | SkeinError) -> Finding:
    if isinstance(answer, SkeinError):
        return Finding(what="keep", ok=False, message=str(answer))
    return Finding(what="keep", ok=True, message=f"retired {len(answer.removed)} refs")


def _all(refs: Iterable[dict[str, str] | SkeinError]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for each in refs:
        merged = {**merged, **each} if not isinstance(each, SkeinError) else merged
    return merged


def _newest(refs: Refs, environment: str) -> int:
    names = (ref.removeprefix(release_ref(environment, "")) for ref in refs)
    return max((number_of(name) for name in names if ID.fullmatch(name)), default=0)


def _some(refs: Sequence[str]) -> str:
    more = f" and {len(refs) - NAMED_MOST} more" if len(refs) > NAMED_MOST else ""
    return ", ".join(refs[:NAMED_MOST]) + more
