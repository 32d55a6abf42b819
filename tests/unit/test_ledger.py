"""The ledger without git: records in and out, a chain that is proved or refused, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ledger_records import FLEET, broken, chain_of, decided, ended, frozen, links_of, oid, release_of, thawed

from tasks.core.errors import LedgerError
from tasks.core.history import Chain, Head, prove, told_of
from tasks.core.ledger import Record, Result, fleet_hash, folded, names_of, read, write

RECORDS: tuple[Record, ...] = (decided(1, 1, 1), ended(2, 1, 1), frozen(3, 1), thawed(4, 1), broken(5, 2))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert read(write(record).encode(), "here") == record
    assert "\n" not in told_of(record)


def test_a_record_of_a_newer_format_is_refused_and_says_what_to_use() -> None:
    value = json.loads(write(RECORDS[0]))
    with pytest.raises(LedgerError, match=r"commit x is of format 2.*use the Skein that wrote it"):
        read(json.dumps({**value, "format": 2, "kind": "wave"}).encode(), "commit x")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1, "kind": "pigeon"}', b'{"format": true}']
)
def test_what_is_no_record_is_refused_and_named(text: bytes) -> None:
    with pytest.raises(LedgerError, match="commit x is"):
        read(text, "commit x")


@pytest.mark.parametrize("change", [{"turn": -1}, {"release": "main"}, {"more": 1}, {"commit": "--upload-pack=x"}])
def test_a_record_that_was_edited_is_refused(change: dict[str, object]) -> None:
    value = json.loads(write(RECORDS[0]))
    with pytest.raises(LedgerError, match="it was edited"):
        read(json.dumps({**value, **change}).encode(), "commit x")


def test_hosts_are_folded_and_come_back() -> None:
    names = [*(f"web-{number:03d}" for number in range(1, 97)), "db-1", "a.example"]
    assert sorted(names_of(folded(names))) == sorted(names)
    assert len(folded(names)) == 3
    assert names_of(folded([])) == ()
    assert fleet_hash(names) == fleet_hash(reversed(names)) != fleet_hash(names[1:])


def test_a_chain_that_is_whole_is_proved() -> None:
    chain = chain_of(*RECORDS)
    assert (chain.number, chain.turn, chain.head) == (5, 2, links_of(*RECORDS)[0].commit)
    assert prove((), "prod") == Chain()


LINKS = links_of(*RECORDS)


@pytest.mark.parametrize(
    ("links", "what"),
    [
        (LINKS[:2] + LINKS[3:], "does not follow"),
        (LINKS[:-1], "does not follow"),
        ((LINKS[1], LINKS[0], *LINKS[2:]), "does not follow"),
        ((replace(LINKS[0], parents=(*LINKS[0].parents, oid("other"))), *LINKS[1:]), "does not follow"),
        (links_of(decided(2, 1, 1)), "removed or reordered"),
        (links_of(decided(1, 1, 1), ended(3, 1, 1)), "removed or reordered"),
        (links_of(decided(1, 2, 1), ended(2, 2, 1), decided(3, 1, 2)), "below 2"),
        (links_of(decided(1, 1, 1, environment="staging")), "one of staging"),
    ],
)
def test_a_chain_that_is_not_whole_is_refused(links: tuple[object, ...], what: str) -> None:
    with pytest.raises(LedgerError, match=what):
        prove(links, "prod")  # type: ignore[arg-type]


def test_a_ledger_that_lost_its_end_is_noticed_by_whoever_saw_it() -> None:
    seen = Head(LINKS[0].commit, 5, "web-7")
    assert prove(LINKS, "prod", [seen, Head(LINKS[3].commit, 2)]).number == 5
    with pytest.raises(LedgerError, match=r"truncated: it ends with record 3, and web-7 saw record 5.*mirrors.sync"):
        prove(LINKS[2:], "prod", [seen])
    with pytest.raises(LedgerError, match="truncated: it is empty"):
        prove((), "prod", [seen])


def test_a_ledger_that_was_written_anew_is_noticed_though_it_is_as_long() -> None:
    other = links_of(*RECORDS[:4], broken(5, 3))
    with pytest.raises(LedgerError, match="rewritten"):
        prove(other, "prod", [Head(LINKS[0].commit, 5)])


def test_a_rollback_that_comes_late_may_have_an_older_turn_and_does_not_change_what_is_desired() -> None:
    chain = chain_of(
        decided(1, 1, 1),
        decided(2, 3, 3),
        decided(3, 2, 1, kind="rollback", late=True),
        ended(4, 2, 1, late=True),
        ended(5, 3, 3),
    )
    assert chain.desired is not None
    assert (chain.desired.turn, chain.turn) == (3, 3)


def test_the_newest_decision_is_desired_unless_it_was_undone() -> None:
    first, second = (decided(1, 1, 1), ended(2, 1, 1)), (decided(3, 2, 2), ended(4, 2, 2, code=10))
    assert chain_of(*first, second[0]).desired == second[0]
    assert chain_of(*first, *second).desired == first[0]
    assert Chain().desired is None


def test_a_decision_without_an_outcome_is_unfinished() -> None:
    assert chain_of(decided(1, 1, 1)).unfinished == decided(1, 1, 1)
    assert chain_of(decided(1, 1, 1), ended(2, 1, 1)).unfinished is None


def test_a_decision_for_a_part_of_the_fleet_is_desired_there_alone() -> None:
    chain = chain_of(decided(1, 1, 1), decided(2, 2, 2, ["web-1"]))
    wanted = [chain.desired_on(host) for host in (*FLEET, "web-9")]
    assert [each and each.turn for each in wanted] == [2, 1, 1, None]


def test_what_is_known_of_a_host_outlives_a_run_that_did_not_reach_it() -> None:
    live = Result(state="live", release=release_of(2), hosts=folded(FLEET[:2]))
    away = Result(state="unreachable", release=None, reason="no route", hosts=folded(FLEET[2:]))
    chain = chain_of(decided(1, 1, 1), ended(2, 1, 1), decided(3, 2, 2), ended(4, 2, 2, live, away, code=12))
    known = chain.known("web-3")
    assert known is not None
    assert (known.release, known.state, known.reason) == (release_of(1), "unreachable", "no route")
    assert known.at == ended(2, 1, 1).at
    assert [(one.turn, result and result.state) for one, result in chain.history("web-3")] == [
        (2, "unreachable"),
        (1, "live"),
    ]
    assert chain.known("web-9") is None


def test_the_newest_of_freeze_and_unfreeze_holds() -> None:
    assert chain_of(frozen(1, 0)).frozen == frozen(1, 0)
    assert chain_of(frozen(1, 0), thawed(2, 0)).frozen is None
    assert chain_of(decided(1, 1, 1)).frozen is None


def test_a_lock_that_was_broken_is_seen_by_who_began_before() -> None:
    chain = chain_of(decided(1, 1, 1), broken(2, 2))
    assert chain.broken_since(1) == broken(2, 2)
    assert chain.broken_since(2) is None


def test_records_that_wait_for_the_hub_count_on_the_machine_that_has_them() -> None:
    waiting = decided(3, 2, 1, kind="rollback", late=True)
    chain = replace(chain_of(decided(1, 1, 2), ended(2, 1, 2)), waiting=(waiting,))
    assert (chain.desired, chain.turn, chain.number) == (waiting, 2, 2)
