"""Each of the long runs of tests/soak, made short; `invoke dev.soak` does them at their full size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contenders import contenders
from failures import disks, failures
from frozen import frozen
from invariants import read_tree
from kills import kills
from lab_operator import Operator
from looking import digest
from one_mirror import one_mirror
from source_reading import ROOT
from tally import Tally

from tasks.remote.lab import Lab

HOSTS = 6


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=HOSTS, laptop=True, small_disk=disks(HOSTS)) as machines:
        yield machines


@pytest.fixture
def tally(lab: Lab) -> Iterator[Tally]:
    """Give a run its counts, on hosts that know nothing, and hold at its end that nothing was wrong."""
    Operator(lab, "before").wipe()
    counts = Tally()
    yield counts
    assert counts.exit_code == 0, str(counts)


def test_four_hosts_fail_each_in_its_way_and_a_second_run_changes_those_alone(lab: Lab, tally: Tally) -> None:
    failures(lab, tally)


def test_an_operator_killed_at_any_moment_leaves_whole_releases_and_a_free_lock(lab: Lab, tally: Tally) -> None:
    kills(lab, tally, times=3)


def test_of_contenders_on_two_machines_one_wins_and_the_others_are_told(lab: Lab, tally: Tally) -> None:
    contenders(lab, tally, times=1, count=4)


def test_a_frozen_holder_that_was_overtaken_has_no_effect_when_he_wakes(lab: Lab, tally: Tally) -> None:
    frozen(lab, tally, points=("deploy.flipped",))


def test_a_laptop_with_one_mirror_shows_all_that_server_1_shows(lab: Lab, tally: Tally) -> None:
    one_mirror(lab, tally, times=1, most_s=60)


def test_the_watcher_tells_a_mixed_release_from_a_whole_one(tmp_path: Path) -> None:
    release = tmp_path / "host/releases/one"
    release.mkdir(parents=True)
    (tmp_path / "host/current").symlink_to("releases/one")
    (release / "page").write_text("whole")
    (tmp_path / "allowed").write_text(digest(read_tree(release)))
    argv = [sys.executable, str(ROOT / "tests/soak/watch.py"), str(tmp_path / "allowed"), str(tmp_path / "host")]
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/e2e'}"}
    for content, wrong in (("whole", False), ("mixed", True)):
        (release / "page").write_text(content)
        done = subprocess.run(argv, env=env, input="", capture_output=True, text=True, check=True, timeout=60)
        assert bool(json.loads(done.stdout.splitlines()[-1])["wrong"]) == wrong


def test_a_tally_that_looked_at_nothing_is_no_success() -> None:
    tally = Tally()
    assert tally.exit_code == 6
    tally.check("it is there", True)
    assert tally.exit_code == 0
    tally.check("it is there", False, "it is not")
    assert (tally.exit_code, tally.wrong["it is there"]) == (6, 1)
    assert "wrong: it is there: it is not" in str(tally)
