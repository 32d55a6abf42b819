"""Keys on one host: the target's own, the pinned ones, managed lines of authorized_keys, linked files, the gate."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_host import POLICY, Agent, Host, Refused, tree_of

from tasks.agent import keys
from tasks.agent.problem import Problem
from tasks.agent.wire import Wire

PREFIX = "skein:www:prod:"
KEY_A, KEY_B = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}" for letter in "AB")
STRANGERS = (
    b"# people\r\n\n"
    b"ssh-rsa AAAAB3NzaC1yc2E= ann@laptop\n"
    b'command="echo \\"skein:www:prod:web-1\\"" ssh-ed25519 AAAAx bob\xff\xfe\n'
    b'restrict,command="x" ssh-ed25519 AAAAy skein:other:prod:web-1\n'
    b"  ssh-ed25519 AAAAz skein:www:prod:web-9"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this user another home, in the eyes of the agent."""
    entry = type("Entry", (), {"pw_dir": str(tmp_path / "home")})
    (tmp_path / "home").mkdir()
    monkeypatch.setattr("pwd.getpwuid", lambda uid: entry)
    return tmp_path / "home"


def prepare(agent: Agent, **changed: object) -> dict[str, Any]:
    return agent.ask(
        "prepare", **{"comment": PREFIX + "web-1", "pins": ["m ssh-ed25519 AAAA"], "policy": None, **changed}
    )


def authorize(keys_by_host: Mapping[str, str], path: str = "/srv/git/www.git", **changed: Any) -> dict[str, Any]:
    marks = {PREFIX + name: key for name, key in keys_by_host.items()}
    fields = {"path": path, "keys": marks, "prefix": PREFIX, "known": [*marks, PREFIX + "web-2"], "prune": False}
    return keys.authorize(Wire(), {**fields, "dry": False, **changed})


def line(key: str, name: str, path: str = "/srv/git/www.git") -> bytes:
    hook = "-c uploadpack.packObjectsHook=hooks/pack-objects"
    command = f"env GIT_PROTOCOL=version=2 git {hook} upload-pack '{path}'"
    return f'restrict,command="{command}" {key} {PREFIX}{name}\n'.encode()


# The target's own key


def test_a_target_gets_a_key_of_its_own_once(host: Host) -> None:
    with host.session() as agent:
        first = prepare(agent)
        agent.leave()
    key = host.own / "ssh/id_ed25519"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (host.own / "ssh").stat().st_mode & 0o777 == 0o700
    assert subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", key], capture_output=True, check=True).stdout
    before = tree_of(host.own / "ssh")
    with host.session() as agent:
        again = prepare(agent)
        agent.leave()
    assert again["public"] == first["public"]
    assert first["public"].startswith("ssh-ed25519 AAAA")
    assert (again["changed"], tree_of(host.own / "ssh")) == ([], before)
    assert "made its own key" in first["changed"]
    assert "installed the agent" in first["changed"]


def test_mirrors_pinned_keys_are_written_and_follow_the_operators(host: Host) -> None:
    with host.session() as agent:
        prepare(agent)
        assert prepare(agent, pins=["n ssh-ed25519 BBBB"])["changed"] == ["pinned 1 host keys of mirrors"]
        agent.leave()
    assert (host.own / "ssh/known_hosts").read_text() == "n ssh-ed25519 BBBB\n"
    assert host.leftovers() == []


def test_a_key_that_others_may_read_is_closed(host: Host) -> None:
    with host.session() as agent:
        prepare(agent)
        (host.own / "ssh/id_ed25519").chmod(0o644)
        assert prepare(agent)["changed"] != []
    assert (host.own / "ssh/id_ed25519").stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_named_and_left(host: Host) -> None:
    with host.session() as agent:
        prepare(agent)
        (host.own / "ssh/id_ed25519").write_text("nonsense")
        with pytest.raises(Refused, match="id_ed25519"):
            prepare(agent)
    assert (host.own / "ssh/id_ed25519").read_text() == "nonsense"


@pytest.mark.parametrize("point", ["agent.locked", "agent.install.before", "agent.setup.key"])
def test_a_preparation_that_was_killed_is_completed_by_the_next(host: Host, point: str) -> None:
    with host.session(failpoint=f"{point}:1:kill") as agent:
        with pytest.raises((EOFError, BrokenPipeError)):
            prepare(agent, policy=POLICY)
        assert agent.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)
    with host.session() as agent:
        assert prepare(agent, policy=POLICY)["public"]
        agent.leave()
    with host.session() as agent:
        assert prepare(agent, policy=POLICY)["changed"] == []
        agent.leave()
    assert host.leftovers() == []


