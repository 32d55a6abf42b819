"""`check`: every precondition on every host, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import HostError, RepositoryError
from ..core.facts import Checked, Finding
from ..core.history import Head, prove, who_and_when
from ..core.hosts import Host
from ..core.plausible import implausible
from ..core.requests import Request
from .hands import Hands

FORMAT = 1
CLOCK_MOST_S = 5.0


@dataclass(frozen=True)
class CheckReport:
    """What was found, by host; ``here`` are findings about this machine and the mirrors as seen from it."""

    environment: str
    here: tuple[Finding, ...]
    hosts: tuple[tuple[str, tuple[Finding, ...]], ...]

    @property
    def exit_code(self) -> int:
        """6 where anything is wrong, else 0."""
        every = [*self.here, *(finding for _, findings in self.hosts for finding in findings)]
        return 0 if all(finding.ok for finding in every) else 6

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "check",
            "environment": self.environment,
            "exit_code": self.exit_code,
            "here": [finding.model_dump() for finding in self.here],
            "targets": [
                {"host": name, "findings": [finding.model_dump() for finding in findings]}
                for name, findings in self.hosts
            ],
        }


def check(hands: Hands, here: tuple[Finding, ...]) -> CheckReport:
    """Try everything a deploy needs and change nothing."""
    orders = {host.name: (Request("probe"), _request(hands, host)) for host in hands.hosts}
    answers = hands.ask("check", orders, Checked)
    odd = implausible({name: answer.probe for name, answer in answers.items() if isinstance(answer, Checked)})
    hosts = tuple((name, (*_findings(answer), *_oddness(odd.get(name)))) for name, answer in answers.items())
    return CheckReport(hands.settings.environment, (*here, _ledger(hands, answers)), hosts)


def _ledger(hands: Hands, answers: Mapping[str, Checked | HostError]) -> Finding:
    """Prove the hub's ledger against what this operator and the targets saw of it, and look whether it is frozen."""
    seen = {name: answer.probe.ledger for name, answer in answers.items() if isinstance(answer, Checked)}
    heads = [Head(ledger.head, ledger.number, name) for name, ledger in seen.items() if ledger]
    try:
        chain = prove(hands.book.read().links, hands.settings.environment, heads)
    except RepositoryError as error:
        return Finding(what="ledger", ok=False, message=str(error))
    if freeze := chain.frozen:
        return Finding(what="ledger", ok=False, message=f"frozen by {who_and_when(freeze)}: fab unlock ends that")
    return Finding(what="ledger", ok=True, message=f"whole up to record {chain.number}, as {len(heads)} targets saw it")


def _request(hands: Hands, host: Host) -> Request:
    bring = hands.transport.mirrors_for(host)
    mirrors = [{"name": mirror.name, "url": mirror.url} for mirror in bring]
    spread_s = hands.transport.spread_s(host)
    fields = {"linked_files": list(hands.settings.targets.linked_files), "mirrors": mirrors, "spread_s": spread_s}
    fields |= {"swarm": True} if hands.settings.transport.swarm.enabled else {}
    return Request("check", fields, 30.0 + (20.0 + spread_s) * len(mirrors))


def _oddness(error: HostError | None) -> tuple[Finding, ...]:
    return (Finding(what=error.code, ok=False, message=str(error)),) if error else ()


def _findings(answer: Checked | HostError) -> tuple[Finding, ...]:
    if isinstance(answer, HostError):
        return (Finding(what="session", ok=False, message=str(answer)),)
    offset = answer.offset_s
    clock = Finding(what="clock", ok=abs(offset) <= CLOCK_MOST_S, message=f"{offset:+.1f} s from this machine's")
    return (*answer.findings, clock)
