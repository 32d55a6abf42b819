"""A scenario's figures, tool by tool: the medians, ratios, slopes and doubts that are told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from .figures import FLOOR, FORMAT, Figure, slope
from .scenarios import Course

TROUBLE = ", trouble"
HEADERS = (
    *(
        "hosts",
        "tool",
        "s",
        "spread",
        "ratio",
        "data s",
        "of S/B",
        "p99/p50",
        "live s",
        "kB in",
        "payload/S",
        "egress/S",
    ),
    *("ms source", "ms target", "MB", "skew ms", "lost"),
)


@dataclass(frozen=True)
class Field:
    """All that was measured with one number of hosts; ``payload`` is S in bytes, ``goodput`` B in bytes per second."""

    hosts: int
    payload: int
    rate: str | None
    goodput: float | None
    prepared: tuple[Figure, ...]
    runs: tuple[tuple[Figure, ...], ...]

    @property
    def limit_s(self) -> float | None:
        """S/B: no target can have the payload sooner, whatever the number of hosts."""
        return self.payload / self.goodput if self.goodput else None

    def by_tool(self) -> dict[str, list[tuple[Figure, float]]]:
        """Group figures by tool, each with the least that the same run's log-ins took."""
        found: dict[str, list[tuple[Figure, float]]] = {figure.step: [(figure, 0.0)] for figure in self.prepared}
        for run in self.runs:
            floor = min((figure.seconds for figure in run if figure.step == FLOOR), default=0.0)
            for figure in run:
                found.setdefault(figure.step, []).append((figure, floor))
        return found


