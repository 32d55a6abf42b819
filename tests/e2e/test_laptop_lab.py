"""A laptop that has no files deploys those of server-1: what crosses its line, what stands where, who is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_operator import HOME, Operator, open_server, small_site
from real_site import Site

from tasks.remote.lab import Lab

SIZE = 6 << 20
TABLES: dict[str, dict[str, Any]] = {"groups": {"web": {"hosts": ["web-[01-02]"]}}}


SLACK = 40
"""Bytes; the draft of a release commit says when it was made, and so packs a little differently."""


def what_and_how(group: dict[str, Any]) -> list[Any]:
    """Return what a plan says of one group of hosts, but for bytes."""
    ways = [(way["by"], way["hosts"]) for way in group["ways"]]
    return [*(group[key] for key in ("live", "hosts", "commits", "files", "pruned")), ways]


class Laptop(Operator):
    """Whoever sits at the laptop."""

    def carried(self) -> int:
        """Return the bytes that crossed the laptop's link so far, both ways."""
        lines = Path(f"/proc/{self.lab.first('laptop')}/net/dev").read_text().splitlines()[2:]
        counts = [line.split(":")[1].split() for line in lines if line.split(":")[0].strip() != "lo"]
        return sum(int(each[0]) + int(each[8]) for each in counts)

    def tags(self) -> set[str]:
        """Return the tags of the files' repository."""
        return set(self.lab.run("server-1", ["git", "-C", "/srv/www", "tag"]).stdout.split())


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=2, laptop=True) as machines:
        open_server(machines)
        yield machines


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return small_site(lab, "/srv/www", {"index.html": b"first\n", "big.bin": os.urandom(SIZE)})


@pytest.fixture(scope="module")
def laptop(lab: Lab, site: Site) -> Laptop:
    found = Laptop(lab, machine="laptop", **TABLES)
    found.fab("setup")
    before = found.carried()
    first = found.deploy()
    assert found.carried() - before < SIZE / 6
    assert first.json["notes"] == []
    return found


def test_the_first_release_goes_past_the_laptop_and_its_tag_stands_on_server_1(laptop: Laptop, site: Site) -> None:
    laptop.assert_serves(site.files_at(site.commits[-1]))
    name = next(iter(laptop.live().values()))
    assert laptop.tags() == {f"release/{name}"}
    for mirror in laptop.lab.mirrors:
        assert {f"refs/tags/release/{name}", f"refs/skein/releases/prod/{name}"} <= laptop.refs(mirror)
    assert list(laptop.lab.path("laptop", HOME).rglob("repositories")) == []


def test_a_hotfix_rides_on_the_sessions(laptop: Laptop, site: Site) -> None:
    commit = site.change({"index.html": b"second\n"})
    before = laptop.carried()
    run = laptop.deploy()
    assert laptop.carried() - before < SIZE / 6
    assert run.json["files"] == {"added": 0, "changed": 1, "removed": 0}
    laptop.assert_serves(site.files_at(commit))
    assert f"release/{run.release}" in laptop.tags()


def test_a_deploy_on_server_1_goes_on_where_the_laptop_ended(laptop: Laptop, site: Site) -> None:
    there = Operator(laptop.lab, **TABLES)
    commit = site.change({"index.html": b"third\n"})
    run = there.deploy("--reason", "from here")
    site.change({"index.html": b"fourth\n"})
    after = laptop.deploy()
    numbers = [int(each.release.split("-")[1]) for each in (run, after)]
    assert numbers[1] == numbers[0] + 1
    parents = laptop.git("mirror-1", "log", "--format=%s", f"refs/skein/releases/prod/{after.release}")
    assert parents.splitlines()[:2] == [f"Release {after.release}", f"Release {run.release}"]
    laptop.rollback()
    laptop.assert_serves(site.files_at(commit))


