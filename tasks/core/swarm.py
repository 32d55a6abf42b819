"""Who sends what to whom: a payload cut in two stripes, each on a tree of its own in which every host is inner once.

A host that forwards one half of a payload to two others, and none of the other half, sends as much as it receives. So
with equal links all have it about when the first one could, however many they are, and the source sends it once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1

STRIPES = 2
CHILDREN = 2
"""How many streams of a stripe a member sends: as many as it has stripes to receive."""

PIECE_LEAST, PIECES_MOST = 1 << 14, 320
"""Bytes; and how many pieces a stripe has at most before they grow: their hashes travel to each host by its session."""

LEAST = 1 << 16
"""Bytes; less is no work to share."""


@dataclass(frozen=True)
class Member:
    """A machine that takes part."""

    name: str
    zone: str | None = None


@dataclass(frozen=True)
class Plan:
    """For each member and stripe, from whom it gets it: the first to begin with, each other if those before fail."""

    source: str
    upstreams: Mapping[str, tuple[tuple[str, ...], ...]]

    def children(self, name: str, stripe: int) -> tuple[str, ...]:
        """Return the members that get a stripe from this one to begin with."""
        return tuple(other for other, ways in self.upstreams.items() if ways[stripe][:1] == (name,))

    def crosses(self, name: str, zones: Mapping[str, str | None]) -> bool:
        """Tell whether a member has to do with another zone, as long as nobody fails."""
        above = [way[0] for way in self.upstreams.get(name, ())]
        near = {name, *above, *(child for stripe in range(STRIPES) for child in self.children(name, stripe))}
        return len({zones[other] for other in near & zones.keys()}) > 1

    def neighbours(self, name: str) -> frozenset[str]:
        """Return all whom a member may have to do with: nobody else may connect to it."""
        above = {upstream for ways in self.upstreams.get(name, ()) for upstream in ways}
        below = {other for other, ways in self.upstreams.items() if any(name in way for way in ways)}
        return frozenset(above | below)


def piece_length(size: int) -> int:
    """Return the bytes of a piece: small ones travel on sooner, and have more hashes."""
    length = PIECE_LEAST
    while size > STRIPES * PIECES_MOST * length:
        length *= 2
    return length


def stripe_lengths(size: int) -> tuple[int, ...]:
    """Return the bytes of each stripe; they follow each other in the payload, in whole pieces but for the end."""
    length = piece_length(size)
    pieces = -(-size // length)
    first = min(size, -(-pieces // STRIPES) * length)
    return tuple(part for part in (first, size - first) if part)


def plan(source: str, members: Sequence[Member]) -> Plan:
    """Assign upstreams; in each zone the first members, such as its mirrors, come first, and so do the first zones.

    Each zone is a subtree: its link is crossed once in each direction by each stripe at most.
    """
    zones: dict[str | None, list[str]] = {}
    for member in members:
        zones.setdefault(member.zone, []).append(member.name)
    growing = _Growing({member.name: CHILDREN for member in members})
    above: dict[str, list[str]] = {member.name: [] for member in members}
    for stripe in range(STRIPES):
        head = source
        for place, names in enumerate(zones.values(), 1):
            head = growing.zone(head, _inner_first(names, stripe, growing.left), is_last=place == len(zones))
        for name, parent in growing.parents.items():
            above[name].append(parent)
        growing = _Growing(growing.left)
    return Plan(source, _with_detours(source, above))


@dataclass
class _Growing:
    """A tree that grows, and how many children each member may still take, over all stripes."""

    left: dict[str, int]
    parents: dict[str, str] = field(default_factory=dict)

    def zone(self, head: str, order: tuple[list[str], list[str]], *, is_last: bool) -> str:
        """Put a zone's members below ``head``; return the member below which the next zone goes."""
        inner, others = order
        first, *rest = [*inner, *others]
        self.parents[first] = head
        if not is_last:
            self.left[first] -= 1
        slots, spare = deque([first]), [first]
        for name in rest:
            while slots and self.left[slots[0]] <= 0:
                slots.popleft()
            parent = slots[0] if slots else max(spare, key=lambda placed: self.left[placed])
            self.parents[name] = parent
            self.left[parent] -= 1
            spare.append(name)
            if name in inner:
                slots.append(name)
        return first


def _inner_first(names: Sequence[str], stripe: int, left: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return a zone's members that send this stripe on, and then the others, those first that could as well."""
    inner = [name for place, name in enumerate(names) if place % STRIPES == stripe]
    return inner, sorted((name for name in names if name not in inner), key=lambda name: -left[name])


def _with_detours(source: str, above: Mapping[str, Sequence[str]]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Add to each upstream where to turn if it fails or is slow.

    What a failed one did not take is free with its own two upstreams: the first of its children goes to one of them,
    the second to the other.
    """
    ways: dict[str, list[tuple[str, ...]]] = {name: [] for name in above}
    for stripe in range(STRIPES):
        turns: dict[str, int] = {}
        for name in above:
            chain = _chain(name, stripe, above)
            parent = chain[0]
            turns[parent] = turns.get(parent, -1) + 1
            if parent != source and turns[parent] % 2:
                aside = above[parent][1 - stripe]
                if aside != source and name not in _chain(aside, stripe, above):
                    chain.insert(1, aside)
            ways[name].append(tuple(dict.fromkeys(each for each in chain if each != name)))
    return {name: tuple(each) for name, each in ways.items()}


def _chain(name: str, stripe: int, above: Mapping[str, Sequence[str]]) -> list[str]:
    """Return those from whom a stripe comes to a member, nearest first, the source last."""
    chain: list[str] = []
    while name in above:
        name = above[name][stripe]
        chain.append(name)
    return chain


def torrents(payload: bytes) -> tuple[bytes, ...]:
    """Return a private torrent (BEP 3, BEP 27) for each stripe; each is called by its number."""
    piece, start, made = piece_length(len(payload)), 0, []
    for number, length in enumerate(stripe_lengths(len(payload))):
        ends = range(start, start + length, piece)
        parts = (payload[at : min(at + piece, start + length)] for at in ends)
        hashes = b"".join(sha1(part, usedforsecurity=False).digest() for part in parts)
        info = {"length": length, "name": str(number), "piece length": piece, "pieces": hashes, "private": 1}
        made.append(_bencoded({"info": info}))
        start += length
    return tuple(made)


def _bencoded(value: object) -> bytes:
    if isinstance(value, Mapping):
        items = (_bencoded(key) + _bencoded(each) for key, each in sorted(value.items()))
        return b"d" + b"".join(items) + b"e"
    if isinstance(value, int):
        return b"i%de" % value
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%s" % (len(data), data)
