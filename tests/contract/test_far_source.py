"""The source behind a real sshd, with the real agent there: releases as on its own machine, and what is refused."""

from __future__ import annotations

import contextlib
import getpass
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from own_sshd import Sshd
from test_mirrors import WHEN, change, git, open_source

from tasks.agent.mirror import make_mirror
from tasks.agent.wire import Wire
from tasks.core.errors import RepositoryError, UsageError
from tasks.core.hosts import Host
from tasks.remote import mirrors
from tasks.remote.far import FarRepository
from tasks.remote.far_source import FarSource
from tasks.remote.fleet import Fleet
from tasks.remote.mirrors import Mirror
from tasks.remote.ssh import Connector

Far = Callable[..., FarSource]


@dataclass(frozen=True)
class Settings:
    known_hosts: Path
    identity_file: Path
    user: str = getpass.getuser()
    agent: bool = False
    gateway: str | None = None
    connect_timeout: float = 20.0
    config_file: Path | None = None


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    server = Sshd(folder, f"SetEnv XDG_CACHE_HOME={folder}/cache GIT_DIR=/nowhere\n")
    yield server
    server.stop()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a repository whose path needs quoting."""
    folder = tmp_path / "a 'site' $HOME"
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    (folder / "index.php").write_text("<?php\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.fixture
def far(sshd: Sshd, tmp_path: Path) -> Iterator[Far]:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {(sshd.key.parent / 'host.pub').read_text()}")
    host = Host("server-1", address="127.0.0.1", port=sshd.port)
    with ExitStack() as stack:
        connector = stack.enter_context(Connector(Settings(known, sshd.key)))

        def opened(path: Path | str, branch: str = "main", subdir: str | None = None) -> FarSource:
            fleet = stack.enter_context(Fleet(connector, [host], where={"who": "ann@laptop"}, width=2))
            source = FarSource(
                fleet, host, str(path), operator="ann@laptop", branch=branch, subdir=subdir, signing_key=None
            )
            return stack.enter_context(source)

        yield opened


def test_a_release_is_what_it_would_be_on_its_own_machine(far: Far, site: Path, tmp_path: Path) -> None:
    source = far(site)
    head = source.resolve(None)
    assert head == git(site, "rev-parse", "main") == source.resolve("HEAD")
    made = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    assert git(site, "rev-parse", f"{made.tag}^{{commit}}") == head
    with open_source(site, tmp_path / "cache") as near:
        git(site, "tag", "-d", made.tag)
        assert near.make_release("prod", 1, head, near.tree_of(head), None, WHEN) == made
    assert source.releases("prod") == {made.id: made.commit}
    assert source.read_release("prod", made.id, made.commit) == made


def test_what_changed_comes_as_a_small_delta_and_nothing_above_the_cap(far: Far, site: Path) -> None:
    change(site, os.urandom(300_000))
    source = far(site)
    one = source.make_release("prod", 1, head := source.resolve(None), source.tree_of(head), None, WHEN)
    (site / "small").write_text("s")
    git(site, "add", "small")
    git(site, "commit", "-q", "-m", "small")
    two = source.make_release("prod", 2, head := source.resolve(None), source.tree_of(head), one.commit, WHEN)
    assert source.changes(one.commit, two.commit).counts == {"added": 1, "changed": 0, "removed": 0}
    pack = source.delta(one.commit, two, 1000)
    assert pack is not None
    assert pack.startswith(b"PACK")
    assert len(pack) < 1000
    assert source.delta(None, two, 1000) is None


@pytest.fixture(params=["by itself", "through us"])
def mirror(request: pytest.FixtureRequest, sshd: Sshd, tmp_path: Path) -> Iterator[Mirror]:
    """Make a mirror that server-1 can log in to, or cannot."""
    path = tmp_path / "mir'ror.git"
    make_mirror(Wire(), {"path": str(path), "app": "www"})
    with sshd.connect() as connection:
        found = Mirror("mirror-1", str(path), connection, "www", "ssh://nobody@127.0.0.1:1/x")
        if request.param == "by itself":
            found._url, found.detour = f"file://{path}", ""
        yield found


@pytest.fixture(autouse=True)
def _files_are_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the other machine push to a path, for it has no key here; over ssh it is the lab's turn."""
    monkeypatch.setitem(mirrors.PAST_US, "GIT_ALLOW_PROTOCOL", "file:ssh")


def test_megabytes_pass_from_the_source_to_a_mirror_and_back(far: Far, site: Path, mirror: Mirror) -> None:
    change(site, os.urandom(3_000_000))
    source = far(site)
    made = source.make_release("prod", 1, head := source.resolve(None), source.tree_of(head), None, WHEN)
    mirror.push(source, source.refspecs(made), 60)
    assert git(Path(mirror.path), "rev-parse", made.ref, f"{made.tag}^{{commit}}").split() == [made.commit, head]
    git(Path(mirror.path), "fsck", "--strict")
    source.private.run("forget", "update-ref", "-d", made.ref)
    mirror.fetch(source, [f"{made.commit}:{made.ref}"], 60)
    assert source.releases("prod") == {made.id: made.commit}


