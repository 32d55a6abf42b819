"""What options and settings promise, on three real hosts with a small site."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from invariants import Manifest, read_tree
from lab_operator import Operator, small_fleet

from tasks.remote.lab import Lab

BREAKS = ["sh", "-c", "test ! -e /srv/broken || { echo the cache is stuck >&2; exit 7; }"]


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets, which are enough here."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


def numbers(operator: Operator, host: str) -> list[int]:
    """Return the numbers of the releases that stand on a host."""
    return sorted(int(name.split("-")[1]) for name in os.listdir(operator.path(host, "releases")))


def test_only_some_are_deployed_to_and_the_next_run_touches_the_others_alone(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    assert operator.deploy("--only", "us").states == {"web-03": "live"}
    assert operator.deploy("--only", "web-01,!us").states == {"web-01": "live"}
    assert not operator.path("web-02").exists()
    run = operator.deploy()
    assert run.states == {"web-01": "already live", "web-02": "live", "web-03": "already live"}
    operator.assert_serves(site.files_at(site.commits[0]))
    assert numbers(operator, "web-02") == [1]


def test_a_host_that_was_off_gets_the_release_by_the_next_deploy(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"fail_limit": "40%"}, ssh={"connect_timeout": 3})
    operator.deploy()
    site.change({"index.html": b"second\n"})
    lab.power_off("web-02")
    try:
        run = operator.deploy(code=12)
        assert run.states == {"web-01": "live", "web-02": "unreachable", "web-03": "live"}
        assert list(operator.status(code=6).reasons) == ["web-02"]
    finally:
        lab.power_on("web-02")
    assert "behind" in operator.status(code=6).reasons["web-02"]
    again = operator.deploy()
    assert again.states == {"web-01": "already live", "web-02": "live", "web-03": "already live"}
    assert again.release == run.release
    operator.assert_serves(site.files_at(site.commits[1]))
    operator.status()


def test_a_healthy_fleet_is_checked_and_nothing_is_left_behind(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    private = [lab.path(host, folder) for host in operator.hosts for folder in ("/srv", "/home", "/root", "/tmp")]
    before = [sorted(folder.rglob("*")) for folder in private]
    report = operator.fab("check", "--json").json
    assert [target["host"] for target in report["targets"]] == operator.hosts
    assert all(finding["ok"] for target in report["targets"] for finding in target["findings"])
    assert "ready to deploy" in operator.fab("check").said
    operator.status()
    assert [sorted(folder.rglob("*")) for folder in private] == before
    assert not operator.path("web-01").exists()


def test_the_link_can_stand_elsewhere(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"link": "/srv/www"})
    first = operator.deploy().release
    assert lab.path("web-01", "/srv/www").readlink() == Path("/srv/app/releases", first)
    assert not operator.path("web-01", "current").exists()
    site.change({"index.html": b"second\n"})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]))
    operator.rollback()
    operator.assert_serves(site.files_at(site.commits[0]))


def test_shared_paths_outlive_releases(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"linked_dirs": ["storage/files"], "linked_files": ["conf/.env"]})
    operator.fab("setup")
    for host in operator.hosts:
        operator.path(host, "shared/conf").mkdir()
        operator.path(host, "shared/conf/.env").write_text(host)
    operator.deploy()
    operator.path("web-02", "current/storage/files/upload").write_text("kept")
    site.change({"index.html": b"second\n"})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]), shared=[b"storage/files", b"conf/.env"])
    assert operator.path("web-02", "current/storage/files/upload").read_text() == "kept"
    assert operator.path("web-03", "current/conf/.env").read_text() == "web-03"
    operator.status()


def test_after_flip_runs_in_the_live_release(lab: Lab) -> None:
    command = ["sh", "-c", 'echo "$SKEIN_ENVIRONMENT $SKEIN_RELEASE $(cat index.html)" >/srv/flipped']
    operator, _ = small_fleet(lab, targets={"after_flip": command})
    run = operator.deploy()
    told = {lab.path(host, "/srv/flipped").read_text() for host in operator.hosts}
    assert told == {f"{operator.environment} {run.release} first\n"}


def test_a_host_whose_after_flip_fails_is_put_back(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"after_flip": BREAKS, "fail_limit": 1})
    first = operator.deploy().release
    site.change({"index.html": b"second\n"})
    lab.path("web-02", "/srv/broken").touch()
    run = operator.deploy(code=12)
    assert list(run.reasons) == ["web-02"]
    assert "the cache is stuck" in run.reasons["web-02"]
    assert operator.live() == {"web-01": run.release, "web-02": first, "web-03": run.release}
    contents = {"old": site.files_at(site.commits[0]), "new": site.files_at(site.commits[1])}
    assert list(operator.assert_serves(contents).values()) == ["new", "old", "new"]
    lab.path("web-02", "/srv/broken").unlink()
    assert operator.deploy().states == {"web-01": "already live", "web-02": "live", "web-03": "already live"}


def test_a_fleet_whose_after_flip_fails_is_put_back_and_that_release_never_counts(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"after_flip": BREAKS, "keep": 2})
    lab.path("web-01", "/srv/broken").touch()
    assert "put back" in operator.deploy(code=10).said
    assert set(operator.live().values()) == {None}
    for number in range(2, 6):
        site.change({"index.html": b"%d\n" % number})
        if number == 4:
            lab.path("web-01", "/srv/broken").touch()
            operator.deploy(code=10)
            operator.assert_serves(site.files_at(site.commits[-2]))
        lab.path("web-01", "/srv/broken").unlink(missing_ok=True)
        run = operator.deploy("--reason", f"number {number}")
        operator.assert_serves(site.files_at(site.commits[-1]))
    assert run.release.split("-")[1] == "0005"
    assert [numbers(operator, host) for host in operator.hosts] == [[4, 5]] * 3
    assert operator.rollback().release.split("-")[1] == "0004"


def test_a_failed_deploy_costs_no_older_release(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"after_flip": BREAKS, "keep": 2})
    first = operator.deploy().release
    for number in range(3):
        site.change({"index.html": b"broken %d\n" % number})
        lab.path("web-01", "/srv/broken").touch()
        operator.deploy(code=10)
    lab.path("web-01", "/srv/broken").unlink()
    site.change({"index.html": b"good\n"})
    good = operator.deploy().release
    assert {path.name for path in operator.path("web-02", "releases").iterdir()} == {first, good}


def test_a_snapshot_is_what_is_on_disk_and_leaves_the_work_tree_alone(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    (site.folder / ".gitignore").write_text("*.log\n")
    (site.folder / "debug.log").write_text("ignored by git\n")
    (site.folder / "index.html").write_text("not committed\n")
    (site.folder / "bin/run").chmod(0o644)
    (site.folder / "lib/code.php").rename(site.folder / "lib/other.php")
    (site.folder / "link").symlink_to("index.html")
    before = site.git("status", "--porcelain", "--ignored")
    run = operator.deploy("--snapshot")
    operator.assert_serves(read_work_tree(site.folder))
    assert site.git("status", "--porcelain", "--ignored") == before
    assert site.git("rev-parse", "HEAD").decode().strip() == site.commits[0]
    assert site.git("show", f"release/{run.release}:debug.log") == b"ignored by git\n"
    assert "nothing to do" in operator.deploy("--snapshot").json["headline"]


def read_work_tree(folder: Path) -> Manifest:
    """Read a work tree as the invariant checker wants it; git's own folder has empty ones, so it steps aside."""
    aside = folder.with_name(folder.name + ".git-aside")
    (folder / ".git").rename(aside)
    try:
        return read_tree(folder)
    finally:
        aside.rename(folder / ".git")


