"""`status --live`: what is live where, from the hosts themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import HostError
from ..core.facts import Probe
from ..core.hosts import fold
from ..core.marks import seen_by
from ..core.plausible import implausible
from ..core.requests import Request
from .hands import Hands
from .marking import told_bad

FORMAT = 1


@dataclass(frozen=True)
class HostStatus:
    """One host: what is live since when (seconds since 1970), free space, and what is not as it should be.

    ``adopted`` says what the live release was before Skein came, where Skein did not make it.
    """

    host: str
    release: str | None
    since: float | None
    free_bytes: int | None
    trouble: str = ""
    adopted: str | None = None


@dataclass(frozen=True)
class FleetStatus:
    """All hosts and what is to be live, by the ledger, or by the newest decision that any of them has seen.

    ``notes`` say where it is from and how old it is; ``ledger`` is the same for programs. ``bad`` are the releases that
    are marked so.
    """

    environment: str
    desired: str | None
    hosts: tuple[HostStatus, ...]
    source: str = "hosts"
    notes: tuple[str, ...] = ()
    ledger: Mapping[str, object] | None = None
    bad: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """6 where any host is not as it should be, else 0."""
        return 6 if any(host.trouble for host in self.hosts) else 0

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "status",
            "environment": self.environment,
            "source": self.source,
            "ledger": self.ledger,
            "desired": self.desired,
            "bad": list(self.bad),
            "exit_code": self.exit_code,
            "targets": [
                {
                    "host": host.host,
                    "release": host.release,
                    "adopted": host.adopted,
                    "since": host.since,
                    "free_bytes": host.free_bytes,
                    "trouble": host.trouble,
                }
                for host in self.hosts
            ],
        }


def status(hands: Hands) -> FleetStatus:
    """Ask every host, change nothing, and say which ones differ from what the newest decision wants."""
    answers = hands.ask("status", {host.name: (Request("status", timeout_s=90.0),) for host in hands.hosts}, Probe)
    odd = implausible({name: answer for name, answer in answers.items() if isinstance(answer, Probe)})
    desired = wanted({name: answer for name, answer in answers.items() if name not in odd})
    hosts = tuple(_one(name, answer, desired, odd.get(name)) for name, answer in answers.items())
    believed = [answer for name, answer in answers.items() if isinstance(answer, Probe) and name not in odd]
    bad = tuple(sorted(seen_by(believed).bad))
    notes = tuple(told_bad(None, each) for each in bad)
    return FleetStatus(hands.settings.environment, desired, hosts, notes=notes, bad=bad)


def wanted(answers: Mapping[str, Probe | HostError]) -> str | None:
    """Return what the newest flip that lasted made live."""
    seen = [answer for answer in answers.values() if isinstance(answer, Probe) and answer.current]
    return max(seen, key=lambda probe: probe.live_turn).current if seen else None


def _one(name: str, answer: Probe | HostError, desired: str | None, odd: HostError | None) -> HostStatus:
    if isinstance(answer, HostError):
        return HostStatus(name, None, None, None, str(answer))
    troubles = [*map(str, [odd] if odd else []), *(problem.message for problem in answer.problems)]
    if answer.current != desired:
        troubles.append(f"behind: {desired} is wanted")
    if answer.drift:
        more = " and more" if len(answer.drift) > 3 else ""
        troubles.append(f"changed since it was staged: {', '.join(answer.drift[:3])}{more}")
    adopted = answer.adopted.get(answer.current) if answer.current else None
    return HostStatus(name, answer.current, answer.current_since, answer.free_bytes, "; ".join(troubles), adopted)


def summary(status: FleetStatus) -> str:
    """Say in one sentence how the fleet stands."""
    bad = [host.host for host in status.hosts if host.trouble]
    if bad:
        return f"{len(bad)} of {len(status.hosts)} targets are not as they should be: {fold(bad)}"
    live = status.desired or "no release"
    return f"all {len(status.hosts)} targets: {live}"
