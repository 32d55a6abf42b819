"""`fab rollback`: what was live before, by record, and one release for the whole fleet."""

from __future__ import annotations

import pytest
from fake_fleet import lost, refused
from world import World, made, states

from tasks.core.errors import UsageError
from tasks.core.facts import Present, Probe
from tasks.flows.rollback import find


def ids(*numbers: int) -> list[str | None]:
    return [made(number).id for number in numbers]


def test_it_goes_back_to_what_was_live_before_and_needs_no_mirror() -> None:
    world = World(live=3)
    for target in world.targets:
        target.off_mirrors = True
    report = world.rollback()
    assert (report.exit_code, report.command, report.release) == (0, "rollback", made(2).id)
    assert world.shown == ids(2, 2, 2)
    assert world.fleet.verbs == ["probe", "fetch", "stage", "arm", "flip", "after_flip", "confirm", "prune"]
    assert world.mirrors.pushed == []


def test_rolling_back_twice_goes_two_back_not_forth() -> None:
    world = World(live=4)
    for wanted in (3, 2, 1):
        assert world.rollback().exit_code == 0
        assert world.shown == ids(wanted, wanted, wanted)
        world.new_run()
    with pytest.raises(UsageError, match="nothing to roll back to"):
        world.rollback()


def test_a_deploy_after_a_rollback_goes_forth_and_back_to_what_was_live() -> None:
    world = World(live=3)
    world.rollback()
    world.new_run()
    world.deploy()
    world.new_run()
    world.rollback()
    assert world.shown == ids(2, 2, 2)


def test_a_rollback_takes_a_turn_above_all_others() -> None:
    world = World(live=3)
    world.targets[1].turn = 11
    world.rollback()
    assert {request.fields["turn"] for request in world.fleet.requests("flip")} == {12}
    assert {request.fields["kind"] for request in world.fleet.requests("flip")} == {"rollback"}


@pytest.mark.parametrize("before", ["", "release/"])
def test_to_names_any_release_that_a_target_still_has(before: str) -> None:
    world = World(live=4)
    assert world.rollback(before + made(1).id).release == made(1).id
    assert world.shown == ids(1, 1, 1)


def test_to_what_is_live_already_changes_nothing() -> None:
    world = World(live=2)
    report = world.rollback(made(2).id)
    assert (report.exit_code, set(states(report).values())) == (0, {"already live"})
    assert world.fleet.verbs == ["probe"]


def test_a_release_that_no_target_has_is_refused_and_those_there_are_listed() -> None:
    world = World(live=2)
    with pytest.raises(UsageError) as refusal:
        world.rollback(made(9).id)
    assert made(1).id in str(refusal.value)
    assert f"--ref release/{made(9).id}" in str(refusal.value)
    assert world.fleet.verbs == ["probe"]


@pytest.mark.parametrize("to", ["--upload-pack=x", "1", "", "main", made(1).id + "\n"])
def test_what_is_no_release_id_is_refused_before_any_target_is_asked(to: str) -> None:
    world = World(live=2)
    with pytest.raises(UsageError):
        world.rollback(to)
    assert world.fleet.asked == []


def test_a_target_that_lacks_the_release_stages_it_first() -> None:
    world = World(live=3)
    lacking = world.targets[1]
    del lacking.staged[made(2).id]
    lacking.objects.discard(made(2).commit)
    assert world.rollback().exit_code == 0
    assert world.shown == ids(2, 2, 2)
    assert made(2).commit in lacking.objects


def test_a_target_that_can_no_longer_get_the_release_stops_the_rollback_before_any_flip() -> None:
    world = World(live=3)
    world.targets[1].objects.discard(made(2).commit)
    world.targets[1].off_mirrors = True
    report = world.rollback()
    assert (report.exit_code, world.shown) == (5, ids(3, 3, 3))
    assert world.fleet.got("flip") == []


def test_it_is_checked_on_all_targets_before_any_of_them_flips() -> None:
    world = World(live=3)
    world.targets[2].faults["stage"] = refused("damaged")
    assert world.rollback().exit_code == 5
    assert world.fleet.got("stage") == ["web-1", "web-2", "web-3"]
    assert world.fleet.got("flip") == []


def test_a_target_that_was_left_out_of_the_last_deploy_stays_where_it_is() -> None:
    world = World(live=2, fail_limit=1)
    world.targets[0].faults["probe"] = lost()
    world.deploy()
    world.new_run()
    report = world.rollback()
    assert (report.exit_code, states(report)["web-1"], world.shown) == (0, "already live", ids(2, 2, 2))


@pytest.mark.parametrize("verb", ["flip", "after_flip"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_target_whose_flip_came_to_nothing_does_not_decide_what_was_live_before(verb: str, place: int) -> None:
    world = World(live=2, fail_limit=1)
    fault = refused(times=1, done=verb == "flip")
    world.targets[place].faults[verb] = fault
    assert world.deploy().exit_code == 12
    world.new_run()
    assert world.rollback().exit_code == 0
    assert world.shown == ids(2, 2, 2)


def test_a_flip_that_nobody_confirmed_counts_as_live() -> None:
    world = World(live=2)
    world.deploy_killed_at("confirm")
    assert world.rollback().exit_code == 0
    assert world.shown == ids(2, 2, 2)


def test_nothing_was_ever_live() -> None:
    with pytest.raises(UsageError, match="no release was ever live"):
        World(live=0).rollback()


def test_nothing_was_live_before_the_only_one() -> None:
    with pytest.raises(UsageError, match=f"nothing was live before {made(1).id}"):
        World(live=1).rollback()


def test_too_many_targets_down_is_exit_5_and_nothing_is_asked_of_the_others() -> None:
    world = World(live=2)
    world.targets[0].faults["probe"] = lost()
    report = world.rollback()
    assert (report.exit_code, report.command, world.fleet.verbs) == (5, "rollback", ["probe"])
    assert states(report) == {"web-1": "unreachable", "web-2": "untouched", "web-3": "untouched"}


def test_a_rollback_that_fails_after_the_flip_is_put_back_too() -> None:
    world = World(live=3)
    world.targets[0].faults["after_flip"] = refused()
    assert (world.rollback().exit_code, world.shown) == (10, ids(3, 3, 3))


def test_targets_that_disagree_on_what_a_release_is_are_named_and_nothing_flips() -> None:
    good = Present(commit="a" * 40, source_commit="b" * 40, tree="c" * 40, number=1)
    odd = good.model_copy(update={"tree": "d" * 40})
    identity = made(1).id
    shown = {"web-1": good, "web-2": good, "web-3": odd}
    probes = {name: probe_with(identity, present) for name, present in shown.items()}
    with pytest.raises(UsageError, match=r"disagree.*web-3"):
        find(probes, identity, "prod")


def probe_with(identity: str, present: Present) -> Probe:
    return Probe.model_construct(releases={identity: present})
