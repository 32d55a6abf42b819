"""What hosts say of themselves, held against what the others say: one that lies or is damaged must not lead the rest.

A decision takes a turn above every turn that a host has seen, and a release a number above every number: believed
blindly, one host could drive both to where no other host, and no later run, can follow.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import HostError, RefusedError
from .facts import Probe
from .hosts import fold

TURN_LEAP = 10**6
"""How far a host's newest turn may be above the median of the fleet. Turns rise by one with every decision; an agent's
own bound, far above this one, is ``agent.flip.TURN_LEAP``."""

NUMBER_LEAP = 1000
"""How far a host's highest release number may be above what source and hub know."""


def implausible(probes: Mapping[str, Probe]) -> dict[str, HostError]:
    """Return the hosts that cannot be believed, or cannot be told apart, and why; hosts that saw no turn yet say none.

    Where less than half of a fleet lies, the median of its turns is not theirs.
    """
    turns = sorted(probe.turn for probe in probes.values() if probe.turn) or [0]
    usual = turns[(len(turns) - 1) // 2]
    found: dict[str, HostError] = {}
    for name, probe in probes.items():
        if probe.turn > usual + TURN_LEAP or probe.live_turn > probe.turn:
            told = f"it says that its newest turn is {max(probe.turn, probe.live_turn)}, which cannot be"
            advice = "find out what changed .skein/state.json there, move that away, then run again"
            found[name] = RefusedError("odd-turn", f"{told} (the fleet's is about {usual}): {advice}")
    return {**found, **twins(probes)}


def believed(numbers: Mapping[str, int], known: int) -> tuple[int, list[str]]:
    """Return the highest release number there is, given what source and hub know, and the hosts not believed.

    ``numbers`` are the highest by host.
    """
    odd = [name for name, number in numbers.items() if number > known + NUMBER_LEAP]
    return max([known, *(number for name, number in numbers.items() if name not in odd)]), odd


def twins(probes: Mapping[str, Probe]) -> dict[str, HostError]:
    """Return the hosts that are one: several names whose addresses lead to the same directory of the same machine."""
    places: dict[str, list[str]] = {}
    for name, probe in probes.items():
        if probe.place:
            places.setdefault(probe.place, []).append(name)
    return {
        name: RefusedError("same-place", f"{fold(names)} are one and the same place: leave one of the names out")
        for names in places.values()
        for name in names
        if len(names) > 1
    }
