"""The records of a ledger: what each kind says, and how it is written and read.

``number`` is a record's place in the chain and rises by one. ``turn`` is the fencing token: every decision and every
broken lock takes a new one, above all that are known; other records carry the turn that was in force. A rollback that
was decided without the hub is entered late: its turn may then lie below that of the record before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from .errors import LedgerError
from .facts import Count, Identity, ObjectId
from .hosts import expand, fold, terms
from .policy import Limit
from .pricing import Carried
from .release import number_of
from .text import printable

FORMAT: Final = 1
LARGEST = 1 << 20
"""Bytes; a record of a thousand hosts, each with a reason of its own, has half of that."""

ANEW = "move the hub's repository away and have it made anew from a mirror: fab mirrors.sync --from MIRROR"
"""What to do about a ledger that no hub lets anybody correct: only somebody on the hub itself can have changed it."""

Text = Annotated[str, StringConstraints(max_length=2000)]
Hosts = tuple[Annotated[str, StringConstraints(max_length=10_000)], ...]
"""Names of hosts, folded into ranges, one range or name each."""


class Base(BaseModel):
    """Frozen and strict about its keys: a record of a known format has no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Base):
    """What every record says: its place, who wrote it when and why, from which configuration of which hosts."""

    format: Literal[1] = FORMAT
    number: Count
    turn: Count
    environment: Text
    at: datetime
    by: Text
    machine: Text
    reason: Text = ""
    config: Text
    hosts: Hosts
    fleet: Text


class Decided(Entry):
    """A release is to be live on ``targets``; ``before`` says what was live on which of them.

    What was adopted has no commit.
    """

    kind: Literal["deploy", "rollback"]
    decision: Text
    release: Identity
    commit: ObjectId | None
    tree: ObjectId | None
    source_commit: ObjectId | None
    before: tuple[tuple[Identity | None, Hosts], ...]
    targets: Hosts
    fail_limit: Limit
    group_limits: dict[str, Limit] = {}
    late: bool = False

    @property
    def left(self) -> tuple[str, ...]:
        """The releases that a rollback went back from: those that are newer than what it made live."""
        if self.kind != "rollback":
            return ()
        newer = (identity for identity, _ in self.before if identity and number_of(identity) > number_of(self.release))
        return tuple(newer)


class Result(Base):
    """Where hosts stand that ended alike; ``release`` is what is live there, as far as it is known."""

    state: Text
    release: Identity | None
    code: Text = ""
    reason: Text = ""
    hosts: Hosts


class Ended(Entry):
    """What became of a decision; ``undone`` says that it is not what anybody wants any more."""

    kind: Literal["outcome"] = "outcome"
    decision: Text
    exit_code: Count
    headline: Text
    undone: bool
    results: tuple[Result, ...]
    carried: tuple[Carried, ...] = ()
    late: bool = False


class Reconfigured(Entry):
    """The configuration is another than that of the record before; hosts that came and that went."""

    kind: Literal["config"] = "config"
    was: Text
    added: Hosts
    gone: Hosts


class Broken(Entry):
    """Somebody's lock was broken: whoever held it since ``since`` must not decide anything any more."""

    kind: Literal["broken-lock"] = "broken-lock"
    holder: Text
    since: Text


class Frozen(Entry):
    """Nothing may be decided until somebody unlocks."""

    kind: Literal["freeze"] = "freeze"


class Thawed(Entry):
    """A freeze ended."""

    kind: Literal["unfreeze"] = "unfreeze"


Record = Annotated[Decided | Ended | Reconfigured | Broken | Frozen | Thawed, Field(discriminator="kind")]
R = TypeVar("R", Decided, Ended, Reconfigured, Broken, Frozen, Thawed)
_ANY: TypeAdapter[Record] = TypeAdapter(Record)


def write(record: Record) -> str:
    """Return a record as the text that is kept."""
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def read(text: bytes, where: str, advice: str = "") -> Record:
    """Return the record that a text is; raise LedgerError, which calls it ``where``, for one that is none.

    ``advice`` ends what is said of one that was edited.
    """
    mend = f": {advice}" if advice else ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{where} is no record of Skein's: it was edited{mend}") from error
    known = value.get("format") if isinstance(value, dict) else None
    if isinstance(known, int) and known > FORMAT:
        raise LedgerError(f"{where} is of format {known}, and this Skein's is {FORMAT}: use the Skein that wrote it")
    try:
        return _ANY.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        what = printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)
        raise LedgerError(f"{where} is no record of Skein's ({what}): it was edited{mend}") from error


def folded(names: Iterable[str]) -> Hosts:
    """Return names of hosts as records keep them."""
    text = fold(names)
    return tuple(terms(text)) if text else ()


@lru_cache(maxsize=4096)
def names_of(hosts: Hosts) -> tuple[str, ...]:
    """Return the names that ``folded`` folded."""
    return tuple(name for term in hosts for name in expand(term))


def fleet_hash(names: Iterable[str]) -> str:
    """Return what two equal sets of hosts have in common, and no others."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def as_utc(at: datetime) -> str:
    """Write a time for people, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
