"""`bench`: the main job, timed against the least that the same hosts take to answer at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ..core.errors import UsageError
from ..core.figures import Bench, Figure

HOTFIXES = 3
"""The third is what every later one costs: from then on there is a release that prune took away to make it of."""


class Rig(Protocol):
    """A fleet that is up and does nothing else: see ``remote.lab.rig.Rig``."""

    def floor(self) -> Figure:
        """Log in at every target and do nothing there."""

    def commit(self, files: int) -> int:
        """Write so many files of the site anew, commit them, and return the version's number."""

    def fab(self, step: str, argv: Sequence[str], version: int | None = None) -> Figure:
        """Run a command as the operator; hosts that then serve anything but the version count as lost."""


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
