"""`adopt`, and what deploy, rollback and status make of a fleet that was adopted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from fake_fleet import Fault, lost, refused
from ledger_records import frozen
from world import World, states

from tasks.core.errors import LockedError, UsageError
from tasks.core.release import ID
from tasks.flows.adopt import AdoptReport
from tasks.flows.status import status


def with_docroots(*, live: int = 0, fail_limit: int = 0) -> World:
    world = World(live=live, fail_limit=fail_limit)
    for target in world.targets:
        target.docroot = True
    return world


def done(report: AdoptReport) -> list[str]:
    """Return the targets on which something was done."""
    return [name for name, host in report.hosts.items() if host.done]


def test_a_fleet_gets_one_id_that_is_before_the_first_release() -> None:
    world = with_docroots()
    report = world.adopt()
    assert (report.exit_code, done(report), world.shown) == (0, ["web-1", "web-2", "web-3"], [report.release] * 3)
    assert ID.fullmatch(report.release or "")
    assert (report.release or "").startswith("20260102T000000Z-0000-")
    assert world.fleet.verbs == ["adoption", "adopt"]
    assert report.lines() == [f"web-[1-3]: adopted as {report.release}", "next: fab deploy --env prod"]
    assert json.loads(json.dumps(report.as_json()))["release"] == report.release


def test_a_plan_only_looks() -> None:
    world = with_docroots()
    report = world.adopt(plan=True)
    assert (report.exit_code, report.release, world.fleet.verbs) == (0, None, ["adoption"])
    assert report.lines() == ["web-[1-3]: as seen", "next: fab adopt --env prod"]


def test_a_second_time_does_nothing() -> None:
    world = with_docroots()
    world.adopt()
    world.new_run()
    report = world.adopt()
    assert (report.exit_code, done(report), report.next_step, world.fleet.verbs) == (0, [], "", ["adoption"])


@pytest.mark.parametrize("fault", [lost, refused])
@pytest.mark.parametrize("verb", ["adoption", "adopt"])
def test_a_target_that_cannot_is_named_the_others_go_on_and_it_gets_their_id_later(
    verb: str, fault: Callable[[], Fault]
) -> None:
    world = with_docroots()
    world.targets[1].faults[verb] = fault()
    first = world.adopt()
    assert (first.exit_code, done(first)) == (5, ["web-1", "web-3"])
    assert first.hosts["web-2"].trouble
    world.new_run()
    second = world.adopt()
    assert (second.exit_code, done(second), world.shown) == (0, ["web-2"], [first.release] * 3)


def test_a_target_that_has_another_release_of_that_id_gets_a_new_one() -> None:
    world = with_docroots()
    first = world.adopt()
    world.targets[0].docroot = True  # its old tool deployed once more
    world.new_run()
    second = world.adopt()
    assert (done(second), second.release == first.release) == (["web-1"], False)


def test_what_a_killed_run_left_is_settled_before_anything_is_decided() -> None:
    world = with_docroots()
    target = world.targets[0]
    world.adopt()
    target.pending = target.history.pop()
    world.new_run()
    assert done(world.adopt()) == []
    assert ([record.kind for record in target.history], target.pending) == (["adopt"], None)
    assert world.fleet.got("settle") == ["web-1"]


def test_undo_gives_back_where_it_was_adopted_and_only_there() -> None:
    world = with_docroots()
    world.targets[2].docroot = False
    world.adopt()
    world.new_run()
    report = world.adopt(undo=True)
    assert (report.exit_code, done(report), report.release) == (0, ["web-1", "web-2"], None)
    assert world.shown == [None] * 3
    assert world.fleet.verbs == ["adoption", "give_back"]


def test_notes_and_words_of_hosts_are_shown_on_one_line_each_without_control_bytes() -> None:
    world = with_docroots()
    for target in world.targets[:2]:
        target.notes = ["uploads:\n\x1b[2Jnot in shared"]
    lines = world.adopt(plan=True).lines()
    assert r"web-[1-2]: note: uploads:\n\x1b[2Jnot in shared" in lines


def test_the_first_deploy_comes_after_it_and_a_rollback_goes_back_to_it_without_a_mirror() -> None:
    world = with_docroots()
    adopted = world.adopt().release
    world.new_run()
    report = world.deploy()
    assert (report.exit_code, report.release, world.source.parents) == (0, world.shown[0], [None])
    assert re.search("-0001-", str(report.release))
    world.new_run()
    for target in world.targets:
        target.off_mirrors = True
    back = world.rollback()
    assert (back.exit_code, back.release, world.shown) == (0, adopted, [adopted] * 3)
    assert world.fleet.got("fetch") == []
    assert all(list(request.fields) == ["id"] for request in world.fleet.requests("stage"))


def test_a_target_without_what_was_adopted_stops_the_rollback_before_any_flip_and_is_named() -> None:
    world = with_docroots()
    world.targets[2].docroot = False
    adopted = world.adopt().release
    world.new_run()
    deployed = world.deploy().release
    world.new_run()
    report = world.rollback(adopted)
    assert (report.exit_code, world.shown) == (5, [deployed] * 3)
    assert states(report)["web-3"] == "failed"
    assert "was adopted on other targets and is not here" in report.outcomes[2].reason


def test_such_a_target_is_left_out_within_the_limit() -> None:
    world = with_docroots(fail_limit=1)
    world.targets[2].docroot = False
    adopted = world.adopt().release
    world.new_run()
    deployed = world.deploy().release
    world.new_run()
    assert world.rollback(adopted).exit_code == 12
    assert world.shown == [adopted, adopted, deployed]


def test_what_was_adopted_is_among_what_can_be_rolled_back_to() -> None:
    world = with_docroots()
    adopted = world.adopt().release
    world.new_run()
    with pytest.raises(UsageError, match=str(adopted)):
        world.rollback("20250101T000000Z-0009-abcdef0")


def test_status_says_what_a_live_release_was_before_skein() -> None:
    world = with_docroots()
    adopted = world.adopt().release
    found = status(world.hands())
    assert (found.exit_code, found.desired) == (0, adopted)
    rows = json.loads(json.dumps(found.as_json()))["targets"]
    assert {row["adopted"] for row in rows} == {"the directory /srv/www"}


def test_a_target_that_is_adopted_late_is_behind_and_does_not_look_like_the_newest() -> None:
    world = World(live=2)
    late = world.targets[2]
    late.current, late.turn, late.docroot = None, 0, True
    late.history.clear()
    late.staged.clear()
    world.adopt()
    found = status(world.hands())
    assert found.desired == world.live[1].id
    assert [host.host for host in found.hosts if host.trouble] == ["web-3"]


@pytest.mark.parametrize("undo", [False, True])
def test_it_is_refused_next_to_another_run_and_by_a_freeze_and_touches_no_target(undo: bool) -> None:
    world = with_docroots()
    world.book.holder = "bob@desk"
    with pytest.raises(LockedError, match="bob@desk is at work since"):
        world.adopt(undo=undo)
    assert world.adopt(undo=undo, plan=True).exit_code == 0  # who only looks needs no lock
    world.book.holder = ""
    world.book.records = [frozen(1, 0)]
    world.new_run()
    with pytest.raises(LockedError, match=r"is frozen, nothing was changed: by .*audit"):
        world.adopt(undo=undo)
    assert world.fleet.verbs == []


def test_without_the_hub_it_goes_on_and_says_so() -> None:
    world = with_docroots()
    world.book.down = True
    report = world.adopt()
    assert (report.exit_code, len(done(report))) == (0, 3)
    assert report.notes[0].startswith("without the environment's lock, for the hub cannot be asked: ")
    assert f"note: {report.notes[0]}" in report.lines()
