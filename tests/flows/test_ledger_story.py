"""Deploys and rollbacks with the ledger: lock, decision, outcome; what refuses a run; what happens without the hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_fleet import lost, refused
from ledger_records import broken, decided, frozen
from world import World, made, states

from tasks.core.errors import LedgerError, LockedError, RepositoryError, UsageError
from tasks.core.ledger import Decided, Ended, Reconfigured, names_of
from tasks.core.report import Report

Run = Callable[[World], Report]
RUNS: dict[str, Run] = {"deploy": World.deploy, "rollback": World.rollback}
both = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def kinds(world: World) -> list[str]:
    return [record.kind for record in world.book.records]


def flips(world: World) -> list[dict[str, Any]]:
    return [dict(request.fields) for request in world.fleet.requests("flip")]


def untouched(world: World) -> bool:
    return flips(world) == [] and world.book.waiting == []


def test_a_deploy_writes_its_decision_before_the_flip_and_its_outcome_after() -> None:
    world = World()
    at_flip: list[list[str]] = []
    world.fleet.on_ask = lambda verb: at_flip.append(kinds(world)) if verb == "flip" else None
    report = world.deploy()
    assert (report.exit_code, at_flip[0], kinds(world)) == (0, ["deploy"], ["deploy", "outcome"])
    decision, outcome = world.book.records
    assert isinstance(decision, Decided)
    assert isinstance(outcome, Ended)
    assert (decision.by, decision.machine, decision.reason) == ("ann", "laptop", "because")
    assert (decision.release, names_of(decision.targets)) == (report.release, ("web-1", "web-2", "web-3"))
    assert decision.before == ((made(2).id, ("web-[1-3]",)),)
    assert (outcome.decision, outcome.exit_code, outcome.undone) == (decision.decision, 0, False)
    assert [(one.state, names_of(one.hosts)) for one in outcome.results] == [("live", ("web-1", "web-2", "web-3"))]
    assert world.book.spreads == 1


def test_a_fleet_that_is_older_than_its_ledger_keeps_its_turns() -> None:
    world = World()
    world.targets[1].turn = 41
    world.deploy()
    assert {flip["turn"] for flip in flips(world)} == {42}
    assert world.book.chain.turn == 42


def test_a_turn_is_above_the_ledgers_too() -> None:
    world = World()
    world.book.records = [decided(1, 90, 1)]
    world.deploy()
    assert {flip["turn"] for flip in flips(world)} == {91}


@both
def test_whoever_comes_second_is_told_who_since_when_why_and_how_to_break_it(run: Run) -> None:
    world = World()
    world.book.holder = "bob@desk"
    with pytest.raises(LockedError) as told:
        run(world)
    for word in ("bob@desk", "2026-01-01T00:00:00Z", "a\\nmigration", "--wait", "fab unlock --env prod --reason"):
        assert word in str(told.value)
    assert (world.fleet.verbs, untouched(world)) == ([], True)


def test_wait_waits_for_the_lock_and_says_for_whom() -> None:
    world = World()
    world.book.holder, world.wait_s = "bob@desk", 30
    with pytest.raises(LockedError):
        world.deploy()
    assert world.book.waited_s == [0.0, 30]
    assert "bob@desk" in world.progress.lines[0]


@both
def test_a_freeze_refuses_everybody_and_says_why(run: Run) -> None:
    world = World()
    world.book.records = [frozen(1, 0)]
    with pytest.raises(LockedError, match=r"frozen.*ann@laptop.*audit.*fab unlock"):
        run(world)
    assert untouched(world)


@pytest.mark.parametrize(
    ("record", "told"),
    [(frozen(1, 0), "frozen"), (broken(1, 1), "our lock was broken"), (decided(1, 9, 9), "decided meanwhile")],
    ids=["frozen", "broken", "decided"],
)
@both
def test_what_others_wrote_while_it_staged_ends_a_run_before_its_flip(run: Run, record: Any, told: str) -> None:
    world = World()
    world.book.meanwhile = [lambda: world.book.records.append(record)]
    with pytest.raises(LockedError, match=told):
        run(world)
    assert (untouched(world), world.book.records) == (True, [record])


def test_a_record_that_decides_nothing_makes_the_run_write_again_and_go_on() -> None:
    world = World()
    world.deploy()
    world.new_run()
    world.commit(9)
    other = world.book.records[-1].model_copy(update={"number": 3})
    world.book.meanwhile = [lambda: world.book.records.append(other)]
    assert world.deploy().exit_code == 0
    assert [record.number for record in world.book.records] == [1, 2, 3, 4, 5]


@both
def test_a_lock_that_was_broken_before_anything_was_staged_leaves_every_target_alone(run: Run) -> None:
    world = World()

    def overtake(verb: str) -> None:
        if verb == "probe" and not world.book.records:
            world.book.holder = "bob@desk"
            world.book.records.append(broken(1, 1))

    world.fleet.on_ask = overtake
    with pytest.raises(LockedError, match="our lock was broken"):
        run(world)
    assert world.fleet.verbs == ["probe"]


def test_a_session_with_the_hub_that_was_lost_is_opened_again_where_nobody_came_meanwhile() -> None:
    world = World()
    world.fleet.on_ask = lambda verb: setattr(world.book, "lapses", int(verb == "arm"))
    assert world.deploy().exit_code == 0
    assert kinds(world) == ["deploy", "outcome"]


def test_targets_that_saw_a_newer_record_than_was_read_tell_of_others_and_not_of_a_lost_ledger() -> None:
    world = World()
    theirs = decided(1, 9, 9)

    def overtake(verb: str) -> None:
        if not world.book.records:
            world.book.records.append(theirs)
            world.book.lapses = 1
            head = world.book.chain.head
            for target in world.targets:
                target.ledger = {"head": head, "number": 1}

    world.fleet.on_ask = overtake
    with pytest.raises(LockedError, match="decided meanwhile"):
        world.deploy()
    assert untouched(world)


def test_who_waited_for_the_lock_deploys_what_the_branch_is_then() -> None:
    world = World()
    newer = made(7)
    world.book.on_hold = lambda: world.commit(7)
    report = world.deploy()
    assert report.release is not None
    assert world.source.stored[next(reversed(world.source.stored))].source_commit == newer.source_commit


def test_a_lock_that_was_taken_from_us_ends_the_run_before_its_flip() -> None:
    world = World()

    def take(verb: str) -> None:
        world.book.holder = "bob@desk"

    world.fleet.on_ask = take
    with pytest.raises(LockedError, match="bob@desk"):
        world.deploy()
    assert untouched(world)


def test_a_deploy_stops_where_the_hub_is_out_of_reach_and_touches_nothing() -> None:
    world = World()
    world.book.down = True
    with pytest.raises(RepositoryError, match="out of reach"):
        world.deploy()
    assert (world.fleet.verbs, untouched(world)) == ([], True)


def test_a_deploy_whose_hub_goes_away_while_it_stages_flips_nothing() -> None:
    world = World()
    world.book.meanwhile = [lambda: setattr(world.book, "down", True)]
    with pytest.raises(RepositoryError):
        world.deploy()
    assert (untouched(world), world.shown) == (True, [made(2).id] * 3)


@pytest.mark.parametrize(("down", "looks"), [(True, 1), (False, 2)], ids=["away", "only slow"])
def test_a_rollback_looks_at_its_targets_while_it_waits_for_a_hub_that_is_silent(down: bool, looks: int) -> None:
    world = World(live=3)
    world.book.silent, world.book.down = True, down
    assert world.rollback().exit_code == 0
    assert len(world.fleet.requests("probe")) == looks * len(world.targets)
    assert world.shown == [made(2).id] * 3


def test_a_rollback_needs_no_hub_and_its_record_follows() -> None:
    world = World(live=3)
    world.targets[1].turn, world.book.down = 11, True
    report = world.rollback()
    assert (report.exit_code, world.shown) == (0, [made(2).id] * 3)
    assert {(flip["turn"], "ledger" in flip) for flip in flips(world)} == {(12, False)}
    assert any("without the ledger" in note for note in report.notes)
    assert [record.kind for record in world.book.waiting] == ["rollback", "outcome"]
    world.new_run()
    world.book.down = False
    assert world.deploy().exit_code == 0
    assert (kinds(world), world.book.waiting) == (["rollback", "outcome", "deploy", "outcome"], [])
    assert [record.turn for record in world.book.records] == [12, 12, 13, 13]


def test_a_rollback_whose_hub_goes_away_decides_once_though_its_answer_was_lost() -> None:
    world = World(live=3)
    world.book.records = [decided(1, 50, 3)]

    def take_and_go() -> None:
        taken = decided(2, 51, 2, kind="rollback", decision=f"51-{made(2).id}-n0")
        world.book.records.append(taken)
        world.book.down = True

    world.book.meanwhile = [take_and_go]
    assert world.rollback().exit_code == 0
    assert {flip["decision"] for flip in flips(world)} == {f"51-{made(2).id}-n0"}
    world.new_run()
    world.book.down = False
    world.deploy()
    assert kinds(world) == ["deploy", "rollback", "outcome", "deploy", "outcome"]


def test_an_outcome_that_the_hub_did_not_take_waits_and_says_so() -> None:
    world = World()
    world.fleet.on_ask = lambda verb: setattr(world.book, "down", verb in ("confirm", "prune"))
    report = world.deploy()
    assert (report.exit_code, kinds(world)) == (0, ["deploy"])
    assert any("follows with the next run" in note for note in report.notes)
    world.fleet.on_ask = lambda verb: None
    world.new_run()
    world.book.down = False
    world.deploy()
    assert kinds(world) == ["deploy", "outcome"]


def test_a_rollback_goes_on_where_neither_hub_nor_this_machine_can_keep_its_record() -> None:
    world = World(live=3)
    world.book.down = world.book.full = True
    report = world.rollback()
    assert (report.exit_code, world.shown) == (0, [made(2).id] * 3)
    assert [note for note in report.notes if note.endswith("no space left on this machine")] == [
        "the ledger will lack that this happened, for it could not be kept here either: no space left on this machine"
    ]


def test_an_outcome_that_can_be_kept_nowhere_does_not_hide_the_report() -> None:
    world = World()
    world.book.full = True
    world.fleet.on_ask = lambda verb: setattr(world.book, "down", verb in ("confirm", "prune"))
    report = world.deploy()
    assert (report.exit_code, set(states(report).values())) == (0, {"live"})
    assert any("could not be kept here either" in note for note in report.notes)
    assert not any("follows with the next run" in note for note in report.notes)


def test_mirrors_have_a_decision_though_the_hub_is_lost_while_targets_flip() -> None:
    world = World()

    def lose(verb: str) -> None:
        world.book.down = verb == "flip" or world.book.down

    world.fleet.on_ask = lose
    report = world.deploy()
    assert report.exit_code == 0
    assert any(note.startswith("what became of this is not in the ledger yet") for note in report.notes)
    assert world.book.early == [1]  # before the flip, and again at the end, waited for
    assert world.book.spread_to == 1


def test_a_mirror_that_did_not_take_the_ledger_is_named() -> None:
    world = World()
    world.book.lagging = {"mirror-2": RepositoryError("its disk is full")}
    report = world.deploy()
    assert report.exit_code == 0
    assert "mirror mirror-2 did not take the ledger: its disk is full" in report.notes


def test_a_decision_that_was_put_back_is_wanted_no_more() -> None:
    world = World()
    world.deploy()
    world.new_run()
    world.commit(9)
    world.targets[1].faults["after_flip"] = refused()
    assert world.deploy().exit_code == 10
    chain = world.book.chain
    assert kinds(world) == ["deploy", "outcome", "deploy", "outcome"]
    assert chain.desired == world.book.records[0]
    assert {one.state for record in [world.book.records[-1]] for one in record.results} == {"reverted", "failed"}  # type: ignore[union-attr]


def test_a_decision_that_nobody_followed_is_wanted_no_more() -> None:
    world = World()
    for target in world.targets:
        target.faults["flip"] = refused("stale-turn")
    assert world.deploy().exit_code == 5
    assert kinds(world) == ["deploy", "outcome"]
    assert world.book.chain.desired is None


def test_a_run_that_ends_before_its_barrier_writes_nothing() -> None:
    world = World()
    world.targets[0].faults["stage"] = refused()
    assert world.deploy().exit_code == 5
    assert kinds(world) == []


def test_targets_that_could_not_be_reached_stand_in_the_outcome_with_their_reason() -> None:
    world = World(fail_limit=1)
    world.targets[2].faults["probe"] = lost()
    report = world.deploy()
    assert report.exit_code == 12
    known = world.book.chain.known("web-3")
    assert known is not None
    assert (known.state, known.release, known.reason) == ("unreachable", None, "the session was lost")
    assert states(report)["web-3"] == "unreachable"


@both
def test_another_set_of_hosts_than_the_ledgers_is_told_and_needs_a_flag(run: Run) -> None:
    world = World({"web": "web-[1-4]"}, live=3)
    world.book.records = [decided(1, 3, 3)]
    with pytest.raises(UsageError, match=r"other hosts.*added: web-4.*--new-hosts"):
        run(world)
    assert untouched(world)
    world.new_run()
    world.new_hosts = True
    assert run(world).exit_code == 0


def test_another_configuration_is_recorded_once() -> None:
    world = World({"web": "web-[2-4]"})
    world.book.records, world.new_hosts, world.config = [decided(1, 2, 2)], True, "other"
    world.deploy()
    assert kinds(world) == ["deploy", "config", "deploy", "outcome"]
    change = world.book.records[1]
    assert isinstance(change, Reconfigured)
    assert (change.was, change.config, change.added, change.gone) == ("c0ffee", "other", ("web-4",), ("web-1",))
    world.new_run()
    world.commit(9)
    world.deploy()
    assert kinds(world)[4:] == ["deploy", "outcome"]


def truncated() -> World:
    world = World(live=3)
    world.deploy()
    world.new_run()
    world.commit(9)
    world.book.records.clear()
    return world


def test_a_ledger_that_lost_what_a_target_saw_stops_a_deploy_and_says_what_to_do() -> None:
    world = truncated()
    with pytest.raises(
        LedgerError, match=r"truncated: it is empty, and web-1 saw record 1.*mirrors.sync.*--lost-records"
    ):
        world.deploy()
    assert untouched(world)


def test_with_lost_records_a_deploy_goes_on_above_all_turns() -> None:
    world = truncated()
    world.lost_records = True
    assert world.deploy().exit_code == 0
    assert [(record.number, record.turn) for record in world.book.records] == [(1, 5), (2, 5)]
    world.lost_records = False
    world.new_run()
    assert world.rollback().exit_code == 0


def test_a_rollback_goes_on_though_the_ledger_lost_records() -> None:
    world = truncated()
    report = world.rollback()
    assert (report.exit_code, [record.kind for record in world.book.waiting]) == (0, ["rollback", "outcome"])
    assert any("truncated" in note for note in report.notes)


def test_the_next_run_writes_what_became_of_a_decision_whose_run_was_killed() -> None:
    world = World()
    world.deploy_killed_at("confirm")
    assert kinds(world) == ["deploy"]
    assert world.deploy().headline.startswith("nothing to do")
    assert kinds(world) == ["deploy", "outcome"]
    assert world.book.chain.unfinished is None


def test_a_rollback_to_what_was_adopted_is_a_decision_without_a_commit() -> None:
    world = World(live=1)
    adopted = made(0).id
    for target in world.targets:
        target.adopted[adopted] = "the directory /srv/www"
    report = world.rollback(adopted)
    assert (report.exit_code, kinds(world)) == (0, ["rollback", "outcome"])
    (decision, _) = world.book.records
    assert isinstance(decision, Decided)
    assert (decision.release, decision.commit) == (adopted, None)
