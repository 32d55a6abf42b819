"""`fab deploy` told to a fleet that is not there: the order of things, and what is left alone."""

from __future__ import annotations

import pytest
from fake_fleet import lost
from world import BEGAN, World, made, oid, states

from tasks.core.errors import RepositoryError, UsageError

VERBS = ["probe", "fetch", "stage", "arm", "flip", "after_flip", "confirm", "prune"]
PLACES = ["resolved", "tagged", "released", "staged", "barrier", "flipped", "confirm"]


def test_a_deploy_stages_everywhere_then_flips_everywhere_then_confirms() -> None:
    world = World()
    report = world.deploy()
    assert (report.exit_code, set(states(report).values())) == (0, {"live"})
    assert world.shown == [report.release] * 3
    assert world.fleet.verbs == VERBS
    order = [verb for verb, _, _ in world.fleet.asked]
    for before, after in (("probe", "fetch"), ("arm", "flip"), ("flip", "after_flip"), ("after_flip", "confirm")):
        assert max(place for place, verb in enumerate(order) if verb == before) < order.index(after)
    assert all(order.count(verb) == 3 for verb in VERBS)


def test_every_step_of_the_deployer_passes_its_failpoint() -> None:
    world = World()
    world.deploy()
    assert world.passed == [f"deploy.{place}" for place in PLACES]


def test_the_report_names_the_release_the_files_the_times_and_the_next_step() -> None:
    report = World().deploy()
    assert report.release == "20260102T000000Z-0003-" + made(3).source_commit[:7]
    assert report.headline == f"{report.release}: live on all 3 targets"
    assert report.files == {"added": 1, "changed": 2, "removed": 3}
    assert set(report.timings_s) >= {"probe", "release", "stage", "flip", "after_flip", "confirm"}
    assert "fab rollback --env prod" in report.next_step


def test_without_after_flip_nothing_is_run_on_the_targets() -> None:
    world = World(after_flip=False)
    assert world.deploy().exit_code == 0
    assert world.fleet.verbs == [verb for verb in VERBS if verb != "after_flip"]


def test_a_flip_carries_all_that_makes_a_late_one_harmless() -> None:
    world = World(live=2)
    world.targets[2].turn = 7
    release = world.deploy().release
    for request in world.fleet.requests("flip"):
        assert request.fields == {
            "id": release,
            "expect": made(2).id,
            "turn": 8,
            "decision": f"8-{release}-n0",
            "kind": "deploy",
            "by": "ann@laptop",
            "reason": "because",
            "ledger": {"head": world.book.chain.links[-1].commit, "number": 1},
        }


def test_the_first_deploy_expects_nothing_to_be_live() -> None:
    world = World(live=0)
    report = world.deploy()
    assert (report.exit_code, report.files) == (0, {})
    assert [(request.fields["expect"], request.fields["turn"]) for request in world.fleet.requests("flip")] == [
        (None, 1)
    ] * 3
    assert world.source.parents == [None]


def test_the_settings_reach_the_targets() -> None:
    world = World()
    world.deploy()
    (stage, *_), (prune, *_) = world.fleet.requests("stage"), world.fleet.requests("prune")
    assert (stage.fields["linked_dirs"], stage.fields["linked_files"]) == (["storage"], [".env"])
    assert prune.fields == {"keep": 4, "spare": True}
    assert (stage.fields["reuse_after"], stage.fields["full"]) == (3600, False)
    assert world.fleet.requests("after_flip")[0].fields == {"command": ["reload"], "timeout_s": 60}


def test_the_flip_skew_is_measured_on_one_clock() -> None:
    world = World()
    for target, offset, delay in zip(world.targets, (0.0, 40.0, -3600.0), (0.010, 0.002, 0.030), strict=True):
        target.clock_offset_s, target.delay_s = offset, delay
    assert world.deploy().skew_s == pytest.approx(0.028, abs=1e-5)


def test_there_is_nothing_to_do_where_every_target_serves_the_commit() -> None:
    world = World(live=2)
    world.commit(2)
    report = world.deploy()
    assert (report.exit_code, report.release, set(states(report).values())) == (0, made(2).id, {"already live"})
    assert "nothing to do" in report.headline
    assert (world.fleet.verbs, world.mirrors.pushed, world.source.parents) == (["probe"], [], [])


def test_one_target_behind_is_enough_to_work_and_only_it_is_touched() -> None:
    world = World(live=2)
    world.commit(2)
    world.targets[1].forget(made(2))
    report = world.deploy()
    assert (report.exit_code, report.release) == (0, made(2).id)
    assert states(report) == {"web-1": "already live", "web-2": "live", "web-3": "already live"}
    assert world.fleet.got("stage") == world.fleet.got("flip") == ["web-2"]
    assert world.source.parents == []


