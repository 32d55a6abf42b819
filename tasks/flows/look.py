"""Looking at the whole fleet over the sessions that will serve for the rest of the run."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import HostError, RefusedError
from ..core.facts import Probe
from ..core.hosts import fold
from ..core.plausible import implausible
from ..core.report import Outcome, Report, State
from ..core.requests import Request
from .hands import Hands


def look(hands: Hands, *, settle: bool = True) -> tuple[dict[str, Probe], dict[str, HostError]]:
    """Probe every host; return what those that could serve and be believed said, and why the others cannot.

    Where a killed run left something, the host settles first: a flip that nobody confirmed enters its record, or a
    rollback would go one too far. Without ``settle`` nothing is written there; a probe says what settling would find.
    """
    answers = hands.ask("probe", {host.name: (Request("probe"),) for host in hands.hosts}, Probe)
    left = [name for name, answer in answers.items() if isinstance(answer, Probe) and answer.unsettled]
    if left and settle:
        answers |= hands.ask("settle", {name: (Request("settle"),) for name in left}, Probe)
    probes: dict[str, Probe] = {}
    failures: dict[str, HostError] = {}
    for name, answer in answers.items():
        if isinstance(answer, HostError):
            failures[name] = answer
        elif answer.problems:
            told = "; ".join(problem.message for problem in answer.problems)
            failures[name] = RefusedError(answer.problems[0].code, told)
        else:
            probes[name] = answer
    odd = implausible(probes)
    return {name: probe for name, probe in probes.items() if name not in odd}, {**failures, **odd}


def refused(
    hands: Hands, command: str, probes: Mapping[str, Probe], failures: Mapping[str, HostError], verdict: str
) -> Report:
    """Report a run that ended after its look at the fleet: nothing was made, sent or changed anywhere."""
    outcomes = [
        Outcome.of(host.name, failures[host.name])
        if host.name in failures
        else Outcome(host.name, State.UNTOUCHED, probes[host.name].current)
        for host in hands.hosts
    ]
    return Report(
        command=command,
        environment=hands.settings.environment,
        exit_code=5,
        headline=f"nothing changed: {verdict}",
        outcomes=tuple(outcomes),
        next_step=advice(hands, failures),
        timings_s=dict(hands.timings_s),
    )


def advice(hands: Hands, failures: Mapping[str, HostError]) -> str:
    """Say what to do about targets that are not as they must be."""
    check = f"fab check --env {hands.settings.environment} tries all"
    return f"mend {fold(failures)}, or allow for it with --fail-limit; {check}"
