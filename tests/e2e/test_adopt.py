"""Adopting on real hosts: docroots and other tools' layouts served without a gap, deployed over, and given back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_operator import THREE, Operator, Run, small_site
from real_site import Site

from tasks.dev import failpoint_names
from tasks.remote.lab import Lab, wait_until

UID = 7700
WWW = "/srv/www"
POINTS = [name for name in failpoint_names() if name.startswith("agent.adopt.")]
GIVING_BACK = ("agent.adopt.giving", "agent.adopt.detour", "agent.adopt.given")
IN_THE_GAP = ("agent.adopt.gap", "agent.adopt.back")  # tests/contract/test_agent_adopt.py passes these
READER = """
import signal
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
reads = missed = 0
open("/srv/reading", "w").close()
while not over:
    try:
        open("%s/index.html").close()
        reads += 1
    except OSError:
        missed += 1
print(reads, missed)
"""


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets and two mirrors."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return small_site(lab, "/srv/site", {"index.html": b"new\n"})


@pytest.fixture
def operator(lab: Lab, site: Site) -> Operator:
    """Return an operator of targets that hold nothing; the mirrors keep what they have."""
    found = Operator(lab, "prod", "/srv/site", groups=THREE)
    found.wipe()
    for host in lab.targets:
        os.chown(lab.path(host, "/srv"), UID, UID)
    return found


def with_docroots(operator: Operator) -> dict[str, dict[str, tuple[int, ...]]]:
    """Give every target a docroot of its own content at what will be the link; return what each must stay."""
    operator.configure(groups=THREE, targets={"link": WWW, "linked_dirs": ["uploads"]})
    for host in operator.hosts:
        docroot = operator.lab.path(host, WWW)
        (docroot / "uploads").mkdir(parents=True)
        (docroot / "index.html").write_text(f"{host} before\n")
        (docroot / "uploads" / "photo.jpg").write_bytes(host.encode())
        (docroot / "uploads" / "photo.jpg").chmod(0o640)
        os.chown(docroot, UID, 0)  # its files belong to root, and stay so
        docroot.chmod(0o2750)
    return {host: everything(operator.lab.path(host, WWW)) for host in operator.hosts}


def everything(root: Path) -> dict[str, tuple[int, ...]]:
    """Return what must not change of a tree, by path: inode, owner, group, mode and time of its content."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        at = path.lstat()
        found[str(path.relative_to(root))] = (at.st_ino, at.st_uid, at.st_gid, at.st_mode, at.st_mtime_ns)
    return found


def adopt(operator: Operator, *argv: str, code: int | None = 0, point: str = "") -> Run:
    return operator.fab("adopt", "--json", *argv, code=code, env={"SKEIN_FAILPOINT": point} if point else None)


def done(run: Run) -> list[str]:
    """Return the targets on which something was done."""
    return [each["host"] for each in run.json["targets"] if each["done"]]


def troubles(run: Run) -> dict[str, str]:
    return {each["host"]: each["trouble"] for each in run.json["targets"] if each["trouble"]}


@contextmanager
def readers(operator: Operator, folder: str) -> Iterator[dict[str, tuple[int, int]]]:
    """Open a file over and over on every target; at the end give how often, and how often it was not there."""
    lab, found = operator.lab, dict[str, tuple[int, int]]()
    for host in operator.hosts:
        lab.path(host, "/srv/reading").unlink(missing_ok=True)
    processes = {host: lab.popen(host, ["python3", "-c", READER % folder]) for host in operator.hosts}
    try:
        for host in operator.hosts:
            wait_until(lab.path(host, "/srv/reading").exists, f"{host} is read", 20)
        yield found
    finally:
        for process in processes.values():
            process.terminate()
        told = {host: process.communicate(timeout=20)[0].split() for host, process in processes.items()}
    found.update({host: (int(reads), int(missed)) for host, (reads, missed) in told.items()})


def served(operator: Operator, path: str) -> dict[str, str]:
    """Return what every target serves at a path, as it sees it itself."""
    return {host: operator.lab.run(host, ["cat", path]).stdout for host in operator.hosts}


