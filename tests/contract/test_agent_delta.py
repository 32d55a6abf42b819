"""A delta that rides on the session: applied where its base is, else the mirrors are asked; never half a release."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agent_host import GIT, Agent, Content, Host, Made, Refused, git
from needs import lack

from tasks.agent import repo
from tasks.agent.delta import apply
from tasks.agent.wire import PAYLOAD_MOST, Wire

ONE: dict[bytes, Content] = {b"index.html": b"one", b"dir/file": b"file" * 999, b"gone": b"gone"}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"dir/file": b"file" * 999, b"new": ("dir/file",)}


def pack(host: Host, made: Made, base: Made | None) -> bytes:
    """Make the thin pack as the deployer does."""
    wanted = f"--shallow {made.commit}\n{made.commit}\n" + (
        f"--shallow {base.commit}\n^{base.commit}\n" if base else ""
    )
    words = ["git", "pack-objects", "-q", "--revs", "--thin", "--shallow", "--stdout"]
    return subprocess.run(
        words, input=wanted.encode(), cwd=host.mirror, env=GIT, check=True, capture_output=True
    ).stdout


def fetch(agent: Agent, made: Made, base: Made | None, data: bytes, *urls: str) -> dict[str, object]:
    """Send a delta, whose mirrors are none unless ``urls`` are given."""
    mirrors = [{"name": f"m{place}", "url": url, "rank": place} for place, url in enumerate(urls)]
    fields = {"commit": made.commit, "ref": made.ref, "mirrors": mirrors, "timeout_s": 20}
    fields |= {"base": base.ref if base else "", "base_commit": base.commit if base else ""}
    return agent.answer(agent.order_with(data, "fetch", **fields))


def test_a_delta_makes_the_release_and_no_mirror_is_asked(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    data = pack(host, two, one)
    assert len(data) < 700
    shutil.rmtree(host.mirror)
    with host.session() as agent:
        assert fetch(agent, two, one, data) == {"from": "inline", "skipped": []}
        assert agent.stage(two, fetch=False) == {"made": True, "files": 3}
        agent.leave()
    assert host.files(two) == TWO
    assert not host.leftovers()


def test_a_delta_over_releases_that_the_host_never_had_builds_on_what_it_has(host: Host) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    host.release({b"never": b"here"})
    three, four = host.release(TWO), host.release(ONE)
    with host.session() as agent:
        assert fetch(agent, three, one, pack(host, three, one))["from"] == "inline"
        agent.stage(three, fetch=False)
        assert agent.fetch(four)["from"] == "hub", "a fetch after it still finds its base"
        agent.leave()
    git("fsck", "--full", "--connectivity-only", cwd=host.own / "repo.git")
    assert host.files(three) == TWO


def test_a_whole_pack_makes_the_first_release(host: Host) -> None:
    one = host.release(ONE)
    with host.session() as agent:
        assert fetch(agent, one, None, pack(host, one, None))["from"] == "inline"
        agent.stage(one, fetch=False)
    assert host.files(one) == ONE


def test_a_pack_of_many_objects_is_kept_as_a_pack(host: Host) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    many: dict[bytes, Content] = {b"%d" % number: b"%d" % number for number in range(200)}
    two = host.release(many)
    with host.session() as agent:
        assert fetch(agent, two, one, pack(host, two, one))["from"] == "inline"
        agent.stage(two, fetch=False)
    assert host.files(two) == many


def test_what_a_delta_brought_is_on_the_disk_before_the_release_is_live(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, trace = host.release(ONE), tmp_path / "trace"
    monkeypatch.setattr(repo, "environment", lambda home: {**GIT, "GIT_TRACE2_EVENT": str(trace)})
    target = repo.Repo(Wire(), str(tmp_path / "repo.git"))
    target.make()
    if tuple(map(int, (repo.git_version(Wire()) or "").split(".")[:2])) < (2, 36):
        lack("git 2.36 or newer")
    request = {"base": "", "base_commit": "", "commit": made.commit, "ref": made.ref, "payload": pack(host, made, None)}
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda at: (synced.append(os.readlink(f"/proc/self/fd/{at}")), sync(at)))
    assert apply(target, request, {}) is None
    flushed = [line for line in trace.read_text().splitlines() if 'hardware-flush"' in line]
    assert len(flushed) == 1, "the objects, all at once"
    ref = os.path.join(target.path, made.ref)
    assert synced[-2:] == [ref + ".lock", os.path.dirname(ref)], "the ref, last of all"


def test_without_the_base_the_mirrors_are_asked_and_the_reason_named(host: Host) -> None:
    one, two, three = host.release(ONE), host.release(TWO), host.release({**TWO, b"more": b""})
    host.deploy(one, 1)
    with host.session() as agent:
        answer = fetch(agent, three, two, pack(host, three, two), f"file://{host.mirror}")
        reason = "the release that the delta builds on is not here"
        assert answer == {"from": "m0", "skipped": [{"mirror": "inline", "reason": reason}]}
        agent.stage(three, fetch=False)


@pytest.mark.parametrize("damage", ["cut", "other", "garbage"])
def test_a_pack_that_does_not_make_the_release_is_given_up_and_leaves_no_ref(host: Host, damage: str) -> None:
    one, two, three = host.release(ONE), host.release(TWO), host.release({**ONE, b"more": b"more"})
    host.deploy(one, 1)
    good = pack(host, two, one)
    data = {"cut": good[:-30], "other": pack(host, three, one), "garbage": b"PACK" + b"\0" * 40}[damage]
    with host.session() as agent:
        with pytest.raises(Refused, match=r"no-mirror.*inline: "):
            fetch(agent, two, one, data)
        assert fetch(agent, two, one, good)["from"] == "inline"
        agent.stage(two, fetch=False)
    assert host.files(two) == TWO


@pytest.mark.parametrize("field", ["base", "base_commit"])
def test_a_base_that_is_no_name_of_one_is_refused(host: Host, field: str) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    fields = {"base": one.ref, "base_commit": one.commit, field: "--upload-pack=false"}
    with host.session() as agent, pytest.raises(Refused, match="malformed"):
        agent.answer(agent.order_with(b"x", "fetch", commit=two.commit, ref=two.ref, mirrors=[], timeout_s=9, **fields))


@pytest.mark.parametrize(
    "announced",
    [
        {"bytes": 4, "sha256": "0" * 64},
        {"bytes": PAYLOAD_MOST + 1, "sha256": "0" * 64},
        {"bytes": -1, "sha256": "0" * 64},
        {"bytes": "many"},
        None,
    ],
)
def test_a_payload_that_is_not_what_was_announced_ends_the_session(host: Host, announced: object) -> None:
    with host.session() as agent:
        message = {"id": 99, "verb": "fetch", "with": {}, "payload": announced}
        agent.send(json.dumps(message).encode() + b"\n" + b"data")
        agent.wait()
        assert agent.process.stderr
        assert b"what came in is no request" in agent.process.stderr.read()


def test_a_payload_may_hold_line_ends_and_requests_follow_it(host: Host) -> None:
    with host.session() as agent:
        data = b'{"beat":1}\n' * 30_000
        header = {"id": 7, "verb": "nothing", "with": {}}
        header["payload"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        agent.send(json.dumps(header).encode() + b"\n" + data)
        with pytest.raises(Refused, match="no verb"):
            agent.answer(7)
        assert agent.ask("probe")["current"] is None
