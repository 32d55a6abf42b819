"""What the agent does with hostile trees, shared paths, mirrors that are wrong, and a repository that is damaged."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_host import DEADLINE_S, Content, Host, Refused, alive, git, until

ONE: dict[bytes, Content] = {b"index.html": b"one", b"dir/file": b"file"}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"dir/file": b"file"}
HOSTILE: dict[bytes, Content] = {
    b"new\nline": b"1",
    b" space ": b"2",
    b"-rf": b"3",
    b"--index": b"4",
    b"quo'te\"s": b"5",
    b"back\\slash": b"6",
    b"invalid\xff\xfe": b"7",
    b"\x01control": b"8",
    "ünïcode".encode(): b"9",
    b"x" * 255: b"10",
    b"/".join([b"d" * 200] * 8) + b"/deep": b"11",
    b"con": b"12",
    b".gitattributes": b"* text eol=crlf ident working-tree-encoding=UTF-16\n",
    b"crlf.txt": b"a\r\nb\n$Id$\r\n",
    b".gitignore": b"*\n",
    b"out": ("/etc/passwd",),
    b"up": ("../../../../..",),
    b"empty": b"",
    b"binary": bytes(range(256)) * 4096,
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_hostile_names_links_and_attributes_are_carried_exactly(host: Host) -> None:
    made = host.release(HOSTILE)
    host.deploy(made, 1)
    assert host.files(made) == HOSTILE
    with host.session() as agent:
        assert agent.ask("verify", id=made.id)["files"] == len(HOSTILE)
        assert agent.ask("status")["drift"] == []


def test_an_empty_release_is_one(host: Host) -> None:
    made = host.release({})
    host.deploy(made, 1)
    assert host.files(made) == {}


def test_modes_do_not_depend_on_the_umask(host: Host) -> None:
    made = host.release({b"a/b": b"", b"run": b"#!/bin/sh\n"})
    before = os.umask(0o077)
    try:
        host.deploy(made, 1, dirs=("var/storage",))
    finally:
        os.umask(before)
    root = host.app / "releases" / made.id
    modes = {str(path.relative_to(root)): path.lstat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    assert modes == {".": 0o755, "a": 0o755, "a/b": 0o644, "run": 0o755, "var": 0o755, "var/storage": 0o777}


def test_linked_paths_lead_into_shared_from_any_depth(host: Host) -> None:
    made = host.release(ONE)
    (host.app / "shared").mkdir(parents=True)
    (host.app / "shared" / ".env").write_text("secret")
    host.deploy(made, 1, dirs=("storage", "dir/logs", "a/b/c"), files=(".env",))
    (host.link / "a/b/c/log").write_text("written through the link")
    assert (host.app / "shared/a/b/c/log").read_text() == "written through the link"
    assert (host.link / ".env").read_text() == "secret"
    assert (host.link / "dir/logs").resolve() == host.app.resolve() / "shared/dir/logs"


@pytest.mark.parametrize(
    ("files", "dirs", "told"),
    [
        ({b"storage": b"a file"}, ("storage",), "linked-path-taken"),
        ({b"storage": ("/etc",)}, ("storage",), "linked-path-taken"),
        ({b"storage/kept": b""}, ("storage",), "linked-path-taken"),
        ({b"var": ("/etc",)}, ("var/storage",), "linked-path-taken"),
        ({b"a": b""}, ("var", "var/storage"), "linked-path-taken"),
        ({b"a": b""}, ("var/storage", "var"), "linked-path-taken"),
        ({b"a": b""}, ("../outside",), "bad-request"),
        ({b"a": b""}, ("/etc",), "bad-request"),
        ({b"a": b""}, ("var//x",), "bad-request"),
        ({b"a": b""}, ("",), "bad-request"),
        ({b"a": b""}, ("\ud800",), "bad-request"),
        ({b"a": b""}, ("taken",), "linked-path-taken: .*taken is not a directory"),
    ],
)
def test_linked_paths_that_cannot_be_are_refused_and_nothing_stands(
    host: Host, files: dict[bytes, Content], dirs: tuple[str, ...], told: str
) -> None:
    made = host.release(files)
    (host.app / "shared").mkdir(parents=True)
    (host.app / "shared" / "taken").write_text("mine")
    with host.session() as agent:
        with pytest.raises(Refused, match=told):
            agent.stage(made, dirs)
        agent.leave()
    assert os.listdir(host.app / "releases") == []
    assert not host.leftovers()
    assert (host.app / "shared" / "taken").read_text() == "mine"


def test_missing_linked_files_are_all_named(host: Host) -> None:
    made = host.release(ONE)
    (host.app / "shared" / "key.pem").mkdir(parents=True)
    (host.app / "shared" / "dangling").symlink_to("nowhere")
    with host.session() as agent, pytest.raises(Refused, match=r"\.env, key\.pem, dangling"):
        agent.stage(made, files=(".env", "key.pem", "dangling"))


def test_a_damaged_release_is_made_anew_and_a_live_one_is_left_alone(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    host.deploy(two, 2)
    for made in (one, two):
        (host.app / "releases" / made.id / "index.html").write_bytes(b"hacked")
    with host.session() as agent:
        assert agent.stage(one)["made"] is True
        with pytest.raises(Refused, match="damaged-live"):
            agent.stage(two)
        agent.leave()
    assert host.files(one) == ONE
    assert not host.leftovers()


def test_a_damaged_manifest_does_not_hide_the_others_and_heals(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    host.deploy(two, 2)
    (host.own / "releases" / f"{one.id}.json").write_bytes(b"")
    with host.session() as agent:
        assert set(agent.ask("probe")["releases"]) == {two.id}
        assert agent.stage(one)["made"] is True
        assert set(agent.ask("probe")["releases"]) == {one.id, two.id}


@pytest.mark.parametrize("kind", ["directory", "file", "foreign link"])
def test_what_is_not_ours_at_the_link_is_refused_and_untouched(host: Host, kind: str) -> None:
    made = host.release(ONE)
    host.app.mkdir()
    if kind == "directory":
        host.link.mkdir()
    elif kind == "file":
        host.link.write_text("mine")
    else:
        host.link.symlink_to("/var/www")
    before = host.link.lstat().st_ino
    with host.session() as agent:
        assert agent.ask("probe")["problems"]
        agent.stage(made)
        with pytest.raises(Refused, match=r"not-a-link|foreign-link"):
            agent.ask("arm", id=made.id)
        with pytest.raises(Refused, match=r"not-a-link|foreign-link"):
            agent.flip(made, 1, expect=None)
    assert host.link.lstat().st_ino == before


def test_a_link_that_dangles_is_flipped_away_from(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    shutil.rmtree(host.app / "releases" / one.id)
    host.deploy(two, 2)
    assert host.files(two) == TWO
    assert host.current() == two.id


def test_a_link_elsewhere_is_absolute_and_its_directory_is_not_ours_to_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "srv"
    folder.mkdir()
    host = Host(tmp_path, link=folder / "www")
    one = host.release(ONE)
    (folder / ".www.skein-note").symlink_to("mine")
    (folder / ".www.skein-123").symlink_to("mine too")
    (folder / ".www.skein-124").write_text("a file of mine")
    (folder / ".other.skein-1").symlink_to(host.app / "releases" / one.id)
    (folder / ".www.skein-125").symlink_to(host.app / "releases" / one.id)
    host.deploy(one, 1)
    assert os.readlink(host.link) == str(host.app / "releases" / one.id)
    left = {".www.skein-note", ".www.skein-123", ".www.skein-124", ".other.skein-1", "www"}
    assert set(os.listdir(folder)) == left


def test_a_link_in_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    host = Host(tmp_path, link=tmp_path / "none" / "www")
    made = host.release(ONE)
    with host.session() as agent:
        found = agent.ask("check", linked_files=[], mirrors=[])["findings"]
        assert [each["ok"] for each in found if each["what"] == "link"] == [False]
        agent.stage(made)
        with pytest.raises(Refused, match="no-link-directory"):
            agent.ask("arm", id=made.id)


def test_our_own_directories_must_be_real_ones(host: Host) -> None:
    made = host.release(ONE)
    (host.root / "elsewhere").mkdir()
    (host.root / "elsewhere" / "precious").write_text("mine")
    host.own.mkdir(parents=True)
    (host.own / "tmp").symlink_to(host.root / "elsewhere")
    with host.session() as agent, pytest.raises(Refused, match="not-a-directory"):
        agent.stage(made)
    assert (host.root / "elsewhere" / "precious").exists()


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB and 600 inodes at ``app``; only root can make one."""
    app = tmp_path / "app"
    app.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=12m,nr_inodes=600", "none", str(app)]
    if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
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
    fill(_made(host.app / "full"))
    shutil.rmtree(host.own / "agent")  # even installing the agent has no room
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
    try:
        host.deploy(two, 2)
    except Refused as refused:
        assert refused.code == "disk-full", refused
        assert host.current() == one.id
    shutil.rmtree(host.app / "full")
    host.deploy(two, 3)
    assert host.files(two) == two.files
    assert not host.leftovers()
