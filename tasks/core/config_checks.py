"""The checks of a configuration that need more than one key.

They read the raw tables and pass over what has the wrong shape, for the schema reports that in the same go: an operator
sees all mistakes at once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from .config_problems import dotted, nearest
from .errors import UsageError
from .hosts import expand, fold, terms
from .text import printable

Raw = Mapping[str, object]

OWN = ("releases", "shared", ".skein")
"""What Skein keeps under ``deploy_to``; the link must not lie in there."""


def problems_across(raw: Raw) -> Iterator[str]:
    """Find what is wrong between keys, as ``key.path: what is wrong``."""
    yield from _mirrors(raw)
    yield from _zones(raw)
    yield from _hosts(raw)
    yield from _linked(raw)
    yield from _link(raw)
    yield from _swarm(raw)


def _mirrors(raw: Raw) -> Iterator[str]:
    seen: dict[str, int] = {}
    is_far = "host" in _table(raw.get("source"))
    for index, mirror in _rows(raw.get("mirrors")):
        if "host" not in mirror and "url" not in mirror:
            yield f"mirrors[{index}].url: a mirror on this machine, without host, needs url, where targets reach it"
        if "host" not in mirror and is_far:
            yield f"mirrors[{index}].host: with source.host a mirror must name its host: this machine may be any laptop"
        name = _text(_table(mirror.get("host")).get("name")) if "host" in mirror else _text(mirror.get("path"))
        first = seen.setdefault(name.casefold(), index) if name else index
        if first != index:
            key = "host" if "host" in mirror else "path"
            yield f"mirrors[{index}].{key}: '{name}' is mirrors[{first}] already"


def _zones(raw: Raw) -> Iterator[str]:
    zones = [_text(mirror.get("zone")) for _, mirror in _rows(raw.get("mirrors"))]
    for name, group in _groups(raw):
        zone = _text(group.get("zone"))
        if zone and zone not in zones:
            place = dotted(("targets", "groups", name, "zone"))
            yield f"{place}: no mirror has the zone '{printable(zone, 80)}'{nearest(zone, zones)}"


@dataclass(frozen=True)
class _Claim:
    """A host as one entry of one group names it."""

    name: str
    group: str
    place: str
    reach: tuple[str, str, int]


def _hosts(raw: Raw) -> Iterator[str]:
    named: dict[str, _Claim] = {}
    reached: dict[tuple[str, str, int], _Claim] = {}
    twice: dict[tuple[str, str], list[str]] = {}
    groups = dict(_groups(raw))
    for claim in _claims(raw):
        first = named.setdefault(claim.name.casefold(), claim)
        same = reached.setdefault(claim.reach, claim)
        if first is not claim:
            twice.setdefault((claim.place, first.place), []).append(claim.name)
        elif same is not claim:
            yield f"{claim.place}: {claim.name} has the address and port of {same.name} in {same.place}"
        if claim.name in groups and claim.group != claim.name:
            yield f"{claim.place}: {claim.name} is also the name of a group, so --only could mean either"
    for (place, first_place), names in twice.items():
        yield f"{place}: duplicate host {fold(names)}{'' if place == first_place else f', already in {first_place}'}"


def _claims(raw: Raw) -> Iterator[_Claim]:
    for group_name, group in _groups(raw):
        for index, entry in _rows(group.get("hosts")):
            place = dotted(("targets", "groups", group_name, "hosts", index))
            gateway = _text(entry.get("gateway")) or _text(group.get("gateway"))
            port = entry.get("port") or group.get("port")
            names = list(_names(_text(entry.get("name"))))
            own = _text(entry.get("address")) if len(names) == 1 else ""
            for name in names:
                address = _canonical(own or name)
                yield _Claim(name, group_name, place, (gateway, address, port if isinstance(port, int) else 22))


def _linked(raw: Raw) -> Iterator[str]:
    targets = _table(raw.get("targets"))
    seen: dict[str, str] = {}
    for key in ("linked_dirs", "linked_files"):
        for index, path in enumerate(_list(targets.get(key))):
            place = f"targets.{key}[{index}]"
            if not isinstance(path, str):
                continue
            if seen.setdefault(path, place) != place:
                yield f"{place}: {path!r} is {seen[path]} already"
    for path, place in seen.items():
        parent = posixpath.dirname(path)
        while parent and parent not in seen and parent != posixpath.dirname(parent):
            parent = posixpath.dirname(parent)
        if parent in seen and parent != path:
            yield f"{place}: {path!r} lies inside {parent!r}, which is linked as {seen[parent]}"


def _link(raw: Raw) -> Iterator[str]:
    targets = _table(raw.get("targets"))
    link, folder = _text(targets.get("link")), _text(targets.get("deploy_to"))
    if not link or not folder:
        return
    if f"{folder}/".startswith(f"{link}/"):
        yield f"targets.link: {link!r} would replace what holds deploy_to, {folder!r}"
    for own in OWN:
        if f"{link}/".startswith(f"{folder}/{own}/"):
            yield f"targets.link: {link!r} lies inside {folder}/{own}, which is Skein's own"


def _swarm(raw: Raw) -> Iterator[str]:
    transport = _table(raw.get("transport"))
    if transport.get("kind") == "swarm" and _table(transport.get("swarm")).get("enabled") is not True:
        yield "transport.kind: swarm opens a port on every host: allow that with swarm = { enabled = true }"
    if transport.get("kind") == "swarm" and "host" in _table(raw.get("source")):
        yield "transport.kind: swarm needs the source on the machine that deploys, without source.host: use auto"


def _names(pattern: str) -> Iterator[str]:
    """Expand term by term, so that a host named twice by one pattern comes twice; leave malformed terms out."""
    for term in terms(pattern):
        try:
            yield from expand(term)
        except UsageError:
            continue


def _canonical(address: str) -> str:
    try:
        return ip_address(address).compressed
    except ValueError:
        return address.casefold()


def _groups(raw: Raw) -> Iterator[tuple[str, Raw]]:
    for name, group in _table(_table(raw.get("targets")).get("groups")).items():
        yield name, _table(group)


def _rows(value: object) -> Iterator[tuple[int, Raw]]:
    return ((index, _table(entry)) for index, entry in enumerate(_list(value)))


def _list(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _table(value: object) -> Raw:
    """Return a table as it is, a host's name as the table that it stands for, anything else as an empty one."""
    if isinstance(value, str):
        return {"name": value}
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
