"""The wiring of `bench`: which lab, which story or comparison, and where its figures go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tabulate import tabulate

from . import _cli, _show
from .core import plot, scenarios
from .core.comparison import HEADERS, Comparison
from .core.errors import UsageError
from .flows.bench import bench, compare
from .remote.bench.peers import PEERS
from .remote.bench.race import open_race
from .remote.bench.rig import open_rig

STORY = "story"


@dataclass(frozen=True)
class Sizes:
    """How much of everything; None where the scenario says."""

    hosts: str
    files: int | None
    megabytes: int | None
    rate: str | None
    fast_source: bool
    runs: int
    patience_s: float | None


def run(scenario: str, sizes: Sizes, transport: str, beside: str, into: str, *, as_json: bool) -> int:
    """Measure, show and keep the figures; return the exit code."""
    folder = _cli.state_folder() / "bench"
    say = _show.TerminalProgress().say
    if scenario == STORY:
        (hosts,) = scenarios.numbers(sizes.hosts or "100")
        files = 3000 if sizes.files is None else sizes.files
        found = bench(partial(open_rig, folder, hosts), hosts, files, sizes.runs, say)
        _show.show_bench(found, as_json=as_json)
        return found.exit_code
    course = _course(scenario, sizes, transport, beside)
    kept = (Path(into) if into else folder) / scenario
    compared = compare(partial(open_race, folder, course), course, say, partial(_keep, kept))
    show(compared, kept, as_json=as_json)
    return compared.exit_code


def show(found: Comparison, kept: Path, *, as_json: bool) -> None:
    """Print what was measured: a table of medians, and what no table holds."""
    if as_json:
        return _show.show_json(found.as_json())
    shown = tabulate(found.rows(), HEADERS, disable_numparse=True, colalign=("right", "left", *["right"] * 15))
    return _show.show_lines([shown, *found.lines(), f"kept as {kept}.json and {kept}.svg"])


def _course(scenario: str, sizes: Sizes, transport: str, beside: str) -> scenarios.Course:
    chosen = scenarios.named(scenario).sized(sizes.files, sizes.megabytes, sizes.rate)
    peers = tuple(PEERS) if beside == "all" else tuple(name for name in beside.split(",") if name not in ("", "none"))
    if unknown := set(peers) - PEERS.keys():
        raise UsageError(f"--beside {', '.join(sorted(unknown))}: {', '.join(PEERS)} are what there is")
    return scenarios.Course(
        chosen,
        scenarios.numbers(sizes.hosts or str(chosen.hosts)),
        sizes.runs,
        tuple(filter(None, transport.split(","))),
        peers,
        sizes.fast_source,
        sizes.patience_s,
    )


def _keep(kept: Path, found: Comparison) -> None:
    """Write the figures and their picture, over those of the last time."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.with_suffix(".json").write_text(json.dumps(found.as_json(), indent=2) + "\n", "utf-8")
    kept.with_suffix(".svg").write_text(plot.svg(found), "utf-8")
