"""What a run did, as one frozen value: rendered for people or as versioned JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .errors import HostError, UnreachableError
from .pricing import Carried

FORMAT = 1


class State(StrEnum):
    """Where one target stands at the end of a run."""

    LIVE = "live"  # flipped by this run, confirmed
    ALREADY = "already live"
    UNTOUCHED = "untouched"  # the run ended before anything became visible
    REVERTED = "reverted"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    UNKNOWN = "unknown"  # the session was lost during the flip and the host could not be asked


@dataclass(frozen=True)
class Outcome:
    """One target: its state, the release live on it as far as is known, and the reason where it is not as wished."""

    host: str
    state: State
    release: str | None = None
    code: str = ""
    reason: str = ""

    @classmethod
    def of(cls, host: str, error: HostError, release: str | None = None) -> Outcome:
        """Make the outcome of a failure."""
        state = State.UNREACHABLE if isinstance(error, UnreachableError) else State.FAILED
        return cls(host, state, release, error.code, str(error))


@dataclass(frozen=True)
class Report:
    """The end of a run. ``headline`` is the sentence to read first, ``next_step`` what to type next."""

    command: str
    environment: str
    exit_code: int
    headline: str
    release: str | None = None
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    next_step: str = ""
    skew_s: float | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)  # added, changed, removed
    carried: tuple[Carried, ...] = ()
    predicted_s: Mapping[str, float] = field(default_factory=dict)  # by carrier

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": self.command,
            "environment": self.environment,
            "exit_code": self.exit_code,
            "headline": self.headline,
            "release": self.release,
            "targets": [
                {
                    "host": one.host,
                    "state": one.state.value,
                    "release": one.release,
                    "code": one.code,
                    "reason": one.reason,
                }
                for one in self.outcomes
            ],
            "notes": list(self.notes),
            "next": self.next_step,
            "skew_s": self.skew_s,
            "timings_s": dict(self.timings_s),
            "files": dict(self.files),
            "carried": [{**each.model_dump(), "predicted_s": self.predicted_s.get(each.by)} for each in self.carried],
        }
