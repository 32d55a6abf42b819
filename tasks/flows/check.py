"""`check`: every precondition on every host, before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import HostError
from ..core.facts import Checked, Finding
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
    orders = {host.name: (_request(hands, host),) for host in hands.hosts}
    answers = hands.ask("check", orders, Checked)
    odd = implausible({name: answer.probe for name, answer in answers.items() if isinstance(answer, Checked)})
    hosts = tuple((name, (*_findings(answer), *_oddness(odd.get(name)))) for name, answer in answers.items())
    return CheckReport(hands.settings.environment, here, hosts)


def _request(hands: Hands, host: Host) -> Request:
    bring = hands.transport.mirrors_for(host)
    mirrors = [{"name": mirror.name, "url": mirror.url} for mirror in bring]
    spread_s = hands.transport.spread_s(host)
    fields = {"linked_files": list(hands.settings.targets.linked_files), "mirrors": mirrors, "spread_s": spread_s}
    return Request("check", fields, 30.0 + (20.0 + spread_s) * len(mirrors))


def _oddness(error: HostError | None) -> tuple[Finding, ...]:
    return (Finding(what=error.code, ok=False, message=str(error)),) if error else ()


def _findings(answer: Checked | HostError) -> tuple[Finding, ...]:
    if isinstance(answer, HostError):
        return (Finding(what="session", ok=False, message=str(answer)),)
    offset = answer.probe.offset_s
    clock = Finding(what="clock", ok=abs(offset) <= CLOCK_MOST_S, message=f"{offset:+.1f} s from this machine's")
    return (*answer.findings, clock)
