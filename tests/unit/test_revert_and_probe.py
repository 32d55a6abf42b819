"""The agent's record of a flip, on a real directory: what a lost session or a killed deployer leaves; undoing it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.agent import main
from tasks.agent.main import Session
from tasks.agent.place import Place
from tasks.agent.wire import Wire

ONE, TWO, THREE = (f"2026010{day}T000000Z-000{day}-{'abc'[day - 1] * 7}" for day in (1, 2, 3))


class Target:
    """A target on which releases stand; sessions come and go."""

    def __init__(self, root: Path) -> None:
        self.root, self.link = root, root / "current"
        root.mkdir()
        self.open()

    def stage(self) -> None:
        """Let the three releases stand there."""
        self.ask("settle")
        for identity in (ONE, TWO, THREE):
            (self.root / "releases" / identity).mkdir()
            manifest = {"format": 1, "id": identity, "number": 1, "links": {}, "environment": "prod"}
            manifest |= dict.fromkeys(("commit", "source_commit", "tree"), "a" * 40)
            Path(self.session.place.manifest(identity)).write_text(json.dumps(manifest))

    def open(self) -> None:
        session = Session(Wire(), "digest", None)
        session.who = "ann@laptop"
        session.place = Place(str(self.root), str(self.link), "prod")
        self.session: Any = session

    def close(self) -> None:
        """End the session without a word, as a lost connection does."""
        if self.session.lock is not None:
            self.session.lock.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def ask(self, verb: str, **fields: object) -> dict[str, Any]:
        answer: dict[str, Any] = self.session.answer({"id": 1, "verb": verb, "with": fields})
        assert "ok" in answer, answer
        found: dict[str, Any] = answer["ok"]
        return found

    def flip(self, identity: str, turn: int, kind: str = "deploy") -> None:
        self.ask("arm", id=identity)
        expect = self.link.readlink().name if self.link.is_symlink() else None
        decided = {"id": identity, "expect": expect, "turn": turn, "decision": f"{turn}-{identity}"}
        self.ask("flip", **decided, kind=kind, by="", reason="")

    def deploy(self, identity: str, turn: int, kind: str = "deploy") -> None:
        self.flip(identity, turn, kind)
        self.ask("confirm", decision=f"{turn}-{identity}")

    @property
    def live(self) -> str:
        return self.link.readlink().name


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """Make a target on which ONE and TWO were live, in turn."""
    monkeypatch.setattr(main, "inherit", lambda descriptor: None)  # no child of the tests is to hold this lock
    with contextlib.closing(Target(tmp_path / "app")) as found:
        found.stage()
        found.deploy(ONE, 1)
        found.deploy(TWO, 2)
        yield found


def test_a_flip_is_undone_in_the_session_that_made_it(target: Target) -> None:
    target.flip(THREE, 3)
    assert target.ask("revert", decision=f"3-{THREE}")["current"] == TWO
    assert target.live == TWO


def test_a_flip_is_undone_in_another_session_too(target: Target) -> None:
    target.flip(THREE, 3)
    target.reopen()
    assert target.ask("revert", decision=f"3-{THREE}")["current"] == TWO
    assert target.live == TWO
    assert target.ask("probe")["stack"] == [ONE, TWO]


def test_undoing_twice_undoes_once(target: Target) -> None:
    target.flip(THREE, 3)
    target.reopen()
    for _ in range(2):
        assert target.ask("revert", decision=f"3-{THREE}")["current"] == TWO
        target.reopen()


def test_only_the_decision_that_was_made_can_be_undone(target: Target) -> None:
    assert target.ask("revert", decision=f"9-{TWO}")["current"] == TWO
    target.reopen()
    assert target.ask("revert", decision=f"1-{ONE}")["current"] == TWO


def test_a_flip_that_nobody_confirmed_is_shown_as_live_and_what_was_live_before_it_as_before(target: Target) -> None:
    target.flip(THREE, 3)
    target.reopen()
    found = target.ask("probe")
    assert (found["current"], found["stack"]) == (THREE, [ONE, TWO, THREE])
    assert (found["current_since"] is not None, found["live_turn"]) == (True, 3)


def test_a_probe_says_whether_a_killed_run_left_something(target: Target) -> None:
    assert target.ask("probe")["unsettled"] is False
    target.flip(THREE, 3)
    target.reopen()
    assert target.ask("probe")["unsettled"] is True
    assert target.ask("settle")["unsettled"] is False
    (target.root / ".skein/tmp/left").write_text("")
    target.reopen()
    assert target.ask("probe")["unsettled"] is True


def test_probing_settles_nothing(target: Target) -> None:
    target.flip(THREE, 3)
    before = (target.root / ".skein/state.json").read_bytes()
    target.reopen()
    target.ask("probe")
    assert (target.root / ".skein/state.json").read_bytes() == before


def test_a_flip_that_was_undone_has_seen_its_turn_but_what_is_live_has_its_own(target: Target) -> None:
    target.flip(THREE, 3)
    target.ask("revert", decision=f"3-{THREE}")
    found = target.ask("probe")
    assert (found["turn"], found["live_turn"], found["stack"]) == (3, 2, [ONE, TWO])


def test_a_rollback_is_live_since_its_own_turn(target: Target) -> None:
    target.deploy(ONE, 3, "rollback")
    found = target.ask("probe")
    assert (found["current"], found["live_turn"], found["stack"]) == (ONE, 3, [ONE])
