"""Every step of a rollout fails on one target, once within the failure limit and once over it.

A case says what must be true of the one target, web-1, at the end; of the others it is always the same: live where the
run went on, and what they were where it was given up. Whatever happened, the report tells the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fake_fleet import Fault, lost, refused
from world import World, made, states

OLD, NEW = "old", "new"
BEFORE_FLIP = ["probe", "fetch", "stage", "arm"]


@dataclass(frozen=True)
class Case:
    """``faults`` of web-1; its ``state`` and what it ``shows`` within the limit; the exit codes within and over it."""

    name: str
    faults: dict[str, Fault]
    state: str
    shows: str = OLD
    within: int = 12
    over: int = 10
    over_shows: str = OLD

    def __str__(self) -> str:
        return self.name


def cases() -> list[Case]:
    return [
        *(Case(f"{verb} is lost", {verb: lost()}, "unreachable", over=5) for verb in BEFORE_FLIP),
        *(Case(f"{verb} is done and lost", {verb: lost(done=True)}, "unreachable", over=5) for verb in BEFORE_FLIP),
        *(Case(f"{verb} is refused", {verb: refused()}, "failed", over=5) for verb in BEFORE_FLIP),
        Case("flip is refused", {"flip": refused()}, "failed"),
        Case("flip is done and then refused", {"flip": refused(done=True)}, "failed"),
        Case("flip is lost, the link is the old one", {"flip": lost()}, "unreachable"),
        Case("flip is lost, the link is the new one", {"flip": lost(done=True)}, "live", NEW, 0, 0, NEW),
        Case("flip is lost, nobody answers", {"flip": lost(), "settle": lost()}, "unknown", OLD, 12, 13),
        Case("flip is done, nobody answers", {"flip": lost(done=True), "settle": lost()}, "unknown", NEW, 12, 13, NEW),
        Case("after_flip is refused", {"after_flip": refused("after-flip")}, "failed"),
        Case("after_flip is lost", {"after_flip": lost(done=True)}, "unreachable"),
        Case("it cannot be put back", {"after_flip": refused(), "revert": refused()}, "unknown", NEW, 12, 13, NEW),
        Case("putting back is lost", {"after_flip": refused(), "revert": lost()}, "unknown", NEW, 12, 13, NEW),
        Case("confirm is refused", {"confirm": refused()}, "live", NEW, 0, 0, NEW),
        Case("confirm is lost", {"confirm": lost()}, "live", NEW, 0, 0, NEW),
        Case("confirm is done and lost", {"confirm": lost(done=True)}, "live", NEW, 0, 0, NEW),
        Case("prune is refused", {"prune": refused("os-error")}, "live", NEW, 0, 0, NEW),
        Case("prune is lost", {"prune": lost()}, "live", NEW, 0, 0, NEW),
    ]


def run(case: Case, fail_limit: int) -> tuple[World, int, dict[str, str]]:
    """Deploy, check that the report is true, and return the world, the exit code and the states."""
    world = World(fail_limit=fail_limit)
    world.targets[0].faults = {verb: Fault(fault.error, fault.done, fault.times) for verb, fault in case.faults.items()}
    report = world.deploy()
    for target, outcome in zip(world.targets, report.outcomes, strict=True):
        assert outcome.host == target.name
        if outcome.state not in ("unknown", "unreachable") and "probe" not in target.faults:
            assert outcome.release == target.current, "the report says what the target does not show"
        assert outcome.release in (None, target.current)
        assert bool(outcome.reason) == (outcome.state in ("unknown", "unreachable", "failed"))
    assert world.fleet.got("flip") in ([], sorted(set(world.fleet.got("arm")) - set(_failed_before_flip(world))))
    return world, report.exit_code, states(report)


def _failed_before_flip(world: World) -> list[str]:
    return [target.name for target in world.targets if set(target.faults) & set(BEFORE_FLIP)]


def shown(world: World, what: str) -> str:
    return made(2).id if what == OLD else next(iter(set(world.shown[1:]) - {made(2).id}))


@pytest.mark.parametrize("case", cases(), ids=str)
def test_within_the_limit_the_others_go_live_and_the_one_is_named(case: Case) -> None:
    world, exit_code, found = run(case, fail_limit=1)
    assert (exit_code, found) == (case.within, {"web-1": case.state, "web-2": "live", "web-3": "live"})
    assert world.targets[1].current == world.targets[2].current != made(2).id
    assert world.targets[0].current == shown(world, case.shows)
    assert set(world.fleet.got("revert")) <= {"web-1"}
    assert world.fleet.got("confirm")[-2:] == ["web-2", "web-3"]


@pytest.mark.parametrize("case", cases(), ids=str)
def test_over_the_limit_everything_is_as_it_was_or_a_person_is_called(case: Case) -> None:
    world, exit_code, found = run(case, fail_limit=0)
    assert exit_code == case.over
    if case.over == 0:
        assert set(world.shown) - {made(2).id} == set(world.shown)
        return
    assert world.shown[1:] == [made(2).id] * 2
    assert (world.shown[0] == made(2).id) is (case.over_shows == OLD)
    others = "untouched" if case.over == 5 else "reverted"
    assert found == {"web-1": case.state, "web-2": others, "web-3": others}
    assert world.fleet.got("confirm") == world.fleet.got("prune") == []
    if case.over == 5:
        assert world.fleet.got("flip") == world.fleet.got("revert") == []
    else:
        assert set(world.fleet.got("revert")) >= {"web-2", "web-3"}


@pytest.mark.parametrize("case", [case for case in cases() if case.over == 5 and "probe" in case.faults], ids=str)
def test_a_fleet_that_is_too_broken_is_only_looked_at(case: Case) -> None:
    world, _, _ = run(case, fail_limit=0)
    assert world.fleet.verbs == ["probe"]
    assert (world.mirrors.pushed, world.source.parents) == ([], [])


@pytest.mark.parametrize("case", [case for case in cases() if case.within == 12], ids=str)
def test_the_same_command_again_finishes_what_was_left_and_touches_only_that(case: Case) -> None:
    world, _, _ = run(case, fail_limit=1)
    world.new_run()
    report = world.deploy()
    assert (report.exit_code, world.shown) == (0, [report.release] * 3)
    assert set(world.fleet.got("flip")) <= {"web-1"}


def test_a_target_with_trouble_of_its_own_is_named_with_every_reason() -> None:
    world = World(fail_limit=1)
    world.targets[0].problems = [
        {"code": "no-git", "message": "git is not installed"},
        {"code": "foreign-link", "message": "current is a directory"},
    ]
    report = world.deploy()
    assert (report.exit_code, states(report)["web-1"]) == (12, "failed")
    assert (report.outcomes[0].code, report.outcomes[0].reason) == (
        "no-git",
        "git is not installed; current is a directory",
    )
    assert world.fleet.got("fetch") == ["web-2", "web-3"]


def test_a_target_that_says_it_was_put_back_but_shows_the_new_release_is_not_believed() -> None:
    world = World(fail_limit=0)
    world.targets[1].faults["after_flip"] = refused()
    world.targets[0]._do_revert = lambda decision: {"current": world.targets[0].current}  # type: ignore[method-assign]
    report = world.deploy()
    assert report.exit_code == 13
    assert states(report)["web-1"] == "unknown"


def test_what_was_put_back_is_told_by_after_flip_too() -> None:
    world = World(fail_limit=0)
    world.targets[0].faults["after_flip"] = refused("after-flip", times=1)
    report = world.deploy()
    assert report.exit_code == 10
    told = [name for verb, name, _ in world.fleet.asked if verb == "after_flip"]
    assert sorted(told) == sorted(["web-1", "web-2", "web-3"] * 2)


def test_after_flip_that_fails_again_on_what_was_put_back_is_a_note() -> None:
    world = World(fail_limit=0)
    world.targets[0].faults["after_flip"] = refused("after-flip")
    report = world.deploy()
    assert report.exit_code == 10
    assert any("web-1" in note and "after_flip failed again" in note for note in report.notes)


def test_a_first_deploy_that_is_given_up_leaves_no_release_live() -> None:
    world = World(live=0)
    world.targets[0].faults["after_flip"] = refused()
    assert world.deploy().exit_code == 10
    assert world.shown == [None] * 3


def test_a_target_that_did_not_confirm_keeps_its_old_releases() -> None:
    world = World()
    world.targets[0].faults |= {"confirm": lost(), "settle": lost()}
    report = world.deploy()
    assert world.fleet.got("prune") == ["web-2", "web-3"]
    assert any("not yet in its own record" in note and "web-1" in note for note in report.notes)


def test_a_target_that_did_not_confirm_is_looked_at_once_more_and_settles() -> None:
    world = World()
    world.targets[0].faults["confirm"] = lost()
    report = world.deploy()
    assert (report.exit_code, report.notes) == (0, ())
    assert world.targets[0].history[-1].id == report.release


def overtaken(world: World, *names: str) -> None:
    """Let somebody else's release go live on targets, and our sessions there end, right after our flip."""

    def overtake(verb: str) -> None:
        if verb in ("after_flip", "confirm"):
            for target in world.targets:
                if target.name in names and target.current != made(9).id:
                    target.lose()
                    target.goes_live(made(9), target.turn + 1)
                    target.decision, target.pending = "theirs", None
                    target.faults |= {"after_flip": lost(times=1), "confirm": lost(times=1)}

    world.fleet.on_ask = overtake


