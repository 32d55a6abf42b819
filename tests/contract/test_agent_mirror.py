"""A mirror that the agent made: what may be pushed to it, what may not, whose repository it leaves alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_host import Agent, Host, Refused, git, tree_of

from tasks.agent.growth import PACKS_MOST, has_grown, need_room, sizes_of
from tasks.agent.mirror import HARMLESS, make_mirror
from tasks.agent.problem import Problem
from tasks.agent.repo import Repo
from tasks.agent.wire import Wire

OLD = "refs/skein/releases/prod/20260101T000000Z-0001-aaaaaaa"
NEW = "refs/skein/releases/prod/20260102T000000Z-0002-bbbbbbb"
TAG = "refs/tags/release/20260101T000000Z-0001-aaaaaaa"
LEDGER = "refs/skein/ledger/prod"


def made(path: Path, app: str = "www") -> list[str]:
    changed: list[str] = make_mirror(Wire(), {"path": str(path), "app": app})["changed"]
    return changed


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    assert made(tmp_path / "git" / "www.git") == [f"made the bare repository {tmp_path}/git/www.git"]
    return tmp_path / "git" / "www.git"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Make a repository with two commits, ``HEAD~1`` and ``HEAD``, and one beside them, ``other``."""
    git("init", "-q", "-b", "main", str(tmp_path / "work"))
    for name in ("one", "two"):
        git("commit", "-q", "--allow-empty", "-m", name, cwd=tmp_path / "work")
    tree = git("rev-parse", "HEAD^{tree}", cwd=tmp_path / "work")
    git("branch", "other", git("commit-tree", tree, "-m", "other", cwd=tmp_path / "work"), cwd=tmp_path / "work")
    return tmp_path / "work"


def push(work: Path, mirror: Path, *specs: str) -> str:
    """Push and return what was said; empty where all was taken."""
    words = ["git", "push", "-q", "--atomic", f"file://{mirror}", *specs]
    done = subprocess.run(
        words, cwd=work, capture_output=True, text=True, env=dict(os.environ, LC_ALL="C"), check=False
    )
    return done.stderr if done.returncode else ""


def refs(mirror: Path) -> list[str]:
    return git("for-each-ref", "--format=%(refname)", cwd=mirror).split()


def test_set_up_again_changes_nothing(mirror: Path) -> None:
    before = tree_of(mirror)
    assert made(mirror) == []
    assert tree_of(mirror) == before


def test_what_was_changed_by_hand_is_set_right_again(mirror: Path) -> None:
    git("config", "gc.auto", "6700", cwd=mirror)
    git("config", "--unset-all", "transfer.hideRefs", cwd=mirror)
    (mirror / "hooks/update").write_text("#!/bin/sh\n")
    assert made(mirror) == ["wrote the hooks", "set gc.auto", "set transfer.hideRefs"]
    (mirror / "hooks/update").chmod(0o644)
    assert made(mirror) == ["wrote the hooks"]
    assert made(mirror) == []


def test_a_set_up_that_was_killed_on_the_way_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "www.git"
    path.mkdir()
    (path / "skein-making").touch()
    (path / "objects").mkdir()
    assert made(path) == [f"made the bare repository {path}"]
    assert not (path / "skein-making").exists()
    assert made(path) == []


def test_releases_and_tags_are_taken_once_and_neither_moved_nor_deleted(mirror: Path, work: Path) -> None:
    assert push(work, mirror, f"HEAD~1:{OLD}", f"HEAD~1:{TAG}") == ""
    for ref in (OLD, TAG):
        assert "never moved" in push(work, mirror, f"+HEAD:{ref}")
        assert "never moved" in push(work, mirror, f"+other:{ref}")
        assert "no push deletes it" in push(work, mirror, f":{ref}")
    assert push(work, mirror, f"HEAD~1:{OLD}", f"HEAD:{NEW}") == ""
    assert refs(mirror) == [OLD, NEW, TAG]
    assert git("rev-parse", OLD, cwd=mirror) == git("rev-parse", "HEAD~1", cwd=work)


