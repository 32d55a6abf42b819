"""The environment's lock: a kernel lock in a mirror, held by an agent, gone with it, and taken from it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agent_host import Agent, Host, Refused, alive, until

from tasks.agent.mirror import make_mirror
from tasks.agent.wire import Wire


@pytest.fixture
def path(tmp_path: Path) -> str:
    make_mirror(Wire(), {"path": str(tmp_path / "hub.git"), "app": "www"})
    return str(tmp_path / "hub.git")


def hold(agent: Agent, path: str, who: str = "ann@laptop", environment: str = "prod") -> dict[str, Any]:
    return agent.ask("hold", path=path, environment=environment, who=who, why="because")


def test_one_has_the_lock_and_the_other_is_told_who_since_when_and_why(host: Host, path: str) -> None:
    with host.session() as ann, host.session() as bob:
        mine = hold(ann, path)
        assert (mine["held"], mine["who"], mine["why"]) == (True, "ann@laptop", "because")
        assert hold(bob, path, "bob@desk") == {**mine, "held": False}
        assert hold(ann, path) == mine
        assert hold(bob, path, "bob@desk", "staging")["held"], "another environment has a lock of its own"


def test_it_is_free_as_soon_as_its_holder_leaves_dies_or_gives_it_back(host: Host, path: str) -> None:
    for end in ("leave", "kill", "let_go"):
        with host.session() as ann, host.session() as bob:
            assert hold(ann, path)["held"]
            if end == "let_go":
                ann.ask("let_go", path=path, environment="prod")
            else:
                getattr(ann, end)()
            assert hold(bob, path, "bob@desk")["held"], end


def test_it_is_gone_within_the_lease_when_nothing_is_heard_of_the_holder(host: Host, path: str) -> None:
    with host.session(lease_s=1.0) as ann, host.session() as bob:
        assert hold(ann, path)["held"]
        until(lambda: not alive(ann.pid))  # nobody beats for this session: it is as if its machine were gone
        assert hold(bob, path, "bob@desk")["held"]


def test_a_lock_is_taken_from_a_holder_who_hangs_and_he_finds_out(host: Host, path: str) -> None:
    with host.session() as ann, host.session() as bob:
        mine = hold(ann, path)
        ann.stop()
        assert bob.ask("break_hold", path=path, environment="prod") == {
            "broken": True,
            **{name: mine[name] for name in ("who", "since", "why")},
        }
        his = hold(bob, path, "bob@desk")
        assert his["held"]
        ann.wake()
        assert hold(ann, path) == {**his, "held": False}
        bob.leave()
        assert not hold(ann, path)["held"], "what was broken does not heal by itself"


def test_what_nobody_holds_cannot_be_broken(host: Host, path: str) -> None:
    with host.session() as ann, host.session() as bob:
        assert not ann.ask("break_hold", path=path, environment="prod")["broken"]
        hold(ann, path)
        ann.leave()
        assert not bob.ask("break_hold", path=path, environment="prod")["broken"]


def test_of_ten_contenders_exactly_one_has_it(host: Host, path: str) -> None:
    for _ in range(3):
        agents = [Agent(host, {}) for _ in range(10)]
        try:
            orders = [
                (agent, agent.order("hold", path=path, environment="prod", who=str(agent.pid), why=""))
                for agent in agents
            ]
            answers = [(agent, agent.answer(number)) for agent, number in orders]
            (winner,) = [agent for agent, answer in answers if answer["held"]]
            assert {answer["who"] for _, answer in answers} == {str(winner.pid)}
        finally:
            for agent in agents:
                agent.kill()


def test_a_signature_that_is_garbage_is_no_reason_to_let_two_in(host: Host, path: str) -> None:
    with host.session() as ann, host.session() as bob:
        hold(ann, path)
        (Path(path) / "skein.prod.lock").write_bytes(b"\xff[[")
        assert hold(bob, path, "bob@desk") == {"held": False, "who": "", "since": "", "why": ""}


@pytest.mark.parametrize("environment", ["../x", "", "a/b", "prod\n"])
def test_no_lock_is_made_outside_a_mirror(host: Host, path: str, environment: str) -> None:
    with host.session() as ann:
        with pytest.raises(Refused, match="no environment"):
            hold(ann, path, environment=environment)
        with pytest.raises(Refused, match="no bare repository"):
            hold(ann, str(Path(path).parent))
        Path(path, "../empty").mkdir()
        with pytest.raises(Refused, match=r"no-mirror.*run fab setup"):
            hold(ann, f"{path}/../empty")


def test_another_app_s_mirror_gets_no_lock_file(host: Host, path: str) -> None:
    with host.session() as ann, pytest.raises(Refused, match="another app"):
        ann.ask("hold", path=path, environment="prod", who="ann", why="", app="shop")
    assert not (Path(path) / "skein.prod.lock").exists()


def test_a_frozen_holder_loses_it_when_he_is_killed(host: Host, path: str) -> None:
    with host.session() as ann, host.session() as bob:
        hold(ann, path)
        ann.stop()
        os.kill(ann.pid, signal.SIGKILL)
        assert hold(bob, path, "bob@desk")["held"]
