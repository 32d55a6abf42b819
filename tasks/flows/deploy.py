"""`fab deploy`: the story from a ref to a fleet that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..core.facts import Probe
from ..core.report import Outcome, Report, State
from .hands import Hands
from .look import look, refused
from .marking import warned
from .recording import Recording
from .releasing import Releasing
from .rollout import Rollout


def deploy(hands: Hands, work: Releasing) -> Report:
    """Release what is wanted and make it live on every selected target, or change nothing visible."""
    recording = Recording.begin(hands, "deploy")
    commit, tree = work.resolve()  # under the lock: what was waited for may have deployed what came meanwhile
    probes, failures = look(hands)
    recording.meet(probes)
    verdict = hands.policy.verdict(hands.hosts, failures)
    if verdict:
        return refused(hands, "deploy", probes, failures, verdict)
    if not failures and work.is_served(commit, tree, probes):
        return recording.settle(_nothing_to_do(hands, probes))
    release = work.release(commit, tree, probes, recording.measured)
    hands.failpoint("deploy.released")
    files = _changes(work, probes, tree)  # before anything is visible: trouble with the source must not hide the report
    notes = [*work.notes, *warned(recording.chain, probes, release)]
    report = Rollout(hands, "deploy", release, probes, failures, recording, notes=notes).run()
    if work.swarm:
        report = replace(report, notes=(*report.notes, *work.swarm.end()))
    return replace(report, files=files)


def _changes(work: Releasing, probes: Mapping[str, Probe], tree: str) -> dict[str, int]:
    """Count what the release changes on the fleet, where all of it serves the same and that is known here."""
    bases = {probe.live.tree for probe in probes.values() if probe.live}
    if len(bases) != 1 or not work.source.has(base := bases.pop()):
        return {}
    return work.source.changes(base, tree).counts


def _nothing_to_do(hands: Hands, probes: Mapping[str, Probe]) -> Report:
    environment = hands.settings.environment
    return Report(
        command="deploy",
        environment=environment,
        exit_code=0,
        headline=f"nothing to do: every target of {environment} serves that commit already",
        release=next(iter(probes.values())).current,
        outcomes=tuple(Outcome(name, State.ALREADY, probe.current) for name, probe in probes.items()),
        timings_s=dict(hands.timings_s),
    )
