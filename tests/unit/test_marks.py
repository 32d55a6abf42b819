"""Which releases are marked bad: by the ledger's decisions and by what hosts keep of their own flips."""

from __future__ import annotations

import pytest
from ledger_records import chain_of, decided, ended, release_of

from tasks.agent.state import judged
from tasks.core.facts import Probe
from tasks.core.history import told_of
from tasks.core.ledger import Decided
from tasks.core.marks import Marks, seen_by


def back(number: int, turn: int, release: int, *left: int) -> Decided:
    before = tuple((release_of(each), ("web-1",)) for each in left)
    return decided(number, turn, release, kind="rollback", before=before)


def flips(*told: tuple[str, int, int | None]) -> list[dict[str, object]]:
    """Return a host's history: kind, release and what was live before, each with the next turn."""
    return [
        {"kind": kind, "id": release_of(new), "was": None if was is None else release_of(was), "turn": turn}
        for turn, (kind, new, was) in enumerate(told, 1)
    ]


def probe(turn: int, **marks: dict[str, int]) -> Probe:
    nothing = {"current": None, "current_since": None, "stack": (), "releases": {}, "problems": (), "git": None}
    return Probe(turn=turn, free_bytes=0, free_inodes=0, clock=0, python="3", **nothing, **marks)


def test_the_release_that_a_rollback_left_is_bad_until_it_is_chosen_again() -> None:
    chain = chain_of(decided(1, 1, 2), decided(2, 2, 3), back(3, 3, 2, 3))
    assert chain.marks.bad == {release_of(3)}
    assert chain.left_by(release_of(3)) == chain.records[0]
    assert told_of(chain.records[0]) == f"{release_of(2)}, and {release_of(3)} marked bad"
    assert chain_of(*reversed(chain.records), decided(4, 4, 3)).marks.bad == set()


def test_going_forth_again_marks_nothing_and_takes_the_mark_away() -> None:
    chain = chain_of(decided(1, 1, 2), decided(2, 2, 3), back(3, 3, 2, 3), back(4, 4, 3, 2))
    assert chain.marks.bad == set()


def test_a_rollback_that_was_put_back_marks_nothing() -> None:
    chain = chain_of(decided(1, 1, 2), decided(2, 2, 3), back(3, 3, 2, 3), ended(4, 3, 2, code=10))
    assert chain.marks.bad == set()


def test_a_target_that_was_behind_is_not_what_a_rollback_left() -> None:
    assert chain_of(back(1, 5, 3, 4, 3, 2)).marks.bad == {release_of(4)}


def test_a_rollback_that_is_entered_late_marks_what_it_left_by_its_turn() -> None:
    late = back(3, 3, 2, 3).model_copy(update={"late": True})
    assert chain_of(decided(1, 1, 2), decided(2, 2, 3), late).marks.bad == {release_of(3)}
    older = back(4, 3, 2, 3).model_copy(update={"late": True})
    assert chain_of(decided(1, 1, 2), decided(2, 2, 3), decided(3, 4, 3), older).marks.bad == set()


@pytest.mark.parametrize(
    ("history", "bad"),
    [
        ((("deploy", 2, None), ("deploy", 3, 2)), set()),
        ((("deploy", 2, None), ("deploy", 3, 2), ("rollback", 2, 3)), {release_of(3)}),
        ((("deploy", 3, 2), ("rollback", 2, 3), ("deploy", 3, 2)), set()),
        ((("deploy", 3, 2), ("rollback", 2, 3), ("rollback", 3, 2)), set()),
        ((("deploy", 1, None), ("rollback", 2, 1)), set()),
        ((("rollback", 2, None),), set()),
    ],
)
def test_a_host_knows_by_its_own_flips(history: tuple[tuple[str, int, int | None], ...], bad: set[str]) -> None:
    chosen, left = judged(flips(*history))
    assert Marks(chosen, left).bad == bad


def test_ids_that_are_none_in_a_host_s_record_mark_nothing() -> None:
    assert judged([{"kind": "rollback", "id": "x", "was": 7, "turn": 1}]) == ({"x": 1}, {})


def test_what_one_host_missed_another_one_tells() -> None:
    three = release_of(3)
    missed, told = probe(2, chosen={three: 2}), probe(3, chosen={three: 2}, left={three: 3})
    assert seen_by([missed, told]).bad == {three}
    assert seen_by([missed, told, probe(4, chosen={three: 4})]).bad == set()


def test_a_mark_of_a_turn_that_its_host_never_saw_is_not_believed() -> None:
    assert seen_by([probe(3, left={release_of(3): 4})]).bad == set()
