"""status, log, releases, diff, history: what the ledger tells, from the hub, from one mirror, or from memory."""

from __future__ import annotations

import json

import pytest
from fake_book import FakeBook
from fake_fleet import lost
from ledger_records import FLEET, decided, ended, frozen, oid, release_of
from world import World, made

from tasks.core.errors import RepositoryError, UsageError
from tasks.core.ledger import Result, folded
from tasks.flows.reading import Reader
from tasks.flows.status import FleetStatus

NOW = 1_767_225_600.0 + 7200


def reader(book: FakeBook) -> Reader:
    return Reader("prod", "mirror-1", FLEET, book, lambda: NOW)


def status(book: FakeBook) -> FleetStatus:
    return reader(book).status(FLEET)


def troubles(found: FleetStatus) -> dict[str, str]:
    return {host.host: host.trouble for host in found.hosts if host.trouble}


def test_status_is_what_the_last_run_left_and_asks_no_target() -> None:
    world = World()
    report = world.deploy()
    world.fleet.asked.clear()
    found = status(world.book)
    assert (found.exit_code, found.desired, found.source, found.notes) == (0, report.release, "ledger", ())
    assert {host.release for host in found.hosts} == {report.release}
    assert world.fleet.asked == []


def test_status_names_the_targets_that_a_run_did_not_reach_and_why() -> None:
    world = World(fail_limit=1)
    world.deploy()
    world.new_run()
    world.commit(9)
    world.targets[2].faults["probe"] = lost()
    wanted = world.deploy().release
    found = status(world.book)
    assert (found.exit_code, list(troubles(found))) == (6, ["web-3"])
    assert troubles(found)["web-3"] == f"behind: {wanted} is wanted; unreachable: the session was lost"
    assert found.hosts[2].release != wanted


def test_status_says_that_the_end_of_a_decision_is_not_known() -> None:
    found = status(FakeBook([decided(1, 1, 1), ended(2, 1, 1), decided(3, 2, 2)]))
    assert found.exit_code == 6
    assert {trouble.split(" by ")[0] for trouble in troubles(found).values()} == {f"{release_of(2)} was decided"}
    assert {host.release for host in found.hosts} == {release_of(1)}


def test_status_after_a_decision_for_one_target_expects_the_others_to_stay() -> None:
    one = Result(state="live", release=release_of(2), hosts=("web-1",))
    book = FakeBook([decided(1, 1, 1), ended(2, 1, 1), decided(3, 2, 2, ["web-1"]), ended(4, 2, 2, one)])
    found = status(book)
    assert [host.release for host in found.hosts] == [release_of(2), release_of(1), release_of(1)]
    assert found.exit_code == 0


def test_status_before_the_first_deploy_says_how_the_ledger_begins() -> None:
    found = status(FakeBook())
    assert (found.exit_code, found.desired) == (0, None)
    assert any("--live asks the targets" in note for note in found.notes)


def test_a_copy_from_a_mirror_says_whose_and_how_far() -> None:
    found = status(FakeBook([decided(1, 1, 1), ended(2, 1, 1)], origin="mirror-2"))
    assert found.notes == (
        "mirror-1 is out of reach",
        "the hub, mirror-1, did not answer: this is the copy of mirror-2, up to record 2 of 2026-11-22 10:02:00 UTC",
    )
    assert found.as_json()["ledger"]["from"] == "mirror-2"  # type: ignore[index]


def test_offline_the_last_known_state_is_shown_with_its_age() -> None:
    book = FakeBook([decided(1, 1, 1), ended(2, 1, 1)], origin=None)
    book.waiting = [decided(3, 2, 2, kind="rollback", late=True)]
    found = status(book)
    assert any("seen here 2 hours ago, up to record 2" in note for note in found.notes)
    assert any(note.startswith("1 records of this machine wait for the hub") for note in found.notes)
    assert found.desired == release_of(2)


def test_a_freeze_is_shown_everywhere() -> None:
    book = FakeBook([frozen(1, 0)])
    for told in (status(book).notes, reader(book).log(5).lines, reader(book).releases(5).lines):
        assert "frozen by ann@laptop at 2026-11-22 10:01:00 UTC: audit" in told


def test_log_lists_the_newest_first_as_many_as_asked() -> None:
    book = FakeBook([decided(1, 1, 1, reason="it was time"), ended(2, 1, 1), frozen(3, 1)])
    told = reader(book).log(2)
    assert [row[:2] for row in told.rows] == [("3", "1"), ("2", "1")]
    assert reader(book).log(9).rows[-1][-1] == "it was time"
    assert len(json.loads(json.dumps(told.as_json()))["records"]) == 2
    with pytest.raises(UsageError, match="--limit 0"):
        reader(book).log(0)


def test_releases_are_those_of_the_mirror_and_the_ledger_with_where_they_are_live() -> None:
    world = World(live=0)
    world.deploy()
    world.new_run()
    world.commit(2)
    world.deploy()
    world.new_run()
    world.rollback()
    world.book.on_mirror = {made(9).id: oid("9"), "../x": oid("x")}
    told = reader(world.book).releases(20)
    first, second = (record.release for record in world.book.chain.decisions[:0:-1])  # type: ignore[union-attr]
    assert [(row[0], row[3]) for row in told.rows] == [
        (made(9).id, ""),
        (second, "marked bad: the rollback by ann@laptop at 2026-01-02 00:00:00 UTC (because) left it"),
        (first, "live on web-[1-3]"),
    ]
    with pytest.raises(UsageError, match="--limit -1"):
        reader(world.book).releases(-1)


def test_diff_names_releases_by_id_tag_or_number_and_says_how_many_files_are_not_shown() -> None:
    book = FakeBook([decided(1, 1, 1), decided(2, 2, 2)])
    told = reader(book).diff("1", f"release/{release_of(2)}")
    assert book.compared == [(oid("commit 1"), oid("commit 2"))]
    assert told.lines == (
        "+ a\\nb",
        "+ and 1 more",
        "~ c",
        f"{release_of(1)} to {release_of(2)}: 2 added, 1 changed, 0 removed",
    )


@pytest.mark.parametrize("name", ["7", release_of(7), "main", "", "--output=x"])
def test_diff_of_what_is_no_release_lists_those_there_are(name: str) -> None:
    book = FakeBook([decided(1, 1, 1)])
    with pytest.raises(UsageError):
        reader(book).diff("1", name)
    assert book.compared == []


def test_history_tells_one_target_s_decisions_and_what_became_of_them() -> None:
    away = Result(state="failed", release=None, code="disk-full", reason="no space", hosts=folded(["web-2"]))
    book = FakeBook([decided(1, 1, 1), ended(2, 1, 1), decided(3, 2, 2), ended(4, 2, 2, away, code=5)])
    told = reader(book).history("web-2")
    assert [(row[0], row[5], row[6]) for row in told.rows] == [("2", "failed", "no space"), ("1", "live", "")]
    assert reader(FakeBook()).history("web-3").lines[0] == "nothing was decided for web-3 yet"
    with pytest.raises(UsageError, match="no host"):
        reader(book).history("web-9")


def test_what_cannot_be_read_anywhere_is_an_error_of_the_hub() -> None:
    class Nothing(FakeBook):
        def copy(self) -> None:  # type: ignore[override]
            raise RepositoryError("cannot be read, nor was it ever seen here")

    with pytest.raises(RepositoryError, match="ever seen"):
        status(Nothing())
