"""One host that lies, or whose record is damaged, fails alone: it leads neither the fleet nor any later run astray."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_fleet import FakeHost
from world import World, made, states

from tasks.core.errors import RepositoryError
from tasks.core.plausible import NUMBER_LEAP, TURN_LEAP
from tasks.core.release import Release, number_of
from tasks.flows.check import check
from tasks.flows.status import status


def numbered(number: int) -> Release:
    """Return a release that nobody but one host knows."""
    identity = f"20260101T000000Z-{number:04d}-{'a' * 7}"
    return Release(identity, number, "prod", "a" * 40, "b" * 40, "c" * 40)


def turned(turn: int) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        host.turn = turn

    return change


def lived(turn: int) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        host.history[-1].turn = turn

    return change


ODD = [turned(2**62), turned(2 + TURN_LEAP + 1), lived(2**62)]


@pytest.mark.parametrize("change", ODD)
@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_a_host_whose_turn_cannot_be_fails_and_is_not_believed(
    change: Callable[[FakeHost], None], command: str
) -> None:
    world = World(fail_limit=1, live=2)
    change(world.targets[1])
    report = getattr(world, command)()
    assert report.exit_code == 12
    assert report.outcomes[1].code == "odd-turn"
    assert "state.json" in report.outcomes[1].reason
    assert [target.turn for target in world.targets[::2]] == [3, 3]
    assert "web-2" not in world.fleet.got("flip")


@pytest.mark.parametrize("change", ODD)
def test_a_host_whose_turn_cannot_be_counts_towards_the_limit(change: Callable[[FakeHost], None]) -> None:
    world = World()
    change(world.targets[0])
    before = world.shown
    report = world.deploy()
    assert (report.exit_code, world.shown) == (5, before)
    assert world.mirrors.pushed == []


def test_a_host_that_is_ahead_as_far_as_a_fleet_can_be_is_believed() -> None:
    world = World()
    world.targets[1].turn = 2 + TURN_LEAP
    assert world.deploy().exit_code == 0
    assert {target.turn for target in world.targets} == {3 + TURN_LEAP}


@pytest.mark.parametrize("behind", [0, 1])
def test_hosts_that_saw_little_do_not_make_the_others_odd(behind: int) -> None:
    world = World(live=1)
    for target in world.targets:
        target.turn = 10 * TURN_LEAP
    world.targets[0].turn = behind
    world.targets[0].history[-1].turn = 0
    assert world.deploy().exit_code == 0


def test_two_of_three_that_saw_no_turn_yet_have_no_say() -> None:
    world = World(live=0)
    world.targets[0].turn = 10 * TURN_LEAP
    assert world.deploy().exit_code == 0


def test_status_does_not_take_an_odd_host_for_the_newest() -> None:
    world = World(live=2)
    world.targets[0].goes_live(made(9), 2**33)
    found = status(world.hands())
    assert found.desired == made(2).id
    assert "cannot be" in found.hosts[0].trouble
    assert [host.trouble for host in found.hosts[1:]] == ["", ""]


@pytest.mark.parametrize("number", [999_999_999, 10**8, 3 + NUMBER_LEAP])
def test_a_release_number_that_cannot_be_is_passed_over_and_named(number: int) -> None:
    world = World()
    odd = numbered(number)
    world.targets[1].staged[odd.id] = odd
    report = world.deploy()
    assert report.exit_code == 0
    assert number_of(report.release or "") == 3
    assert any("passed over on web-2" in note for note in report.notes)


def test_a_release_number_within_the_bound_is_believed() -> None:
    world = World()
    odd = numbered(2 + NUMBER_LEAP)
    world.targets[1].staged[odd.id] = odd
    assert number_of(world.deploy().release or "") == 3 + NUMBER_LEAP


def test_the_last_release_number_of_all_is_an_error_that_says_so() -> None:
    world = World()
    world.source.tag_names = (numbered(999_999_999).id,)
    before = world.shown
    with pytest.raises(RepositoryError, match="release numbers end at 999999999"):
        world.deploy()
    assert (world.shown, world.mirrors.pushed) == (before, [])


def test_two_names_of_one_place_fail_and_are_named() -> None:
    world = World({"web": "web-[1-4]"}, fail_limit=2)
    for target in world.targets[1:3]:
        target.place = "the same"
    before = world.shown
    report = world.deploy()
    assert report.exit_code == 12
    assert set(states(report).values()) == {"live", "failed"}
    assert report.outcomes[1].reason == "web-[2-3] are one and the same place: leave one of the names out"
    assert world.shown[1:3] == before[1:3]
    found = check(world.hands(), ())
    assert [finding.what for finding in found.hosts[2][1] if not finding.ok] == ["same-place"]
    assert "one and the same" in status(world.hands()).hosts[1].trouble


def test_clocks_wrong_by_a_day_on_a_tenth_of_the_fleet_decide_nothing() -> None:
    world = World({"web": "web-[01-10]"})
    world.targets[3].clock_offset_s = -86_400.0
    report = world.deploy()
    assert (report.exit_code, set(world.shown)) == (0, {report.release})
    assert report.skew_s == pytest.approx(0.0, abs=1e-5)
    world.new_run()
    back = world.rollback()
    assert (back.exit_code, set(world.shown)) == (0, {made(2).id})
    told = check(world.hands(), ())
    assert [name for name, findings in told.hosts if not all(each.ok for each in findings)] == ["web-04"]
