"""The main job on twelve real hosts and two mirrors, with a site of thousands of files: out, hotfix, and back."""

from __future__ import annotations

import os

import pytest
from invariants import Manifest
from lab_operator import Operator, Run
from real_site import Site, build_site

from tasks.remote.lab import Lab

HOTFIX: dict[str, bytes | None] = {
    "django/__init__.py": b"VERSION = (5, 2, 3, 'hotfix', 1)\n",
    "django/hotfix.py": b"fixed = True\n",
    "django/views/csrf.py": None,
}


class Story:
    """The fleet, and which files each release must have, by id."""

    def __init__(self, lab: Lab) -> None:
        self.server_tmp = lab.path("server-1", "/tmp")
        self.before = os.listdir(self.server_tmp)
        self.site: Site = build_site(lab.path("server-1", "/srv/www"))
        self.operator = Operator(lab, ssh={"connect_timeout": 5})
        self.releases: dict[str, Manifest] = {}

    def deploy(self, commit: str, *argv: str) -> Run:
        """Deploy to the whole fleet and note which files that release has."""
        run = self.operator.deploy(*argv)
        assert set(run.states.values()) == {"live"}
        self.releases[run.release] = self.site.files_at(commit)
        return run

    def assert_live(self, release: str) -> None:
        """Look at every byte that every host serves."""
        assert set(self.operator.live().values()) == {release}
        self.operator.assert_serves(self.releases[release])


@pytest.fixture(scope="module")
def story(lab: Lab) -> Story:
    return Story(lab)


def fingerprint(operator: Operator) -> dict[str, tuple[int, int]]:
    """Tell every file of both mirrors and of two hosts by size and time of its last change, but for signed locks."""
    roots = [operator.path(machine) for machine in ("mirror-1", "mirror-2", "web-01", "web-12")]
    paths = [path for root in roots for path in root.rglob("*") if not path.name.endswith("lock")]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths if not path.is_dir()}


def test_set_up_twice_changes_nothing_the_second_time(story: Story) -> None:
    operator = story.operator
    assert {each["release"] for each in operator.status().json["targets"]} == {None}
    made = operator.fab("setup", "--json").json
    assert all(mirror["changed"] for mirror in made["mirrors"].values())
    before = fingerprint(operator)
    again = operator.fab("setup", "--json").json
    assert [mirror["changed"] for mirror in again["mirrors"].values()] == [[], []]
    assert all(target["ready"] for target in again["targets"].values())
    assert fingerprint(operator) == before


def test_the_main_job_forth(story: Story) -> None:
    operator, site = story.operator, story.site
    first = story.deploy(site.commits[2]).release
    story.assert_live(first)
    assert int(operator.git("web-01", "rev-list", "--all", "--count")) == 1  # and nothing of the site's history
    hotfix = story.deploy(site.change(HOTFIX))
    assert hotfix.json["files"] == {"added": 1, "changed": 1, "removed": 1}
    story.assert_live(hotfix.release)
    old = story.deploy(site.commits[0], "--ref", site.commits[0]).release
    operator.assert_serves(story.releases[old], ["web-04"])
    known = objects(operator)
    site.git("checkout", "--quiet", site.commits[2], "--", "django")
    site.git("rm", "--quiet", "--force", "django/hotfix.py")
    back = story.deploy(site.commit("back to 5.2.3")).release
    assert objects(operator) == known + 1  # a revert moves its release commit and no file
    ids = [first, hotfix.release, old, back]
    assert ids == sorted(ids)
    assert [int(release.split("-")[1]) for release in ids] == [1, 2, 3, 4]
    assert story.releases[first] == story.releases[back]
    tags = {f"refs/tags/release/{release}" for release in ids}
    chain = {f"refs/skein/releases/prod/{release}" for release in ids}
    assert set(site.git("for-each-ref", "--format=%(refname)", "refs/tags").decode().split()) == tags
    refs = tags | chain | {"refs/skein/ledger/prod"}
    assert [operator.refs(mirror) for mirror in operator.lab.mirrors] == [refs] * 2


def objects(operator: Operator) -> int:
    """Count the objects in a target's repository."""
    return len(operator.git("web-07", "cat-file", "--batch-all-objects", "--batch-check").splitlines())


def test_where_all_is_live_already_there_is_nothing_to_do(story: Story) -> None:
    operator = story.operator
    before = fingerprint(operator)
    run = operator.deploy()
    assert "nothing to do" in run.json["headline"]
    assert set(run.states.values()) == {"already live"}
    assert fingerprint(operator) == before
    story.assert_live(run.release)
    assert run.release == list(story.releases)[-1]
    assert "nothing to do" in operator.fab("deploy").said


def test_rolling_back_twice_goes_two_back_and_not_forth(story: Story) -> None:
    ids = list(story.releases)
    for expected in (ids[2], ids[1]):
        run = story.operator.rollback("--reason", "the shop is slow")
        assert run.release == expected
        assert set(run.states.values()) == {"live"}
    story.assert_live(ids[1])
    status = story.operator.status()
    assert status.json["desired"] == ids[1]
    assert not status.reasons
    assert "web-[01-12]" in story.operator.fab("status").out


def test_a_rollback_needs_no_mirror(story: Story) -> None:
    operator, ids = story.operator, list(story.releases)
    for mirror in operator.lab.mirrors:
        operator.lab.power_off(mirror)
    try:
        run = operator.rollback("--to", ids[0])
        assert set(run.states.values()) == {"live"}
        story.assert_live(ids[0])
        assert "mirror-1" in operator.deploy(code=3).json["error"]
        assert set(operator.live().values()) == {ids[0]}
    finally:
        for mirror in operator.lab.mirrors:
            operator.lab.power_on(mirror)


def test_a_rollback_can_name_a_newer_release_too(story: Story) -> None:
    ids = list(story.releases)
    assert "nothing to roll back to" in story.operator.rollback(code=2).json["error"]
    assert story.operator.rollback("--to", ids[3]).release == ids[3]
    assert set(story.operator.live().values()) == {ids[3]}
    assert story.operator.rollback().release == ids[0]


def test_the_commands_leave_nothing_of_theirs_on_the_server(story: Story) -> None:
    site = story.site
    assert site.git("status", "--porcelain") == b""
    assert site.git("rev-parse", "HEAD").decode().strip() == site.commits[-1]
    assert os.listdir(story.server_tmp) == story.before
