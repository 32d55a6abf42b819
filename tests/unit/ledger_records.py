"""Records and chains for tests, made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.core.history import Chain, Link, prove
from tasks.core.ledger import Broken, Decided, Ended, Frozen, Record, Result, Thawed, fleet_hash, folded

BEGAN = datetime(2026, 11, 22, 10, tzinfo=UTC)
FLEET = ("web-1", "web-2", "web-3")


def oid(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def release_of(number: int) -> str:
    return f"20261122T10{number:02d}00Z-{number:04d}-{oid(str(number))[:7]}"


def entry(number: int, turn: int, **more: Any) -> dict[str, Any]:
    common = {
        "number": number,
        "turn": turn,
        "environment": "prod",
        "at": BEGAN + timedelta(minutes=number),
        "by": "ann",
        "machine": "laptop",
        "config": "c0ffee",
        "hosts": folded(FLEET),
        "fleet": fleet_hash(FLEET),
    }
    return {**common, **more}


def decided(number: int, turn: int, release: int, targets: Iterable[str] = FLEET, **more: Any) -> Decided:
    fields = {
        "kind": "deploy",
        "decision": f"{turn}-{release}",
        "release": release_of(release),
        "commit": oid(f"commit {release}"),
        "tree": oid(f"tree {release}"),
        "source_commit": oid(str(release)),
        "before": (),
        "targets": folded(targets),
        "fail_limit": 0,
    }
    return Decided(**entry(number, turn, **{**fields, **more}))


def ended(number: int, turn: int, release: int, *results: Result, code: int = 0, **more: Any) -> Ended:
    all_live = Result(state="live", release=release_of(release), hosts=folded(FLEET))
    fields = {
        "decision": f"{turn}-{release}",
        "exit_code": code,
        "headline": "so it was",
        "undone": code in (4, 5, 10),
        "results": results or (all_live,),
    }
    return Ended(**entry(number, turn, **{**fields, **more}))


def frozen(number: int, turn: int) -> Frozen:
    return Frozen(**entry(number, turn, reason="audit"))


def thawed(number: int, turn: int) -> Thawed:
    return Thawed(**entry(number, turn))


def broken(number: int, turn: int) -> Broken:
    return Broken(**entry(number, turn, holder="bob@desk", since="2026-11-22T10:00:00Z"))


def links_of(*records: Record) -> tuple[Link, ...]:
    """Link records, oldest first, as a ledger does; newest first is what comes out."""
    links: list[Link] = []
    for record in records:
        parents = (links[0].commit,) if links else ()
        links.insert(0, Link(oid(f"{parents} {record}"), parents, record))
    return tuple(links)


def chain_of(*records: Record) -> Chain:
    return prove(links_of(*records), "prod")