@dataclass(frozen=True)
class Comparison:
    """A scenario on fleets of several sizes."""

    course: Course
    fields: tuple[Field, ...]

    @property
    def lost(self) -> int:
        """How often a host was lost, all tools and runs together."""
        return sum(len(figure.lost) for figure in self._figures())

    @property
    def exit_code(self) -> int:
        """6 where Skein lost a host, else 0: what others lose is told, and is no fault of ours."""
        return 6 if any(figure.lost and figure.step.startswith("skein") for figure in self._figures()) else 0

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each tool on each fleet, medians but for the last column, the hosts lost."""
        return [
            self._row(field, tool, figures)
            for field in self.fields
            for tool, figures in field.by_tool().items()
        ]  # fmt: skip

    def lines(self) -> list[str]:
        """Say what no table holds: the limit, what trouble cost, exponents, and all that was not run as it should."""
        return [*self._limits(), *self._troubles(), *self._slopes(), *self._doubts()]

    def slopes(self) -> dict[str, dict[str, float]]:
        """Return with which power of N each tool's seconds, and its data phase's, grow."""
        found: dict[str, dict[str, float]] = {}
        for name, value in {"s": seconds, "data s": data_s}.items():
            for tool, points in self.series(value).items():
                if (exponent := slope(points)) is not None:
                    found.setdefault(tool, {})[name] = exponent
        return found

    def series(self, value: Callable[[Figure], float | None]) -> dict[str, list[tuple[float, float]]]:
        """Return each tool's medians of a value by the number of hosts."""
        found: dict[str, list[tuple[float, float]]] = {}
        for field in self.fields:
            for tool, figures in field.by_tool().items():
                known = [number for figure, floor in figures if figure.ran and floor and (number := value(figure))]
                if known:
                    found.setdefault(tool, []).append((field.hosts, median(known)))
        return found

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "bench",
            "exit_code": self.exit_code,
            "lost": self.lost,
            "course": asdict(self.course),
            "fleets": [{**asdict(field), "limit_s": field.limit_s} for field in self.fields],
            "headers": HEADERS,
            "rows": self.rows(),
            "slopes": self.slopes(),
            "lines": self.lines(),
        }

    def _figures(self) -> Iterator[Figure]:
        for field in self.fields:
            yield from field.prepared
            for run in field.runs:
                yield from run

    def _row(self, field: Field, tool: str, figures: Sequence[tuple[Figure, float]]) -> tuple[str, ...]:
        ran = [(figure, floor) for figure, floor in figures if figure.ran]
        if not ran:
            return (str(field.hosts), tool, "not run", *[""] * (len(HEADERS) - 3))
        mark = "~" if any(figure.extrapolated for figure, _ in ran) else ""
        times = [figure.seconds for figure, _ in ran]
        known = [figure for figure, _ in ran if not figure.extrapolated]  # of a step that was cut off only that is told
        ratios = [figure.seconds / floor for figure, floor in ran if floor]
        data = [figure.data_s for figure in known]
        return (
            str(field.hosts),
            tool,
            mark + _told(times, 1, 1),
            f"{min(times):.1f}-{max(times):.1f}" if len(times) > 1 else "",
            mark + _told(ratios, 1, 2),
            _told(data, 1, 1),
            _told(data, 1 / field.limit_s, 2) if field.limit_s else "",
            _told([figure.tail for figure in known], 1, 2),
            _told([figure.live_s for figure in known], 1, 1),
            _told([figure.received for figure in known], 1e-3, 1),
            _told([_payload(figure, field.payload) for figure in known], 1, 3),
            _told([figure.source_sent for figure in known], 1 / field.payload, 2) if field.payload > 100_000 else "",
            _told([figure.cpu_s / field.hosts for figure in known], 1e3, 1),
            _told([figure.target_cpu_s for figure in known], 1e3, 1),
            _told([figure.memory for figure in known], 1e-6, 0),
            _told([figure.skew_s for figure in known], 1e3, 0),
            str(sum(len(figure.lost) for figure in known)),
        )

    def _limits(self) -> Iterator[str]:
        for field in self.fields:
            told = f"{field.hosts} hosts: S = {field.payload:,} bytes (one thin pack, made by git alone)"
            if field.goodput:
                told += f", links {field.rate}, of which B = {field.goodput * 8 / 1e6:.2f} Mbit/s arrive"
                told += f", S/B = {field.limit_s:.2f} s"
            yield told

    def _troubles(self) -> Iterator[str]:
        for field in self.fields:
            tools = field.by_tool()
            for tool, figures in tools.items():
                healthy = [figure.live_s for figure, _ in tools.get(tool.removesuffix(TROUBLE), ()) if figure.live_s]
                troubled = [figure.live_s for figure, _ in figures if figure.live_s]
                if tool.endswith(TROUBLE) and healthy and troubled:
                    told = median(troubled) / median(healthy)
                    yield f"{field.hosts} hosts, {tool}: last good host live after {told:.2f} times as long as without"

    def _slopes(self) -> Iterator[str]:
        for tool, exponents in self.slopes().items():
            told = ", ".join(f"{name} with N^{exponent:.2f}" for name, exponent in exponents.items())
            yield f"{tool} grows: {told}"

    def _doubts(self) -> Iterator[str]:
        """Say what was not run, was cut off, lost hosts or has a note; alike runs together; 0 is before the first."""
        for field in self.fields:
            told: dict[str, list[int]] = {}
            for number, run in enumerate([field.prepared, *field.runs]):
                for figure in run:
                    if text := _doubt(figure):
                        told.setdefault(f"{figure.step}: {text}", []).append(number)
            for text, numbers in told.items():
                yield f"{field.hosts} hosts, run {', '.join(map(str, numbers))}: {text}"


def seconds(figure: Figure) -> float:
    """Return the whole time of a step."""
    return figure.seconds


def data_s(figure: Figure) -> float | None:
    """Return the time of a step's data phase."""
    return figure.data_s


def _told(values: Sequence[float | None], factor: float, digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known) * factor:.{digits}f}" if known else ""


def _payload(figure: Figure, payload: int) -> float | None:
    """Return what came to an average target beyond control bytes, divided by the least that had to."""
    return None if figure.control is None else (figure.received - figure.control) / payload


def _doubt(figure: Figure) -> str:
    if not figure.ran:
        return f"not run: {figure.note}"
    lost = f"lost {len(figure.lost)}: {', '.join(figure.lost[:5])}" if figure.lost else ""
    return "; ".join(filter(None, (lost, figure.note)))
