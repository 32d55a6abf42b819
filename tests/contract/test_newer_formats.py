"""What a newer Skein wrote is refused with a plain word, and nothing at all is written: one case for every record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_host import Content, Host, Made, Refused, git, tree_of
from own_sshd import Sshd

from tasks.agent.growth import retain
from tasks.agent.mirror import look_at_mirror, make_mirror
from tasks.agent.problem import Problem
from tasks.agent.wire import Wire
from tasks.core.errors import RepositoryError
from tasks.remote import bundle
from tasks.remote.mirrors import Mirror
from tasks.remote.source import Source

ONE: dict[bytes, Content] = {b"index.html": b"one"}
TWO: dict[bytes, Content] = {b"index.html": b"two"}
POLICY: dict[str, Any] = {"environment": "prod", "after_flip": None, "mirrors": [], "keep": 5}
APP = "www"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Give a host that was set up with a gate, and serves one release."""
    host = Host(tmp_path)
    with host.session() as agent:
        place = {"deploy_to": str(host.app), "link": str(host.link)}
        agent.ask("prepare", comment="skein:www:prod:web-1", pins=["m ssh-ed25519 AAAA"], policy={**POLICY, **place})
        agent.leave()
    host.deploy(host.release(ONE), 1)
    return host


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


RECORDS = {"state": "state.json", "policy": "gate.json", "manifest": "releases/*.json"}


def works(host: Host, two: Made) -> dict[str, Callable[[Any], object]]:
    """Return everything that writes on a host."""
    return {
        "prepare": lambda agent: agent.ask("prepare", comment=None, pins=[], policy=None),
        "share": lambda agent: agent.ask("share", files={".env": "eA=="}, replace=True),
        "settle": lambda agent: agent.ask("settle"),
        "fetch": lambda agent: agent.fetch(two),
        "stage": lambda agent: agent.stage(two, fetch=False),
        "arm": lambda agent: agent.ask("arm", id=two.id),
        "flip": lambda agent: agent.flip(two, 2),
        "confirm": lambda agent: agent.ask("confirm", decision="d1"),
        "revert": lambda agent: agent.ask("revert", decision="d1"),
        "prune": lambda agent: agent.ask("prune", keep=0),
    }


@pytest.mark.parametrize("what", RECORDS)
def test_on_a_target_nothing_is_written_beside_a_newer_record(host: Host, what: str) -> None:
    two = host.release(TWO)
    (path,) = host.own.glob(RECORDS[what])
    newer(path)
    before = tree_of(host.app)
    for work in works(host, two).values():
        with host.session() as agent:
            with pytest.raises(Refused, match=f"newer-{what}.*use the Skein that wrote it"):
                work(agent)
            agent.leave()
    with host.session() as agent:
        assert [each["code"] for each in agent.ask("probe")["problems"]] == [f"newer-{what}"]
        agent.leave()
    assert tree_of(host.app) == before


def test_a_newer_gate_lets_no_older_agent_run(host: Host) -> None:
    newer(host.own / "gate.json")
    words = [sys.executable, "-I", "-S", host.own / "gate", str(host.app), "-", bundle.command(str(host.app), None)]
    before = tree_of(host.app)
    done = subprocess.run(words, input=bundle.bootstrap(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"of another format" in done.stderr
    assert tree_of(host.app) == before


def test_a_newer_memory_of_mirrors_is_not_used_and_stays(host: Host) -> None:
    path = host.own / "route.json"
    path.write_text('{"format": 2, "mirrors": []}')
    with host.session() as agent:
        assert agent.fetch(host.release(TWO), "ssh://127.0.0.1:1/x", f"file://{host.mirror}")["from"] == "m1"
        agent.leave()
    assert path.read_text() == '{"format": 2, "mirrors": []}'


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    site = tmp_path / "site"
    git("init", "-q", "-b", "main", str(site))
    (site / "page").write_text("1\n")
    git("add", ".", cwd=site)
    git("commit", "-qm", "one", cwd=site)
    with opened(tmp_path) as source:
        yield source


def opened(tmp_path: Path) -> Source:
    return Source(tmp_path / "site", tmp_path / "cache", operator="a@b", branch="main", subdir=None, signing_key=None)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    path = tmp_path / "www.git"
    make_mirror(Wire(), {"path": str(path), "app": APP})
    return path


@pytest.mark.parametrize("work", [make_mirror, retain, look_at_mirror])
def test_a_newer_mirror_is_left_as_it_is_from_inside(mirror: Path, work: Callable[..., object]) -> None:
    git("config", "skein.format", "2", cwd=mirror)
    before = tree_of(mirror)
    with pytest.raises(Problem, match="format 2, not 1: use the Skein that made it") as caught:
        work(Wire(), {"path": str(mirror), "app": APP, "refs": {}, "timeout_s": 20.0})
    assert caught.value.code == "newer-mirror"
    assert tree_of(mirror) == before


ODD_MARKS = {"newer": ("skein.format", "2"), "of another app": ("skein.app", "shop"), "no mirror": ("skein.format", "")}


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("kind", ODD_MARKS)
def test_a_mirror_that_is_not_ours_to_write_gets_no_push_and_is_exit_3(
    source: Source, mirror: Path, sshd: Sshd, kind: str, where: str
) -> None:
    head = source.resolve("main")
    made = source.make_release("prod", 1, head, source.tree_of(head), None, _when())
    git("config", *ODD_MARKS[kind], cwd=mirror)
    before = tree_of(mirror)
    with sshd.connect() as connection:
        at = Mirror("mirror-1", str(mirror), None if where == "here" else connection, APP)
        for talk in (lambda: at.refs("refs/"), lambda: at.push(source, source.refspecs(made), 20)):
            with pytest.raises(RepositoryError, match="no mirror of www that this Skein knows; nothing was") as caught:
                talk()
            assert caught.value.exit_code == 3
        assert tree_of(mirror) == before
        make_anew = {"path": str(mirror), "app": APP}
        git("config", "skein.format", "1", cwd=mirror)
        git("config", "skein.app", APP, cwd=mirror)
        make_mirror(Wire(), make_anew)
        at.push(source, source.refspecs(made), 20)


@pytest.mark.parametrize("app", [APP, "w.w"])
def test_a_mirror_in_a_home_is_looked_at_there(mirror: Path, tmp_path: Path, app: str) -> None:
    command = Mirror("mirror-1", f"~/{mirror.name}", None, app)._guarded("echo served")
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True)
    assert (done.returncode, done.stdout) == ((0, b"served\n") if app == APP else (78, b""))


def test_the_operators_own_repository_of_a_newer_skein_is_left_as_it_is(source: Source, tmp_path: Path) -> None:
    (source.git_dir / "skein-cache").write_text("2 sha1\n")
    source.__exit__(None, None, None)
    before = tree_of(source.git_dir)
    with pytest.raises(RepositoryError, match="is of format 2, and this Skein knows 1") as caught, opened(tmp_path):
        pass
    assert caught.value.exit_code == 3
    assert tree_of(source.git_dir) == before


def _when() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
