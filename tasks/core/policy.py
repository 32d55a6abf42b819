"""How much of a fleet may fail before a run is given up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import UsageError
from .hosts import Host

Limit = int | str
"""A number of hosts, or a percentage such as ``"2%"``."""


def read_limit(text: str) -> Limit:
    """Read ``--fail-limit``; raise UsageError where it is neither a number nor a percentage."""
    if re.fullmatch(r"\d{1,6}", text):
        return int(text)
    if re.fullmatch(r"\d{1,3}%", text) and int(text[:-1]) <= 100:
        return text
    raise UsageError(f"--fail-limit {text!r}: a number of hosts such as 3, or a percentage such as 2%")


def allowed(limit: Limit, size: int) -> int:
    """Return how many of ``size`` hosts may fail, inclusive; percentages are rounded down."""
    return limit if isinstance(limit, int) else size * int(limit.rstrip("%")) // 100


@dataclass(frozen=True)
class Bound:
    """A limit in force: of ``size`` hosts ``allowed`` may fail; ``group`` is None for all that are selected."""

    group: str | None
    limit: Limit
    allowed: int
    size: int


@dataclass(frozen=True)
class FailPolicy:
    """The limit over the whole selection, and those that groups set for themselves."""

    overall: Limit
    groups: Mapping[str, Limit] = field(default_factory=dict)

    def bounds(self, selected: Sequence[Host]) -> tuple[Bound, ...]:
        """Return every limit that counts for these hosts."""
        sizes = Counter[str | None](host.group for host in selected)
        sizes[None] = len(selected)
        limits: list[tuple[str | None, Limit]] = [(None, self.overall), *self.groups.items()]
        return tuple(
            Bound(name, limit, allowed(limit, sizes[name]), sizes[name]) for name, limit in limits if sizes[name]
        )

    def verdict(self, selected: Sequence[Host], failed: Collection[str]) -> str | None:
        """Return the sentence that gives the run up, or None where it may go on."""
        if len(failed) == len(selected):
            return f"all {len(selected)} targets failed"
        if len(failed) > allowed(self.overall, len(selected)):
            return f"{len(failed)} of {len(selected)} targets failed, more than fail_limit = {self.overall} allows"
        for group, limit in self.groups.items():
            members = [host.name for host in selected if host.group == group]
            bad = len(set(members) & set(failed))
            if bad > allowed(limit, len(members)):
                return f"{bad} of {len(members)} targets of {group} failed, more than its fail_limit = {limit} allows"
        return None
