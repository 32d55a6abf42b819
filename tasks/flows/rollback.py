"""`fab rollback`: what was live before, or a release that is named, is live again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..core.errors import UsageError
from ..core.facts import Present, Probe
from ..core.history import Chain
from ..core.hosts import fold
from ..core.release import Adopted, Release, check_id
from ..core.report import Report
from .hands import Hands
from .look import look, refused
from .marking import known_marks, passed_over, warned
from .recording import Recording
from .rollout import Rollout

KNOCK_S = 1.0
"""A hub that does not answer within this is waited for while the targets are looked at."""


def rollback(hands: Hands, to: str | None) -> Report:
    """Choose one release for the whole fleet, check it on every host, stage it where it is missing, and flip."""
    wanted = check_id(to) if to is not None else None
    early = None if hands.book.knock(KNOCK_S) else look(hands)
    recording = Recording.begin(hands, "rollback")
    probes, failures = early if early and recording.chain is None else look(hands)  # under the lock, where there is one
    recording.meet(probes)
    verdict = hands.policy.verdict(hands.hosts, failures)
    if verdict:
        return refused(hands, "rollback", probes, failures, verdict)
    release, notes = choose(recording.chain, probes, wanted, hands.settings.environment)
    rollout = Rollout(hands, "rollback", release, probes, failures, recording, notes=[*recording.notes, *notes])
    return rollout.run()


def choose(
    chain: Chain | None, probes: Mapping[str, Probe], wanted: str | None, environment: str
) -> tuple[Release | Adopted, list[str]]:
    """Return what to go back to, and what to say of releases that are marked bad."""
    if wanted:
        release = find(probes, wanted, environment)
        return release, warned(chain, probes, release)
    identity, skipped = before(probes, known_marks(chain, probes).bad)
    return find(probes, identity, environment), passed_over(chain, skipped)


def before(probes: Mapping[str, Probe], bad: Collection[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Return what was live before what is live now, and what was passed over since that is ``bad``.

    By the newest record that any host has; never by time or name.
    """
    newest = max(probes.values(), key=lambda probe: probe.live_turn)
    lived = newest.stack[-2::-1]
    good = [identity for identity in lived if identity not in bad]
    if not good:
        live = f"nothing was live before {newest.stack[-1]}" if newest.stack else "no release was ever live"
        live += f" but what is marked bad: {', '.join(lived)}" if lived else ""
        raise UsageError(f"there is nothing to roll back to: {live}; name one with --to")
    return good[0], lived[: lived.index(good[0])]


def find(probes: Mapping[str, Probe], identity: str, environment: str) -> Release | Adopted:
    """Return the release as the hosts that have it describe it; raise UsageError where none has it or they differ."""
    if any(identity in probe.adopted for probe in probes.values()):
        return Adopted(identity)
    told: dict[Present, list[str]] = {}
    for name, probe in probes.items():
        if identity in probe.releases:
            told.setdefault(probe.releases[identity], []).append(name)
    if len(told) > 1:
        sides = "; ".join(f"{fold(names)}: commit {release.commit}" for release, names in told.items())
        raise UsageError(
            f"targets disagree on what release {identity} is ({sides}): leave the odd ones out with --only"
        )
    for release in told:
        return release.release(environment, identity)
    known = sorted({name for probe in probes.values() for name in (*probe.releases, *probe.adopted)})
    raise UsageError(
        f"no target has release {identity} any more: deploy it again with --ref release/{identity}, "
        f"or roll back to one of: {', '.join(known[-10:]) or 'none'}"
    )
