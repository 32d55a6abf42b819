"""Mirrors on this machine and behind a real sshd on loopback: what they are given, refuse and say."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from own_sshd import Sshd, wait_until

from tasks.core.errors import RepositoryError
from tasks.core.release import Release
from tasks.remote.mirrors import Mirror, push_all
from tasks.remote.source import Source

WHEN = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
PROD = "refs/skein/releases/prod/"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=dev", "-c", "user.email=dev@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[Any]:
    with sshd.connect() as opened:
        yield opened


@pytest.fixture(params=["here", "there"])
def reach(request: pytest.FixtureRequest) -> Any:
    """Give the way to the mirror: None for this machine, a connection for the other side of ssh."""
    return None if request.param == "here" else request.getfixturevalue("connection")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "www"
    git(tmp_path, "init", "-q", "-b", "main", "www")
    (folder / "index.php").write_text("<?php\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.fixture
def source(site: Path, tmp_path: Path) -> Iterator[Source]:
    with open_source(site, tmp_path / "cache") as opened:
        yield opened


def open_source(site: Path, cache: Path) -> Source:
    return Source(site, cache, operator="ann@laptop", branch="main", subdir=None, signing_key=None)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Make an empty mirror whose path needs quoting."""
    git(tmp_path, "init", "-q", "--bare", "mir'ror $x.git")
    return tmp_path / "mir'ror $x.git"


def release(source: Source, number: int = 1, parent: str | None = None) -> Release:
    head = source.resolve("main")
    return source.make_release("prod", number, head, source.tree_of(head), parent, WHEN)


def change(site: Path, content: bytes = b"two\n") -> None:
    (site / "file").write_bytes(content)
    git(site, "add", "file")
    git(site, "commit", "-q", "-m", "more")


# --- the road that works


def test_a_release_and_its_tag_arrive(source: Source, bare: Path, reach: Any) -> None:
    mirror = Mirror("mirror-1", str(bare), reach)
    assert mirror.refs(PROD) == {}
    made = release(source)
    mirror.push(source, source.refspecs(made), 30)
    assert mirror.refs(f"{PROD}*") == {made.ref: made.commit}
    assert git(bare, "rev-parse", f"{made.tag}^{{commit}}") == made.source_commit
    assert len(git(bare, "for-each-ref").splitlines()) == 2
    git(bare, "fsck", "--strict")
    mirror.push(source, source.refspecs(made), 30)  # again: nothing to do is no error


def test_the_next_release_brings_its_change_alone(source: Source, site: Path, bare: Path, reach: Any) -> None:
    change(site, os.urandom(300_000))
    mirror = Mirror("mirror-1", str(bare), reach)
    one = release(source)
    mirror.push(source, source.refspecs(one), 30)
    before = size(bare)
    (site / "small").write_text("s")
    git(site, "add", "small")
    git(site, "commit", "-q", "-m", "small")
    mirror.push(source, source.refspecs(release(source, 2, one.commit)), 30)
    assert size(bare) - before < 20_000


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "objects").rglob("*") if path.is_file())


def test_what_another_machine_released_is_fetched(
    source: Source, site: Path, bare: Path, reach: Any, tmp_path: Path
) -> None:
    mirror = Mirror("mirror-1", str(bare), reach)
    one = release(source)
    two = release(source, 2, one.commit)
    mirror.push(source, [*source.refspecs(one), *source.refspecs(two)], 30)
    with open_source(site, tmp_path / "other") as other:
        assert not other.has(two.commit)
        mirror.fetch(other, [f"{two.commit}:{two.ref}", f"{one.ref}:{one.ref}"], 30)
        assert other.releases("prod") == {one.id: one.commit, two.id: two.commit}
        assert other.read_release("prod", two.id, two.commit) == two
        change(site)
        mirror.push(other, other.refspecs(release(other, 3, two.commit)), 30)


def test_refs_of_one_prefix_are_listed_and_no_others(source: Source, bare: Path, reach: Any) -> None:
    made = release(source)
    mirror = Mirror("mirror-1", str(bare), reach)
    others = ["refs/skein/releases/production/x", f"refs/heads/{PROD}x", "refs/replace/" + "1" * 40]
    mirror.push(source, [*source.refspecs(made), *(f"{made.commit}:{ref}" for ref in others)], 30)
    assert set(mirror.refs(PROD)) == {made.ref}
    assert set(mirror.refs("refs/skein/releases/prod")) == {made.ref, others[0]}


def test_fifty_megabytes_pass_both_ways(
    source: Source, site: Path, bare: Path, connection: Any, tmp_path: Path
) -> None:
    change(site, os.urandom(50_000_000))
    mirror = Mirror("mirror-1", str(bare), connection)
    made = release(source)
    mirror.push(source, source.refspecs(made), 120)
    git(tmp_path, "init", "-q", "empty")
    with open_source(tmp_path / "empty", tmp_path / "cache") as other:
        mirror.fetch(other, [f"{made.ref}:{made.ref}"], 120)
        assert other.tree_of(made.commit) == made.tree


