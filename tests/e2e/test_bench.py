"""The benchmark measures what it says and notices a host that does not serve what it should; no figure is a test's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from source_reading import ROOT, imports

from tasks.core.errors import LabError
from tasks.remote.lab import rig


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    used = {found.top for found in imports([ROOT / rig.CHECKER]) if not found.typing_only}
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
        assert fleet.wrong(first) == {"web-02"}
    assert list(tmp_path.iterdir()) == []


def test_a_lab_that_cannot_be_had_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.spaces, "missing", lambda: ["root"])
    with pytest.raises(LabError, match="no lab for want of root"), rig.open_rig(tmp_path / "bench", 2):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []
