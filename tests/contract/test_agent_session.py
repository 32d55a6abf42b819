"""The agent's protocol, spoken to the real program over pipes: deploys, refusals, records, damage."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from agent_host import Content, Host, Refused, tree_of

ONE: dict[bytes, Content] = {b"index.html": b"one", b"bin/run": b"#!/bin/sh\n", b"to": ("index.html",)}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"new/deep/file": b"new", b"to": ("nowhere",)}


def test_a_first_deploy_makes_the_release_live_and_remembers_it(host: Host) -> None:
    one = host.release(ONE)
    host.deploy(one, 1)
    assert os.readlink(host.link) == f"releases/{one.id}"
    assert host.files(one) == ONE
    assert (host.app / "releases" / one.id / "bin/run").stat().st_mode & 0o777 == 0o755
    assert [record["id"] for record in host.state()["history"]] == [one.id]
    assert host.state()["turn"] == 1
    assert not host.leftovers()


def test_a_second_deploy_brings_the_change_and_keeps_the_first(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    host.deploy(two, 2)
    assert host.current() == two.id
    assert host.files(two) == TWO
    assert host.files(one) == ONE
    with host.session() as agent:
        assert not agent.sent_whole  # the first session installed it
        found = agent.ask("probe")
    assert found["stack"] == [one.id, two.id]
    assert found["turn"] == 2
    assert set(found["releases"]) == {one.id, two.id}


def test_staging_again_what_stands_and_is_whole_makes_nothing(host: Host) -> None:
    one = host.release(ONE)
    with host.session() as agent:
        assert agent.stage(one)["made"] is True
        assert agent.fetch(one)["from"] is None
        assert agent.stage(one)["made"] is False


def test_a_flip_of_a_turn_that_is_not_above_the_newest_is_refused(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 5)
    with host.session() as agent:
        agent.stage(two)
        agent.ask("arm", id=two.id)
        for turn, decision in ((4, "d4"), (5, "another")):
            with pytest.raises(Refused, match="stale-turn"):
                agent.flip(two, turn, decision=decision)
    assert host.current() == one.id


@pytest.mark.parametrize("turn", [2**62, 10**12 + 6])
def test_a_flip_of_a_turn_that_no_fleet_reaches_is_refused_and_leaves_the_next_one_a_way(host: Host, turn: int) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 5)
    with host.session() as agent:
        agent.stage(two)
        agent.ask("arm", id=two.id)
        with pytest.raises(Refused, match="odd-turn"):
            agent.flip(two, turn)
        assert host.state()["turn"] == 5
        agent.flip(two, 10**12 + 5)
        agent.ask("confirm", decision=f"d{10**12 + 5}")
    assert host.current() == two.id


@pytest.mark.parametrize("turn", [-1, 2**62])
def test_a_record_whose_turn_cannot_be_is_damaged(host: Host, turn: int) -> None:
    host.deploy(host.release(ONE), 5)
    (host.own / "state.json").write_text(json.dumps({**host.state(), "turn": turn}))
    with host.session() as agent:
        assert [each["code"] for each in agent.ask("probe")["problems"]] == ["damaged-state"]
        with pytest.raises(Refused, match="damaged-state"):
            agent.ask("settle")


def test_probes_tell_one_place_from_another(host: Host, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other")
    found = []
    for each in (host, other, host):
        each.app.mkdir(exist_ok=True)
        with each.session() as agent:
            found.append(agent.ask("probe")["place"])
    assert found[0] == found[2] != found[1]


def test_a_flip_is_refused_where_another_release_is_live_than_expected(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    with host.session() as agent:
        agent.stage(two)
        agent.ask("arm", id=two.id)
        with pytest.raises(Refused, match=r"moved: .* not nothing"):
            agent.flip(two, 2, expect=None)
    assert host.current() == one.id
    assert host.state()["turn"] == 1


def test_a_flip_of_what_was_not_armed_is_refused(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    with host.session() as agent:
        agent.stage(one)
        with pytest.raises(Refused, match="not-armed"):
            agent.flip(one, 1)
        with pytest.raises(Refused, match="not-staged"):
            agent.ask("arm", id=two.id)
    assert host.current() is None


def test_asking_again_for_the_same_flip_is_answered_and_not_repeated(host: Host) -> None:
    with host.session() as agent:
        one = agent.armed(ONE)
        agent.flip(one, 1)
        before = host.link.lstat().st_ino
        agent.flip(one, 1, expect=None)
        assert host.link.lstat().st_ino == before
        agent.ask("confirm", decision="d1")
        agent.ask("confirm", decision="d1")
    assert len(host.state()["history"]) == 1


def test_a_revert_puts_back_what_was_live_and_spends_the_decision(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    with host.session() as agent:
        agent.stage(two)
        agent.ask("arm", id=two.id)
        agent.flip(two, 2)
        assert host.current() == two.id
        assert agent.ask("revert", decision="d2")["current"] == one.id
        assert agent.ask("revert", decision="d2")["current"] == one.id
        agent.ask("arm", id=two.id)
        with pytest.raises(Refused, match="stale-turn"):
            agent.flip(two, 2, expect=one.id)
    assert host.current() == one.id
    assert [record["id"] for record in host.state()["history"]] == [one.id]


def test_a_revert_of_the_first_deploy_leaves_no_link(host: Host) -> None:
    with host.session() as agent:
        agent.flip(agent.armed(ONE), 1)
        assert agent.ask("revert", decision="d1")["current"] is None
    assert not os.path.lexists(host.link)


def test_a_flip_whose_session_broke_can_still_be_reverted_from_another(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    with host.session() as agent:
        agent.stage(two)
        agent.ask("arm", id=two.id)
        agent.flip(two, 2)
    with host.session() as agent:
        found = agent.ask("settle")
        assert (found["current"], found["stack"]) == (two.id, [one.id, two.id])
        assert agent.ask("revert", decision="d2")["current"] == one.id
        assert agent.ask("probe")["stack"] == [one.id]
    assert host.current() == one.id


def test_a_rollback_goes_back_and_counts_as_one(host: Host) -> None:
    one, two = host.release(ONE), host.release(TWO)
    host.deploy(one, 1)
    host.deploy(two, 2)
    with host.session() as agent:
        agent.stage(one, fetch=False)
        agent.ask("arm", id=one.id)
        agent.flip(one, 3, kind="rollback")
        agent.ask("confirm", decision="d3")
        assert agent.ask("probe")["stack"] == [one.id]


def test_prune_keeps_what_is_live_what_was_and_drops_what_never_was(host: Host) -> None:
    made = [host.release({b"index.html": b"%d" % number}) for number in range(5)]
    for turn, each in enumerate(made[:4], 1):
        host.deploy(each, turn)
    with host.session() as agent:
        agent.stage(made[4])
        assert agent.ask("prune", keep=0, spare=True)["removed"] == [made[0].id, made[1].id, made[4].id]
        agent.leave()
    assert sorted(os.listdir(host.app / "releases")) == [made[2].id, made[3].id]
    assert sorted(os.listdir(host.own / "releases")) == [f"{each.id}.json" for each in made[2:4]]
    assert sorted(os.listdir(host.own / "records")) == [f"{each.id}.json" for each in made[2:4]]
    assert sorted(os.listdir(host.own / "spare")) == [made[1].id, f"{made[1].id}.json"], "the last that was live"
    assert not host.leftovers()


def test_requests_that_only_look_leave_nothing_behind(host: Host) -> None:
    one = host.release(ONE)
    host.app.mkdir()
    hub = [{"name": "hub", "url": str(host.mirror)}]
    looks: dict[str, dict[str, object]] = {"probe": {}, "status": {}, "check": {"linked_files": [], "mirrors": hub}}
    for _ in range(2):
        for compiled in host.own.rglob("*.pyc"):
            compiled.unlink()  # as for another version of Python
        before = tree_of(host.app)
        with host.session() as agent:
            for verb, fields in looks.items():
                agent.ask(verb, **fields)
            agent.leave()
        assert tree_of(host.app) == before
        host.deploy(one, 1)


def test_a_changed_an_added_and_a_missing_file_are_told_as_drift(host: Host) -> None:
    one = host.release({b"a": b"a", b"b": b"b", b"c": b"c"})
    host.deploy(one, 1, dirs=("storage",))
    root = host.app / "releases" / one.id
    with host.session() as agent:
        assert agent.ask("status")["drift"] == []
    (root / "a").write_bytes(b"changed")
    (root / "b").unlink()
    (root / "d").write_bytes(b"new")
    with host.session() as agent:
        assert agent.ask("status")["drift"] == ["a", "b", "d"]
        with pytest.raises(Refused, match="damaged"):
            agent.ask("verify", id=one.id)


def test_what_is_no_request_is_answered_and_the_session_goes_on(host: Host) -> None:
    with host.session() as agent:
        for verb in ("nonsense", "__init__", "arm", "flip"):
            with pytest.raises(Refused, match="bad-request"):
                agent.ask(verb)
        with pytest.raises(Refused, match="bad-request"):
            agent.ask("arm", id="../../etc")
        agent.send(b'{"id": 99, "verb": "probe"}\n')
        with pytest.raises(Refused, match="bad-request"):
            agent.answer(99)
        assert agent.ask("probe")["current"] is None


def test_after_flip_runs_in_the_release_and_a_daemon_of_it_does_not_hold_the_lock(host: Host) -> None:
    with host.session() as agent:
        agent.flip(agent.armed(ONE), 1)
        agent.ask("after_flip", command=["sh", "-c", "cat index.html; sleep 20 & echo $! >../../pid"], timeout_s=5)
        with pytest.raises(Refused, match="ended with 3: no luck"):
            agent.ask("after_flip", command=["sh", "-c", "echo no luck; exit 3"], timeout_s=5)
        with pytest.raises(Refused, match="cannot run surely-not-there"):
            agent.ask("after_flip", command=["surely-not-there"], timeout_s=5)
        with pytest.raises(Refused, match="timeout"):
            agent.ask("after_flip", command=["sh", "-c", "yes; sleep 9"], timeout_s=0.5)
        agent.leave()
    try:
        with host.session() as agent:
            agent.ask("settle")
    finally:
        os.kill(int((host.app / "pid").read_text()), signal.SIGKILL)


def test_a_damaged_agent_on_the_host_is_sent_and_installed_anew(host: Host) -> None:
    with host.session() as agent:
        agent.ask("settle")
        agent.leave()
    (installed,) = (host.own / "agent").iterdir()
    for path in [*installed.rglob("*.pyc"), *installed.rglob("state.py")]:
        path.unlink()
    with host.session() as agent:
        assert agent.sent_whole
        agent.ask("settle")
        agent.leave()
    with host.session() as agent:
        assert not agent.sent_whole
    assert not host.leftovers()


def test_a_state_of_a_newer_format_is_left_alone(host: Host) -> None:
    host.own.mkdir(parents=True)
    (host.own / "state.json").write_text(json.dumps({"format": 2, "turn": "of another kind"}))
    before = tree_of(host.app)
    with host.session() as agent:
        assert [problem["code"] for problem in agent.ask("probe")["problems"]] == ["newer-state"]
        with pytest.raises(Refused, match="newer-state"):
            agent.ask("settle")
        agent.leave()
    assert tree_of(host.app) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format":1,"turn":"x"}', '{"format":1,"history":[{"id":1}]}', "[" * 99999]
)
def test_a_damaged_state_is_named_and_left_alone(host: Host, text: str) -> None:
    host.own.mkdir(parents=True)
    (host.own / "state.json").write_text(text)
    before = tree_of(host.app)
    with host.session() as agent, pytest.raises(Refused, match=r"damaged-state: .*move it away"):
        agent.ask("settle")
    assert tree_of(host.app) == before
