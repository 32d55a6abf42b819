"""What is told of a comparison: medians against the floor of the same run, exponents, and what is not as it should."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tasks.core import plot, scenarios
from tasks.core.comparison import HEADERS, TROUBLE, Comparison, Field
from tasks.core.errors import UsageError
from tasks.core.figures import FLOOR, Figure
from tasks.core.scenarios import SCENARIOS, Course

BASE = Figure(FLOOR, 2.0, 4e3, 3e3, 0.5, source_sent=1e4, target_cpu_s=0.02)
OURS = replace(
    BASE,
    step="skein git",
    seconds=4.0,
    source_sent=2e6,
    live_s=3.0,
    data_s=1.5,
    tail=1.1,
    memory=70_000_000,
    received=1.03e6,
    control=1e4,
)
OTHER = replace(OURS, step="rsync", seconds=40.0, memory=None)
COLD = Course(SCENARIOS["cold"], (10, 100), 3, ("git",), ("rsync", "clush"))


def field(hosts: int, *runs: tuple[Figure, ...], prepared: tuple[Figure, ...] = ()) -> Field:
    return Field(hosts, 1_000_000, "10mbit", 1e6, prepared, runs)


def cells(found: Comparison, tool: str, at: int = 0) -> dict[str, str]:
    rows = [row for row in found.rows() if row[1] == tool]
    return dict(zip(HEADERS, rows[at], strict=True))


def test_each_tool_s_medians_are_told_against_the_floor_of_the_same_run() -> None:
    slow = (replace(BASE, seconds=8.0), replace(OURS, seconds=8.0, data_s=2.5))
    found = Comparison(COLD, (field(10, (BASE, OURS, replace(BASE, seconds=1.0)), slow, (BASE, OURS)),))
    told = cells(found, "skein git")
    assert (told["s"], told["spread"], told["ratio"]) == ("4.0", "4.0-8.0", "2.00")
    assert (told["data s"], told["of S/B"], told["egress/S"], told["lost"]) == ("1.5", "1.50", "2.00", "0")
    assert told["payload/S"] == "1.020"
    assert (told["ms source"], told["ms target"], told["MB"]) == ("50.0", "20.0", "70")


def test_an_extrapolated_time_is_marked_and_what_was_not_run_is_there_with_the_reason() -> None:
    cut = replace(OTHER, extrapolated=True, note="cut off after 9 s")
    absent = Figure("clush", 0, 0, 0, 0, ran=False, note="no clush")
    found = Comparison(COLD, (field(10, (BASE, OURS, cut, absent)),))
    assert (cells(found, "rsync")["s"], cells(found, "clush")["s"]) == ("~40.0", "not run")
    assert (cells(found, "rsync")["kB in"], cells(found, "rsync")["ms source"]) == ("", "")
    assert "10 hosts, run 1: rsync: cut off after 9 s" in found.lines()
    assert "10 hosts, run 1: clush: not run: no clush" in found.lines()


def test_a_host_that_a_peer_loses_is_told_and_one_that_skein_loses_is_an_exit_code_too() -> None:
    peer = Comparison(COLD, (field(10, (BASE, OURS, replace(OTHER, lost=("web-1",)))),))
    ours = Comparison(COLD, (field(10, (BASE, replace(OURS, lost=("web-1",)))),))
    assert (peer.lost, peer.exit_code, ours.exit_code) == (1, 0, 6)
    assert "10 hosts, run 1: rsync: lost 1: web-1" in peer.lines()


def test_what_trouble_cost_the_good_hosts_is_a_ratio() -> None:
    troubled = replace(OURS, step=f"skein git{TROUBLE}", live_s=6.0)
    found = Comparison(replace(COLD, scenario=SCENARIOS["trouble"]), (field(10, (BASE, OURS, troubled)),))
    assert "10 hosts, skein git, trouble: last good host live after 2.00 times as long as without" in found.lines()


def series() -> Comparison:
    later = (BASE, replace(OURS, seconds=4.0), replace(OTHER, seconds=400.0, data_s=15.0))
    return Comparison(COLD, (field(10, (BASE, OURS, OTHER), prepared=(BASE,)), field(100, later)))


def test_a_series_tells_how_each_tool_grows() -> None:
    assert series().slopes()["rsync"] == pytest.approx({"s": 1.0, "data s": 1.0})
    assert series().slopes()["skein git"] == pytest.approx({"s": 0.0, "data s": 0.0}, abs=1e-9)
    assert "rsync grows: s with N^1.00, data s with N^1.00" in series().lines()


def test_the_document_has_every_figure_and_the_picture_every_tool() -> None:
    document = json.loads(json.dumps(series().as_json()))
    assert [fleet["runs"][0][1]["step"] for fleet in document["fleets"]] == ["skein git"] * 2
    assert document["fleets"][0]["limit_s"] == 1.0
    drawn = [node.text or "" for node in ET.fromstring(plot.svg(series())).iter() if node.tag.endswith("text")]  # noqa: S314
    for wanted in ("rsync ~ N^1.00", "skein git: data ~ N^0.00", "limit S/B", "sent by server-1 ÷ S", "seconds"):
        assert wanted in drawn


def test_a_picture_of_one_fleet_without_a_limit_is_drawn_too() -> None:
    alone = Field(2, 100, None, None, (), ((BASE, replace(OURS, data_s=None)),))
    assert ET.fromstring(plot.svg(Comparison(replace(COLD, hosts=(2,)), (alone,)))) is not None  # noqa: S314


@pytest.mark.parametrize(("hosts", "rate"), [(3, "10mbit"), (30, "10mbit"), (31, "4mbit"), (300, "4mbit")])
def test_links_are_so_slow_that_the_network_is_the_limit(hosts: int, rate: str) -> None:
    assert SCENARIOS["cold"].rate(hosts) == rate
    assert SCENARIOS["cold"].sized(None, None, "1mbit").rate(hosts) == "1mbit"
    assert SCENARIOS["hotfix"].rate(hosts) is None


@pytest.mark.parametrize(("hosts", "wanted"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (40, (32, 6, 2)), (100, (80, 15, 5))])
def test_mixed_bases_leave_none_out(hosts: int, wanted: tuple[int, ...]) -> None:
    names = [f"web-{number}" for number in range(hosts)]
    parts = scenarios.bases(names)
    assert tuple(map(len, parts)) == wanted
    assert [name for part in parts for name in part] == names


def test_trouble_leaves_most_hosts_alone() -> None:
    names = [f"web-{number}" for number in range(40)]
    assert scenarios.troubled(names) == (names[-2:], names[0])


@pytest.mark.parametrize("text", ["", "0", "ten", "10,", "501", "-3", "10 30"])
def test_odd_numbers_of_hosts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--hosts"):
        scenarios.numbers(text)


def test_sizes_and_names_are_checked() -> None:
    assert scenarios.numbers("10,30") == (10, 30)
    twenty = SCENARIOS["cold"].sized(None, 20, None)
    assert (twenty.files * twenty.file_bytes, twenty.changed) == (pytest.approx(2e7, rel=0.01), twenty.files)
    with pytest.raises(UsageError, match="at least one"):
        SCENARIOS["hotfix"].sized(0, None, None)
    with pytest.raises(UsageError, match="story, hotfix"):
        scenarios.named("warmfix")
    with pytest.raises(UsageError, match="three at least"):
        scenarios.bases(["web-1", "web-2"])
