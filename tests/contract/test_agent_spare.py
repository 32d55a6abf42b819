"""The spare becomes the next release at the cost of what changed; never with a file that is not as it must be."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_host import DEADLINE_S, Content, Host, Made, Refused, until
from needs import lack, mount

from tasks.agent.draft import FEW
from tasks.agent.record import TICK_NS, Record
from tasks.agent.spare import live_until

KEPT: dict[bytes, Content] = {b"same": b"same", b"dir/deep/same": b"deep", b"run": b"#!/bin/sh\n", b"to": ("same",)}
OLD: dict[bytes, Content] = {**KEPT, b"index": b"old", b"gone/file": b"gone", b"was-file": b"f", b"was-dir/a": b"a"}
NEW: dict[bytes, Content] = {**KEPT, b"index": b"new", b"came/file": b"came", b"was-file/b": b"b", b"was-dir": b"d"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Have a spare made of ``OLD``; two releases that stand came after it."""
    host = Host(tmp_path)
    for turn, files in enumerate((OLD, {b"index": b"1"}, {b"index": b"2"}), 1):
        host.deploy(host.release(files), turn, keep=1)
    assert spare(host).is_dir()
    return host


def spare(host: Host) -> Path:
    """Return the directory that is kept."""
    (record,) = (host.own / "spare").glob("*.json")
    return record.with_suffix("")


def staged(host: Host, made: Made, **fields: object) -> bool:
    """Stage, and tell whether the spare became the release: a file that did not change is the one that was."""
    before = (spare(host) / "dir/deep/same").stat().st_ino
    with host.session() as agent:
        assert agent.stage(made, **fields)["made"] is True  # type: ignore[arg-type]
        agent.leave()
    assert host.files(made) == made.files
    assert not host.leftovers()
    return (host.app / "releases" / made.id / "dir/deep/same").stat().st_ino == before


def test_the_spare_becomes_the_release_with_files_folders_and_kinds_changed(host: Host) -> None:
    made = host.release(NEW)
    assert staged(host, made) is True
    assert list((host.own / "spare").iterdir()) == []
    host.deploy(made, 9)
    with host.session() as agent:
        assert agent.ask("status")["drift"] == []
        assert agent.ask("verify", id=made.id)["files"] == len(NEW)


def test_what_is_hashed_in_full_comes_from_the_spare_as_well(host: Host) -> None:
    assert staged(host, host.release(NEW), full=True) is True


def test_linked_paths_that_come_and_go_are_made_and_taken_away(host: Host) -> None:
    with host.session() as agent:
        agent.stage(host.release({**NEW, b"x": b""}), dirs=("up/loads", "came/dir"), reuse_after=None)
    for turn, dirs in ((11, ("up/loads",)), (12, ()), (13, ()), (14, ("dir/links",))):
        made = host.release({**NEW, b"x": b"%d" % turn})
        host.deploy(made, turn, keep=1, dirs=dirs)
        links = {name.encode(): (os.path.join("../" * (name.count("/") + 2), "shared", name),) for name in dirs}
        assert host.files(made) == {**made.files, **links}


DAMAGE: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "same").write_bytes(b"evil"),
    "content, with its times put back": lambda root: _quietly(root / "same"),
    "another file": lambda root: (root / "cache").write_bytes(b""),
    "another folder": lambda root: (root / "dir/cache").mkdir(),
    "mode": lambda root: (root / "run").chmod(0o644),
    "mode of the root": lambda root: root.chmod(0o700),
    "a set-user-id bit": lambda root: (root / "run").chmod(0o4755),
    "a link elsewhere": lambda root: ((root / "to").unlink(), (root / "to").symlink_to("/etc/passwd")),
    "a file that is gone": lambda root: (root / "same").unlink(),
    "a folder that is a link": lambda root: (
        (root / "dir").rename(root.parent / "aside"),
        (root / "dir").symlink_to(root.parent / "aside"),
    ),
}


def _quietly(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(b"evil")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_spare_with_any_damage_is_not_used(host: Host, damage: Callable[[Path], object]) -> None:
    deep = (spare(host) / "dir/deep/same").stat().st_ino
    os.link(spare(host) / "dir/deep/same", host.root / "kept")  # so that its inode is not given to another file
    damage(spare(host))
    made = host.release(NEW)
    with host.session() as agent:
        agent.stage(made)
        agent.leave()
    assert host.files(made) == NEW
    assert (host.app / "releases" / made.id / "dir/deep/same").stat().st_ino != deep


@pytest.mark.parametrize("count", [1, FEW + 1])
def test_modes_of_what_changed_do_not_depend_on_a_default_acl(host: Host, count: int) -> None:
    closed = b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in ((0x01, 7), (0x04, 7), (0x20, 0)))
    root = spare(host)
    try:
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
            os.setxattr(folder, "system.posix_acl_default", struct.pack("<I", 2) + closed)
    except OSError as error:
        lack(f"a file system with ACLs: {error}")
    made = host.release(
        {**KEPT, **{b"came/deep/%d" % number: b"" for number in range(count)}, b"dir/run": b"#!/bin/sh"}
    )
    assert staged(host, made) is True
    release = host.app / "releases" / made.id
    found = [path for path in release.rglob("*") if not path.is_symlink()]
    modes = {(path.is_dir() or path.name == "run", path.stat().st_mode & 0o777) for path in found}
    assert modes == {(True, 0o755), (False, 0o644)}


