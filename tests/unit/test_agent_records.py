"""The agent's own record: what rollbacks visit, what a killed flip becomes, what prune may remove."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.agent.place import BALLAST, FORMAT, Place
from tasks.agent.problem import Problem
from tasks.agent.prune import doomed
from tasks.agent.state import HISTORY_MOST, State, live_stack, sweep, write_log

IDS = [f"20261122T10150{number}Z-000{number}-{number:07d}" for number in range(1, 8)]
A, B, C, D, E, F, G = IDS


def record(identity: str, turn: int = 1, kind: str = "deploy", **more: object) -> dict[str, Any]:
    fixed = {"id": identity, "turn": turn, "at": 1.5, "kind": kind, "by": "op", "reason": ""}
    return {**fixed, "decision": f"d{turn}", "was": None, **more}


def remembered(place: Place, *history: dict[str, Any], pending: dict[str, Any] | None = None, turn: int = 1) -> State:
    state = State(place)
    state.history, state.pending, state.turn = list(history), pending, turn
    state.save()
    return State(place)


def standing(place: Place, *identities: str) -> None:
    for identity in identities:
        os.makedirs(place.release(identity))
        Path(place.manifest(identity)).write_text(json.dumps({"format": FORMAT}))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(str(tmp_path / "app"), None, "prod")
    made.make()
    return made


@pytest.mark.parametrize(
    ("story", "stack"),
    [
        ("", ""),
        ("a", "a"),
        ("abc", "abc"),
        ("aa", "a"),
        ("abc<b", "ab"),
        ("abc<b<a", "a"),
        ("abc<bd", "abd"),
        ("abc<bd<b", "ab"),
        ("ab<ab", "ab"),
        ("aba", "aba"),
        ("abcb<c", "abc"),
        ("<x", "x"),
        ("ab<x", "abx"),
    ],
)
def test_rollbacks_go_back_along_the_stack_and_deploys_push_on_it(story: str, stack: str) -> None:
    history, kind = [], "deploy"
    for letter in story:
        if letter == "<":
            kind = "rollback"
        else:
            history.append(record(letter, kind=kind))
            kind = "deploy"
    assert live_stack(history) == list(stack)


def test_a_pending_flip_becomes_history_where_the_link_shows_it(place: Place) -> None:
    state = remembered(place, record(A), pending=record(B, 2))
    os.symlink(place.link_text(B), place.link)
    assert [each["id"] for each in state.lived()] == [A, B]
    state.settle()
    again = State(place)
    assert ([each["id"] for each in again.history], again.pending) == ([A, B], None)


@pytest.mark.parametrize("text", [None, f"releases/{A}", "elsewhere"])
def test_a_pending_flip_that_did_not_happen_is_forgotten(place: Place, text: str | None) -> None:
    state = remembered(place, record(A), pending=record(B, 2), turn=2)
    if text:
        os.symlink(text, place.link)
    state.settle()
    again = State(place)
    assert ([each["id"] for each in again.history], again.pending, again.turn) == ([A], None, 2)


def test_the_history_does_not_grow_without_end(place: Place) -> None:
    state = remembered(place, *(record(A, turn) for turn in range(2 * HISTORY_MOST)))
    assert len(state.history) == HISTORY_MOST
    assert state.history[-1]["turn"] == 2 * HISTORY_MOST - 1


def test_the_longest_state_fits_into_what_is_held_for_a_full_disk(place: Place) -> None:
    """A rollback on a full disk writes the state once more before the old one goes."""
    remembered(place, *(record(A, turn, by="\u4e2d" * 200, reason="\u4e2d" * 200) for turn in range(HISTORY_MOST)))
    assert os.path.getsize(place.state) < sum(BALLAST)


def test_a_full_disk_costs_the_ballast_and_not_the_write(place: Place) -> None:
    tries = []

    def work() -> str:
        tries.append(len(os.listdir(place.ballast)))
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "full")
        return "written"

    assert place.spared(work) == "written"
    assert tries == [len(BALLAST), 0]
    place.make()
    assert len(os.listdir(place.ballast)) == len(BALLAST)


@pytest.mark.parametrize(
    ("history", "current", "keep", "removed"),
    [
        ([A, B, C, D, E], E, 5, [F]),  # F was staged and never live
        ([A, B, C, D, E], E, 3, [A, B, F]),
        ([A, B, C, D, E], E, 1, [A, B, C, F]),  # what was live before stays whatever keep says
        ([A, B, C, D, E], E, 0, [A, B, C, F]),
        ([A, B, C, D, E], E, -3, [A, B, C, F]),
        ([A, B, A, B, A], A, 1, [C, D, E, F]),
        ([A, B, C, D, E], C, 0, [A, B, F]),  # the live one stays though the record says otherwise
        ([A, B], E, 1, []),  # a record that does not know what is live proves nothing
        ([], E, 1, []),
        ([], None, 1, [A, B, C, D, E, F]),
    ],
)
def test_prune_keeps_the_live_one_the_one_before_and_the_newest_that_were_live(
    place: Place, history: list[str], current: str | None, keep: int, removed: list[str]
) -> None:
    standing(place, A, B, C, D, E, F)
    if current:
        os.symlink(place.link_text(current), place.link)
    state = remembered(place, *(record(identity, turn) for turn, identity in enumerate(history)))
    assert doomed(place, state, keep, current) == removed


def test_prune_keeps_both_ends_of_a_flip_that_is_under_way(place: Place) -> None:
    standing(place, A, B, C)
    os.symlink(place.link_text(C), place.link)
    state = remembered(place, record(C), pending=record(A, 2, was=B))
    assert doomed(place, state, 0, C) == []


def test_prune_counts_as_live_what_was_before_a_rollback(place: Place) -> None:
    standing(place, A, B, C)
    os.symlink(place.link_text(B), place.link)
    state = remembered(place, record(A, 1), record(B, 2), record(C, 3), record(B, 4, "rollback"))
    assert doomed(place, state, 0, B) == [C]  # a rollback from B goes to A
    assert doomed(place, state, 2, B) == []


def test_prune_never_takes_what_was_adopted_not_even_where_its_record_is_damaged(place: Place) -> None:
    before = "20261122T101500Z-0000-1a2b3c4"
    standing(place, before, A, B)
    Path(place.manifest(before)).write_text("{")
    os.symlink(place.link_text(B), place.link)
    assert doomed(place, remembered(place, record(before, 0, "adopt"), record(A, 1), record(B, 2)), 0, B) == []
    assert doomed(place, remembered(place, record(A, 1), record(B, 2), record(B, 3, "rollback")), 0, B) == []
    sweep(place)
    assert place.stands(before)


def test_sweep_removes_ours_and_nothing_else(place: Place) -> None:
    standing(place, A)
    foreign = [
        Path(place.own, "notes"),
        Path(place.releases, "mine"),
        Path(place.manifests, "README"),
        Path(place.root, ".x"),
    ]
    for path in foreign:
        path.write_text("mine")
    ours = [
        Path(place.tmp, "x"),
        Path(place.own, "state.json.7.new"),
        Path(place.manifests, f"{B}.json"),
        Path(place.records, f"{B}.json"),
    ]
    for path in ours:
        path.write_text("ours")
    os.symlink(place.link_text(A), os.path.join(place.root, ".current.skein-77"))
    os.makedirs(os.path.join(place.tmp, "a", "b"))
    os.chmod(os.path.join(place.tmp, "a"), 0)
    sweep(place)
    assert all(path.exists() for path in foreign)
    assert not any(path.exists() for path in ours)
    assert os.listdir(place.tmp) == []
    assert not os.path.lexists(os.path.join(place.root, ".current.skein-77"))
    assert os.path.exists(place.manifest(A))


def test_releases_that_cannot_be_seen_keep_their_manifests(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = "20261122T101500Z-0001-aaaaaaa"
    standing(place, identity)
    see = os.stat

    def refuse(path: str, **options: Any) -> os.stat_result:
        if str(path).startswith(place.releases + "/"):
            raise PermissionError(13, "Permission denied", path)
        return see(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("os.stat", refuse)
        patch.setattr("os.lstat", lambda path, **options: refuse(path, follow_symlinks=False, **options))
        sweep(place)
    assert os.path.exists(place.manifest(identity))


def test_what_cannot_be_swept_does_not_keep_the_rest_from_going(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "foreign", "z"):
        Path(place.tmp, name).touch()

    def remove(path: str) -> None:
        if path.endswith("foreign"):
            raise PermissionError(errno.EPERM, "not yours", path)
        os.unlink(path)

    monkeypatch.setattr("tasks.agent.state.remove", remove)
    sweep(place)
    assert os.listdir(place.tmp) == ["foreign"]
    assert place.private("foreign") == os.path.join(place.tmp, "foreign.1")


def test_the_log_is_cut_when_it_grows_and_never_stops_anything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.agent.state.LOG_MOST", 100)
    for number in range(20):
        write_log(place, {"event": number})
    assert os.path.getsize(place.log) < 200
    with open(place.log, encoding="ascii") as file:
        assert {json.loads(line)["format"] for line in file} == {1}
    os.unlink(place.log)
    os.mkdir(place.log)
    write_log(place, {"event": "lost"})


@pytest.mark.parametrize("link", ["../../etc", "x/releases/" + A, A, "releases/" + A + "/", "releases/new"])
def test_a_link_that_reads_differently_from_ours_is_foreign(place: Place, link: str) -> None:
    os.symlink(link, place.link)
    with pytest.raises(Problem, match=r"no release of Skein's"):
        place.current()


@pytest.mark.parametrize("identity", ["", "..", "a/b", A + "\n", A + "/..", A.replace("2", "\u0662"), None, 7])
def test_what_is_no_release_id_never_becomes_a_path(place: Place, identity: object) -> None:
    with pytest.raises(Problem, match="is no release id"):
        place.release(identity)


def test_releases_on_another_disk_than_ours_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def elsewhere(path: str, **options: bool) -> os.stat_result:
        found = real(path, **options)
        fields = list(found)
        fields[2] += path == place.releases
        return os.stat_result(fields)

    monkeypatch.setattr(os, "stat", elsewhere)
    with pytest.raises(Problem, match="on one file system"):
        place.make()