def test_what_the_mirror_refuses_is_told_either_way(far: Far, site: Path, mirror: Mirror) -> None:
    source = far(site)
    head = source.resolve(None)
    with pytest.raises(RepositoryError, match=r"refs/heads/x .*(hook declined|has no place on a mirror|deny updating)"):
        mirror.push(source, [f"{head}:refs/heads/x"], 30)
    with pytest.raises(RepositoryError, match="no mirror of shop that this Skein knows"):
        Mirror("mirror-1", mirror.path, mirror._connection, "shop", "file:///x").push(
            source, [f"{head}:refs/skein/x"], 30
        )


def test_why_the_source_cannot_log_in_is_kept_for_the_report(far: Far, site: Path, sshd: Sshd, tmp_path: Path) -> None:
    make_mirror(Wire(), {"path": str(tmp_path / "m.git"), "app": "www"})
    source = far(site)
    with sshd.connect() as connection:
        mirror = Mirror("mirror-1", str(tmp_path / "m.git"), connection, "www", "ssh://nobody@127.0.0.1:1/x")
        mirror.push(source, [f"{source.resolve(None)}:refs/skein/x"], 30)
    assert mirror.detour
    assert "onnect" in mirror.detour


def test_uncommitted_files_are_named_and_git_there_runs_nothing_of_the_site(
    far: Far, site: Path, tmp_path: Path
) -> None:
    for name in ("reference-transaction", "post-commit"):
        (site / ".git/hooks").mkdir(exist_ok=True)
        (site / ".git/hooks" / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
        (site / ".git/hooks" / name).chmod(0o755)
    git(site, "config", "core.fsmonitor", f"touch '{tmp_path}/ran'; false")
    (tmp_path / "ran").unlink(missing_ok=True)
    (site / "new\n.php").write_text("x")
    source = far(site)
    with pytest.raises(RepositoryError, match=r"server-1:.* not committed:\n  new\\n.php"):
        source.refuse_dirty(None)
    source.make_release("prod", 1, head := source.resolve(None), source.tree_of(head), None, WHEN)
    assert not (tmp_path / "ran").exists()


def test_a_bare_repository_and_a_linked_work_tree_are_sources(far: Far, site: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(site), "bare.git")
    git(site, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    head = git(site, "rev-parse", "main")
    for path in (tmp_path / "bare.git", tmp_path / "linked"):
        source = far(path)
        source.refuse_dirty(None)
        assert source.tree_of(source.resolve("main")) == git(site, "rev-parse", "main^{tree}")
        assert source.resolve("main") == head


def test_what_is_no_repository_is_refused_by_name(far: Far, site: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (site / "inside").mkdir()
    with pytest.raises(RepositoryError, match=r"source server-1:.*no folder .*set `path` under \[source\]"):
        far(tmp_path / "none")
    for path in (tmp_path / "plain", site / "inside"):
        with pytest.raises(RepositoryError, match=r"no git repository at .*run `git init` there"):
            far(path)


def test_a_snapshot_is_for_the_machine_itself(far: Far, site: Path) -> None:
    with pytest.raises(UsageError, match="run it on server-1"):
        far(site).snapshot(WHEN)


def test_two_deployers_share_what_was_lent_and_a_damaged_one_is_made_anew(far: Far, site: Path) -> None:
    one, two = far(site), far(site)
    made = one.make_release("prod", 1, head := one.resolve(None), one.tree_of(head), None, WHEN)
    assert two.releases("prod") == {made.id: made.commit}
    for source in (one, two):
        source._fleet.close()
    (Path(str(one.private.git_dir)) / made.ref).write_text("")
    assert far(site).releases("prod") == {}


def test_a_command_that_hangs_there_ends_at_its_deadline(far: Far, site: Path) -> None:
    source = far(site)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        source.private.attempt("-c", "alias.hang=!sleep 30", "hang", deadline_s=1)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(TimeoutError):
        source.private.attempt("-c", "alias.hang=!sleep 30", "hang", cancelled=cancelled)
    assert time.monotonic() - began < 10


def test_a_connection_that_breaks_is_told_and_not_taken_for_an_answer(far: Far, site: Path) -> None:
    source = far(site)
    assert isinstance(source.private, FarRepository)
    with contextlib.suppress(Exception):
        source.private.machine.connection.client.close()
    with pytest.raises(RepositoryError, match=r"server-1: git .* was cut off"):
        source.resolve(None)


def test_more_commands_at_once_than_a_stock_sshd_has_channels(far: Far, site: Path) -> None:
    source = far(site)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(source.resolve(None))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 24
    assert len(set(found)) == 1


def test_a_login_shell_that_prints_is_named(far: Far, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.remote.far.CLEAN", 'echo welcome; exec env -i HOME="$HOME" PATH="$PATH" LC_ALL=C "$@"')
    with pytest.raises(RepositoryError, match="login shell may print something"):
        far(site)
