"""What is told of a benchmark's runs: medians, ratios to the floor of the same run, and every lost host."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks import _show
from tasks.core.figures import Bench, Figure, percentile, phase, slope

FLOOR = Figure("ssh HOST true", 2.0, 4e3, 3e3, 0.5)
DEPLOY = Figure("deploy", 3.0, 7.25e5, 1e4, 1.5, 66_000_000, 0.011)
SLOWER = replace(DEPLOY, seconds=9.0, memory=70_000_000, skew_s=0.031)
LOSING = replace(DEPLOY, seconds=5.0, skew_s=None, lost=("web-1", "web-2"))


def test_one_run_is_told_as_it_was() -> None:
    found = Bench(2, 10, ((FLOOR, DEPLOY),))
    assert found.rows() == [
        ("ssh HOST true", "2.0", "1.00", "4.0", "3.0", "", "0.5", "", "0"),
        ("deploy", "3.0", "1.50", "725.0", "10.0", "11", "1.5", "66", "0"),
    ]
    assert (found.exit_code, found.lines()) == (0, [])


def test_of_several_runs_the_medians_are_told_and_all_lost_hosts() -> None:
    slow_floor = replace(FLOOR, seconds=3.0)
    found = Bench(2, 10, ((FLOOR, DEPLOY), (slow_floor, SLOWER), (FLOOR, LOSING)))
    assert found.rows()[1] == ("deploy", "5.0", "2.50", "725.0", "10.0", "21", "1.5", "66", "2")
    assert (found.lost, found.exit_code) == (2, 6)
    assert found.lines() == ["run 3, deploy: lost web-1, web-2"]


def test_the_document_has_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_bench(Bench(2, 10, ((FLOOR, DEPLOY), (FLOOR, LOSING))), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["command"], document["exit_code"], document["lost"]) == (1, "bench", 6, 2)
    assert [[figure["seconds"] for figure in run] for run in document["runs"]] == [[2.0, 3.0], [2.0, 5.0]]


def test_the_table_ends_with_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_bench(Bench(2, 10, ((FLOOR, LOSING),)), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "step"
    assert lines[-2:] == ["run 1, deploy: lost web-1, web-2", "hosts 2, files 10, runs 1; hosts lost in all 2"]


TARGETS = ("web-1", "web-2")


def carried(*rows: tuple[float, int, int, int]) -> list[tuple[float, dict[str, int]]]:
    """Make samples of a mirror and two targets that had received 500 bytes before."""
    return [
        (row[0], {name: 500 + count for name, count in zip(("mirror", *TARGETS), row[1:], strict=True)}) for row in rows
    ]


def test_the_data_phase_begins_before_the_first_byte_to_a_mirror_and_ends_after_the_last_target_s_last() -> None:
    samples = carried(
        (0, 0, 0, 0), (1, 5, 5, 5), (2, 400, 5, 5), (4, 1000, 1000, 100), (7, 1000, 1040, 1040), (9, 1000, 1045, 1045)
    )
    found = phase(samples, TARGETS, 1000, 10.0, {})
    assert found is not None
    assert found[0] == pytest.approx(7 - 1 + 0.2)
    assert found[1] == pytest.approx(6 / 6)


def test_bytes_that_come_again_or_late_make_the_phase_longer_never_shorter() -> None:
    plain = carried((0, 0, 0, 0), (1, 1000, 1000, 1000), (2, 1000, 1000, 1000))
    again = carried((0, 0, 0, 0), (1, 1000, 1000, 1000), (2, 1000, 1000, 1300))
    assert (phase(plain, TARGETS, 1000, 0, {}) or (0,))[0] == 1
    assert (phase(again, TARGETS, 1000, 0, {}) or (0,))[0] == 2


def test_control_bytes_that_come_first_do_not_begin_the_phase() -> None:
    samples = carried((0, 0, 0, 0), (1, 300, 5, 5), (5, 305, 5, 5), (6, 800, 500, 500), (7, 1300, 1005, 1005))
    assert (phase(samples, TARGETS, 1000, 0, {"mirror": 300}) or (0,))[0] == 2
    assert (phase(samples, TARGETS, 1000, 0, {}) or (0,))[0] == 7


def test_a_target_that_never_got_the_payload_leaves_the_phase_unknown() -> None:
    assert phase(carried((0, 0, 0, 0), (1, 1000, 1000, 400)), TARGETS, 1000, 1, {}) is None


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 2), (0.99, 4), (0.25, 1)])
def test_a_percentile_is_one_of_the_values(share: float, wanted: float) -> None:
    assert percentile([4, 1, 3, 2], share) == wanted


def test_the_slope_is_the_exponent_of_growth() -> None:
    assert slope([(10, 3), (30, 9), (100, 30)]) == pytest.approx(1)
    assert slope([(10, 3), (100, 3)]) == pytest.approx(0)
    assert slope([(10, 3)]) is None
