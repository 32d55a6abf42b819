"""`bench`: the main job, timed against the least that the same hosts take to answer, and against other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from ..core.comparison import TROUBLE, Comparison, Field
from ..core.errors import UsageError
from ..core.figures import Bench, Figure
from ..core.scenarios import Course

HOTFIXES = 3
"""The third is what every later one costs: from then on there is a release that prune took away to make it of."""


class Rig(Protocol):
    """A fleet that is up and does nothing else: see ``remote.bench.rig.Rig``."""

    def floor(self) -> Figure:
        """Log in at every target and do nothing there."""

    def commit(self, files: int) -> int:
        """Write so many files of the site anew, commit them, and return the version's number."""

    def fab(self, step: str, argv: Sequence[str], version: int | None = None) -> Figure:
        """Run a command as the operator; hosts that then serve anything but the version count as lost."""


class Race(Protocol):
    """A fleet on which tools run by turns, each from the same state: see ``remote.bench.race.Race``."""

    @property
    def payload(self) -> int:
        """Bytes of the newest change."""

    @property
    def goodput(self) -> float | None:
        """Bytes per second that a link carries, None where there is no limit."""

    @property
    def rate(self) -> str | None:
        """What links are said to carry."""

    def prepare(self) -> Iterator[Figure]:
        """Bring the fleet to where a change can be deployed."""

    def change(self) -> None:
        """Make the next change, and have the fleet in the state that the scenario begins with."""

    def floor(self) -> Figure:
        """Log in at every target and do nothing there."""

    def measure(self, tool: str) -> Figure:
        """Bring the change to all targets with one tool, and check it."""

    def trouble(self) -> AbstractContextManager[None]:
        """Have dead hosts and a slow link."""


def compare(
    race: Callable[[int], AbstractContextManager[Race]],
    course: Course,
    say: Callable[[str], None],
    keep: Callable[[Comparison], None] = lambda found: None,
) -> Comparison:
    """Measure Skein's carriers and the tools beside it, for each number of hosts on a fleet of its own.

    What there is so far is given to ``keep`` after every run, for they take long and may be interrupted.
    """
    if course.runs < 1:
        raise UsageError(f"--runs {course.runs}: at least one")
    found = Comparison(course, ())
    for hosts in course.hosts:
        with race(hosts) as fleet:
            prepared = tuple(_said(fleet.prepare(), f"{hosts} hosts", say))
            out = {figure.step for figure in prepared if not figure.ran}
            done, runs = found.fields, []
            for number in range(1, course.runs + 1):
                runs.append(tuple(_said(_round(fleet, course, out), f"{hosts} hosts, run {number}", say)))
                field = Field(hosts, fleet.payload, fleet.rate, fleet.goodput, prepared, tuple(runs))
                found = Comparison(course, (*done, field))
                keep(found)
    return found


def _round(fleet: Race, course: Course, out: set[str]) -> Iterator[Figure]:
    """Run each tool once, with trouble twice; who cannot run, or was cut off, is out from then on."""
    fleet.change()
    yield fleet.floor()
    yield from _each(fleet, course, out, "")
    if course.scenario.trouble:
        fleet.change()
        with fleet.trouble():
            yield from _each(fleet, course, out, TROUBLE)


def _each(fleet: Race, course: Course, out: set[str], suffix: str) -> Iterator[Figure]:
    for place, tool in enumerate(course.tools()):
        if place == len(course.transports) and not suffix:
            yield fleet.floor()  # once more, as machines are not always equally busy
        if tool in out:
            continue
        found = fleet.measure(tool)
        if found.extrapolated or not found.ran:
            out.add(tool)
        yield replace(found, step=tool + suffix)


def _said(figures: Iterator[Figure], where: str, say: Callable[[str], None]) -> Iterator[Figure]:
    for figure in figures:
        told = f"{figure.seconds:.1f} s, {len(figure.lost)} lost" if figure.ran else "not run"
        say(f"{where}: {figure.step} {told}{': ' * bool(figure.note)}{figure.note}")
        yield figure


def bench(
    rig: Callable[[], AbstractContextManager[Rig]], hosts: int, files: int, runs: int, say: Callable[[str], None]
) -> Bench:
    """Measure so many runs, each on a fleet of its own."""
    if files < 1 or runs < 1:
        raise UsageError(f"--files {files} --runs {runs}: at least one of each")
    done = []
    for number in range(1, runs + 1):
        with rig() as fleet:
            figures = []
            for figure in _steps(fleet, files):
                say(f"run {number}: {figure.step} {figure.seconds:.1f} s, {len(figure.lost)} lost")
                figures.append(figure)
        done.append(tuple(figures))
    return Bench(hosts, files, tuple(done))


def _steps(fleet: Rig, files: int) -> Iterator[Figure]:
    yield fleet.floor()
    yield fleet.fab("setup", ["setup"])
    yield fleet.fab("first deploy", ["deploy"], fleet.commit(files))
    versions = []
    for number in range(1, HOTFIXES + 1):
        versions.append(fleet.commit(1))
        if number == HOTFIXES:
            yield fleet.floor()  # once more, as machines are not always equally busy
        yield fleet.fab(f"hotfix {number}", ["deploy"], versions[-1])
    yield fleet.fab("rollback", ["rollback"], versions[-2])