def test_a_fleet_of_docroots_is_adopted_deployed_over_rolled_back_and_given_back_without_a_missing_read(
    operator: Operator, site: Site
) -> None:
    before = with_docroots(operator)
    own = {host: f"{host} before\n" for host in operator.hosts}
    assert "fab adopt makes it the first release" in " ".join(operator.status(code=6).reasons.values())
    plan = adopt(operator, "--plan").json
    assert {each["told"] for each in plan["targets"]} == {f"would adopt the directory {WWW}"}
    assert all("uploads: not in /srv/app/shared yet" in each["notes"][0] for each in plan["targets"])
    assert not operator.path("web-01").exists()
    with readers(operator, WWW) as reading:
        run = adopt(operator)
        assert done(run) == operator.hosts
        for host in operator.hosts:
            assert everything(operator.path(host, f"releases/{run.release}")) == before[host]
        status = operator.status().json
        assert status["desired"] == run.release
        assert {each["adopted"] for each in status["targets"]} == {f"the directory {WWW}"}
        assert done(adopt(operator)) == []
        operator.fab("setup", "--json")
        deployed = operator.deploy().release
        assert set(served(operator, f"{WWW}/index.html").values()) == {"new\n"}
        assert "roll" in " ".join(troubles(adopt(operator, "--undo", code=5)).values())
        assert operator.rollback().release == run.release
        assert served(operator, f"{WWW}/index.html") == own
        assert done(adopt(operator, "--undo")) == operator.hosts
        assert served(operator, f"{WWW}/index.html") == own
    assert all(reads > 50 for reads, _ in reading.values())
    assert {host: missed for host, (_, missed) in reading.items()} == dict.fromkeys(operator.hosts, 0)
    assert {host: everything(operator.lab.path(host, WWW)) for host in operator.hosts} == before
    assert done(adopt(operator, "--undo")) == []
    assert all(os.listdir(operator.path(host, "releases")) == [deployed] for host in operator.hosts)


LAYOUTS = {
    "web-01": ("Capistrano's", "20250131101500", "/srv/app/releases/20250131101500", "revisions.log"),
    "web-02": ("Deployer's", "7", "releases/7", ".dep/releases_log"),
    "web-03": ("Ansistrano's", "20250131101500Z", "./releases/20250131101500Z", "repo/HEAD"),
}


def with_layouts(operator: Operator) -> dict[str, dict[str, tuple[int, ...]]]:
    """Give each target the layout of another tool, with an older release and a shared directory."""
    operator.configure(groups=THREE, targets={"linked_dirs": ["storage"]})
    for host, (_, name, text, besides) in LAYOUTS.items():
        app = operator.path(host)
        for release in ("1", name):
            (app / "releases" / release).mkdir(parents=True)
            (app / "releases" / release / "index.html").write_text(f"{host} {release}\n")
        (app / "shared/storage").mkdir(parents=True)
        (app / "shared/storage/upload").write_text(f"{host}\n")
        (app / "releases" / name / "storage").symlink_to("../../shared/storage")
        (app / besides).parent.mkdir(exist_ok=True)
        (app / besides).write_text("theirs\n")
        (app / "current").symlink_to(text)
        operator.lab.run(host, ["chown", "-R", "deploy:", "/srv/app"])
    return {host: theirs(operator, host) for host in LAYOUTS}


def theirs(operator: Operator, host: str) -> dict[str, tuple[int, ...]]:
    """Return all that is the other tool's, and nothing of ours; directories in which both work are left out."""
    both = (".", "releases", "current")
    found = {path: about for path, about in everything(operator.path(host)).items() if not path.startswith(".skein")}
    return {path: about for path, about in found.items() if path not in both and "-0001-" not in path}


def links(operator: Operator) -> dict[str, str]:
    return {host: os.readlink(operator.path(host, "current")) for host in operator.hosts}


def test_three_tools_layouts_are_taken_over_deployed_over_and_given_back_without_moving_a_byte(
    operator: Operator, site: Site
) -> None:
    before, texts = with_layouts(operator), {host: text for host, (_, _, text, _) in LAYOUTS.items()}
    with readers(operator, "/srv/app/current") as reading:
        run = adopt(operator)
        assert {each["host"]: each["done"] for each in run.json["targets"]} == {
            host: [f"adopted {tool} release {name} as release {run.release}"]
            for host, (tool, name, _, _) in LAYOUTS.items()
        }
        assert links(operator) == texts
        operator.fab("setup", "--json")
        operator.deploy()
        assert set(served(operator, "/srv/app/current/index.html").values()) == {"new\n"}
        assert served(operator, "/srv/app/current/storage/upload") == {host: f"{host}\n" for host in operator.hosts}
        assert operator.rollback().release == run.release
        assert links(operator) == texts
        assert operator.status().json["desired"] == run.release
        adopt(operator, "--undo")
    assert {host: missed for host, (_, missed) in reading.items()} == dict.fromkeys(operator.hosts, 0)
    assert links(operator) == texts
    assert {host: theirs(operator, host) for host in LAYOUTS} == before


