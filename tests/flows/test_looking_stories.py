"""`status` and `check`: state in, what is said and its exit code out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_fleet import lost, refused
from ledger_records import frozen
from world import World, made

from tasks.core.facts import Finding
from tasks.core.hosts import Host
from tasks.flows.check import check
from tasks.flows.look import look
from tasks.flows.status import FleetStatus, status, summary
from tasks.transports.git import GitTransport


def troubles(found: FleetStatus) -> dict[str, str]:
    return {host.host: host.trouble for host in found.hosts if host.trouble}


def test_a_look_asks_every_target_once_and_keeps_those_that_could_serve() -> None:
    world = World()
    world.targets[0].faults["probe"] = lost()
    world.targets[1].problems = [{"code": "no-git", "message": "git is not installed"}]
    probes, failures = look(world.hands())
    assert (list(probes), list(failures)) == (["web-3"], ["web-1", "web-2"])
    assert (failures["web-2"].code, str(failures["web-2"])) == ("no-git", "git is not installed")
    assert [verb for verb, _, _ in world.fleet.asked] == ["probe"] * 3


def test_a_look_settles_what_a_killed_run_left_and_nothing_else() -> None:
    world = World()
    world.deploy_killed_at("flip", arrived=1)
    probes, _ = look(world.hands())
    assert (world.fleet.got("settle"), world.targets[0].pending) == (["web-1"], None)
    assert probes["web-1"].stack[-1] == world.targets[0].current


def test_status_wants_what_a_killed_run_was_making_live() -> None:
    world = World()
    world.deploy_killed_at("flip", arrived=1)
    found = status(world.hands())
    assert (found.desired, list(troubles(found))) == (world.targets[0].current, ["web-2", "web-3"])
    assert world.fleet.verbs == ["status"]


def test_a_deploy_after_a_killed_one_finishes_it_with_the_same_release() -> None:
    world = World()
    world.deploy_killed_at("flip", arrived=1)
    begun = world.targets[0].current
    report = world.deploy()
    assert (report.exit_code, world.shown) == (0, [begun] * 3)
    assert len(world.source.parents) == 1


def test_status_of_a_fleet_that_is_as_it_should_be() -> None:
    found = status(World(live=2).hands())
    assert (found.exit_code, found.desired, troubles(found)) == (0, made(2).id, {})
    assert summary(found) == f"all 3 targets: {made(2).id}"


def test_status_of_a_fleet_that_never_had_a_release() -> None:
    found = status(World(live=0).hands())
    assert (found.exit_code, found.desired, summary(found)) == (0, None, "all 3 targets: no release")


def test_status_names_what_is_behind_changed_broken_or_silent_and_is_exit_6() -> None:
    world = World({"web": "web-[1-5]"}, live=2)
    world.targets[0].forget(made(2))
    world.targets[1].drift = ["a", "b", "c", "d"]
    world.targets[2].problems = [{"code": "no-git", "message": "git is not installed"}]
    world.targets[3].faults["status"] = lost()
    found = status(world.hands())
    assert found.exit_code == 6
    assert troubles(found) == {
        "web-1": f"behind: {made(2).id} is wanted",
        "web-2": "changed since it was staged: a, b, c and more",
        "web-3": "git is not installed",
        "web-4": "the session was lost",
    }
    assert summary(found) == "4 of 5 targets are not as they should be: web-[1-4]"


def test_status_changes_nothing() -> None:
    world = World()
    status(world.hands())
    assert world.fleet.verbs == ["status"]


def test_status_after_a_rollback_wants_what_was_rolled_back_to() -> None:
    world = World(live=3)
    world.rollback()
    found = status(world.hands())
    assert (found.exit_code, found.desired) == (0, made(2).id)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_status_wants_what_the_newest_decision_made_live_not_what_was_put_back(place: int) -> None:
    world = World(live=2, fail_limit=1)
    world.targets[place].faults["after_flip"] = refused()
    release = world.deploy().release
    found = status(world.hands())
    assert (found.exit_code, found.desired) == (6, release)
    assert list(troubles(found)) == [f"web-{place + 1}"]


def test_status_as_json_is_one_versioned_document() -> None:
    world = World(live=1)
    world.targets[0].faults["status"] = lost()
    document = json.loads(json.dumps(status(world.hands()).as_json(), allow_nan=False))
    assert {key: document[key] for key in ("format", "command", "environment", "source", "desired", "exit_code")} == {
        "format": 1,
        "command": "status",
        "environment": "prod",
        "source": "hosts",
        "desired": made(1).id,
        "exit_code": 6,
    }
    assert document["targets"][0] == {
        "host": "web-1",
        "release": None,
        "adopted": None,
        "since": None,
        "free_bytes": None,
        "trouble": "the session was lost",
    }
    assert document["targets"][1]["release"] == made(1).id


GOOD = Finding(what="source", ok=True, message="can be released")
BAD = Finding(what="mirror mirror-2", ok=False, message="cannot be read")


def test_check_of_a_fleet_that_is_ready_is_exit_0() -> None:
    world = World()
    report = check(world.hands(), (GOOD,))
    assert (report.exit_code, world.fleet.verbs) == (0, ["probe", "check"])


@pytest.mark.parametrize(("offset", "good"), [(0.0, True), (5.0, True), (-5.0, True), (5.1, False), (-3600.0, False)])
def test_check_tells_of_a_clock_that_is_off(offset: float, good: bool) -> None:
    world = World()
    world.targets[0].clock_offset_s = offset
    report = check(world.hands(), ())
    assert report.exit_code == (0 if good else 6)
    clock = report.hosts[0][1][-1]
    assert (clock.what, clock.ok) == ("clock", good)


def test_check_finds_what_is_wrong_here_on_a_host_and_with_a_session() -> None:
    world = World()
    assert check(world.hands(), (GOOD, BAD)).exit_code == 6
    world.targets[0].findings = [{"what": "deploy_to", "ok": False, "message": "cannot be written"}]
    world.targets[1].faults["check"] = lost()
    report = check(world.hands(), ())
    found = {name: [finding.what for finding in findings if not finding.ok] for name, findings in report.hosts}
    assert (report.exit_code, found) == (6, {"web-1": ["deploy_to"], "web-2": ["session"], "web-3": []})


def test_check_asks_each_target_about_its_linked_files_and_mirrors() -> None:
    world = World()
    check(world.hands(), ())
    fields = world.fleet.requests("check")[0].fields
    assert fields["linked_files"] == [".env"]
    assert {mirror["name"] for mirror in fields["mirrors"]} == {"mirror-1", "mirror-2"}  # type: ignore[attr-defined]


def test_check_spreads_the_log_ins_of_a_large_fleet_as_a_deploy_does() -> None:
    world = World()
    hosts = [Host(f"web-{number}") for number in range(300)]
    transport = GitTransport(world.settings.mirrors, "deploy", 900.0, hosts)
    check(replace(world.hands(), transport=transport), ())
    (request, *_) = world.fleet.requests("check")
    assert request.fields["spread_s"] == transport.spread_s(hosts[0]) > 0
    assert request.timeout_s >= 30 + 2 * (20 + transport.spread_s(hosts[0]))


def test_check_as_json_lists_every_finding() -> None:
    document = json.loads(json.dumps(check(World().hands(), (BAD,)).as_json(), allow_nan=False))
    assert (document["format"], document["command"], document["exit_code"]) == (1, "check", 6)
    assert document["here"][0] == {"what": "mirror mirror-2", "ok": False, "message": "cannot be read"}
    assert [finding["what"] for finding in document["here"]] == ["mirror mirror-2", "ledger"]
    assert [target["host"] for target in document["targets"]] == ["web-1", "web-2", "web-3"]


def test_check_proves_the_ledger_against_what_targets_saw_of_it() -> None:
    world = World()
    world.deploy()
    (ledger,) = check(world.hands(), ()).here
    assert (ledger.ok, ledger.message) == (True, "whole up to record 2, as 3 targets saw it")
    world.book.records.pop()
    assert check(world.hands(), ()).exit_code == 0, "nobody but the operator saw the outcome"
    world.book.records.pop()
    (ledger,) = check(world.hands(), ()).here
    assert not ledger.ok
    assert "truncated: it is empty, and web-1 saw record 1" in ledger.message


def test_check_says_that_a_freeze_would_refuse_a_deploy() -> None:
    world = World()
    world.book.records = [frozen(1, 0)]
    report = check(world.hands(), ())
    assert report.exit_code == 6
    assert "frozen by ann@laptop" in report.here[0].message
