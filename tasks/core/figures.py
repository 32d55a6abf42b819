"""What a benchmark measured, and what is told of it: the middle of several runs, and every host that was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

FORMAT = 1


@dataclass(frozen=True)
class Figure:
    """One step of one run. Bytes are an average target's, on its link; processor and memory are the deployer's."""

    step: str
    seconds: float
    received: float
    sent: float
    cpu_s: float
    memory: int | None = None
    skew_s: float | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """All runs; in each the first step, where it is repeated the least, is the floor for the others."""

    hosts: int
    files: int
    runs: tuple[tuple[Figure, ...], ...]

    @property
    def lost(self) -> int:
        """How often a host was lost, all steps of all runs together."""
        return sum(len(figure.lost) for run in self.runs for figure in run)

    @property
    def exit_code(self) -> int:
        """6 where a host was lost, else 0."""
        return 6 if self.lost else 0

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each step: its name, then figures as text, medians but for the last, the hosts lost."""
        return [self._row(steps) for steps in zip(*self.runs, strict=True)]

    def lines(self) -> list[str]:
        """Say which hosts were lost, by run and step."""
        return [
            f"run {number}, {figure.step}: lost {', '.join(figure.lost)}"
            for number, run in enumerate(self.runs, 1)
            for figure in run
            if figure.lost
        ]

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "bench",
            "exit_code": self.exit_code,
            "hosts": self.hosts,
            "files": self.files,
            "lost": self.lost,
            "runs": [[asdict(figure) for figure in run] for run in self.runs],
        }

    def _row(self, steps: Sequence[Figure]) -> tuple[str, ...]:
        floors = [min(each.seconds for each in run if each.step == run[0].step) for run in self.runs]
        ratios = [figure.seconds / floor for figure, floor in zip(steps, floors, strict=True)]
        return (
            steps[0].step,
            f"{median(figure.seconds for figure in steps):.1f}",
            f"{median(ratios):.2f}",
            f"{median(figure.received for figure in steps) / 1e3:.1f}",
            f"{median(figure.sent for figure in steps) / 1e3:.1f}",
            _middle([figure.skew_s for figure in steps], 1e3),
            f"{median(figure.cpu_s for figure in steps):.1f}",
            _middle([figure.memory for figure in steps], 1e-6),
            str(sum(len(figure.lost) for figure in steps)),
        )


def _middle(values: Sequence[float | None], factor: float) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known) * factor:.0f}" if known else ""
