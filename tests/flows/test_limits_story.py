"""How much of the fleet may fail: counted over what was selected, percentages rounded down, groups for themselves."""

from __future__ import annotations

import pytest
from fake_fleet import lost, refused
from world import World, made

from tasks.core.policy import Limit


@pytest.mark.parametrize(
    ("limit", "size", "down", "exit_code"),
    [
        (0, 50, 0, 0),
        (0, 50, 1, 5),
        (3, 50, 3, 12),
        (3, 50, 4, 5),
        ("2%", 50, 1, 12),
        ("2%", 50, 2, 5),
        ("2%", 49, 1, 5),
        ("2%", 99, 1, 12),
        ("2%", 99, 2, 5),
        ("2%", 100, 2, 12),
        ("100%", 5, 4, 12),
        ("100%", 5, 5, 5),
        (10, 5, 5, 5),
    ],
)
def test_a_limit_is_inclusive_and_a_percentage_is_rounded_down(
    limit: Limit, size: int, down: int, exit_code: int
) -> None:
    world = World({"web": f"web-[1-{size}]"}, fail_limit=limit)
    for target in world.targets[:down]:
        target.faults["probe"] = lost()
    assert world.deploy().exit_code == exit_code


@pytest.mark.parametrize(
    ("eu", "us", "exit_code"), [(1, 0, 12), (2, 0, 5), (0, 2, 12), (1, 2, 12), (2, 1, 5), (1, 3, 5)]
)
def test_a_group_may_set_a_limit_of_its_own_besides_that_of_all(eu: int, us: int, exit_code: int) -> None:
    world = World({"eu": "eu-[1-5]", "us": "us-[1-5]"}, fail_limit=3, group_limits={"eu": 1})
    for target in [*world.targets[:eu], *world.targets[5 : 5 + us]]:
        target.faults["stage"] = refused("disk-full")
    report = world.deploy()
    assert report.exit_code == exit_code
    if exit_code == 5:
        assert world.fleet.got("flip") == []


def test_the_sentence_says_which_limit_it_was() -> None:
    world = World({"eu": "eu-[1-5]", "us": "us-[1-5]"}, fail_limit=9, group_limits={"eu": "20%"})
    for target in world.targets[:2]:
        target.faults["probe"] = lost()
    assert "2 of 5 targets of eu failed, more than its fail_limit = 20% allows" in world.deploy().headline


def test_failures_add_up_over_the_stages() -> None:
    world = World({"web": "web-[1-6]"}, fail_limit=2)
    for target, verb in zip(world.targets, ("probe", "stage", "after_flip"), strict=False):
        target.faults[verb] = refused()
    report = world.deploy()
    assert (report.exit_code, world.shown) == (10, [made(2).id] * 6)


def test_only_what_was_selected_counts_and_is_touched() -> None:
    world = World({"eu": "eu-[1-2]", "us": "us-[1-2]"}, fail_limit="50%", group_limits={"us": 0})
    hands = world.hands([host for host in world.settings.hosts if host.group == "eu"])
    world.hands = lambda hosts=None: hands  # type: ignore[method-assign]
    world.targets[0].faults["stage"] = refused()
    report = world.deploy()
    assert (report.exit_code, len(report.outcomes)) == (12, 2)
    assert world.shown[2:] == [made(2).id] * 2
    assert {name for _, name, _ in world.fleet.asked} == {"eu-1", "eu-2"}


@pytest.mark.parametrize(("limit", "exit_code"), [(0, 4), (1, 12)])
def test_targets_on_which_somebody_else_is_at_work_are_exit_4_and_not_5(limit: int, exit_code: int) -> None:
    world = World(fail_limit=limit)
    world.targets[0].faults["fetch"] = refused("locked")
    report = world.deploy()
    assert report.exit_code == exit_code
    assert report.outcomes[0].code == "locked"
    assert world.targets[0].current == made(2).id
