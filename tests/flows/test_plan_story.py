"""`--plan` told to a fleet that is not there: what it says, that a run does just that, and that it leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from fake_fleet import READING, lost, refused
from ledger_records import decided, ended, frozen
from world import FakeSource, World, made, oid, states

from tasks.core.errors import LockedError, RepositoryError, UsageError
from tasks.core.plan import INLINE, MIRROR, THERE, Plan, Way
from tasks.core.report import Report
from tasks.flows.plan import plan_rollback
from tasks.transports.git import GitTransport
from tasks.transports.inline import InlineTransport


def inline(world: World, packs: Mapping[str | None, bytes], most: int = 1000) -> World:
    """Let deltas ride on sessions: ``packs`` are what can be made, by base."""
    git = GitTransport(world.settings.mirrors, "deploy", 900.0)
    world.transport = InlineTransport(git, lambda base, release: packs.get(base), most, is_whole=False, name="auto")
    return world


def trace(world: World) -> Any:
    """Return all that a story can change."""
    hosts = [{**vars(target), "locked": target.locked} for target in world.targets]
    source = (world.source.own, world.source.stored, world.source.tag_names, world.source.parents)
    book = (world.book.records, world.book.waiting, world.book.holder, world.book.spreads)
    return copy.deepcopy((hosts, source, world.mirrors.hub, world.mirrors.pushed, world.mirrors.brought, book))


def ways(plan: Plan) -> dict[str, Way]:
    return {host: way for group in plan.groups for way, hosts in group.ways for host in hosts}


def test_a_plan_asks_only_what_reads_and_leaves_no_trace() -> None:
    for world in (World(), World(live=0), inline(World(), {made(2).commit: b"delta"})):
        before = trace(world)
        assert world.plan().exit_code == 0
        assert trace(world) == before
        assert world.fleet.verbs == ["probe", "foresee"]
        assert set(world.fleet.verbs) <= set(READING)
        assert world.passed == ["deploy.resolved"]


def test_the_deploy_that_follows_does_what_the_plan_said() -> None:
    world = inline(World(fail_limit=1), {made(2).commit: b"delta", made(1).commit: b"a longer delta"})
    world.targets[1].forget(made(2))
    world.targets[0].doomed = [made(1).id]
    world.targets[2].faults["probe"] = lost()
    plan = world.plan()
    world.fleet.asked.clear()
    report = world.deploy()
    assert plan.release
    assert report.release == plan.release.id
    assert [request.fields["turn"] for request in world.fleet.requests("flip")] == [plan.turn] * 2
    fetched = {name: request for verb, name, request in world.fleet.asked if verb == "fetch"}
    assert {name: len(request.payload) for name, request in fetched.items()} == {
        name: way.bytes for name, way in ways(plan).items()
    }
    assert {group.live: group.hosts for group in plan.groups} == {made(2).id: ("web-1",), made(1).id: ("web-2",)}
    assert plan.groups[0].pruned == (((made(1).id,), ("web-1",)),)
    assert plan.groups[1].pruned == ()
    assert {one.host: one.state for one in plan.failed} == {"web-3": states(report)["web-3"]}
    assert plan.bytes == len(b"delta") + len(b"a longer delta")
    assert not plan.is_estimate


def test_a_plan_says_commits_files_limits_turn_and_the_next_command() -> None:
    plan = World(fail_limit="50%", group_limits={"web": 0}).plan()
    (group,) = plan.groups
    assert (plan.is_new, plan.turn) == (True, 3)
    assert group.commits
    assert (group.commits.ahead, group.commits.behind) == (1, 0)
    assert group.files
    assert group.files.counts == {"added": 1, "changed": 2, "removed": 3}
    assert [(bound.group, bound.allowed, bound.size) for bound in plan.bounds] == [(None, 1, 3), ("web", 0, 3)]
    assert plan.next_step == f"fab deploy --env prod --only web --ref {made(3).source_commit}"
    assert World().plan(snapshot=False, ref="main").next_step == plan.next_step


def test_a_snapshot_is_planned_and_asked_for_as_one() -> None:
    world = World()
    world.source.refs["on disk"] = oid("a commit made just now")
    world.source.trees[oid("a commit made just now")] = oid("a tree made just now")
    before = trace(world)
    assert world.plan(snapshot=True).next_step.endswith("--only web --snapshot")
    assert trace(world) == before


def test_who_asks_a_mirror_is_told_which_why_and_about_how_much() -> None:
    world = inline(World(groups={"web": "web-[1-4]"}), {made(2).commit: b"x" * 10})
    world.targets[0].restricted = True
    world.targets[1].inline = False
    world.targets[2].forget(made(2))
    world.targets[2].forget(made(1))
    world.transport = inline(world, {made(2).commit: b"x" * 10}).transport
    found = ways(world.plan())
    assert found["web-1"] == Way(MIRROR, 2_000_000, None, ("mirror-2", "mirror-1"), found["web-1"].why)
    assert "restricted" in found["web-1"].why
    assert (found["web-2"].by, found["web-2"].bytes) == (MIRROR, 50_000_000)
    assert "lacks" in found["web-2"].why
    assert (found["web-3"].by, found["web-3"].bytes) == (MIRROR, 50_000_000)
    assert "no release yet" in found["web-3"].why
    assert found["web-4"] == Way(
        INLINE, 10, made(2).id, (), "auto: a delta of at most 1,000 bytes rides on the session"
    )


def test_a_delta_that_is_too_large_is_said_to_be() -> None:
    found = ways(inline(World(), {made(2).commit: b"x" * 1001}).plan())
    assert {(way.by, way.why) for way in found.values()} == {(MIRROR, "auto: the delta is above 1,000 bytes")}


def test_what_is_not_known_here_is_said_not_to_be() -> None:
    world, live = World(), made(1)
    for target in world.targets:
        target.forget(made(2))
    world.source.unknown = {live.tree, live.commit, live.source_commit}
    plan = world.plan()
    assert [(group.commits, group.files) for group in plan.groups] == [(None, None)]
    assert {way.bytes for way in ways(plan).values()} == {None}


def test_a_release_that_stands_already_is_planned_by_its_id_and_moves_nothing_where_it_is() -> None:
    world = World()
    world.targets[0].faults["arm"] = refused()
    assert world.deploy().exit_code == 5
    world.new_run()
    before = trace(world)
    plan = world.plan()
    assert plan.release
    assert (plan.is_new, plan.release.id in world.source.own) == (False, True)
    assert {way.by for way in ways(plan).values()} == {THERE}
    assert trace(world) == before


def test_there_is_nothing_to_do_where_every_target_serves_the_commit() -> None:
    world = World()
    world.commit(2)
    plan = world.plan()
    assert (plan.exit_code, plan.groups, plan.already) == (0, (), ("web-1", "web-2", "web-3"))
    assert "nothing to do" in plan.headline
    assert plan.next_step == ""


def test_targets_that_serve_it_already_are_left_alone() -> None:
    world = World()
    world.commit(2)
    world.targets[1].forget(made(2))
    plan = world.plan()
    assert (plan.already, [group.hosts for group in plan.groups]) == (("web-1", "web-3"), [("web-2",)])


@pytest.mark.parametrize("verb", ["probe", "foresee"])
def test_too_many_failures_end_a_plan_with_5_as_they_would_a_deploy(verb: str) -> None:
    world = World(fail_limit=1)
    for target in world.targets[:2]:
        target.faults[verb] = refused("missing-shared-file")
    plan = world.plan()
    assert (plan.exit_code, [one.host for one in plan.failed]) == (5, ["web-1", "web-2"])
    assert plan.failed[0].code == "missing-shared-file"
    assert "nothing would change: 2 of 3 targets failed" in plan.headline
    assert "--fail-limit" in plan.next_step


def test_the_hub_out_of_reach_ends_a_deploy_s_plan_and_not_a_rollback_s() -> None:
    world = World()
    world.book.down = True
    with pytest.raises(RepositoryError, match="out of reach"):
        world.plan()
    plan = world.plan_rollback()
    assert plan.exit_code == 0
    assert any("without the ledger" in note for note in plan.notes)


def test_mirrors_that_cannot_be_read_are_named_and_too_many_end_it() -> None:
    world = World()
    world.mirrors.broken = {"mirror-2"}
    assert any("mirror-2 would not take the release: it is off" in note for note in world.plan().notes)
    targets = world.settings.targets.model_copy(update={"mirror_fail_limit": 0})
    world.settings = world.settings.model_copy(update={"targets": targets})
    with pytest.raises(RepositoryError, match="cannot take the release"):
        world.plan()


def test_a_host_that_a_killed_run_left_unsettled_is_told_of_and_not_settled() -> None:
    world = World()
    world.targets[1].faults |= {"confirm": lost(), "settle": lost()}
    world.deploy()
    world.new_run()
    world.commit(4)
    before = trace(world)
    plan = world.plan()
    assert any("web-2" in note and "settled first" in note for note in plan.notes)
    assert trace(world) == before


def test_a_freeze_records_that_wait_and_another_configuration_are_told_of() -> None:
    world = World()
    world.book.records = [decided(1, 3, 1), frozen(2, 3)]
    world.book.waiting = [decided(1, 9, 2), ended(2, 9, 2)]
    world.config = "decaf"
    before = trace(world)
    plan = world.plan()
    assert (plan.exit_code, plan.turn) == (0, 10)
    for told in ("frozen by ann@laptop", "(audit)", "2 records of this machine wait", "the configuration is not"):
        assert any(told in note for note in plan.notes), told
    assert trace(world) == before
    with pytest.raises(LockedError):
        world.deploy()


def test_a_run_that_is_under_way_or_was_killed_is_told_of() -> None:
    world = World()
    world.book.records = [decided(1, 3, 1)]
    assert any("is that run under way?" in note for note in world.plan().notes)


def test_other_hosts_than_the_ledger_s_are_refused_as_in_a_deploy() -> None:
    world = World()
    world.deploy()
    world.settings = World({"web": "web-[1-2]"}).settings
    with pytest.raises(UsageError, match="--new-hosts"):
        world.plan()


def test_a_rollback_is_planned_by_its_release_and_moves_nothing() -> None:
    world = inline(World(), {made(2).commit: b"delta"})
    before = trace(world)
    plan = world.plan_rollback()
    assert plan.release
    assert plan.release.id == made(1).id
    assert {way.by for way in ways(plan).values()} == {THERE}
    assert plan.next_step == f"fab rollback --env prod --to {made(1).id}"
    assert trace(world) == before
    world.fleet.asked.clear()
    report: Report = world.rollback()
    assert (report.release, {request.payload for request in world.fleet.requests("fetch")}) == (made(1).id, {b""})


def test_a_rollback_is_planned_without_the_source_too() -> None:
    def nowhere() -> FakeSource:
        raise RepositoryError("the source is not here")

    plan = plan_rollback(World().hands(), None, (), nowhere)
    assert (plan.exit_code, [(group.commits, group.files) for group in plan.groups]) == (0, [(None, None)])


def test_going_back_to_what_was_adopted_is_planned_without_a_commit() -> None:
    world = World(live=0)
    for target in world.targets:
        target.docroot = True
    world.adopt()
    assert world.deploy().exit_code == 0
    world.new_run()
    plan = world.plan_rollback()
    assert {way.by for way in ways(plan).values()} == {THERE}
    assert [(group.commits, group.files) for group in plan.groups] == [(None, None)]