def test_a_shallow_source_can_be_released(source: Source, site: Path, bare: Path, reach: Any, tmp_path: Path) -> None:
    change(site)
    git(tmp_path, "clone", "-q", "--depth=1", site.as_uri(), "shallow")
    with open_source(tmp_path / "shallow", tmp_path / "cache") as shallow:
        made = release(shallow)
        Mirror("mirror-1", str(bare), reach).push(shallow, source_chain(shallow, made), 30)
    assert git(bare, "ls-tree", "--name-only", made.ref) == "file\nindex.php"


def source_chain(source: Source, made: Release) -> list[str]:
    return [source.refspecs(made)[0]]


def test_settings_of_the_private_repository_and_the_user_are_not_asked(
    source: Source, bare: Path, reach: Any, tmp_path: Path
) -> None:
    hook = source.git_dir / "hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    for path in (hook, source.git_dir / "hooks/reference-transaction"):
        path.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 1\n")
        path.chmod(0o755)
    (tmp_path / ".gitconfig").write_text("[push]\n\tgpgSign = true\n\tfollowTags = true\n[protocol]\n\tallow = never\n")
    made = release(source)
    mirror = Mirror("mirror-1", str(bare), reach)
    mirror.push(source, source_chain(source, made), 30)
    assert mirror.refs("refs/") == {made.ref: made.commit}
    assert not (tmp_path / "ran").exists()


# --- what is refused


def test_a_missing_repository_names_the_command(source: Source, tmp_path: Path, reach: Any) -> None:
    made = release(source)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing.git", tmp_path / "empty"):
        mirror = Mirror("mirror-1", str(path), reach)
        for attempt in (lambda m: m.refs(PROD), lambda m: m.push(source, source_chain(source, made), 30)):
            with pytest.raises(RepositoryError, match=rf"no bare repository at mirror-1:{path}: run `fab setup"):
                attempt(mirror)


def test_what_is_no_repository_names_another_path_as_the_way_out(source: Source, tmp_path: Path, reach: Any) -> None:
    (tmp_path / "photos/2026").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(RepositoryError, match=rf"{name} is there and is no bare .*: choose another path") as caught:
            Mirror("mirror-1", str(tmp_path / name), reach).refs(PROD)
        assert "fab setup" not in str(caught.value)


def test_a_release_that_stands_there_is_never_moved(source: Source, site: Path, bare: Path, reach: Any) -> None:
    mirror = Mirror("mirror-1", str(bare), reach)
    one = release(source)
    mirror.push(source, source.refspecs(one), 30)
    change(site)
    two = release(source, 2, one.commit)
    forward = [f"{two.commit}:{one.ref}", *source.refspecs(two)]
    with pytest.raises(RepositoryError, match=rf"{one.ref} .*stands there already"):
        mirror.push(source, forward, 30)
    assert mirror.refs("refs/skein/") == {one.ref: one.commit}, "all or nothing"


def test_a_ref_elsewhere_goes_forward_and_never_back(source: Source, bare: Path, reach: Any) -> None:
    mirror = Mirror("mirror-1", str(bare), reach)
    one = release(source)
    two = release(source, 2, one.commit)
    ledger = "refs/skein/ledger/prod"
    for made in (one, two):
        mirror.push(source, [f"{made.commit}:{ledger}"], 30)
    with pytest.raises(RepositoryError, match=r"refs/skein/ledger/prod \[rejected\] \(non-fast-forward\)"):
        mirror.push(source, [f"{one.commit}:{ledger}", *source.refspecs(one)], 30)
    assert mirror.refs("refs/") == {ledger: two.commit}


def test_what_a_hook_of_the_mirror_says_is_told(source: Source, bare: Path, reach: Any) -> None:
    hook = bare / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf 'not on \\033[31mfridays\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RepositoryError, match=r"hook declined.*remote: not on \\x1b\[31mfridays"):
        Mirror("mirror-1", str(bare), reach).push(source, source.refspecs(release(source)), 30)


def test_a_mirror_that_forgets_is_noticed(source: Source, bare: Path, reach: Any) -> None:
    hook = bare / "hooks/post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nread old new ref\nexec git update-ref -d "$ref"\n')
    hook.chmod(0o755)
    made = release(source)
    with pytest.raises(RepositoryError, match=rf"took the push and has not {made.ref}"):
        Mirror("mirror-1", str(bare), reach).push(source, source_chain(source, made), 30)


@pytest.mark.parametrize(
    "spec", ["+{}:refs/skein/x", ":refs/skein/x", "{}", "main:refs/heads/main", "--mirror", "{}:x"]
)
def test_nothing_is_forced_deleted_or_guessed(source: Source, bare: Path, spec: str) -> None:
    mirror = Mirror("mirror-1", str(bare), None)
    for attempt in (mirror.push, mirror.fetch):
        with pytest.raises(ValueError, match="no refspec for a mirror"):
            attempt(source, [spec.format("1" * 40)], 30)


