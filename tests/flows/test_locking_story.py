"""`lock` and `unlock`: a freeze that lasts, a lock that is broken, and what is recorded of both."""

from __future__ import annotations

import pytest
from ledger_records import decided, frozen
from world import World

from tasks.core.errors import LockedError, RepositoryError, UsageError
from tasks.core.ledger import Broken
from tasks.flows.locking import lock, unlock


def kinds(world: World) -> list[str]:
    return [record.kind for record in world.book.records]


def test_a_lock_lasts_after_its_command_and_unlock_ends_it() -> None:
    world = World()
    told = lock(world.hands())
    assert (told.exit_code, kinds(world), world.book.holder, world.book.spreads) == (0, ["freeze"], "", 1)
    with pytest.raises(LockedError, match="because"):
        world.deploy()
    world.new_run()
    assert "ended the freeze by ann@laptop" in unlock(world.hands()).lines[-1]
    assert kinds(world) == ["freeze", "unfreeze"]
    assert world.deploy().exit_code == 0


def test_a_lock_needs_a_reason_for_it_is_what_others_are_told() -> None:
    world = World()
    world.reason = ""
    with pytest.raises(UsageError, match="--reason"):
        lock(world.hands())
    assert world.book.records == []


def test_who_freezes_while_another_is_at_work_is_told_and_may_wait() -> None:
    world = World()
    world.book.holder, world.wait_s = "bob@desk", 5
    with pytest.raises(LockedError, match="bob@desk"):
        lock(world.hands())
    assert (world.book.waited_s, world.book.records) == ([0.0, 5], [])


def test_a_second_lock_names_the_first() -> None:
    world = World()
    world.book.records = [frozen(1, 0)]
    with pytest.raises(LockedError, match="audit"):
        lock(world.hands())
    assert kinds(world) == ["freeze"]


def test_unlock_with_nothing_to_unlock_says_so_and_writes_nothing() -> None:
    world = World()
    told = unlock(world.hands())
    assert (told.exit_code, world.book.records, world.book.broken) == (0, [], [])
    assert "neither frozen nor locked" in told.lines[-1]


def test_a_lock_that_somebody_holds_is_broken_only_with_a_reason_and_names_him_first() -> None:
    world = World()
    world.book.holder, world.reason = "bob@desk", ""
    with pytest.raises(LockedError, match=r"bob@desk is at work.*--reason"):
        unlock(world.hands())
    assert (world.book.broken, world.book.records) == ([], [])


def test_a_broken_lock_is_recorded_with_a_turn_above_all_and_fences_its_holder() -> None:
    world = World()
    world.book.records, world.book.holder = [decided(1, 7, 2)], "bob@desk"
    told = unlock(world.hands())
    assert "broke the lock: bob@desk" in told.lines[-1]
    record = world.book.records[-1]
    assert isinstance(record, Broken)
    assert (record.turn, record.holder, record.reason) == (8, "bob@desk", "because")
    assert world.book.chain.broken_since(1) == record


def test_an_unlock_without_the_hub_is_impossible_and_says_so() -> None:
    world = World()
    world.book.down = True
    for command in (lock, unlock):
        with pytest.raises(RepositoryError, match="out of reach"):
            command(world.hands())
