"""A comparison as one SVG picture: time against N on logarithmic axes; below it what server-1 sent and computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .comparison import Comparison, data_s, seconds

WIDE, HIGH, LEFT, TOP, GAP, LEGEND = 760, 240, 70, 30, 60, 330
COLOURS = ("#0b62a4", "#d1495b", "#2e933c", "#8e5572", "#e0a100", "#4c6a92", "#7a7a7a", "#00798c", "#a44a3f", "#333333")
Lines = Mapping[str, Sequence[tuple[float, float]]]


def svg(found: Comparison) -> str:
    """Draw three panels, one below the other; a tool has one colour in all of them, and its slope in the legend."""
    payloads = {float(field.hosts): field.payload for field in found.fields}
    sent, used = found.series(lambda figure: figure.source_sent), found.series(lambda figure: figure.cpu_s)
    times = {**found.series(seconds), **{f"{tool}: data": points for tool, points in found.series(data_s).items()}}
    if limits := [(float(field.hosts), field.limit_s) for field in found.fields if field.limit_s]:
        times["limit S/B"] = limits
    panels: dict[str, Lines] = {
        "seconds": times,
        "sent by server-1 ÷ S": {tool: [(n, b / payloads[n]) for n, b in points] for tool, points in sent.items()},
        "server-1: CPU ms per target": {tool: [(n, s / n * 1e3) for n, s in points] for tool, points in used.items()},
    }
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(times)}
    parts = [_panel(title, lines, colours, TOP + at * (HIGH + GAP)) for at, (title, lines) in enumerate(panels.items())]
    parts += _legend(colours, found.slopes())
    parts.append(f'<text x="{LEFT}" y="18" font-weight="bold">{escape(found.course.scenario.name)}: medians</text>')
    size = f'width="{LEFT + WIDE + LEGEND}" height="{TOP + len(panels) * (HIGH + GAP)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, *parts, "</svg>\n"])


def escape(text: str) -> str:
    """Return a text as it must stand between tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _legend(colours: Mapping[str, str], slopes: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for place, (name, colour) in enumerate(colours.items()):
        tool, _, phase = name.partition(": ")
        exponent = slopes.get(tool, {}).get("data s" if phase else "s")
        told = name if exponent is None else f"{name} ~ N^{exponent:.2f}"
        y = TOP + 18 * place + 12
        lines.append(f'<text x="{LEFT + WIDE + 20}" y="{y}" fill="{colour}">{escape(told)}</text>')
    return lines


def _panel(title: str, lines: Lines, colours: Mapping[str, str], top: int) -> str:
    """Draw one panel, both axes logarithmic; numbers that are not above nothing have no place there."""
    points = [(x, y) for series in lines.values() for x, y in series if y > 0]
    if not points:
        return ""
    across, up = _scale([x for x, _ in points]), _scale([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + WIDE * _share(x, across), top + HIGH * (1 - _share(y, up))

    parts = [f'<rect x="{LEFT}" y="{top}" width="{WIDE}" height="{HIGH}" fill="none" stroke="#999"/>']
    parts.append(f'<text x="{LEFT + 8}" y="{top + 16}">{escape(title)}</text>')
    parts += [
        f'<text x="{place(x, up[0])[0]:.1f}" y="{top + HIGH + 16}" text-anchor="middle">{x:g}</text>'
        for x in sorted({x for x, _ in points})
    ]
    parts += [
        f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + WIDE}" y2="{at:.1f}" stroke="#ddd"/>'
        f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>'
        for y in _ticks(up)
        for at in [place(across[0], y)[1]]
    ]
    for name, series in lines.items():
        dots = [place(x, y) for x, y in series if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colours[name]}"/>' for x, y in dots]
    return "\n".join(parts)


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Return bounds with some room around the values."""
    return min(values) / 1.3, max(values) * 1.3


def _share(value: float, bounds: tuple[float, float]) -> float:
    low, high = map(math.log, bounds)
    return (math.log(value) - low) / (high - low)


def _ticks(bounds: tuple[float, float]) -> list[float]:
    first, last = (math.floor(math.log10(bound)) for bound in bounds)
    every = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    return [tick for tick in every if bounds[0] <= tick <= bounds[1]]
