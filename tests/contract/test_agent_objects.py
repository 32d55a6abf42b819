"""Objects as the agent reads them: what git itself would say, from one git for all of them; refs without any."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from agent_host import GIT, Content, Host, git

from tasks.agent import children
from tasks.agent.objects import Objects
from tasks.agent.problem import Problem
from tasks.agent.repo import Repo
from tasks.agent.wire import Over, Wire

OLD: dict[bytes, Content] = {
    b"same": b"s",
    b"a/b/same": b"s",
    b"a/b/c": b"1",
    b"file": b"f",
    b"dir/x": b"x",
    b"dir/y": b"",
}
NEW: dict[bytes, Content] = {
    **dict.fromkeys((b"same", b"a/b/same"), b"s"),
    **dict.fromkeys((b"file/now", b"new\nline", b"deep/er/and/er"), b"n"),
    **dict.fromkeys((b"\xff", b"a/run"), b"#!/bin/sh\n"),
    b"a/b/c": b"2",
    b"dir": ("same",),
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def repo(host: Host) -> Repo:
    return Repo(Wire(), str(host.mirror))


def as_git_has_it(host: Host, old: str, new: str) -> dict[bytes, tuple[bytes, bytes] | None]:
    words = ["git", "diff-tree", "-r", "-z", "--no-renames", old, new]
    raw = subprocess.run(words, cwd=host.mirror, env=GIT, check=True, capture_output=True).stdout.split(b"\0")[:-1]
    told = {path: about.split(b" ") for about, path in zip(raw[::2], raw[1::2], strict=True)}
    return {path: None if about[4] == b"D" else (about[1], about[3]) for path, about in told.items()}


@pytest.mark.parametrize(("one", "other"), [(OLD, NEW), (NEW, OLD), (OLD, OLD), ({b"a": b""}, NEW), (NEW, {b"a": b""})])
def test_what_differs_between_two_trees_is_what_git_says(host: Host, one: dict, other: dict) -> None:  # type: ignore[type-arg]
    old, new = host.release(one), host.release(other)
    with Objects(repo(host)) as objects:
        assert objects.tree_of(new.commit) == new.tree
        assert objects.changes(old.tree, new.tree) == as_git_has_it(host, old.tree, new.tree)


def test_all_is_read_from_one_git_and_none_is_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    spawn = os.posix_spawn
    monkeypatch.setattr(children.os, "posix_spawn", lambda *a, **k: started.append(spawn(*a, **k)) or started[-1])
    old, new = host.release(OLD), host.release(NEW)
    with Objects(repo(host)) as objects:
        for path, entry in objects.changes(old.tree, new.tree).items():
            if entry and entry[0] != b"120000":
                assert objects.read(entry[1], "blob") == NEW[path]
    assert len(started) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


def test_one_that_is_too_large_is_not_read_and_the_next_one_is(host: Host) -> None:
    large = git("hash-object", "-w", "--stdin", data=b"x" * 300_000, cwd=host.mirror).encode()
    small = git("hash-object", "-w", "--stdin", data=b"small", cwd=host.mirror).encode()
    with Objects(repo(host)) as objects:
        assert objects.read(large, "blob", 1000) is None
        assert objects.read(small, "blob", 1000) == b"small"
        assert objects.read(large, "blob") == b"x" * 300_000


def test_one_that_is_missing_or_of_another_kind_is_a_problem_and_the_next_one_is_read(host: Host) -> None:
    made = host.release(OLD)
    with Objects(repo(host)) as objects:
        for asked, kind in ((b"1" * 40, "blob"), (made.tree.encode(), "blob"), (b"no id", "blob")):
            with pytest.raises(Problem, match="missing"):
                objects.read(asked, kind)
        assert objects.tree_of(made.commit) == made.tree


def test_one_that_is_damaged_is_a_problem_and_the_next_one_is_read(host: Host) -> None:
    made = host.release(OLD)
    blob = git("hash-object", "-w", "--stdin", data=b"about to be damaged", cwd=host.mirror)
    path = host.mirror / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    with Objects(repo(host)) as objects:
        with pytest.raises(Problem, match=r"missing|git"):
            objects.read(blob.encode(), "blob")
        assert objects.tree_of(made.commit) == made.tree


def test_the_end_of_the_session_ends_the_reading(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, silent = host.release(OLD), tmp_path / "git"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    one = repo(host)
    one.wire.over = "it is over"
    with pytest.raises(Over), Objects(one) as objects:
        objects.tree_of(made.commit)


def test_refs_are_read_and_written_as_git_does(host: Host) -> None:
    made = host.release(OLD)
    other = made.ref.replace("/prod/", "/other/")
    here = repo(host)
    here.enter(other, made.commit)
    assert here.standing([made.ref, other, other + "x"]) == {made.ref: made.commit, other: made.commit}
    assert git("for-each-ref", "--format=%(objectname)", other, cwd=host.mirror) == made.commit
    git("pack-refs", "--all", cwd=host.mirror)
    assert here.standing([made.ref, other, other + "x"]) == {made.ref: made.commit, other: made.commit}
    here.forget([other])
    assert here.standing([other]) == {}
    here.enter(other, made.commit)
    git("fsck", cwd=host.mirror)


def test_a_ref_that_is_damaged_is_a_problem(host: Host) -> None:
    made = host.release(OLD)
    (host.mirror / made.ref).write_bytes(b"\0" * 41)
    with pytest.raises(Problem, match="damaged"):
        repo(host).standing([made.ref])


def test_where_git_keeps_refs_in_tables_git_is_asked(host: Host, tmp_path: Path) -> None:
    made = host.release(OLD)
    table = Repo(Wire(), str(tmp_path / "table.git"))
    done = subprocess.run(
        ["git", "init", "-q", "--bare", "--ref-format=reftable", table.path], env=GIT, capture_output=True
    )
    if done.returncode:  # git before 2.45 has none: then what would be asked is told by the name alone
        git("clone", "-q", "--bare", str(host.mirror), table.path)
        git("pack-refs", "--all", cwd=Path(table.path))
        (Path(table.path) / "reftable").mkdir()
    else:
        git("fetch", "-q", str(host.mirror), made.ref, cwd=Path(table.path))
    table.enter(made.ref, made.commit)
    assert table.standing([made.ref]) == {made.ref: made.commit}
