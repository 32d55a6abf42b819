"""What the agent does with hostile trees, shared paths, and what stands where it works."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from agent_host import Content, Host, Refused
from needs import lack

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


def test_modes_do_not_depend_on_a_default_acl(host: Host) -> None:
    host.app.mkdir()
    everybody = b"".join(
        struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (0x01, 0x04, 0x20)
    )  # acl(5): user, group, other
    try:
        os.setxattr(host.app, "system.posix_acl_default", struct.pack("<I", 2) + everybody)
    except OSError as error:
        lack(f"a file system with ACLs: {error}")
    made = host.release({b"a/b": b"", b"run": b"#!/bin/sh\n"})
    host.deploy(made, 1, dirs=("var/storage",))
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


@pytest.mark.parametrize("name", [b"../../../stolen", b"..", b"a/../../../../stolen", b".git", b"a/.GIT/config"])
def test_a_path_that_leads_out_of_the_release_is_refused_however_few_files_are_written(host: Host, name: bytes) -> None:
    for turn in (1, 2, 3):
        host.deploy(host.release({b"same": b"", b"index": b"%d" % turn}), turn, keep=1)  # until there is a spare
    with host.session() as agent, pytest.raises(Refused, match="bad-tree"):
        agent.stage(host.odd_release(name))
    assert not list(host.root.rglob("stolen"))
