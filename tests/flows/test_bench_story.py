"""`bench`: which steps are measured, in which order, and against which version hosts are hashed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tasks.core.errors import UsageError
from tasks.core.figures import FLOOR, Figure
from tasks.core.scenarios import SCENARIOS, Course
from tasks.flows.bench import bench, compare


class FakeRig:
    """A fleet on which every step takes a second."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.versions = 0

    def floor(self) -> Figure:
        return self._step("floor")

    def commit(self, files: int) -> int:
        self.versions += 1
        self.done.append(f"write {files}")
        return self.versions

    def fab(self, step: str, argv: Sequence[str], version: int | None = None) -> Figure:
        return self._step(f"{' '.join(argv)} -> {version}")

    def _step(self, name: str) -> Figure:
        self.done.append(name)
        return Figure(name, 1.0, 0, 0, 0)


class FakeRace:
    """A fleet on which one carrier cannot be prepared and one tool is cut off."""

    payload, goodput, rate = 1000, 100.0, "1kbit"

    def __init__(self, hosts: int) -> None:
        self.hosts = hosts
        self.done: list[str] = []

    def prepare(self) -> Iterator[Figure]:
        yield Figure("skein inline: setup", 1.0, 0, 0, 0)
        yield Figure("skein swarm", 0, 0, 0, 0, ran=False, note="no")

    def change(self) -> None:
        self.done.append("change")

    def floor(self) -> Figure:
        self.done.append("floor")
        return Figure(FLOOR, 1.0, 0, 0, 0)

    def measure(self, tool: str) -> Figure:
        self.done.append(tool)
        return replace(Figure(tool, 2.0, 0, 0, 0), extrapolated=tool == "slow")

    @contextmanager
    def trouble(self) -> Iterator[None]:
        self.done.append("trouble")
        yield
        self.done.append("mended")


def course(name: str, runs: int = 2, hosts: tuple[int, ...] = (2, 4)) -> Course:
    return Course(SCENARIOS[name], hosts, runs, ("swarm", "inline"), ("slow", "rsync"))


def raced(asked: Course) -> list[list[str]]:
    races: list[FakeRace] = []

    @contextmanager
    def race(hosts: int) -> Iterator[FakeRace]:
        races.append(FakeRace(hosts))
        yield races[-1]

    kept: list[int] = []
    found = compare(race, asked, lambda line: None, lambda so_far: kept.append(len(so_far.fields[-1].runs)))
    assert kept == [*range(1, asked.runs + 1)] * len(asked.hosts)
    assert [field.hosts for field in found.fields] == [each.hosts for each in races] == list(asked.hosts)
    return [each.done for each in races]


def test_every_run_has_a_fleet_of_its_own_and_takes_all_steps() -> None:
    fleets: list[FakeRig] = []
    said: list[str] = []

    @contextmanager
    def rig() -> Iterator[FakeRig]:
        fleets.append(FakeRig())
        yield fleets[-1]

    found = bench(rig, 3, 500, 2, said.append)
    hotfixes = ["write 1", "deploy -> 2", "write 1", "deploy -> 3", "write 1", "floor", "deploy -> 4"]
    steps = ["floor", "setup -> None", "write 500", "deploy -> 1", *hotfixes, "rollback -> 3"]
    assert [fleet.done for fleet in fleets] == [steps] * 2
    assert (found.hosts, found.files, [len(run) for run in found.runs], len(said)) == (3, 500, [8, 8], 16)


@pytest.mark.parametrize(("files", "runs"), [(0, 1), (1, 0)])
def test_nothing_to_measure_is_refused_before_a_fleet_is_made(files: int, runs: int) -> None:
    with pytest.raises(UsageError, match="at least one of each"):
        bench(pytest.fail, 3, files, runs, print)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one"):
        compare(pytest.fail, course("hotfix", runs=0), print)  # type: ignore[arg-type]


def test_each_round_runs_every_tool_and_who_cannot_or_was_cut_off_is_out() -> None:
    first = ["change", "floor", "skein inline", "floor", "slow", "rsync"]
    then = ["change", "floor", "skein inline", "floor", "rsync"]
    assert raced(course("hotfix")) == [first + then] * 2


def test_trouble_comes_after_the_same_without_it() -> None:
    healthy = ["change", "floor", "skein inline", "floor", "slow", "rsync"]
    troubled = ["change", "trouble", "skein inline", "rsync", "mended"]
    assert raced(course("trouble", runs=1, hosts=(3,))) == [healthy + troubled]