def test_a_plain_folder_is_released_by_snapshot(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    plain = lab.path("server-1", "/srv/plain")
    plain.mkdir()
    (plain / "index.html").write_text("no git here\n")
    operator.configure(groups={"eu": {"hosts": operator.hosts}}, source={"path": "/srv/plain"})
    assert "--snapshot" in operator.deploy(code=3).json["error"]
    operator.deploy("--snapshot")
    operator.assert_serves(read_tree(plain))
    (plain / "index.html").write_text("changed\n")
    operator.deploy("--snapshot")
    operator.assert_serves(read_tree(plain))
    assert [path.name for path in plain.iterdir()] == ["index.html"]


def test_a_folder_of_the_repository_can_be_all_that_is_released(lab: Lab) -> None:
    operator, site = small_fleet(
        lab, {"public/a/index.html": b"1\n", "private/key": b"2\n"}, source={"subdir": "public"}
    )
    operator.deploy()
    whole = site.files_at(site.commits[0])
    operator.assert_serves({b"a/index.html": whole[b"public/a/index.html"]})
    site.change({"private/key": b"3\n"})
    operator.deploy()
    operator.assert_serves({b"a/index.html": whole[b"public/a/index.html"]})


def test_targets_fetch_from_the_other_mirror_while_theirs_is_off(lab: Lab) -> None:
    operator, site = small_fleet(lab, ssh={"connect_timeout": 3})
    first = operator.deploy().release
    site.change({"index.html": b"second\n"})
    lab.power_off("mirror-2")
    try:
        began = time.monotonic()
        run = operator.deploy("--transport", "git")
        assert time.monotonic() - began < 60
    finally:
        lab.power_on("mirror-2")
    notes = [note for note in run.json["notes"] if "mirror-2" in note]
    assert any("web-03" in note for note in notes), "the target of mirror-2's zone passed it over and says so"
    assert len(notes) == 3, "one for the push, one for the fetches, one for the ledger"
    operator.assert_serves(site.files_at(site.commits[1]))
    site.change({"index.html": b"third\n"})
    third = operator.deploy()
    assert not third.json["notes"]
    chain = [f"refs/skein/releases/{operator.environment}/{name}" for name in (first, run.release, third.release)]
    assert set(chain) - {chain[1]} <= operator.refs("mirror-2")


def test_a_rollback_stages_again_where_the_release_is_missing_or_damaged(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    first = operator.deploy().release
    site.change({"index.html": b"second\n"})
    operator.deploy()
    shutil.rmtree(operator.path("web-01", f"releases/{first}"))
    operator.path("web-02", f"releases/{first}/index.html").write_text("FIRST\n")
    operator.wipe(["web-03"])
    assert operator.rollback().release == first
    operator.assert_serves(site.files_at(site.commits[0]))


def test_a_file_that_was_changed_on_a_host_is_drift(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    operator.deploy()
    operator.path("web-02", "current/lib/code.php").write_text("<?php hacked\n")
    operator.path("web-03", "current/lib/new.php").write_text("<?php\n")
    reasons = operator.status(code=6).reasons
    assert list(reasons) == ["web-02", "web-03"]
    assert "lib/code.php" in reasons["web-02"]
    assert "lib/new.php" in reasons["web-03"]


def test_who_and_why_stand_in_the_hosts_record(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    operator.deploy("--reason", "launch\nday \x1b[31mred", env={"SKEIN_OPERATOR": "ada"})
    for host in operator.hosts:
        record = json.loads(operator.path(host, ".skein/state.json").read_text())["history"][-1]
        assert record["by"] == "ada@server-1"
        assert record["reason"].startswith("launch")
        assert record["reason"].isprintable()