def test_fetch_never_replaces_what_is_known(source: Source, bare: Path, reach: Any, tmp_path: Path) -> None:
    made = release(source)
    Mirror("mirror-1", str(bare), reach).push(source, source.refspecs(made), 30)
    other = release(source, 2)
    with pytest.raises(RepositoryError, match="fetch with mirror-1"):
        Mirror("mirror-1", str(bare), reach).fetch(source, [f"{made.ref}:{other.ref}"], 30)
    assert source.releases("prod")[other.id] == other.commit
    with pytest.raises(RepositoryError, match="fetch with mirror-1"):
        Mirror("mirror-1", str(bare), reach).fetch(source, [f"{'1' * 40}:{PROD}x"], 30)


# --- trouble on the way


def test_a_host_without_git_is_told(
    source: Source, bare: Path, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.remote.mirrors.SERVICES", {"push": "git-nowhere {}", "fetch": "env git-nowhere {}"})
    mirror = Mirror("mirror-1", str(bare), connection)
    with pytest.raises(RepositoryError, match="no git on mirror-1"):
        mirror.refs(PROD)
    with pytest.raises(RepositoryError, match="no git on mirror-1"):
        mirror.push(source, source.refspecs(release(source)), 30)


def test_a_host_that_refuses_is_told(source: Source, bare: Path, sshd: Sshd) -> None:
    with sshd.connect(port=1) as unreachable, pytest.raises(RepositoryError, match="no channel to mirror-1 for git"):
        Mirror("mirror-1", str(bare), unreachable).refs(PROD)


def test_a_silent_mirror_ends_at_the_deadline(source: Source, bare: Path, reach: Any, tmp_path: Path) -> None:
    hook = bare / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nexec sleep 60\n")
    hook.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(RepositoryError, match=r"push with mirror-1:.* was not done after 2 s"):
        Mirror("mirror-1", str(bare), reach).push(source, source.refspecs(release(source)), 2)
    assert time.monotonic() - began < 8
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert Mirror("mirror-1", str(bare), reach).refs(PROD) == {}, "the connection serves on"


class Relay:
    """A link that can be cut without a word: it goes on taking nothing and giving nothing."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target, self.cut, self.passed = port, threading.Event(), 0
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        self._ends += [near, far]
        for one, other in ((near, far), (far, near)):
            self._threads.append(threading.Thread(target=self._carry, args=(one, other)))
            self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self.cut.is_set() and (data := one.recv(65536)):
                other.sendall(data)
                self.passed += len(data)

    def close(self) -> None:
        self.cut.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in [self._listener, *self._ends]:
            end.close()


def test_a_link_cut_in_the_middle_ends_at_the_deadline(source: Source, site: Path, bare: Path, sshd: Sshd) -> None:
    change(site, os.urandom(40_000_000))
    made = release(source)
    relay = Relay(sshd.port)
    connection = sshd.connect(relay.port)
    connection.open()
    threading.Thread(target=lambda: (wait_until(lambda: relay.passed > 5_000_000, "no bytes"), relay.cut.set())).start()
    began = time.monotonic()
    with pytest.raises(RepositoryError, match="was not done after 4 s"):
        Mirror("mirror-1", str(bare), connection).push(source, source.refspecs(made), 4)
    assert time.monotonic() - began < 10
    assert relay.cut.is_set()
    relay.close()
    connection.close()
    assert git(bare, "for-each-ref") == ""
    wait_until(lambda: not any(t.name == "skein-wire" for t in threading.enumerate()), "a thread is left behind")


def test_mirrors_are_pushed_side_by_side_and_fail_alone(
    source: Source, bare: Path, connection: Any, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "--bare", "second.git")
    mirrors = [
        Mirror("here", str(tmp_path / "second.git"), None),
        Mirror("there", str(bare), connection),
        Mirror("gone", str(tmp_path / "gone.git"), connection),
    ]
    made = release(source)
    connection.open()
    outcome = push_all(mirrors, source, source.refspecs(made), 30)
    assert list(outcome) == ["here", "there", "gone"]
    assert (outcome["here"], outcome["there"]) == (None, None)
    assert "no bare repository" in str(outcome["gone"])
    assert mirrors[0].refs(PROD) == mirrors[1].refs(PROD) == {made.ref: made.commit}


def test_a_push_can_be_cancelled(source: Source, bare: Path, connection: Any, tmp_path: Path) -> None:
    hook = bare / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nexec sleep 60\n")
    hook.chmod(0o755)
    mirror = Mirror("mirror-1", str(bare), connection)
    threading.Thread(target=lambda: (wait_until((tmp_path / "pid").exists, "no hook"), mirror.cancel())).start()
    with pytest.raises(RepositoryError, match="was cancelled"):
        mirror.push(source, source.refspecs(release(source)), 50)
    wait_until(lambda: bool((tmp_path / "pid").read_text()), "no pid")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
