"""What carriers did is measured, kept in the ledger, and what the next run goes by."""

from __future__ import annotations

from fake_fleet import refused
from test_plan_story import ways
from world import World

from tasks.core.ledger import Ended
from tasks.core.plan import INLINE, MIRROR
from tasks.core.pricing import Carried
from tasks.transports.auto import AutoTransport
from tasks.transports.git import GitTransport
from tasks.transports.inline import LARGE, InlineTransport


def auto(world: World, size: int) -> World:
    """Let the carrier be chosen: whatever a target has, it lacks ``size`` bytes."""
    git = GitTransport(world.settings.mirrors, "deploy", 900.0, weigh=lambda base, release: size)
    world.transport = AutoTransport(InlineTransport(git, lambda base, release: bytes(size), LARGE, is_whole=True))
    return world


def test_a_run_says_what_it_carried_how_long_that_took_and_what_was_expected() -> None:
    world = auto(World(), 1_000)
    report = world.deploy()
    assert report.carried == (Carried(by="inline", hosts=3, bytes=3_000, seconds=7.0),)
    assert report.predicted_s == {"inline": 0.03 + 3_000 / 12_500_000}
    (outcome,) = [record for record in world.book.records if isinstance(record, Ended)]
    assert outcome.carried == report.carried


def test_the_next_run_goes_by_what_the_last_one_measured() -> None:
    world = auto(World(), 2_000_000)
    plan = world.plan()
    assert {way.by for way in ways(plan).values()} == {INLINE}
    assert list(plan.predicted_s) == ["inline"]
    world.fleet.request_s = 1_000.0
    assert world.deploy().carried[0].seconds == 7_000.0
    world.commit(4)
    found = ways(auto(world, 2_000_000).plan())
    assert {way.by for way in found.values()} == {MIRROR}, "sessions were slow, and the mirrors may be quicker"
    assert "git takes about" in found["web-1"].why
    assert "inline 70" in found["web-1"].why


def test_who_fell_back_to_a_mirror_counts_for_git() -> None:
    world = auto(World(), 1_000)
    world.targets[0].inline = False
    assert {(each.by, each.hosts) for each in world.deploy().carried} == {("inline", 2), ("git", 1)}


def test_a_target_that_fails_or_has_the_release_already_counts_for_nothing() -> None:
    world = auto(World(fail_limit=1), 1_000)
    world.targets[0].faults["fetch"] = refused()
    (carried,) = world.deploy().carried
    assert carried.hosts == 2
    assert world.rollback().carried == ()