def test_a_first_deploy_that_fails_after_its_flip_puts_every_tool_s_own_link_back(
    operator: Operator, site: Site
) -> None:
    with_layouts(operator)
    operator.configure(groups=THREE, targets={"linked_dirs": ["storage"], "after_flip": ["false"]})
    adopt(operator)
    operator.fab("setup", "--json")
    before = links(operator)
    operator.deploy(code=10)
    assert links(operator) == before


@pytest.mark.parametrize("point", [point for point in POINTS if point not in IN_THE_GAP])
def test_a_target_that_is_killed_is_completed_by_the_same_command(operator: Operator, site: Site, point: str) -> None:
    before, victim = with_docroots(operator), "web-02"
    undo = ("--undo",) if point in GIVING_BACK else ()
    if undo:
        adopt(operator)
    broken = adopt(operator, *undo, code=5, point=f"{point}@{victim}")
    assert list(troubles(broken)) == [victim]
    assert served(operator, f"{WWW}/index.html") == {host: f"{host} before\n" for host in operator.hosts}
    adopt(operator, *undo)
    assert done(adopt(operator, *undo)) == []
    if not undo:
        status = operator.status().json
        assert {each["release"] for each in status["targets"]} == {broken.release}
        adopt(operator, "--undo")
    assert {host: everything(operator.lab.path(host, WWW)) for host in operator.hosts} == before
    for host in operator.hosts:
        left = [*operator.path(host, "releases").iterdir(), *operator.path(host, ".skein/releases").iterdir()]
        assert [*left, *operator.lab.path(host, "/srv").glob(".*skein*")] == []


def test_what_cannot_be_adopted_is_named_by_target_and_stays_and_the_others_go_on(operator: Operator) -> None:
    with_docroots(operator)
    lab = operator.lab
    lab.run("web-01", ["chown", "root:", WWW])
    lab.run("web-01", ["chmod", "755", WWW])
    shutil.rmtree(lab.path("web-02", WWW))
    lab.path("web-02", WWW).symlink_to("/home")
    run = adopt(operator, code=5)
    found = troubles(run)
    assert sorted(found) == ["web-01", "web-02"]
    assert f"{WWW} may not be written by this user" in found["web-01"]
    assert f"{WWW} points at /home" in found["web-02"]
    assert done(run) == ["web-03"]
    assert not operator.path("web-01").exists()
    lab.run("web-01", ["chown", "deploy", WWW])
    shutil.rmtree(operator.path("web-02"), ignore_errors=True)
    lab.path("web-02", WWW).unlink()
    late = adopt(operator)
    assert (done(late), late.release) == (["web-01"], run.release)
    said = operator.fab("adopt").out
    assert f"web-02: nothing to adopt: there is nothing at {WWW}; fab deploy makes it" in said


def test_a_link_s_directory_that_the_user_may_not_write_is_refused(operator: Operator) -> None:
    with_docroots(operator)
    for host in operator.hosts:
        operator.lab.run(host, ["install", "-d", "-o", "deploy", "/srv/app"])
        os.chown(operator.lab.path(host, "/srv"), 0, 0)
    found = troubles(adopt(operator, code=5))
    assert all("/srv may not be written by this user" in each for each in found.values())
    assert len(found) == 3


def test_a_docroot_with_a_file_system_in_it_is_refused(operator: Operator) -> None:
    with_docroots(operator)
    operator.lab.run("web-03", ["mount", "-t", "tmpfs", "tmpfs", f"{WWW}/uploads"])
    try:
        found = troubles(adopt(operator, "--plan", code=5))
    finally:
        operator.lab.run("web-03", ["umount", f"{WWW}/uploads"])
    assert list(found) == ["web-03"]
    assert f"a file system is mounted at {WWW}/uploads" in found["web-03"]
