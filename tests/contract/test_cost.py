"""What a hotfix costs is measured on the very agent."""

from __future__ import annotations

from tasks.remote.cost import measure


def test_every_phase_of_a_hotfix_is_measured_and_no_more_than_all_of_it() -> None:
    rows = {row.phase: row for row in measure(files=20, runs=1)}
    phases = ["start", "probe", "fetch", "stage", "arm", "flip", "confirm", "prune", "end"]
    assert list(rows) == [*phases, "in all"]
    assert rows["fetch"].children > 0
    assert rows["start"].own > 0
    assert rows["stage"].clock > 0
    assert sum(rows[phase].own for phase in phases) <= rows["in all"].own + 0.001
