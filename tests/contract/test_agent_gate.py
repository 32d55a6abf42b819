"""The gate of a restricted key on one host: the one agent that set-up approved, within a policy, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_host import POLICY, Agent, Content, Host, Made, Refused, git

from tasks.agent import gate
from tasks.agent.policy import permit
from tasks.agent.problem import Problem
from tasks.remote import bundle

ONE: dict[bytes, Content] = {b"index.html": b"one"}


def policy_of(host: Host) -> dict[str, Any]:
    place = {"deploy_to": str(host.app), "link": str(host.link), "mirrors": [f"file://{host.mirror}"]}
    return {**POLICY, **place, "linked_dirs": [], "linked_files": [], "keep": 5}


def prepare(host: Host, policy: dict[str, Any] | None) -> list[str]:
    """Set the host up, with a gate or without, and return what was changed."""
    with host.session() as agent:
        changed: list[str] = agent.ask("prepare", comment=None, pins=[], policy=policy)["changed"]
        agent.leave()
    return changed


Gate = Callable[[str, bytes], "subprocess.CompletedProcess[bytes]"]


def words(host: Host, asked: str) -> list[str]:
    """Return how sshd starts the gate for a client that asked for something."""
    return [sys.executable, "-I", "-S", str(host.own / "gate"), str(host.app), "-", asked]


@contextlib.contextmanager
def restricted(host: Host) -> Iterator[Agent]:
    """Hold a session as the restricted key has it."""
    with host.session(words(host, bundle.command(str(host.app), None))) as agent:
        assert not agent.sent_whole
        yield agent


@pytest.fixture
def enter(host: Host) -> Gate:
    """Let a client in at the gate of a prepared host: what it asks for, and what it sends."""
    prepare(host, policy_of(host))

    def start(asked: str, sent: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(words(host, asked), input=sent, capture_output=True, timeout=20, check=False)

    return start


def test_the_gate_runs_the_installed_agent_and_not_what_is_sent(host: Host, enter: Gate, tmp_path: Path) -> None:
    evil = f"open({str(tmp_path / 'evil')!r}, 'w')".encode().ljust(len(bundle.bootstrap()))
    done = enter(bundle.command(str(host.app), None), evil)
    assert done.stdout.startswith(b"ready\n")
    assert not (tmp_path / "evil").exists()


def test_the_gate_refuses_everything_else_with_one_plain_line(host: Host, enter: Gate) -> None:
    good = bundle.command(str(host.app), None)
    length = len(bundle.bootstrap())
    asked = [
        *("", "sh", "id", "true; " + good, good + "; id", good + " ", " " + good, good.replace("python3", "python2")),
        *("/usr/lib/openssh/sftp-server", "internal-sftp", "scp -t /tmp", "rsync --server . /", "git-upload-pack 'x'"),
        *(bundle.command("-", None), bundle.command("/other", None), bundle.command(str(host.app), "root")),
        gate.start_command(length, str(host.app), "0" * 64, None),
        gate.start_command(1 << 30, str(host.app), bundle.digest(), None),
        good.replace("os.read(0", "os.read(1"),
        good.replace(bundle.digest(), "../" + bundle.digest()),
    ]
    assert len(asked) >= 20
    for each in asked:
        done = enter(each, b"x" * length)
        assert (done.returncode, done.stdout) == (1, b""), each
        assert done.stderr.count(b"\n") == 1, each
        assert done.stderr.startswith(b"skein: "), each


def refusal(host: Host, enter: Gate, digest: str = "") -> str:
    """Return the one line with which the gate refuses to run an agent."""
    asked = gate.start_command(len(bundle.bootstrap()), str(host.app), digest or bundle.digest(), None)
    done = enter(asked, bundle.bootstrap())
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    return done.stderr.decode()


def test_an_installed_agent_that_set_up_has_not_approved_is_not_run(host: Host, enter: Gate) -> None:
    agents = host.own / "agent"
    other = "0" * 64
    subprocess.run(["cp", "-a", agents / bundle.digest(), agents / other], check=True)
    told = refusal(host, enter, other)
    assert "has not approved this Skein's agent" in told
    assert "run fab setup" in told
    assert "has not approved" in refusal(host, enter, "1" * 64)


def test_set_up_without_a_policy_approves_its_agent_where_there_is_a_gate(host: Host, enter: Gate) -> None:
    path = host.own / "gate.json"
    approved = json.loads(path.read_text())
    path.write_text(json.dumps({**approved, "agent": "0" * 64}))
    assert "has not approved" in refusal(host, enter)
    assert prepare(host, None) == ["wrote down what a restricted key may do"]
    assert json.loads(path.read_text()) == approved
    assert prepare(host, None) == []
    path.unlink()
    assert prepare(host, None) == []
    assert not path.exists()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_agent_that_was_changed_since_is_not_run(host: Host, enter: Gate, compiled: bool) -> None:
    folder = host.own / "agent" / bundle.digest() / "agent"
    file = next((folder / "__pycache__").glob("flip.*")) if compiled else folder / "flip.py"
    file.write_bytes(file.read_bytes() + b"\n")
    assert "is gone or was changed" in refusal(host, enter)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', "\0"])
def test_a_gate_that_cannot_read_its_policy_lets_nobody_in(host: Host, enter: Gate, text: str) -> None:
    (host.own / "gate.json").write_text(text)
    assert "run fab setup" in refusal(host, enter)


def test_prune_leaves_the_agent_that_a_gate_runs(host: Host) -> None:
    prepare(host, policy_of(host))
    pinned = host.own / "agent" / bundle.digest()
    for number in range(5):
        (host.own / "agent" / f"{number:064d}").mkdir()
    os.utime(pinned, (1, 1))
    host.deploy(host.release(ONE), 1, keep=5)
    assert pinned.is_dir()
    assert len(list((host.own / "agent").iterdir())) == 4


def deliver(agent: Agent, made: Made, **changed: object) -> dict[str, Any]:
    fields: dict[str, object] = {"id": made.id, "number": made.number, "commit": made.commit, "tree": made.tree}
    fields |= {"source_commit": made.commit, "linked_dirs": [], "linked_files": [], "timeout_s": 20}
    fields |= {"reuse_after": None, "full": False}
    return agent.ask("stage", **{**fields, **changed})


def test_a_restricted_key_fetches_and_stages_what_has_that_name_on_a_mirror(host: Host) -> None:
    made = host.release(ONE)
    prepare(host, policy_of(host))
    with restricted(host) as agent:
        assert agent.fetch(made)["from"] == "hub"
        assert deliver(agent, made)["made"]
        agent.ask("arm", id=made.id)
        agent.flip(made, 1)
        agent.leave()
    assert host.current() == made.id


def test_a_restricted_key_cannot_bring_a_commit_of_the_mirror_under_another_name(host: Host) -> None:
    made, other = host.release(ONE), host.release({b"index.html": b"staging's"})
    git("update-ref", other.ref.replace("/prod/", "/staging/"), other.commit, cwd=host.mirror)
    git("update-ref", "-d", other.ref, cwd=host.mirror)
    prepare(host, policy_of(host))
    with restricted(host) as agent:
        fields: dict[str, Any] = {
            "mirrors": [{"name": "hub", "url": f"file://{host.mirror}", "rank": 0}],
            "timeout_s": 20,
        }
        for ref in (other.ref, made.ref):  # a name that is not there, and one that stands for something else
            with pytest.raises(Refused, match="no mirror gave the release"):
                agent.ask("fetch", commit=other.commit, ref=ref, **fields)
        with pytest.raises(Refused, match="another ref"):
            agent.ask("fetch", commit=other.commit, ref=other.ref.replace("/prod/", "/staging/"), **fields)
        agent.leave()


def test_a_restricted_key_cannot_stage_what_was_brought_under_another_name(host: Host) -> None:
    made, other = host.release(ONE), host.release({b"index.html": b"staging's"})
    prepare(host, policy_of(host))
    with host.session() as agent:
        agent.fetch(other)
        agent.leave()
    with restricted(host) as agent:
        with pytest.raises(Refused, match="as it is called on the mirrors"):
            deliver(agent, made, commit=other.commit, tree=other.tree)
        with pytest.raises(Refused, match="as it is called on the mirrors"):
            deliver(agent, other, id=made.id)
        agent.leave()
    assert list((host.app / "releases").iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("open", {"deploy_to": "/home/deploy", "link": None, "environment": "prod"}),
        ("open", {"deploy_to": "/srv/app", "link": "/home/deploy/.ssh", "environment": "prod"}),
        ("open", {}),
        ("after_flip", {"command": ["sh", "-c", "id"]}),
        ("fetch", {"mirrors": [{"url": "file:///home/deploy/private.git"}]}),
        ("check", {"mirrors": [{"url": "ssh://-oProxyCommand=id/x"}]}),
        *((verb, {}) for verb in ("own", "mirror", "authorize", "admit_gate", "prepare", "share", "exec", "retain")),
    ],
)
def test_a_restricted_session_keeps_to_what_was_written_down(verb: str, request_: dict[str, Any]) -> None:
    from tasks.agent.main import LOOKING, WORKING

    with pytest.raises(Problem, match="restricted key"):
        permit(POLICY, verb, request_, {*LOOKING, *WORKING, "arm", "flip"})


def test_a_restricted_session_may_deploy() -> None:
    from tasks.agent.main import LOOKING, WORKING

    verbs = {*LOOKING, *WORKING, "arm", "flip"}
    permit(POLICY, "open", {"deploy_to": "/srv/app", "link": None, "environment": "prod"}, verbs)
    permit(POLICY, "after_flip", {"command": ["reload", "it"]}, verbs)
    permit(POLICY, "fetch", {"mirrors": [{"url": POLICY["mirrors"][0]}]}, verbs)
    for verb in ("settle", "probe", "stage", "arm", "flip", "confirm", "revert", "prune", "status"):
        permit(POLICY, verb, {}, verbs)