def test_one_ref_that_is_refused_keeps_the_others_out(mirror: Path, work: Path) -> None:
    assert push(work, mirror, f"HEAD~1:{OLD}") == ""
    assert "never moved" in push(work, mirror, f"HEAD:{NEW}", f"+HEAD:{OLD}")
    assert refs(mirror) == [OLD]


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/main",
        "refs/replace/" + "a" * 40,
        "refs/notes/commits",
        "refs/tags/v1",
        "refs/pull/1",
        "refs/tags/release",
    ],
)
def test_nothing_but_skein_s_own_refs_is_taken(mirror: Path, work: Path, ref: str) -> None:
    assert push(work, mirror, f"HEAD:{ref}")
    assert refs(mirror) == []


def test_the_ledger_grows_and_is_neither_rewritten_nor_deleted(mirror: Path, work: Path) -> None:
    assert push(work, mirror, f"HEAD~1:{LEDGER}") == ""
    assert push(work, mirror, f"HEAD:{LEDGER}") == ""
    assert "would lose records" in push(work, mirror, f"+other:{LEDGER}")
    assert "would lose records" in push(work, mirror, f"+HEAD~1:{LEDGER}")
    assert "never deleted" in push(work, mirror, f":{LEDGER}")


def test_a_user_s_own_hooks_path_does_not_open_a_mirror(
    mirror: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\thooksPath = /nowhere\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert push(work, mirror, f"HEAD:{OLD}") == ""
    assert "never moved" in push(work, mirror, f"+other:{OLD}")


def raw(work: Path, kind: str, data: bytes) -> str:
    return git("hash-object", "-t", kind, "-w", "--literally", "--stdin", data=data, cwd=work)


def old_commits(work: Path) -> list[str]:
    """Write commits as old programs made them: harmless, and none that git would write today."""
    blob = bytes.fromhex(git("hash-object", "-w", "--stdin", data=b"x", cwd=work))
    folder = bytes.fromhex(raw(work, "tree", b"100644 file\0" + blob))
    padded = raw(work, "tree", b"040000 folder\0" + folder)
    plain = git("rev-parse", "HEAD^{tree}", cwd=work)
    who = ("a <a@b>1 +0000", "a <a@b> 1 +0000000", "<a@b> 1 +0000", "a <a@b> 01 +0000")
    made = [raw(work, "commit", f"tree {padded}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n".encode())]
    texts = (f"tree {plain}\nauthor {each}\ncommitter a <a@b> 1 +0000\n\nx\n" for each in who)
    return [*made, *(raw(work, "commit", text.encode()) for text in texts)]


def test_old_histories_with_harmless_faults_are_taken(mirror: Path, work: Path) -> None:
    for number, commit in enumerate(old_commits(work)):
        assert push(work, mirror, f"{commit}:refs/skein/old/{number}") == "", commit


def test_a_tree_that_would_write_into_git_s_own_folder_is_refused(mirror: Path, work: Path) -> None:
    blob = bytes.fromhex(git("hash-object", "-w", "--stdin", data=b"x", cwd=work))
    bad = raw(work, "tree", b"100644 .git\0" + blob)
    commit = git("commit-tree", bad, "-m", "x", cwd=work)
    assert "hasDotgit" in push(work, mirror, f"{commit}:{OLD}")


def test_a_tree_whose_path_leads_out_of_it_is_refused(mirror: Path, work: Path) -> None:
    blob = bytes.fromhex(git("hash-object", "-w", "--stdin", data=b"x", cwd=work))
    commit = git("commit-tree", raw(work, "tree", b"100644 ../../out\0" + blob), "-m", "x", cwd=work)
    assert "fullPathname" in push(work, mirror, f"{commit}:{OLD}")


def test_git_knows_every_fault_that_is_called_harmless(work: Path) -> None:
    known = git("help", "--config", cwd=work)
    assert [name for name in HARMLESS if f"receive.fsck.{name}" not in known] == []


@pytest.mark.parametrize("kind", ["bare", "objects", "work tree", "files"])
def test_another_project_s_repository_is_named_and_left_as_it_is(tmp_path: Path, work: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "bare":
        git("clone", "-q", "--bare", str(work), str(path))
    elif kind == "objects":
        git("init", "-q", "--bare", str(path))
        git("hash-object", "-w", "--stdin", data=b"x", cwd=path)
    elif kind == "work tree":
        git("clone", "-q", str(work), str(path))
    else:
        path.mkdir()
        (path / "notes.txt").write_text("mine\n")
    before = tree_of(path)
    with pytest.raises(Exception, match="choose another path") as caught:
        made(path)
    assert str(path) in str(caught.value)
    assert tree_of(path) == before


def test_an_empty_bare_repository_and_an_older_mirror_of_ours_are_taken_over(tmp_path: Path, work: Path) -> None:
    for path, specs in ((tmp_path / "empty.git", ()), (tmp_path / "ours.git", (f"HEAD:{OLD}", f"HEAD:{TAG}"))):
        git("init", "-q", "--bare", str(path))
        assert not specs or push(work, path, *specs) == ""
        assert "set skein.app" in made(path)
        assert made(path) == []


def test_another_app_s_mirror_and_a_newer_one_are_refused(mirror: Path) -> None:
    with pytest.raises(Exception, match="mirror of another app, www"):
        made(mirror, "shop")
    git("config", "skein.format", "2", cwd=mirror)
    before = tree_of(mirror)
    with pytest.raises(Exception, match="use the Skein that made it"):
        made(mirror)
    assert tree_of(mirror) == before


def ask(tmp_path: Path, verb: str, **fields: Any) -> dict[str, Any]:
    """Ask a real agent that knows of no target, as it runs on a mirror."""
    (tmp_path / "host").mkdir(exist_ok=True)
    host = Host.__new__(Host)
    host.root = host.app = tmp_path / "host"
    host.link = tmp_path / "host/current"
    agent = Agent(host, {"deploy_to": None})
    try:
        return agent.ask(verb, **fields)
    finally:
        agent.kill()


def look(tmp_path: Path, mirror: Path) -> dict[str, str]:
    """Return what is wrong with a mirror: {what: message}."""
    found = ask(tmp_path, "mirror_look", path=str(mirror), app="www", timeout_s=20)["findings"]
    return {each["what"]: each["message"] for each in found if not each["ok"]}


def test_a_look_finds_what_is_wrong_and_changes_nothing(mirror: Path, work: Path, tmp_path: Path) -> None:
    push(work, mirror, f"HEAD:{OLD}")
    before = tree_of(mirror)
    assert look(tmp_path, mirror) == {}
    assert tree_of(mirror) == before
    git("config", "receive.fsckObjects", "false", cwd=mirror)
    (mirror / "hooks/update").unlink()
    commit = git("rev-parse", "HEAD", cwd=work)
    (mirror / "objects" / commit[:2] / commit[2:]).unlink()
    assert sorted(look(tmp_path, mirror)) == ["hook", "settings", "sound"]
    with pytest.raises(Refused, match=r"no bare repository at .*: run fab setup"):
        look(tmp_path, tmp_path / "none.git")


def test_retention_drops_what_it_is_told_and_keeps_the_objects_for_a_while(
    mirror: Path, work: Path, tmp_path: Path
) -> None:
    push(work, mirror, f"other:{OLD}", f"other:{TAG}", f"HEAD:{NEW}", f"HEAD:{LEDGER}")
    other = git("rev-parse", "other", cwd=work)
    fields = {"path": str(mirror), "app": "www", "timeout_s": 20}
    for ref in (LEDGER, "refs/heads/main", "--all"):
        with pytest.raises(Refused, match="no ref of a release"):
            ask(tmp_path, "retain", refs={ref: other}, **fields)
    with pytest.raises(Refused, match="another object"):
        ask(tmp_path, "retain", refs={OLD: "1" * 40}, **fields)
    assert ask(tmp_path, "retain", refs={OLD: other, TAG: other}, **fields) == {"removed": [OLD, TAG]}
    assert refs(mirror) == [LEDGER, NEW]
    assert git("cat-file", "-t", other, cwd=mirror) == "commit"
    assert ask(tmp_path, "retain", refs={OLD: other, TAG: other}, **fields) == {"removed": []}
    assert look(tmp_path, mirror) == {}


def test_retention_leaves_another_project_s_repository_alone(work: Path, tmp_path: Path) -> None:
    git("update-ref", OLD, "HEAD", cwd=work)
    there = {OLD: git("rev-parse", OLD, cwd=work)}
    with pytest.raises(Refused, match="not-a-mirror"):
        ask(tmp_path, "retain", path=str(work / ".git"), app="www", refs=there, timeout_s=20)
    assert git("rev-parse", OLD, cwd=work) == there[OLD]


def test_a_target_s_repository_is_repacked_when_it_has_grown(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for number in range(PACKS_MOST + 2):
        one = host.release({b"a": b"%d" % number, **{b"f%d" % n: os.urandom(9) for n in range(100)}})
        host.deploy(one, number + 1, keep=2)
    packs = list((host.own / "repo.git/objects/pack").glob("*.pack"))
    assert len(packs) <= 3
    assert not has_grown(Repo(Wire(), str(host.own / "repo.git")))
    assert len(git("for-each-ref", cwd=host.own / "repo.git").splitlines()) == 3, "two releases and the spare"
    with host.session() as agent:
        agent.ask("verify", id=one.id)


@pytest.mark.parametrize("name", ["agent.tidy.before", "agent.tidy.after"])
def test_a_repack_that_is_killed_loses_nothing(tmp_path: Path, name: str) -> None:
    host = Host(tmp_path)
    one = host.release({b"%d" % number: os.urandom(100) for number in range(120)})
    host.deploy(one, 1, keep=2)
    repo = host.own / "repo.git"
    for number in range(PACKS_MOST + 1):
        data = git("hash-object", "-w", "--stdin", data=b"%d" % number, cwd=repo)
        git("pack-objects", "-q", str(repo / "objects/pack/pack"), data=data.encode() + b"\n", cwd=repo)
    with host.session(failpoint=name) as agent, pytest.raises(EOFError):
        agent.ask("prune", keep=2, spare=True)
    with host.session() as agent:
        agent.ask("prune", keep=2, spare=True)
        agent.ask("verify", id=one.id)
        agent.leave()
    assert not has_grown(Repo(Wire(), str(repo)))
    assert not host.leftovers()


def disk(free_mb: int, free_inodes: int, size_mb: int = 100_000, inodes: int = 10**6) -> SimpleNamespace:
    blocks = {"f_frsize": 4096, "f_bavail": free_mb * 256, "f_blocks": size_mb * 256}
    return SimpleNamespace(**blocks, f_favail=free_inodes, f_files=inodes)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (disk(67, 1002), ""),
        (disk(66, 1002), "66 MB are free .* needs 67 MB"),
        (disk(67, 1001), "1001 inodes are free .* needs 1002"),
        (disk(67, 0, inodes=0), ""),  # a file system that makes inodes as they are needed
        (disk(5, 40, size_mb=32, inodes=608), ""),  # a sixteenth of a small one
        (disk(4, 40, size_mb=32, inodes=608), "4 MB are free .* needs 5 MB"),
        (disk(5, 39, size_mb=32, inodes=608), "39 inodes are free .* needs 40"),
    ],
)
def test_a_release_needs_room_for_its_files_and_some_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: SimpleNamespace, told: str
) -> None:
    host = Host(tmp_path)
    blobs = [git("hash-object", "-w", "--stdin", data=b"x" * size, cwd=host.mirror) for size in (2 << 20, 1 << 20)]
    repo = Repo(Wire(), str(host.mirror))
    sizes = sizes_of(repo, [blob.encode() for blob in blobs])
    assert sizes == [2 << 20, 1 << 20]
    monkeypatch.setattr("tasks.agent.growth.os.statvfs", lambda path: found)
    if not told:
        need_room(repo, sizes)
        return
    with pytest.raises(Problem, match=told) as caught:
        need_room(repo, sizes)
    assert caught.value.code == "disk-full"
