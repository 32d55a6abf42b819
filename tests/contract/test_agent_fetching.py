"""What the agent does with mirrors that are wrong, urls that are none, and a repository that is damaged."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_host import Content, Host, Refused, alive, git, until

ONE: dict[bytes, Content] = {b"index.html": b"one", b"dir/file": b"file"}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"dir/file": b"file"}


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c false", "--upload-pack=false", "http://127.0.0.1/x", "relative/path", "file:///a b"],
)
def test_urls_that_are_none_are_skipped_and_nothing_is_executed(host: Host, url: str) -> None:
    made = host.release(ONE)
    with host.session() as agent:
        with pytest.raises(Refused, match="malformed url"):
            agent.fetch(made, url)
        findings = agent.ask("check", linked_files=[], mirrors=[{"name": "m", "url": url}])["findings"]
    assert [each["message"] for each in findings if each["what"] == "mirror m"] == ["malformed url"]


def test_mirrors_that_are_wrong_are_passed_over_and_named(host: Host, tmp_path: Path) -> None:
    made = host.release(ONE)
    other = Host(_made(tmp_path / "other"))
    other.release({b"other": b""})
    urls = (f"file://{tmp_path}/none.git", f"file://{other.mirror}", f"file://{host.mirror}")
    with host.session() as agent:
        answer = agent.fetch(made, *urls)
        assert answer["from"] == "m2"
        assert [each["mirror"] for each in answer["skipped"]] == ["m0", "m1"]
        agent.leave()
    assert not host.leftovers()


def test_a_ref_that_stands_elsewhere_is_moved_not_refused(host: Host) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    two = host.release(TWO, identity="20261122T101559Z-0099-0000000")
    git("update-ref", two.ref, one.commit, cwd=host.own / "repo.git")
    with host.session() as agent:
        assert agent.fetch(two)["from"] == "hub"
        assert agent.stage(two)["made"] is True
    assert host.files(two) == TWO


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _remove(path: Path) -> None:
    shutil.rmtree(path)


def _empty_objects(repo: Path) -> None:
    for path in (repo / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")


def _garbage_objects(repo: Path) -> None:
    for path in (repo / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"garbage" * 10)


def _empty_refs(repo: Path) -> None:
    for path in (repo / "refs").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    (repo / "shallow").write_bytes(b"")


def _no_head(repo: Path) -> None:
    (repo / "HEAD").unlink()


def _a_file(repo: Path) -> None:
    shutil.rmtree(repo)
    repo.write_text("no directory at all")


def _stale_locks(repo: Path) -> None:
    for name in ("shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "objects/pack/tmp_pack_x"):
        (repo / name).write_text("stale")
    (repo / "objects" / "tmp_objdir-incoming-x").mkdir()


DAMAGES = [_remove, _empty_objects, _garbage_objects, _empty_refs, _no_head, _a_file, _stale_locks]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
@pytest.mark.parametrize("same", [True, False], ids=["the same release", "the next release"])
def test_a_damaged_repository_heals_by_itself(host: Host, damage: Callable[[Path], None], same: bool) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    damage(host.own / "repo.git")
    if same:
        shutil.rmtree(host.app / "releases" / one.id)
        with host.session() as agent:
            assert agent.stage(one)["made"] is True
            agent.leave()
        assert host.files(one) == ONE
    else:
        host.deploy(two, 2)
        assert host.files(two) == TWO
    assert not host.leftovers()


def test_a_blob_that_is_damaged_where_only_the_checkout_sees_it_heals_at_the_next_run(host: Host) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    repo = host.own / "repo.git"
    name = git("rev-parse", f"{one.commit}:index.html", cwd=repo)
    path = repo / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    two = host.release({**ONE, b"more": b"more"})
    with host.session() as agent, pytest.raises(Refused, match=r"git|bad-checkout"):
        agent.stage(two)
    host.deploy(two, 2)
    assert host.files(two) == {**ONE, b"more": b"more"}


def test_the_end_of_input_during_a_fetch_kills_git_and_sweeps(host: Host) -> None:
    made = host.release(ONE)
    with socket.create_server(("127.0.0.1", 0)) as silent, host.session() as agent:
        mirrors = [{"name": "silent", "url": f"git://127.0.0.1:{silent.getsockname()[1]}/x", "rank": 0}]
        agent.order("fetch", commit=made.commit, ref=made.ref, mirrors=mirrors, timeout_s=60)
        until(lambda: bool(_children(agent.pid)))
        connection, _ = silent.accept()
        children = _children(agent.pid)
        began = time.monotonic()
        assert agent.leave() == 0
        assert time.monotonic() - began < 6
        until(lambda: not any(map(alive, children)))
        connection.close()
    assert not host.leftovers()


def test_a_mirror_that_falls_silent_is_given_up_by_its_deadline(host: Host) -> None:
    made = host.release(ONE)
    with socket.create_server(("127.0.0.1", 0)) as silent, host.session() as agent:
        urls = [f"git://127.0.0.1:{silent.getsockname()[1]}/x", f"file://{host.mirror}"]
        mirrors = [{"name": f"m{place}", "url": url, "rank": place} for place, url in enumerate(urls)]
        answer = agent.ask("fetch", commit=made.commit, ref=made.ref, mirrors=mirrors, timeout_s=1)
        assert answer["from"] == "m1"
        assert "timeout" in answer["skipped"][0]["reason"]


def _children(pid: int) -> list[int]:
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, told) for each in (child, *_children(child))]
