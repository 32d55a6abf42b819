"""What a benchmark measured, and what is told of it: the middle of several runs, and every host that was lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import linear_regression, median

FORMAT = 1
FLOOR = "ssh HOST true"
EDGE = 0.01
"""The data phase is timed from this share of the bytes to the rest of it; both ends are then added again."""


@dataclass(frozen=True)
class Figure:
    """One step of one run. Bytes are an average target's, on its link; processor and memory are the deployer's.

    ``source_sent`` are bytes that left server-1; ``target_cpu_s`` is an average target's processor time; ``live_s`` is
    when the last good host was live; ``control`` is what ``received`` is where hardly anything changed; ``data_s`` and
    ``tail`` are those of `phase`. ``extrapolated`` seconds are of a
    step that was cut off; a ``note`` says so, or why a step was not run: then nothing else counts.
    """

    step: str
    seconds: float
    received: float
    sent: float
    cpu_s: float
    memory: int | None = None
    skew_s: float | None = None
    lost: tuple[str, ...] = ()
    source_sent: float | None = None
    target_cpu_s: float | None = None
    live_s: float | None = None
    control: float | None = None
    data_s: float | None = None
    tail: float | None = None
    extrapolated: bool = False
    ran: bool = True
    note: str = ""


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


def phase(
    samples: Sequence[tuple[float, Mapping[str, int]]],
    targets: Sequence[str],
    payload: int,
    limit_s: float,
    control: Mapping[str, int],
) -> tuple[float, float] | None:
    """Return the seconds of the data phase, and the 99th divided by the 50th percentile of the hosts' ready times.

    ``samples`` are the bytes that each machine, mirrors included, had received at a time, ``control`` those that each
    gets where hardly anything changed. The phase begins with the last sample before any machine got `EDGE` of the
    payload beyond those; it ends with the first in which every target had all but `EDGE` of whatever it received to the
    end, repeated and later bytes included. Then both edges are added at the speed of the limit. None where nothing like
    the payload reached a target.
    """
    first, last = samples[0][1], samples[-1][1]
    whole = {target: last[target] - first[target] for target in targets}
    if min(whole.values()) < payload / 2:
        return None
    begun = next(
        at
        for at, (_, seen) in enumerate(samples)
        if any(seen[name] - first[name] >= EDGE * payload + control.get(name, 0) for name in first)
    )
    start = samples[max(begun - 1, 0)][0]
    ready = [
        next(time for time, seen in samples if seen[target] - first[target] >= (1 - EDGE) * whole[target]) - start
        for target in targets
    ]
    edges = 2 * EDGE * limit_s
    return max(ready) + edges, percentile(ready, 0.99) / percentile(ready, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least such a share of all values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the exponent with which the second number grows with the first: a straight line through the logarithms."""
    if len({x for x, _ in points}) < 2:
        return None
    return linear_regression([math.log(x) for x, _ in points], [math.log(y) for _, y in points]).slope
