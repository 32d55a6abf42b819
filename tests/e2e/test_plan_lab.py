"""A plan on real hosts: it changes nothing anywhere, and what follows is what it said, to the byte and the file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invariants import read_tree
from lab_operator import Operator, small_fleet
from real_site import Site

from tasks.remote.lab import Lab

SLACK = 40
"""Bytes; the release commit says when it was made, and so packs a little differently."""

Trace = dict[str, tuple[int, int, int, bytes]]


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> tuple[Operator, Site]:
    """Have two hosts serve the third release, one the second; what prune keeps is little."""
    operator, site = small_fleet(
        lab, targets={"keep": 1, "linked_dirs": ["storage"], "fail_limit": "34%"}, ssh={"connect_timeout": 3}
    )
    operator.deploy()
    site.change({"index.html": b"second\n"}, "second")
    operator.deploy()
    site.change({"index.html": b"third\n"}, "third")
    operator.deploy("--only", "eu")
    site.change(
        {"lib/new.php": b"<?php\n" * 50, "lib/code.php": b"<?php 2\n", "bin/run": None}, "fourth\x1b[2J\n\nbody"
    )
    return operator, site


def trace(operator: Operator, site: Site) -> Trace:
    """Return all that is on targets, mirrors and in the source: kind, time of change, inode and content.

    Without the time for the source's objects: git renews it where a snapshot has a file that is committed already.
    """
    found: Trace = {}
    inside = ("/srv", "/home", "/root", "/tmp", "/etc")
    folders = [operator.lab.path(name, path) for name in (*operator.hosts, *operator.lab.mirrors) for path in inside]
    for path in [each for folder in (*folders, site.folder) for each in sorted(folder.rglob("*"))]:
        about = path.lstat()
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        is_object = path.is_relative_to(site.folder / ".git/objects") and path.is_file()
        found[str(path)] = (about.st_mode, 0 if is_object else about.st_mtime_ns, about.st_ino, content)
    assert len(found) > 100
    return found


def planned(fleet: tuple[Operator, Site], *argv: str, command: str = "deploy") -> dict[str, Any]:
    """Plan, hold everything against what it was before, and return the document."""
    before = trace(*fleet)
    document = fleet[0].fab(command, "--plan", "--json", *argv).json
    assert trace(*fleet) == before
    return document


def standing(operator: Operator) -> dict[str, set[str]]:
    return {host: set(os.listdir(operator.path(host, "releases"))) for host in operator.hosts}


def by_host(document: dict[str, Any], what: str) -> dict[str, Any]:
    return {host: each for group in document["groups"] for each in group[what] for host in each["hosts"]}


def delta_size(operator: Operator, base: str, release: str) -> int:
    """Return the bytes of the delta between two releases, made of what the hub has."""
    repository = ("git", "-c", "safe.directory=*", f"--git-dir={operator.path('mirror-1')}")
    refs = [f"refs/skein/releases/{operator.environment}/{name}" for name in (base, release)]
    parse = subprocess.run([*repository, "rev-parse", *refs], capture_output=True, text=True, check=True)
    old, new = parse.stdout.split()
    wanted = f"--shallow {new}\n{new}\n--shallow {old}\n^{old}\n".encode()
    words = ("pack-objects", "-q", "--revs", "--thin", "--shallow", "--stdout")
    return len(subprocess.run([*repository, *words], input=wanted, capture_output=True, check=True).stdout)


def test_nothing_is_left_by_any_kind_of_plan(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    by_mirror = by_host(planned(fleet, "--transport", "git"), "ways")
    assert by_mirror["web-01"]["mirrors"] == ["mirror-1", "mirror-2"]
    assert by_mirror["web-03"]["mirrors"] == ["mirror-2", "mirror-1"]
    assert {way["is_estimate"] for way in by_mirror.values()} == {True}
    assert [group["hosts"] for group in planned(fleet, "--only", "us")["groups"]] == [["web-03"]]
    assert planned(fleet, "--ref", site.commits[2])["already_live"] == ["web-01", "web-02"]
    (site.folder / "index.html").write_text("not committed\n")
    try:
        assert planned(fleet, "--snapshot")["next"].endswith("--snapshot")
    finally:
        site.git("checkout", "--", "index.html")
    assert planned(fleet, command="rollback")["groups"][0]["ways"][0]["by"] == "there"
    said = operator.fab("deploy", "--plan").said
    assert "fourth\\x1b[2J" in said
    assert "nothing was changed next: fab deploy" in said


def test_the_deploy_that_follows_does_what_the_plan_said(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    plan = planned(fleet)
    lived, before = operator.live(), standing(operator)
    run = operator.deploy(*plan["next"].split()[2:])
    assert {each["live"]: each["hosts"] for each in plan["groups"]} == {
        lived["web-01"]: ["web-01", "web-02"],
        lived["web-03"]: ["web-03"],
    }
    assert set(run.states.values()) == {"live"}
    assert run.release.split("-")[1] == f"{plan['release']['number']:04d}"
    for host, way in by_host(plan, "ways").items():
        assert way["by"] == "inline"
        assert way["base"] == lived[host]
        assert abs(way["bytes"] - delta_size(operator, way["base"], run.release)) <= SLACK
    for group in plan["groups"]:
        old, new = (
            files(operator.path(group["hosts"][0], f"releases/{name}")) for name in (group["live"], run.release)
        )
        assert group["files"]["names"] == {
            "added": sorted(new.keys() - old.keys()),
            "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
            "removed": sorted(old.keys() - new.keys()),
        }
    pruned = {host: set(each["releases"]) for host, each in by_host(plan, "pruned").items()}
    gone = {host: before[host] - names for host, names in standing(operator).items()}
    assert {host: pruned.get(host, set()) for host in operator.hosts} == gone
    assert any(gone.values())
    decision = operator.fab("log", "--json").json["records"][1]
    assert (decision["kind"], decision["turn"]) == ("deploy", plan["turn"])
    commits = {
        group["live"]: (group["commits"]["ahead"], len(group["commits"]["subjects"])) for group in plan["groups"]
    }
    assert commits == {lived["web-01"]: (1, 1), lived["web-03"]: (2, 2)}
    operator.assert_serves(site.files_at(site.commits[-1]), shared=[b"storage"])
    assert "nothing to do" in planned(fleet)["headline"]


def files(release: Path) -> dict[str, Any]:
    return {os.fsdecode(path): entry for path, entry in read_tree(release).items() if path != b"storage"}


def test_a_host_that_cannot_be_asked_is_named_and_too_many_end_it_with_5(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    site.change({"index.html": b"fifth\n"}, "fifth")
    operator.lab.power_off("web-03")
    try:
        document = planned(fleet)
        assert [each["host"] for each in document["failed"]] == ["web-03"]
        assert document["limits"] == [{"group": None, "limit": "34%", "allowed": 1, "size": 3}]
        assert operator.deploy("--plan", "--fail-limit", "0", code=5).json["groups"] == []
    finally:
        operator.lab.power_on("web-03")
