"""How things are shown: one line per stage, one folded table at the end, or one JSON document."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from tabulate import tabulate

from .core.figures import Bench
from .core.hosts import fold
from .core.pricing import Carried
from .core.report import Report, State
from .core.text import printable, size
from .core.told import Told
from .flows.check import CheckReport
from .flows.status import FleetStatus, HostStatus, summary

REFRESHES_PER_S = 4
GOOD = (State.LIVE, State.ALREADY)


class Found(Protocol):
    """What a story ends with."""

    @property
    def exit_code(self) -> int: ...
    def as_json(self) -> dict[str, object]: ...


class Lined(Found, Protocol):
    """What is said to people in lines."""

    def lines(self) -> Iterable[str]: ...


class TerminalProgress:
    """One live line per stage on a terminal, plain lines elsewhere; on standard error, results on standard output."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show a stage while it lasts, and how long it took."""
        if self._quiet or not total:
            yield lambda name: None
            return
        began = time.monotonic()
        done: list[str] = []
        if sys.stderr.isatty():
            with self._live(title, total) as seen:
                yield seen
        else:
            yield done.append
            self.say(f"{title}: {len(done)}/{total} in {time.monotonic() - began:.1f} s")

    def say(self, line: str) -> None:
        """Show one plain line."""
        if not self._quiet:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    @contextmanager
    def _live(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:>10}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=REFRESHES_PER_S) as progress:
            task = progress.add_task(title, total=total)
            yield lambda name: progress.advance(task)


def show_json(value: dict[str, object]) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def show_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")


def show_report(report: Report) -> None:
    """Print what a run did: the few that matter first, equal hosts folded, and last what to do next."""
    lines = []
    ordered = sorted(report.outcomes, key=lambda one: one.state in GOOD)
    rows = [((one.state.value, one.release or "-", printable(one.reason, 500)), one.host) for one in ordered]
    if rows:
        lines.append(table(("targets", "", "state", "live release", "reason"), rows))
    lines += [f"note: {printable(note, 600)}" for note in report.notes]
    if report.files:
        lines.append("files: " + ", ".join(f"{count} {kind}" for kind, count in report.files.items()))
    lines += [f"bytes: {_carried(each, report.predicted_s.get(each.by))}" for each in report.carried]
    if report.timings_s:
        times = ", ".join(f"{title} {seconds:.1f} s" for title, seconds in report.timings_s.items())
        skew = f"; flip skew {report.skew_s * 1000:.0f} ms" if report.skew_s is not None else ""
        lines.append(f"times: {times}{skew}")
    lines.append(report.headline)
    if report.next_step:
        lines.append(f"next: {report.next_step}")
    sys.stdout.write("\n".join(lines) + "\n")


def _carried(each: Carried, predicted_s: float | None) -> str:
    foreseen = f"; predicted {predicted_s:.1f} s" if predicted_s is not None else ""
    return f"{each.by} brought {size(each.bytes)} to {each.hosts} targets in {each.seconds:.1f} s{foreseen}"


def show_status(status: FleetStatus) -> None:
    """Print the fleet's state, equal hosts folded, those with trouble first."""
    ordered = sorted(status.hosts, key=lambda host: not host.trouble)
    rows = [
        ((host.release or "-", _adopted(host), _when(host.since), _size(host.free_bytes), _trouble(host)), host.host)
        for host in ordered
    ]
    shown = table(("targets", "", "release", "adopted", "live since", "free", "trouble"), rows)
    notes = "".join(f"note: {printable(note, 600)}\n" for note in status.notes)
    sys.stdout.write(f"environment {status.environment}\n{shown}\n{notes}{summary(status)}\n")


def show_told(told: Told) -> None:
    """Print a table, if there is one, and the sentences below it."""
    rows = [[printable(cell, 500) for cell in row] for row in told.rows]
    shown = [tabulate(rows, told.headers, disable_numparse=True, maxcolwidths=70)] if rows else []
    show_lines([*shown, *(printable(line, 1000) for line in told.lines)])


def show_check(report: CheckReport) -> None:
    """Print what is wrong, and how much was found to be right."""
    rows = [
        ((finding.what, printable(finding.message, 500)), "this machine") for finding in report.here if not finding.ok
    ]
    rows += [
        ((f.what, printable(f.message, 500)), name) for name, findings in report.hosts for f in findings if not f.ok
    ]
    good = sum(f.ok for _, findings in report.hosts for f in findings) + sum(f.ok for f in report.here)
    if rows:
        sys.stdout.write(table(("where", "", "what", "trouble"), rows) + "\n")
    verdict = f"{len(rows)} wrong" if rows else "ready to deploy"
    sys.stdout.write(f"{good} checks passed on {len(report.hosts)} targets and this machine; {verdict}\n")


def show_bench(found: Bench, *, as_json: bool) -> None:
    """Print what was measured: a table of medians, and every host that was lost."""
    if as_json:
        return show_json(found.as_json())
    headers = ("step", "s", "ratio", "kB in", "kB out", "skew ms", "cpu s", "MB", "lost")
    shown = tabulate(found.rows(), headers, disable_numparse=True, colalign=("left", *["right"] * 8))
    told = f"hosts {found.hosts}, files {found.files}, runs {len(found.runs)}; hosts lost in all {found.lost}"
    return show_lines([shown, *found.lines(), told])


def table(headers: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], str]]) -> str:
    """Lay out a table in which hosts whose rows are equal share one line, with their number."""
    folded: dict[tuple[str, ...], list[str]] = {}
    for cells, host in rows:
        folded.setdefault(cells, []).append(host)
    lines = [(_fold(hosts), len(hosts), *cells) for cells, hosts in folded.items()]
    empty = [place for place in range(len(headers)) if place > 1 and all(line[place] == "" for line in lines)]
    keep = [place for place in range(len(headers)) if place not in empty]
    shown = [[line[place] for place in keep] for line in lines]
    return tabulate(
        shown,
        [headers[place] for place in keep],
        disable_numparse=True,
        maxcolwidths=[40, None, *[70] * (len(keep) - 2)],
    )


def _fold(hosts: list[str]) -> str:
    return hosts[0] if len(set(hosts)) == 1 else fold(hosts)


def _adopted(host: HostStatus) -> str:
    return printable(host.adopted or "", 200)


def _trouble(host: HostStatus) -> str:
    return printable(host.trouble, 500)


def _when(at: float | None) -> str:
    """Write a time to the minute, so that hosts that flipped together fold together."""
    return "-" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"
