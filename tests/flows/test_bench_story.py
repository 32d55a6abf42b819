"""`bench`: which steps are measured, in which order, and against which version hosts are hashed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tasks.core.errors import UsageError
from tasks.core.figures import Figure
from tasks.flows.bench import bench


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
