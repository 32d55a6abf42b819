"""What carriers will do and did in one run, put together from what each target was sent."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.facts import Staged
from ..core.pricing import GIT, INLINE, SWARM, Carried, Rates
from ..transports import Load

AFTERWARDS = ("stage", "arm")
"""Verbs that move nothing, of those that bring a target to where it is armed."""


def predicted(loads: Mapping[str, Load], rates: Rates) -> dict[str, float]:
    """Return the seconds that each carrier will take for its targets, as far as their bytes are known."""
    sizes: dict[str, list[int]] = {}
    for load in loads.values():
        if load.bytes:
            sizes.setdefault(load.by, []).append(load.bytes)
    return {by: rates.seconds(by, len(each), sum(each) // len(each)) for by, each in sizes.items()}


def carried(staged: Mapping[str, Staged], loads: Mapping[str, Load]) -> tuple[Carried, ...]:
    """Return what each carrier brought, and the seconds from the first request to the last answer.

    A swarm's targets began together, before they were asked for what came. A target that fell back to a mirror counts
    for ``git``; one that had the release already, for none.
    """
    found: dict[str, list[tuple[int, float, float]]] = {}
    for name, answer in staged.items():
        load = loads.get(name)
        moments = [moment for verb, each in answer.took.items() if verb not in AFTERWARDS for moment in each]
        if answer.source and load and load.bytes is not None and moments:
            by = answer.source if answer.source in (INLINE, SWARM) else GIT
            took = (min(moments), max(moments)) if answer.swarm_s is None else (0.0, answer.swarm_s)
            found.setdefault(by, []).append((load.bytes, *took))
    return tuple(
        Carried(
            by=by,
            hosts=len(each),
            bytes=sum(size for size, _, _ in each),
            seconds=max(ended for _, _, ended in each) - min(began for _, began, _ in each),
        )
        for by, each in found.items()
    )