def test_a_target_that_cannot_be_asked_is_not_taken_for_one_that_is_done() -> None:
    world = World(live=2, fail_limit=1)
    world.commit(2)
    world.targets[0].faults["probe"] = lost()
    report = world.deploy()
    assert (report.exit_code, states(report)["web-1"]) == (12, "unreachable")
    assert world.fleet.got("flip") == []


def test_a_new_commit_with_a_known_tree_is_a_new_release() -> None:
    world = World(live=2)
    world.source.trees[made(3).source_commit] = made(1).tree
    report = world.deploy()
    assert report.exit_code == 0
    assert report.release not in (made(1).id, made(2).id)


def test_a_snapshot_of_what_is_live_already_is_nothing_to_do() -> None:
    world = World(live=2)
    world.source.refs["on disk"] = oid("a commit made just now")
    world.source.trees[oid("a commit made just now")] = made(2).tree
    world.source.dirty = "two files are not committed"
    report = world.deploy(snapshot=True)
    assert (report.exit_code, report.release) == (0, made(2).id)
    assert world.fleet.verbs == ["probe"]


def test_a_dirty_source_is_refused_before_any_target_is_asked() -> None:
    world = World()
    world.source.dirty = "two files are not committed: a, b"
    with pytest.raises(UsageError, match="a, b"):
        world.deploy()
    assert world.fleet.asked == []


@pytest.mark.parametrize("broken", ["hub", "push"])
def test_without_its_hub_a_deploy_stops_before_the_targets(broken: str) -> None:
    world = World()
    world.mirrors.broken = {broken}
    with pytest.raises(RepositoryError):
        world.deploy()
    assert world.fleet.verbs == ["probe"]
    assert world.shown == [made(2).id] * 3


def test_a_mirror_that_fails_is_a_note_and_not_the_end() -> None:
    world = World()
    world.mirrors.broken = {"mirror-2"}
    report = world.deploy()
    assert report.exit_code == 0
    assert any("mirror-2" in note and "its disk is full" in note for note in report.notes)


def test_mirrors_that_targets_passed_over_are_named_once_with_the_targets_folded() -> None:
    world = World()
    for target in world.targets:
        target.skips = [{"mirror": "mirror-1", "reason": "timed out"}]
    assert World().deploy().notes == ()
    assert world.deploy().notes == ("mirror mirror-1 was skipped: timed out (web-[1-3])",)


def test_ctrl_c_while_staging_ends_the_run_with_nothing_flipped() -> None:
    world = World()

    def interrupt(verb: str) -> None:
        if verb == "arm":
            raise KeyboardInterrupt

    world.fleet.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.deploy()
    assert world.shown == [made(2).id] * 3


@pytest.mark.parametrize("at", ["flip", "after_flip", "deploy.confirm", "confirm", "prune"])
def test_ctrl_c_from_the_flip_on_lets_it_finish_and_ends_with_130(at: str) -> None:
    world = World()
    world.interrupt(at)
    report = world.deploy()
    assert (report.exit_code, world.shown) == (130, [report.release] * 3)
    assert world.fleet.verbs == VERBS
    assert world.book.chain.unfinished is None
    assert world.book.chain.desired.release == report.release  # type: ignore[union-attr]
    assert any("interrupted" in note for note in report.notes)
    assert report.headline == f"{report.release}: live on all 3 targets"


def test_a_release_is_dated_by_the_clock_it_was_given() -> None:
    release = World().deploy().release
    assert release is not None
    assert release.startswith(f"{BEGAN:%Y}0102T")


def test_ctrl_c_between_decision_and_flip_takes_the_decision_back() -> None:
    world = World()
    before = world.shown
    world.interrupt("deploy.barrier")
    report = world.deploy()
    assert (report.exit_code, world.shown, set(states(report).values())) == (130, before, {"untouched"})
    assert "flip" not in world.fleet.verbs
    assert "nothing changed: interrupted before the flip" in report.headline
    assert "run the same command again" in report.next_step
    decision = world.book.chain.decisions[0]
    assert (world.book.chain.is_undone(decision), world.book.chain.unfinished) == (True, None)
    world.new_run()
    again = world.deploy()
    assert (again.exit_code, again.release, world.shown) == (0, report.release, [report.release] * 3)


def test_what_a_second_ctrl_c_would_say_is_true_at_every_step() -> None:
    world, said = World(), dict[str, str]()
    world.fleet.on_ask = lambda verb: said.__setitem__(verb, world.shield.state)
    release = world.deploy().release
    assert said["stage"] == ""
    assert said["flip"].startswith(
        f"in the middle of the flip: some targets may serve {release} already; invoke status"
    )
    assert said["confirm"].startswith(f"after the flip: web-[1-3] may serve {release}, and what became of it is not")
