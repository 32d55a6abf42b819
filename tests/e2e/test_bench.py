"""The benchmark measures what it says and notices a host that does not serve what it should; no figure is a test's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from source_reading import ROOT, imports

from tasks.core.comparison import Comparison
from tasks.core.errors import LabError
from tasks.core.figures import FLOOR
from tasks.core.scenarios import SCENARIOS, Course
from tasks.flows.bench import compare
from tasks.remote.bench import peers, race, rig, skein
from tasks.remote.bench.site import CHECKER

SMALL = SCENARIOS["hotfix"].sized(12, None, "10mbit")
RACE = Course(SMALL, (2,), 1, ("inline", "nfs"), ("rsync", "git", "forgetful", "endless", "absent"), patience_s=20)


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    used = {found.top for found in imports([ROOT / CHECKER]) if not found.typing_only}
    assert used <= sys.stdlib_module_names


@pytest.mark.usefixtures("able")
def test_each_step_is_measured_and_a_damaged_file_makes_its_host_a_lost_one(tmp_path: Path) -> None:
    left, other = tmp_path / "skein-lab-1-0", tmp_path / "skein-lab-1-gone"
    for each in (left, other):
        each.mkdir()
    with rig.open_rig(tmp_path, 2) as fleet:
        (own,) = tmp_path.iterdir()
        floor = fleet.floor()
        assert floor.lost == ()
        assert floor.received > 1000
        setup = fleet.fab("setup", ["setup"])
        assert (setup.lost, setup.skew_s) == ((), None)
        first = fleet.commit(20)
        deploy = fleet.fab("first", ["deploy"], first)
        assert deploy.lost == ()
        assert deploy.received > 20 * rig.FILE_BYTES / 2
        assert deploy.skew_s is not None
        assert deploy.cpu_s > 0
        assert fleet.fab("hotfix", ["deploy"], fleet.commit(1)).lost == ()
        assert fleet.fab("rollback", ["rollback"], first).lost == ()
        (own / "machines/web-02/srv/app/current/index.html").write_text("x")
        with pytest.raises(LabError, match=r"again: .*no-such"):
            fleet.fab("again", ["rollback", "--to", "no-such"])
        assert fleet.wrong(first).keys() == {"web-02"}
    assert list(tmp_path.iterdir()) == []


def test_a_lab_that_cannot_be_had_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.spaces, "missing", lambda: ["root"])
    with pytest.raises(LabError, match="no lab for want of root"), rig.open_rig(tmp_path / "bench", 2):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []


def test_a_deploy_that_went_another_way_than_asked_is_told_as_that() -> None:
    document = {"carried": [{"by": "inline", "hosts": 3}, {"by": "git", "hosts": 1}]}
    assert skein.carried(document, "swarm") == "carried to 3 by inline, 1 by git"
    assert skein.carried({"carried": document["carried"][:1]}, "inline") == ""


@pytest.fixture(scope="module")
def compared(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """Run Skein, two tools, and three that fail: one leaves a file out, one never ends, one is not there."""
    rsync = peers.PEERS["rsync"]
    odd = {
        "forgetful": replace(rsync, each=rsync.each.replace("--delete", "--exclude=00.html")),
        "endless": peers.Peer({}, before="sleep 600"),
        "absent": peers.Peer({"no-such-program": "no-such-package"}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "PEERS", {**peers.PEERS, **odd})
        yield compare(partial(race.open_race, tmp_path_factory.mktemp("race"), RACE), RACE, print)


def test_every_tool_brings_the_same_change_and_is_checked_by_every_file_s_hash(compared: Comparison) -> None:
    (field,) = compared.fields
    figures = {tool: found[-1][0] for tool, found in field.by_tool().items()}
    assert field.payload > 3 * SMALL.file_bytes / 2
    for tool in (FLOOR, "skein inline", "rsync", "git"):
        assert (figures[tool].lost, figures[tool].ran, figures[tool].note) == ((), True, "")
    for tool in ("skein inline", "rsync", "git"):
        assert figures[tool].received > field.payload
        assert 0 < (figures[tool].live_s or 0) < figures[tool].seconds
    assert figures["skein inline"].memory
    assert figures["skein inline"].target_cpu_s


def test_a_tool_that_leaves_a_file_out_is_told_with_the_hosts_that_it_lost(compared: Comparison) -> None:
    assert [row[-1] for row in compared.rows() if row[1] == "forgetful"] == ["2"]
    assert any("forgetful: lost 2: web-01, web-02" in line for line in compared.lines())


def test_a_tool_that_outlives_the_patience_is_told_as_extrapolated(compared: Comparison) -> None:
    (row,) = [row for row in compared.rows() if row[1] == "endless"]
    assert row[2].startswith("~")
    assert any("endless: cut off after 20 s" in line for line in compared.lines())


def test_what_cannot_run_is_named_with_the_reason(compared: Comparison) -> None:
    assert {row[1]: row[2] for row in compared.rows() if row[2] == "not run"} == {
        "skein nfs": "not run",
        "absent": "not run",
    }
    assert any("absent: not run: no no-such-package" in line for line in compared.lines())
    assert any("skein nfs: not run: " in line and "transport.kind" in line for line in compared.lines())


def test_the_link_s_goodput_is_measured_below_its_rate(compared: Comparison) -> None:
    (field,) = compared.fields
    assert field.rate == "10mbit"
    assert 0.5e6 < (field.goodput or 0) * 8 < 10e6
