"""Hosts that are not as they should be: each is named, with what to do, and keeps what it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from invariants import RELEASE_ID
from lab_operator import KNOWN_HOSTS, Operator, small_fleet

from tasks.remote.lab import Lab

OVERLAY = """
set -e
upper=$(mktemp -d -p /run) work=$(mktemp -d -p /run)
chmod 755 "$upper"
mount -t overlay -o "lowerdir=/usr/bin,upperdir=$upper,workdir=$work" overlay /usr/bin
"""


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets, which are enough here."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@contextmanager
def without(lab: Lab, machine: str, *programs: str) -> Iterator[None]:
    """Hide programs of /usr/bin on one machine alone."""
    lab.run(machine, ["sh", "-c", OVERLAY])
    lab.run(machine, ["rm", *(f"/usr/bin/{program}" for program in programs)])
    try:
        yield
    finally:
        lab.run(machine, ["umount", "-l", "/usr/bin"])


@contextmanager
def login_shell(lab: Lab, machine: str, lines: str) -> Iterator[None]:
    """Give deploy another login shell on one machine, whose start file holds these lines."""
    users, start = lab.path(machine, "/etc/passwd"), lab.path(machine, "/home/deploy/.bashrc")
    before = users.read_text()
    users.write_text(before.replace("/home/deploy:/bin/sh", "/home/deploy:/bin/bash"))
    start.write_text(lines)
    try:
        assert "/bin/bash" in lab.run(machine, ["getent", "passwd", "deploy"]).stdout
        yield
    finally:
        users.write_text(before)
        start.unlink()


def assert_named(operator: Operator, host: str, *words: str) -> None:
    """Assert that deploy and check each name the host with these words, and that nothing is live anywhere."""
    reasons = operator.deploy(code=5).reasons
    assert list(reasons) == [host], reasons
    assert all(word in reasons[host] for word in words), reasons
    findings = {each["host"]: each["findings"] for each in operator.fab("check", "--json", code=6).json["targets"]}
    told = " ".join(finding["message"] for finding in findings[host] if not finding["ok"])
    assert all(word in told for word in words), told
    assert_nothing_is_live(operator)


def assert_nothing_is_live(operator: Operator) -> None:
    assert not [name for name in operator.live().values() if name and RELEASE_ID.fullmatch(name)]


def test_a_host_without_python_is_named(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    with without(lab, "web-02", "python3"):
        assert_named(operator, "web-02", "python3 is not installed")
        assert "python3 is not installed" in operator.status(code=6).reasons["web-02"]
    operator.deploy()


def test_a_host_without_git_is_named(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    with without(lab, "web-03", "git"):
        assert_named(operator, "web-03", "git is not installed")
    operator.deploy()


@pytest.mark.parametrize("link", ["/srv/app/current", "/srv/www"])
def test_a_real_directory_in_the_links_place_is_named_and_left_alone(lab: Lab, link: str) -> None:
    operator, _ = small_fleet(lab, targets={"link": link})
    page = lab.path("web-01", link) / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("precious\n")
    assert_named(operator, "web-01", link, "mv ")
    assert operator.deploy("--fail-limit", "1", code=12).states["web-02"] == "live"
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    assert page.read_text() == "precious\n"


def test_a_link_that_is_somebody_elses_is_named_and_left_alone(lab: Lab) -> None:
    operator, _ = small_fleet(lab, targets={"link": "/srv/www"})
    lab.path("web-01", "/srv/www").symlink_to("/srv/old-site")
    assert_named(operator, "web-01", "/srv/www", "/srv/old-site")
    assert lab.path("web-01", "/srv/www").readlink() == Path("/srv/old-site")


def test_a_missing_linked_file_is_named_before_the_flip(lab: Lab) -> None:
    operator, _ = small_fleet(lab, targets={"linked_files": ["conf/.env"]})
    operator.fab("setup")
    for host in ("web-01", "web-03"):
        operator.path(host, "shared/conf").mkdir()
        operator.path(host, "shared/conf/.env").touch()
    assert_named(operator, "web-02", "conf/.env", "shared")


def test_a_linked_directory_that_the_release_holds_itself_is_named(lab: Lab) -> None:
    operator, _ = small_fleet(lab, {"storage/kept.txt": b"in git\n"}, targets={"linked_dirs": ["storage"]})
    reasons = operator.deploy(code=5).reasons
    assert sorted(reasons) == operator.hosts
    assert all("storage" in reason and "linked" in reason for reason in reasons.values())
    assert_nothing_is_live(operator)


def test_a_directory_that_cannot_be_written_is_named(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    operator.path("web-02").mkdir()
    assert_named(operator, "web-02", "/srv/app")


def test_modes_are_gits_own_whatever_the_hosts_umask(lab: Lab) -> None:
    operator, site = small_fleet(lab, {"page": b"1\n", "a/b/page": b"2\n", "run": b"#!/bin/sh\n"})
    (site.folder / "run").chmod(0o755)
    (site.folder / "a/b/page").chmod(0o600)
    site.commit("modes")
    with login_shell(lab, "web-01", "umask 077\n"):
        assert "0077" in lab.run("server-1", ["ssh", "deploy@web-01", "umask"]).stdout
        operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]))
    assert operator.path("web-01", "current/a/b/page").stat().st_mode & 0o777 == 0o644
    assert operator.path("web-01", "current/run").stat().st_mode & 0o777 == 0o755


def test_a_login_shell_that_prints_and_reads_harms_nothing(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    noise = "echo 'Welcome!'; echo '{\"id\": 1, \"ok\": {}}'; printf 'no line end'; echo oops >&2\n"
    with login_shell(lab, "web-01", noise + "echo\n"):
        operator.deploy()
        operator.status()
    operator.assert_serves(site.files_at(site.commits[0]))


def test_an_unknown_host_key_is_refused_and_never_added(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    known = lab.path("server-1", KNOWN_HOSTS)
    before = known.read_text()
    known.write_text("".join(line for line in before.splitlines(True) if not line.startswith("web-03")))
    without_it = known.read_text()
    try:
        assert_named(operator, "web-03", "known_hosts")
        assert known.read_text() == without_it
    finally:
        known.write_text(before)


def test_a_login_that_is_refused_is_named(lab: Lab) -> None:
    operator, _ = small_fleet(lab)
    keys = lab.path("web-02", "/home/deploy/.ssh/authorized_keys")
    before = keys.read_text()
    keys.write_text("")
    try:
        assert_named(operator, "web-02", "deploy")
    finally:
        keys.write_text(before)
    operator.deploy()
