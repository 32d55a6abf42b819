"""Targets by name: ranges such as ``web-[001-050]``, folding for messages, and the set algebra of ``--only``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from ClusterShell.RangeSet import RangeSet

from .errors import UsageError
from .text import printable

NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""A host's name or IPv4 address. It may not begin with a dash: ``-oProxyCommand=…`` would be an option."""

TERM = re.compile(r"(?:[A-Za-z0-9._-]|\[[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*\])+")
"""A name with ranges in it; the library's negative numbers and steps are left out."""

LIKE = "write it like web-[1-20] or web-[01-20,25], both ends of a range equally wide or without zeros"

MOST = 10_000
"""A range that names more hosts than this is taken for a slip of the finger."""

LONGEST = 10_000
"""The longest pattern, in characters."""

DIGITS = 18
"""The longest number in a range."""


@dataclass(frozen=True)
class Host:
    """One server and how to reach it; None leaves the choice to ssh's own configuration."""

    name: str
    group: str = ""
    zone: str | None = None
    address: str | None = None
    port: int | None = None
    user: str | None = None
    gateway: str | None = None


def terms(pattern: str) -> list[str]:
    """Split ``pattern`` at its commas, those inside brackets left alone."""
    return [term.strip() for term in re.split(r",(?![^\[]*\])", pattern)]


def expand(pattern: str) -> tuple[str, ...]:
    """Return the names that ``pattern`` stands for, in its order, each once; raise UsageError where it is malformed."""
    if len(pattern) > LONGEST or not re.fullmatch(r"[A-Za-z0-9._\[\],-]+", pattern):
        allowed = "letters, digits, dots, dashes and ranges such as web-[01-20]"
        raise UsageError(f"malformed host {_short(pattern)}: {allowed}")
    parts = terms(pattern)
    if "" in parts:
        raise UsageError(f"malformed host {_short(pattern)}: nothing stands beside a comma")
    if not all(TERM.fullmatch(term) for term in parts):
        raise UsageError(f"malformed host range {_short(pattern)}: {LIKE}")
    if sum(_size(term) for term in parts) > MOST:
        raise UsageError(f"{_short(pattern)} names more than {MOST} hosts")
    try:
        names = dict.fromkeys(str(name) for term in parts for name in NodeSet(term, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise UsageError(f"malformed host range {_short(pattern)}: {LIKE}") from error
    for name in names:
        if not NAME.fullmatch(name):
            raise UsageError(f"malformed host {_short(name)}: a name begins and ends with a letter or digit")
    return tuple(names)


def fold(names: Iterable[str]) -> str:
    """Write many names as few: ``web-[001-096],db-1``; expand is its inverse.

    Of several numbers in a name the one that varies most is folded, which takes time in proportion to the names; the
    smallest possible text would take their square.
    """
    alike: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name in names:
        parts = re.split(r"([0-9]+)", name)
        alike.setdefault(tuple(parts[::2]), set()).add(tuple(parts[1::2]))
    return ",".join(term for texts in sorted(alike) for term in _folded(texts, alike[texts]))


def _folded(texts: tuple[str, ...], rows: set[tuple[str, ...]]) -> Iterator[str]:
    """Write names that differ in their numbers alone: ``rows`` holds the numbers, ``texts`` what stands around them."""
    if len(texts) == 1:
        yield texts[0]
        return
    axis = max(range(len(texts) - 1), key=lambda place: (len({row[place] for row in rows}), place))
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in sorted(rows, key=lambda row: [(int(number), number) for number in row]):
        lines.setdefault((*row[:axis], "", *row[axis + 1 :]), []).append(row[axis])
    for line, numbers in lines.items():
        folded = numbers[0] if len(numbers) == 1 else f"[{RangeSet.fromlist(numbers)}]"
        filled = [folded if place == axis else number for place, number in enumerate(line)]
        yield "".join(text + number for text, number in zip(texts, [*filled, ""], strict=True))


def _size(term: str) -> int:
    """Count what a term names at most, before anything of that size is made."""
    size = 1
    for ranges in re.findall(r"\[([^\]]*)\]", term):
        bounds = [part.partition("-")[::2] for part in ranges.split(",")]
        if any(len(number) > DIGITS for bound in bounds for number in bound):
            return MOST + 1
        size *= sum(max(1, int(last or first) - int(first) + 1) for first, last in bounds)
    return size


def _short(text: str) -> str:
    return printable(f"'{text}'", 80)


def select(hosts: Sequence[Host], only: str) -> tuple[Host, ...]:
    """Return the hosts that ``only`` names, in the order of ``hosts``.

    ``only`` is a comma-separated list of terms, read from left to right: a group, a host or a range adds, ``!`` before
    it takes away, ``a&b`` is what both name. A list that begins with ``!`` starts from all hosts. An unknown name or an
    empty result is an error, never an empty success.
    """
    wanted = [term for term in terms(only) if term]
    chosen = {host.name for host in hosts} if wanted and wanted[0].startswith("!") else set()
    for term in wanted:
        named = set.intersection(*(_named(hosts, part.strip()) for part in term.lstrip("!").split("&")))
        chosen = chosen - named if term.startswith("!") else chosen | named
    if not chosen:
        raise UsageError(f"--only {only!r} selects no host")
    return tuple(host for host in hosts if host.name in chosen)


def _named(hosts: Sequence[Host], term: str) -> set[str]:
    members = {host.name for host in hosts if host.group == term}
    if members:
        return members
    names = set(expand(term))
    unknown = names - {host.name for host in hosts}
    if unknown:
        raise UsageError(f"--only: no group and no host of this environment is named {fold(sorted(unknown))}")
    return names