@pytest.mark.parametrize("after_flip", [True, False])
def test_who_was_overtaken_after_his_flip_claims_nothing_and_changes_nothing(after_flip: bool) -> None:
    world = World(after_flip=after_flip)
    overtaken(world, "web-1", "web-2", "web-3")
    report = world.deploy()
    assert report.exit_code == 4
    assert "somebody else deployed meanwhile" in report.headline
    assert {(one.state.value, one.release) for one in report.outcomes} == {("failed", made(9).id)}
    assert "invoke status" in report.next_step
    assert world.shown == [made(9).id] * 3
    assert world.fleet.got("prune") == []
    assert len(world.fleet.requests("after_flip")) == 3 * after_flip
    assert world.book.records[-1].model_dump()["undone"] is True


def test_who_was_overtaken_on_one_target_is_live_on_the_others() -> None:
    world = World(fail_limit=1)
    overtaken(world, "web-2")
    report = world.deploy()
    assert (report.exit_code, states(report)) == (12, {"web-1": "live", "web-2": "failed", "web-3": "live"})
    assert world.shown[1] == made(9).id


def test_the_headline_counts_those_that_were_live_already() -> None:
    world = World({"web": "web-[1-4]"}, fail_limit=1)
    world.commit(2)
    world.targets[1].forget(made(2))
    world.targets[0].faults["probe"] = lost()
    assert world.deploy().headline == f"{made(2).id}: live on 3 of 4 targets"


def test_confirm_that_was_lost_is_settled_by_the_next_run() -> None:
    world = World()
    world.targets[0].faults["confirm"] = lost()
    release = world.deploy().release
    world.new_run()
    world.commit(4)
    world.deploy()
    assert [record.id for record in world.targets[0].history][-2] == release


def test_ctrl_c_does_not_hide_that_targets_failed() -> None:
    world = World(fail_limit=1)
    world.interrupt("flip")
    world.targets[0].faults["flip"] = refused()
    report = world.deploy()
    assert (report.exit_code, states(report)["web-1"]) == (12, "failed")
    assert any("interrupted" in note for note in report.notes)
