"""A full disk under the agent: a deploy is refused whole, a rollback still works."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_host import DEADLINE_S, Content, Host, Refused
from needs import mount

ONE: dict[bytes, Content] = {b"index.html": b"one", b"dir/file": b"file"}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"dir/file": b"file"}


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 12 MB and 600 inodes at ``app``."""
    app = tmp_path / "app"
    app.mkdir()
    mount(app, "-t", "tmpfs", "-o", "size=12m,nr_inodes=600", "none")
    yield app
    subprocess.run(["umount", "-l", str(app)], check=True, timeout=DEADLINE_S)


def fill(folder: Path) -> None:
    """Take every byte and every inode."""
    for size in (1 << 20, 1 << 12):
        try:
            for number in range(5000):
                (folder / f"fill-{size}-{number}").write_bytes(b"x" * size)
        except OSError:
            continue
    try:
        for number in range(5000):
            (folder / f"inode-{number}").touch()
    except OSError:
        return


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_refuses_a_deploy_and_allows_a_rollback(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    host.deploy(two, 2)
    big = host.release({b"big": os.urandom(16 << 20)})
    with host.session() as agent:
        with pytest.raises(Refused, match="disk-full"):
            agent.stage(big)
        agent.leave()
    assert not host.leftovers()
    shutil.rmtree(host.own / "agent")  # even installing the agent has no room
    fill(_made(host.app / "full"))
    with host.session() as agent:
        assert agent.sent_whole
        agent.fetch(one)
        agent.stage(one)
        agent.ask("arm", id=one.id)
        agent.flip(one, 3, kind="rollback")
        agent.ask("confirm", decision="d3")
        agent.leave()
    assert host.current() == one.id
    assert host.state()["history"][-1]["id"] == one.id
    assert not host.leftovers()


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("room", range(0, 26, 5))
def test_wherever_the_disk_fills_up_nothing_half_made_stands(host: Host, room: int) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    fill(_made(host.app / "full"))
    for number in range(room):
        next((host.app / "full").iterdir()).unlink()
        (host.app / "full" / f"inode-{number}").unlink(missing_ok=True)
    two = host.release({b"%d" % number: b"x" * 5000 for number in range(20)})
    outcome = ""
    try:
        host.deploy(two, 2)
    except Refused as refused:
        outcome = refused.code
    assert (host.current(), outcome) in ((two.id, ""), (one.id, "disk-full"))
    shutil.rmtree(host.app / "full")
    host.deploy(two, 3)
    assert host.files(two) == two.files
    assert not host.leftovers()


@pytest.mark.usefixtures("small_disk")
def test_a_release_that_finds_no_room_gets_that_of_the_spare(host: Host) -> None:
    for turn, files in enumerate(({b"big": os.urandom(3 << 20)}, ONE, TWO), 1):
        host.deploy(host.release(files), turn, keep=1)
    assert len(list((host.own / "spare").iterdir())) == 2
    made = host.release({b"big": os.urandom(3 << 20)})
    host.deploy(made, 4, reuse_after=3600)
    assert host.files(made) == made.files
    assert list((host.own / "spare").iterdir()) == []