def test_a_file_that_was_only_touched_is_hashed_and_stays(host: Host) -> None:
    os.utime(spare(host) / "same")
    assert staged(host, host.release(NEW)) is True


@pytest.mark.parametrize("record", [b"", b"{}", b"[]\n", b'{"format": 1, "tree": "", "links": {}}\nno tab\0', b"\xff"])
def test_a_spare_whose_record_is_damaged_is_not_used(host: Host, record: bytes) -> None:
    (spare(host).parent / f"{spare(host).name}.json").write_bytes(record)
    made = host.release(NEW)
    with host.session() as agent:
        agent.stage(made)
    assert host.files(made) == NEW


def test_a_spare_that_was_live_just_now_is_not_used(host: Host) -> None:
    assert staged(host, host.release(NEW), reuse_after=3600) is False


def test_a_spare_is_not_used_where_none_is_wanted(host: Host) -> None:
    assert staged(host, host.release(NEW), reuse_after=None) is False
    with host.session() as agent:
        agent.ask("prune", keep=1, spare=False)
    assert list((host.own / "spare").iterdir()) == [], "nor does it take space for ever"


def test_a_spare_in_which_a_process_works_is_not_used(host: Host) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=spare(host) / "dir") as process:
        until(lambda: os.readlink(f"/proc/{process.pid}/cwd").endswith("dir"))
        assert staged(host, host.release(NEW)) is False
        process.kill()


def test_a_release_that_stands_is_checked_by_its_record_and_damage_is_seen(host: Host) -> None:
    made = host.release(NEW)
    staged(host, made)
    root = host.app / "releases" / made.id
    with host.session() as agent:
        assert agent.stage(made)["made"] is False
        _quietly(root / "same")
        assert agent.stage(made)["made"] is True, "made anew"
    assert host.files(made) == NEW


def test_what_changed_in_the_tick_in_which_it_was_hashed_is_not_trusted(tmp_path: Path) -> None:
    record = Record("", {b"a": b"100644 " + b"0" * 40}, {})
    (tmp_path / "a").write_bytes(b"a")
    seen = (tmp_path / "a").stat()
    record.begin()
    record.note(b"a", seen)
    assert not record.knows(b"a", seen)
    until(lambda: seen.st_ctime_ns < _now(tmp_path) - 2 * TICK_NS)
    record.begin()
    record.note(b"a", seen)
    assert record.knows(b"a", seen)
    assert not record.becomes("", {b"a": (b"100755", b"0" * 40)}, {}).knows(b"a", seen)


def test_where_times_are_whole_seconds_what_changed_in_the_last_two_is_not_trusted(tmp_path: Path) -> None:
    def known(changed_at: int) -> bool:
        record = Record("", {b"a": b"100644 " + b"0" * 40}, {})
        seen = os.stat_result((*tmp_path.stat()[:10], 0.0, 0.0, 0.0, 0, 0, changed_at))
        record.begin()
        record.note(b"a", seen)
        return record.knows(b"a", seen)

    second = 10**9
    now = time.time_ns() // second * second
    assert not known(now - second)
    assert known(now - second + 1)
    assert known(now - 3 * second)


def _now(folder: Path) -> int:
    path = folder / "now"
    path.write_bytes(b"")
    return path.stat().st_ctime_ns


def test_when_a_release_was_live_last_is_when_the_next_one_came() -> None:
    history = [{"id": name, "at": at} for name, at in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0))]
    assert live_until(history, "a") == 4.0
    assert live_until(history, "b") == 3.0
    assert live_until(history, "c") is None
    assert live_until(history, "d") is None


def test_a_spare_in_which_nothing_may_be_changed_is_followed_by_one_made_anew(host: Host) -> None:
    locked = spare(host) / "gone/file"
    if subprocess.run(["chattr", "+i", locked], capture_output=True, check=False).returncode:
        lack("root, and a file system on which chattr +i works")
    made = host.release(NEW)
    try:
        host.deploy(made, 9)
    finally:
        subprocess.run(["chattr", "-R", "-i", host.own], capture_output=True, check=False)
    assert host.files(made) == NEW


@pytest.fixture
def stuck(host: Host) -> Iterator[Path]:
    """Have something in the spare that cannot be deleted, as another user's files for a user that is not root."""
    folder = spare(host) / "cache"
    folder.mkdir()
    inode = spare(host).stat().st_ino
    mount(folder)
    yield folder
    for found in [path for path in host.own.glob("*/*") if path.is_dir() and path.stat().st_ino == inode]:
        subprocess.run(["umount", found / "cache"], check=True, timeout=DEADLINE_S)


@pytest.mark.usefixtures("stuck")
def test_a_spare_that_cannot_be_deleted_does_not_keep_a_release_from_being_staged(host: Host) -> None:
    made = host.release(NEW)
    host.deploy(made, 9)
    assert host.files(made) == NEW


@pytest.mark.usefixtures("stuck")
def test_a_spare_that_cannot_be_deleted_makes_way_for_the_next_and_is_named_once(host: Host) -> None:
    for turn in (9, 10):
        host.deploy(host.release({**NEW, b"turn": b"%d" % turn}), turn, reuse_after=None)
    with host.session() as agent, pytest.raises(Refused, match=r"not-pruned.*cache"):
        agent.ask("prune", keep=1, spare=True)
    for turn in (11, 12):
        host.deploy(host.release({**NEW, b"turn": b"%d" % turn}), turn, reuse_after=None, keep=1)
    assert (spare(host) / "came/file").read_bytes() == b"came"