def ssh_seen(host: Host, tmp_path: Path) -> list[str]:
    """Fetch over ssh with an ssh that only writes down its arguments and where it was started."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(f'#!/bin/sh\npwd >{tools}/seen\nprintf "%s\\n" "$@" >>{tools}/seen\nexit 1\n')
    (tools / "ssh").chmod(0o755)
    made = host.release({b"a": b"1"})
    path, os.environ["PATH"] = os.environ["PATH"], f"{tools}:{os.environ['PATH']}"
    try:
        with host.session() as agent:
            with pytest.raises(Refused):
                agent.fetch(made, "ssh://deploy@mirror/srv/git/www.git")
            agent.leave()
    finally:
        os.environ["PATH"] = path
    return (tools / "seen").read_text().splitlines()


@pytest.mark.parametrize("folder", ["plain", 'with space\'s "quotes" 100%h'])
def test_a_fetch_over_ssh_uses_the_own_key_and_the_pinned_keys_alone(tmp_path: Path, folder: str) -> None:
    host = Host(tmp_path / folder)
    with host.session() as agent:
        prepare(agent)
        agent.leave()
    where, *words = ssh_seen(host, tmp_path)
    assert where == str(host.own)
    assert words[words.index("-i") + 1] == "ssh/id_ed25519"
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"):
        assert f"-o{option}" in words
    assert "-oUserKnownHostsFile=ssh/known_hosts" in words


def test_a_fetch_without_an_own_key_leaves_the_users_ssh_settings_alone(host: Host, tmp_path: Path) -> None:
    _, *words = ssh_seen(host, tmp_path)
    assert "-i" not in words
    assert not [word for word in words if "UserKnownHostsFile" in word]
    assert "-oStrictHostKeyChecking=yes" in words


# authorized_keys


def test_lines_are_added_below_what_others_wrote_byte_for_byte(home: Path) -> None:
    path = home / ".ssh/authorized_keys"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(STRANGERS)
    path.chmod(0o644)
    answer = authorize({"web-1": KEY_A})
    assert path.read_bytes() == STRANGERS + b"\n" + line(KEY_A, "web-1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert answer["added"] == [PREFIX + "web-1"]
    assert answer["left"] == []


def test_a_second_time_nothing_is_written(home: Path) -> None:
    authorize({"web-1": KEY_A})
    before = tree_of(home)
    assert not any(authorize({"web-1": KEY_A})[what] for what in keys.DONE)
    assert tree_of(home) == before
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700


def test_a_changed_key_takes_the_old_ones_place_and_doubles_go(home: Path) -> None:
    authorize({"web-1": KEY_A, "web-2": KEY_B})
    path = home / ".ssh/authorized_keys"
    path.write_bytes(b"first\n" + path.read_bytes() + line(KEY_A, "web-1"))
    answer = authorize({"web-1": KEY_B})
    assert path.read_bytes() == b"first\n" + line(KEY_B, "web-1") + line(KEY_B, "web-2")
    assert (answer["replaced"], answer["removed"]) == ([PREFIX + "web-1"], [PREFIX + "web-1"])


def test_hosts_that_left_go_only_when_that_is_asked(home: Path) -> None:
    authorize({"web-1": KEY_A, "web-8": KEY_B})
    path = home / ".ssh/authorized_keys"
    assert authorize({"web-1": KEY_A})["left"] == [PREFIX + "web-8"]
    assert line(KEY_B, "web-8") in path.read_bytes()
    assert authorize({"web-1": KEY_A}, prune=True)["removed"] == [PREFIX + "web-8"]
    assert path.read_bytes() == line(KEY_A, "web-1")


def test_a_host_that_was_not_asked_keeps_its_line(home: Path) -> None:
    authorize({"web-1": KEY_A, "web-2": KEY_B})
    assert authorize({"web-1": KEY_A}, prune=True)["removed"] == []
    assert line(KEY_B, "web-2") in (home / ".ssh/authorized_keys").read_bytes()


def test_a_key_that_a_person_has_there_is_never_taken_over(home: Path) -> None:
    path = home / ".ssh/authorized_keys"
    path.parent.mkdir()
    path.write_text(f"{KEY_A} ann@laptop\n")
    answer = authorize({"web-1": KEY_A, "web-2": KEY_B})
    assert answer["taken"] == [PREFIX + "web-1"]
    assert path.read_bytes() == f"{KEY_A} ann@laptop\n".encode() + line(KEY_B, "web-2")


@pytest.mark.parametrize("other", ["skein:www:live:web-1", "skein-gate:shop:prod:0123456789abcdef"])
def test_a_key_that_is_let_in_for_another_environment_is_refused_and_named(home: Path, other: str) -> None:
    path = home / ".ssh/authorized_keys"
    path.parent.mkdir()
    before = f'restrict,command="another thing" {KEY_A} {other}\n'.encode()
    path.write_bytes(before)
    answer = authorize({"web-1": KEY_A, "web-2": KEY_B})
    assert (answer["taken"], answer["rivals"]) == ([PREFIX + "web-1"], {PREFIX + "web-1": other})
    assert path.read_bytes() == before + line(KEY_B, "web-2")


def test_a_key_that_may_do_the_very_same_for_another_environment_is_let_in(home: Path) -> None:
    authorize({"web-1": KEY_A})
    path = home / ".ssh/authorized_keys"
    path.write_bytes(path.read_bytes().replace(b"www:prod", b"www:live"))
    assert authorize({"web-1": KEY_A})["taken"] == []


def test_lines_can_be_had_without_anything_being_read_or_written(home: Path) -> None:
    answer = authorize({"web-1": KEY_A}, dry=True)
    assert [each.encode() + b"\n" for each in answer["lines"]] == [line(KEY_A, "web-1")]
    assert list(home.iterdir()) == []


def test_a_file_that_is_a_link_is_somebody_elses(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / "managed").write_text("x\n")
    (home / ".ssh/authorized_keys").symlink_to(home / "managed")
    with pytest.raises(Problem, match="--print"):
        authorize({"web-1": KEY_A})
    assert (home / "managed").read_text() == "x\n"


@pytest.mark.parametrize("bad", ["ssh-ed25519 AAAA\nssh-rsa AAAA", 'x",command="sh" AAAA', "ssh-ed25519", ""])
def test_what_is_no_key_gets_no_line(home: Path, bad: str) -> None:
    with pytest.raises(Problem, match="malformed"):
        authorize({"web-1": bad})
    assert not (home / ".ssh").exists()


@pytest.mark.parametrize(
    "path", ["/srv/git/a b.git", "/srv/it's.git", '/srv/"q".git', "/srv/a\\\"b'.git", "/srv/$(id)`x`;"]
)
def test_a_path_of_any_kind_is_one_word_of_the_forced_command(home: Path, path: str) -> None:
    authorize({"web-1": KEY_A}, path)
    (written,) = (home / ".ssh/authorized_keys").read_text().splitlines()
    command, rest = _unquoted(written.removeprefix('restrict,command="'))
    assert rest == f" {KEY_A} {PREFIX}web-1"
    assert shlex.split(command)[-2:] == ["upload-pack", path]
    assert len(shlex.split(command)) == len(shlex.split(keys.READ)) + 1


def _unquoted(text: str) -> tuple[str, str]:
    """Read a quoted option as sshd does: a backslash matters before a quote alone (OpenSSH's opt_dequote)."""
    said, place = "", 0
    while text[place] != '"':
        place += text[place : place + 2] == '\\"'
        said += text[place]
        place += 1
    return said, text[place + 1 :]


def test_a_run_that_was_killed_before_the_new_file_is_there_leaves_the_old_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorize({"web-1": KEY_A})
    path = home / ".ssh/authorized_keys"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", die)
        with pytest.raises(KeyboardInterrupt):
            authorize({"web-1": KEY_B})
    assert path.read_bytes() == line(KEY_A, "web-1")
    (path.parent / "authorized_keys.skein-new").write_text("left by a kill")
    authorize({"web-1": KEY_B})
    assert [each.name for each in path.parent.iterdir()] == ["authorized_keys"]


# Linked files


def share(agent: Agent, content: bytes, *, replace: bool = False, path: str = "conf/.env") -> list[str]:
    files = {path: base64.b64encode(content).decode()}
    done: list[str] = agent.ask("share", files=files, replace=replace)["shared"]
    return done


def test_a_linked_file_is_placed_once_and_never_over_another(host: Host) -> None:
    place = host.app / "shared/conf/.env"
    with host.session() as agent:
        assert share(agent, b"1") == ["placed shared/conf/.env"]
        assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"1", 0o640)
        assert share(agent, b"1") == []
        with pytest.raises(Refused, match="--replace"):
            share(agent, b"2")
        assert place.read_bytes() == b"1"
        assert share(agent, b"2", replace=True) == ["replaced shared/conf/.env"]
        agent.leave()
    assert place.read_bytes() == b"2"
    assert host.leftovers() == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "."])
def test_a_linked_file_stays_below_shared(host: Host, path: str) -> None:
    with host.session() as agent, pytest.raises(Refused):
        share(agent, b"1", path=path)
    assert list(host.root.rglob("x")) == []
