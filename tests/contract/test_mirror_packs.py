"""A mirror makes a pack once for all who have the same; whatever hinders that, everybody gets what was asked for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from agent_host import GIT, git

from tasks.agent import hooks
from tasks.agent.keys import READ
from tasks.agent.mirror import make_mirror
from tasks.agent.wire import Wire

Get = Callable[[str, str | None], str]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Make a mirror with three releases, each of which has one file more than the one before."""
    work, path = tmp_path / "work", tmp_path / "www.git"
    make_mirror(Wire(), {"path": str(path), "app": "www"})
    git("init", "-q", "-b", "main", str(work))
    for number in (1, 2, 3):
        (work / f"file-{number}").write_bytes(os.urandom(20_000))
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", str(number), cwd=work)
        git("push", "-q", str(path), f"HEAD:refs/skein/releases/prod/{number}", cwd=work)
    return path


@pytest.fixture
def get(tmp_path: Path, mirror: Path) -> Get:
    """Fetch as a target does, through what its key is held to; return the commit that it then has, checked."""

    def fetch(name: str, release: str | None) -> str:
        target = tmp_path / name
        if release is None:
            git("init", "-q", "--bare", str(target))
            return ""
        words = ("fetch", "-q", "--depth=1", "--no-tags", f"--upload-pack={READ}")
        git(*words, str(mirror), f"refs/skein/releases/prod/{release}:refs/skein/releases/prod/{release}", cwd=target)
        git("fsck", "--full", "--strict", cwd=target)
        return git("rev-parse", f"refs/skein/releases/prod/{release}", cwd=target).strip()

    return fetch


def commit(mirror: Path, release: str) -> str:
    return git("rev-parse", f"refs/skein/releases/prod/{release}", cwd=mirror).strip()


def packs(mirror: Path) -> list[str]:
    """Return the packs that are kept; ``.lock`` and ``.new`` stand beside them."""
    return sorted(path.name for path in (mirror / hooks.PACKS).iterdir() if "." not in path.name)


def test_a_fleet_on_three_bases_has_three_packs_made(mirror: Path, get: Get) -> None:
    bases = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "2", "f": None}
    for name, base in bases.items():
        get(name, None)
        if base:
            get(name, base)
    shutil.rmtree(mirror / hooks.PACKS)
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(lambda name: get(name, "3"), bases)) == {commit(mirror, "3")}
    assert len(packs(mirror)) == 3
    assert not list((mirror / hooks.PACKS).glob("*.new.*"))


def test_a_pack_that_cannot_be_kept_is_made_for_everybody(mirror: Path, get: Get) -> None:
    (mirror / hooks.PACKS).write_text("no folder")
    for name in ("a", "b"):
        get(name, None)
        assert get(name, "3") == commit(mirror, "3")


def test_no_more_packs_are_kept_than_a_fleet_can_ask_for_with_sense(mirror: Path, get: Get) -> None:
    (mirror / hooks.PACKS).mkdir()
    for number in range(hooks.PACKS_MOST):
        (mirror / hooks.PACKS / str(number)).touch()
    get("a", None)
    assert get("a", "3") == commit(mirror, "3")
    assert len(packs(mirror)) == hooks.PACKS_MOST


def test_what_is_older_than_an_hour_goes(mirror: Path, get: Get) -> None:
    get("a", None)
    get("a", "1")
    (old,) = packs(mirror)
    for path in (mirror / hooks.PACKS).iterdir():
        os.utime(path, (0, 0))
    get("b", None)
    get("b", "2")
    assert len(packs(mirror)) == 1
    assert old not in packs(mirror)


def test_where_flock_is_missing_or_a_making_hangs_everybody_gets_his_own(
    tmp_path: Path, mirror: Path, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = tmp_path / "bin" / "flock"
    flock.parent.mkdir()
    flock.write_text("#!/bin/sh\nexit 1\n")
    flock.chmod(0o755)
    monkeypatch.setitem(GIT, "PATH", f"{flock.parent}:{os.environ['PATH']}")
    get("a", None)
    assert get("a", "3") == commit(mirror, "3")
    assert packs(mirror) == []


def test_a_making_that_was_killed_leaves_nothing_that_is_taken_for_a_pack(mirror: Path, get: Get) -> None:
    asked = f"{commit(mirror, '3')}\n--not\n\n"
    slow = ["sh", "-c", "head -c 20 /dev/zero; kill -9 $PPID"]
    hook = str(mirror / "hooks/pack-objects")
    killed = subprocess.run([hook, *slow], input=asked.encode(), cwd=mirror, capture_output=True, check=False)
    assert killed.stdout in (b"", b"\0" * 20)
    assert packs(mirror) == []
    get("a", None)
    assert get("a", "3") == commit(mirror, "3")


def test_a_pack_whose_making_fails_is_tried_once_more_and_not_kept(mirror: Path) -> None:
    hook = str(mirror / "hooks/pack-objects")
    ended = subprocess.run(
        [hook, "sh", "-c", "echo x; exit 7"], input=b"", cwd=mirror, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (7, b"x\n")
    assert packs(mirror) == []


def test_the_mirror_that_the_forced_command_names_may_have_any_path(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s a "mirror".git'
    make_mirror(Wire(), {"path": str(path), "app": "www"})
    said = subprocess.run(["sh", "-c", READ + shlex.quote(str(path))], input=b"0000", capture_output=True, check=True)
    assert b"version 2" in said.stdout
