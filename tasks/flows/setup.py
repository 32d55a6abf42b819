"""`fab setup`: mirrors that can be pushed to, targets that can be deployed to. Run again, it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..core.errors import HostError, SkeinError
from ..core.facts import Probe
from ..core.hosts import fold
from ..core.requests import Request
from .hands import Hands

FORMAT = 1


@dataclass(frozen=True)
class SetupReport:
    """What was changed, and what could not be: lines by machine."""

    environment: str
    mirrors: Mapping[str, tuple[str, ...] | SkeinError]
    targets: Mapping[str, Probe | HostError]

    @property
    def exit_code(self) -> int:
        """3 where a mirror is not ready, 5 where a target is not, else 0."""
        if any(isinstance(found, SkeinError) for found in self.mirrors.values()):
            return 3
        return 5 if any(isinstance(found, HostError) or found.problems for found in self.targets.values()) else 0

    def lines(self) -> list[str]:
        """Say it for people, equal hosts folded."""
        said = []
        for name, found in self.mirrors.items():
            told = str(found) if isinstance(found, SkeinError) else "; ".join(found) or "ready, nothing to change"
            said.append(f"mirror {name}: {told}")
        told_by: dict[str, list[str]] = {}
        for name, answer in self.targets.items():
            told_by.setdefault(_told(answer), []).append(name)
        return said + [f"{fold(names)}: {told}" for told, names in told_by.items()]

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "setup",
            "environment": self.environment,
            "exit_code": self.exit_code,
            "mirrors": {
                name: {
                    "ready": not isinstance(found, SkeinError),
                    "said": str(found) if isinstance(found, SkeinError) else list(found),
                }
                for name, found in self.mirrors.items()
            },
            "targets": {
                name: {"ready": _ready(answer), "said": _told(answer)} for name, answer in self.targets.items()
            },
        }


def setup(hands: Hands, make_mirrors: Callable[[], Mapping[str, tuple[str, ...] | SkeinError]]) -> SetupReport:
    """Make the mirrors, then the directories and the agent on every target."""
    with hands.progress.stage("mirrors", 1) as seen:
        mirrors = make_mirrors()
        seen("mirrors")
    targets = hands.ask("targets", {host.name: (Request("settle"),) for host in hands.hosts}, Probe)
    return SetupReport(hands.settings.environment, mirrors, targets)


def _ready(answer: Probe | HostError) -> bool:
    return not isinstance(answer, HostError) and not answer.problems


def _told(answer: Probe | HostError) -> str:
    if isinstance(answer, HostError):
        return str(answer)
    return "; ".join(problem.message for problem in answer.problems) or "ready"