def test_files_that_are_not_committed_on_server_1_are_named(laptop: Laptop, site: Site) -> None:
    live, tags = laptop.live(), laptop.tags()
    (site.folder / "index.html").write_bytes(b"half done\n")
    (site.folder / "new.html").write_bytes(b"new\n")
    try:
        said = laptop.fab("deploy", code=3).said
        assert "server-1:/srv/www has files that are not committed: index.html new.html" in said
    finally:
        site.git("checkout", "--quiet", "index.html")
        (site.folder / "new.html").unlink()
    assert "run it on server-1" in laptop.fab("deploy", "--snapshot", code=2).said
    assert "no branch, tag or commit nowhere" in laptop.fab("deploy", "--ref", "nowhere", code=3).said
    assert (laptop.live(), laptop.tags()) == (live, tags)


def test_without_a_key_for_the_mirrors_on_server_1_all_goes_over_the_laptop_s_line_and_it_says_so(
    laptop: Laptop, site: Site
) -> None:
    key = laptop.lab.path("server-1", f"{HOME}/.ssh/id_ed25519")
    kept = key.rename(key.with_name("kept"))
    commit = site.change({"other.bin": os.urandom(SIZE)})
    before = laptop.carried()
    try:
        checked = laptop.fab("check", "--json", code=6).json["here"]
        run = laptop.deploy()
    finally:
        kept.rename(key)
    told = {each["what"]: each["message"] for each in checked if not each["ok"]}
    assert {*told} == {f"push to {mirror}" for mirror in laptop.lab.mirrors}
    assert all("server-1 cannot log in there" in message for message in told.values())
    assert laptop.carried() - before > SIZE
    told = [note for note in run.json["notes"] if "cannot log in at mirror" in note]
    assert [mirror for mirror in laptop.lab.mirrors if any(f"mirror {mirror}," in note for note in told)] == (
        laptop.lab.mirrors
    )
    laptop.assert_serves(site.files_at(commit))
    assert f"refs/tags/release/{run.release}" in laptop.refs("mirror-2")


def test_check_says_that_server_1_can_push_to_each_mirror(laptop: Laptop) -> None:
    found = {each["what"]: each["ok"] for each in laptop.fab("check", "--json").json["here"]}
    assert all(found[f"push to {mirror}"] for mirror in laptop.lab.mirrors)
    there = Operator(laptop.lab, **TABLES).fab("check", "--json").json["here"]
    assert not any("push" in each["what"] for each in there)


def test_a_plan_on_the_laptop_is_that_of_server_1_and_the_deploy_does_just_that(laptop: Laptop, site: Site) -> None:
    commit = site.change({"index.html": b"planned\n", "more/new.html": b"new\n"}, "planned")
    refs = {mirror: laptop.refs(mirror) for mirror in laptop.lab.mirrors}
    live, tags = laptop.live(), laptop.tags()
    plans = [each.deploy("--plan").json for each in (Operator(laptop.lab, **TABLES), laptop)]
    same = ("headline", "release", "turn", "failed", "limits", "next")
    told = [[*(plan[key] for key in same), *map(what_and_how, plan["groups"])] for plan in plans]
    assert told[0] == told[1]
    assert abs(plans[0]["bytes"] - plans[1]["bytes"]) < SLACK
    assert (laptop.live(), laptop.tags()) == (live, tags)
    assert {mirror: laptop.refs(mirror) for mirror in laptop.lab.mirrors} == refs
    run = laptop.deploy()
    counts = [group["files"]["counts"] for group in plans[1]["groups"]]
    assert all(count == run.json["files"] for count in counts)
    assert int(run.release.split("-")[1]) == plans[1]["release"]["number"]
    laptop.assert_serves(site.files_at(commit))


def test_with_server_1_away_nothing_is_released_and_all_else_works(laptop: Laptop) -> None:
    live = laptop.live()
    laptop.lab.cut("server-1")
    try:
        assert "source server-1:/srv/www: server-1" in laptop.fab("deploy", code=3).said
        assert laptop.live() == live
        for command in ("status", "log", "releases"):
            laptop.fab(command, "--json", program="invoke")
        laptop.rollback()
    finally:
        laptop.lab.mend("server-1")
    assert laptop.live() != live
