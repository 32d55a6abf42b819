"""A release that a rollback left is marked bad: shown, never gone back to by itself, and chosen again on purpose."""

from __future__ import annotations

import json

import pytest
from fake_fleet import lost
from ledger_records import FLEET
from world import World, made

from tasks.core.errors import UsageError
from tasks.flows.reading import Reader
from tasks.flows.status import status

MARKED = f"{made(3).id} is marked bad: the rollback by ann@laptop at 2026-01-02 00:00:00 UTC (because) left it"


def reader(world: World) -> Reader:
    return Reader("prod", "mirror-1", FLEET, world.book, lambda: 0.0)


def without_web_1(*, hub: bool = True) -> World:
    """Return a fleet that was rolled back from 3 to 2 while its first host was away, and got 4 since."""
    world = World(live=3, fail_limit=1)
    world.book.down = not hub
    world.targets[0].faults["probe"] = lost()
    assert world.rollback().exit_code == 12
    world.new_run()
    for target in world.targets:
        target.goes_live(made(4), 9)
    return world


@pytest.mark.parametrize("hub", [True, False])
def test_a_host_that_missed_the_rollback_does_not_lead_the_fleet_back_to_what_it_left(hub: bool) -> None:
    world = without_web_1(hub=hub)
    report = world.rollback()
    assert (report.exit_code, report.release) == (0, made(2).id)
    assert set(world.shown) == {made(2).id}
    passed = [note for note in report.notes if note.startswith(f"passed over: {made(3).id} is marked bad")]
    assert len(passed) == 1
    assert f"--to {made(3).id} goes there all the same" in passed[0]


def test_a_plan_of_it_says_the_same_and_changes_nothing() -> None:
    world = without_web_1()
    plan = world.plan_rollback()
    assert plan.release is not None
    assert plan.release.id == made(2).id
    assert f"passed over: {MARKED}; --to {made(3).id} goes there all the same" in plan.notes


def test_where_only_a_bad_one_was_live_before_nobody_is_sent_back_to_it() -> None:
    world = World(live=0)
    for target in world.targets:
        target.goes_live(made(3), 3)
        target.goes_live(made(2), 4, "rollback")
    told = f"nothing was live before {made(2).id} but what is marked bad: {made(3).id}; name one with --to"
    with pytest.raises(UsageError, match=told):
        world.rollback()


def test_to_a_bad_release_goes_there_says_so_and_takes_the_mark_away() -> None:
    world = World(live=3)
    world.rollback()
    world.new_run()
    report = world.rollback(made(3).id)
    assert (report.exit_code, set(world.shown)) == (0, {made(3).id})
    assert f"{MARKED}; to make it live takes that mark away" in report.notes
    assert world.book.chain.marks.bad == set()


def test_a_deploy_of_the_commit_that_a_rollback_left_says_so_and_takes_the_mark_away() -> None:
    world = World(live=3)
    world.rollback()
    world.new_run()
    world.commit(3)
    told = f"{MARKED}; to make it live takes that mark away"
    assert told in world.plan().notes
    report = world.deploy()
    assert (report.exit_code, report.release) == (0, made(3).id)
    assert told in report.notes
    assert world.book.chain.marks.bad == set()


def test_a_new_release_of_a_bad_commit_is_told_once() -> None:
    world = World(live=3)
    world.rollback()
    for number, notes in ((4, []), (3, [f"{MARKED}; "]), (5, []), (3, [])):
        world.new_run()
        world.commit(number)
        report = world.deploy()
        assert [note[: len(MARKED) + 2] for note in report.notes] == notes
    assert world.book.chain.marks.bad == {made(3).id}


def test_status_log_and_releases_show_it() -> None:
    world = World(live=3)
    world.rollback()
    found = reader(world).status(FLEET)
    assert (found.exit_code, found.notes, found.as_json()["bad"]) == (0, (MARKED,), [made(3).id])
    world.book.on_mirror = {made(3).id: made(3).commit}
    assert reader(world).log(9).rows[1][5] == f"{made(2).id}, and {made(3).id} marked bad"
    listed = reader(world).releases(9)
    assert (made(3).id, MARKED.partition(" is ")[2]) in [(row[0], row[3]) for row in listed.rows]
    assert [each["bad"] for each in json.loads(json.dumps(listed.as_json()))["releases"]] == [True, False]
    world.new_run()
    live = status(world.hands())
    assert (live.notes, live.bad) == ((f"{made(3).id} is marked bad: a rollback left it",), (made(3).id,))


def test_a_mark_of_long_ago_is_in_releases_and_no_longer_a_note_of_status() -> None:
    world = World(live=3)
    world.rollback()
    world.new_run()
    world.commit(4)
    world.deploy()
    found = reader(world).status(FLEET)
    assert (found.notes, found.bad) == ((), (made(3).id,))


def test_a_rollback_without_the_hub_marks_at_once_here_and_everywhere_once_it_is_entered() -> None:
    world = World(live=3)
    world.book.down = True
    world.rollback()
    assert made(3).id in reader(world).status(FLEET).bad
    assert world.book.chain.marks.bad == set()
    world.new_run()
    world.book.down = False
    world.commit(4)
    world.deploy()
    assert world.book.chain.marks.bad == {made(3).id}
