"""A swarm under a deploy: who takes part, who gets what from whom, and the go; the release then is staged as ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, TypeVar

from pydantic import BaseModel

from ..core import swarm
from ..core.errors import HostError, SkeinError
from ..core.facts import Changed, Done, Joined, Moved, Probe
from ..core.hosts import Host, fold
from ..core.pricing import Carried
from ..core.release import Release
from ..core.requests import QUICK_S, Delta, Request
from ..core.swarm import Member
from ..core.text import size
from ..transports.swarm import SwarmTransport
from .hands import Hands

M = TypeVar("M", bound=BaseModel)
SOURCE = "source"
Place = tuple[str, int]
"""Where a member listens: address and port."""


class Crew(Protocol):
    """The machines of a swarm that are no targets; ``remote.crew`` says what each does."""

    def mirrors(self) -> Mapping[str, Host]: ...  # noqa: D102
    def ask(self, verb: str, requests: Mapping[str, Request], reply: type[M]) -> dict[str, M | HostError]: ...  # noqa: D102
    def seed(self, request: Request, pack: bytes, toward: str) -> Joined: ...  # noqa: D102
    def go(self, request: Request) -> None: ...  # noqa: D102
    def leave(self, name: str) -> Moved: ...  # noqa: D102
    def address(self, host: Host) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class Torrents:
    """What one swarm carries; ``port`` is where its source listens."""

    name: str
    delta: Delta
    port: int
    files: tuple[bytes, ...]

    def request(self, verb: str, port: int, seconds: float) -> Request:
        """Return the request to take part by ``verb``."""
        fields = {
            "name": self.name,
            "torrents": [len(file) for file in self.files],
            "lengths": list(swarm.stripe_lengths(len(self.delta.pack))),
            "port": port,
            "seconds": int(seconds),
        }
        return Request(verb, fields, 2 * QUICK_S, b"".join(self.files))


@dataclass
class Swarming:
    """One deploy's swarms: one for each distinct delta that is worth it."""

    hands: Hands
    transport: SwarmTransport
    crew: Crew
    begun: list[Torrents] = field(default_factory=list)
    taking: list[str] = field(default_factory=list)  # mirrors that take part
    notes: list[str] = field(default_factory=list)

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> bool:
        """Let the transport choose whom a swarm is to serve; tell whether it is anybody."""
        waiting = {name: probe for name, probe in probes.items() if probe.current != release.id}
        self.hands.transport.meet(release, waiting, past)
        return bool(self.transport.groups(release))

    def spread(self, release: Release, refs: Mapping[str, str], rest: bytes) -> None:
        """Have hosts join, plan, and begin; where ``refs`` are given, have the mirrors take them in, with ``rest``.

        ``rest`` is a pack of what the refs need besides the release. What goes wrong is noted: whoever does not get the
        release in this way gets it in another.
        """
        port = self.hands.settings.transport.swarm.port
        for place, (delta, names) in enumerate(self.transport.groups(release).items()):
            files = swarm.torrents(delta.pack)
            torrents = Torrents(sha256(delta.pack).hexdigest(), delta, port + place, files)
            try:
                self._begin(torrents, names, self.crew.mirrors() if refs and not place else {})
            except SkeinError as error:
                self.notes.append(f"no swarm for {fold(names)}: {error}")
        if self.taking:
            self._take(self.begun[0], refs, rest)

    def end(self) -> tuple[str, ...]:
        """End it at its source and mirrors; return what is to be told. The targets' parts end with their sessions."""
        if self.taking:
            orders = {name: Request("swarm_leave", {"name": self.begun[0].name}) for name in self.taking}
            self.crew.ask("leave", orders, Moved)
        for torrents in self.begun:
            sent = self.crew.leave(torrents.name).sent
            whole = len(torrents.delta.pack)
            hosts = sum(name == torrents.name for name, _ in self.transport.joined.values())
            self.notes.append(f"a swarm carried {size(whole)} to {hosts} targets; its source sent about {size(sent)}")
        return tuple(self.notes)

    def _begin(self, torrents: Torrents, names: Sequence[str], mirrors: Mapping[str, Host]) -> None:
        settings, crew = self.hands.settings, self.crew
        seconds, port = 2.0 * settings.targets.stage_timeout, settings.transport.swarm.port
        hosts = {host.name: host for host in self.hands.hosts if host.name in names}
        order = torrents.request("swarm_join", port, seconds)
        targets = self._joined(self.hands.ask("swarm", dict.fromkeys(names, (order,)), Joined), hosts)
        if not targets:
            return
        toward = next(iter(targets.values()))[0]
        source = crew.seed(torrents.request("swarm_meet", torrents.port, seconds), torrents.delta.pack, toward)
        meet = torrents.request("swarm_meet", port, seconds)
        met = self._joined(crew.ask("meet", dict.fromkeys(mirrors, meet), Joined), mirrors)
        at = {_mirror(name): place for name, place in met.items()} | targets
        at[SOURCE] = (str(source.address), source.port)
        members = [Member(_mirror(name), mirrors[name].zone) for name in met]
        members += [Member(name, hosts[name].zone) for name in targets]
        self.begun.append(torrents)
        self.taking += met
        self._go(torrents.name, swarm.plan(SOURCE, members), at, {member.name: member.zone for member in members})
        self.transport.joined.update(dict.fromkeys(targets, (torrents.name, torrents.delta)))

    def _joined(self, answers: Mapping[str, Joined | HostError], hosts: Mapping[str, Host]) -> dict[str, Place]:
        """Return where each that joined listens; note the others, by their reasons."""
        at: dict[str, Place] = {}
        out: dict[str, list[str]] = {}
        for name, answer in answers.items():
            if isinstance(answer, HostError):
                out.setdefault(str(answer), []).append(name)
            elif address := answer.address or self.crew.address(hosts[name]):
                at[name] = (address, answer.port)
            else:
                out.setdefault("its address cannot be told", []).append(name)
        self.notes += [f"not in the swarm: {fold(names)}: {why}" for why, names in out.items()]
        return at

    def _go(self, name: str, plan: swarm.Plan, at: Mapping[str, Place], zones: Mapping[str, str | None]) -> None:
        """Tell each whom to let in and whom to ask, the source last: then all others are ready."""
        orders: dict[str, Request] = {}
        for member in at:
            near = plan.neighbours(member)
            ways = plan.upstreams.get(member, ())
            told = {
                "allow": sorted({at[other][0] for other in near}),
                "upstreams": [[list(at[other]) for other in way] for way in ways],
                "far": plan.crosses(member, zones),
            }
            orders[member] = Request("swarm_go", {"name": name, "go": told})
        self.crew.go(orders.pop(SOURCE))
        mirrors = {name: orders.pop(_mirror(name)) for name in self.taking if _mirror(name) in orders}
        self.crew.ask("go", mirrors, Done)
        self.hands.fleet.ask({name: (order,) for name, order in orders.items()}, Done, together=True)

    def _take(self, torrents: Torrents, refs: Mapping[str, str], rest: bytes) -> None:
        """Wait until the mirrors have taken the release in; those that have not are pushed to as ever."""
        limit_s = float(self.hands.settings.targets.stage_timeout)
        about = {"name": torrents.name, "timeout_s": limit_s}
        order = Request("swarm_take", {"refs": dict(refs), "swarm": about}, 2 * limit_s, rest)
        answers = self.crew.ask("take", dict.fromkeys(self.taking, order), Changed)
        self.notes += [
            f"mirror {name} did not take the release from the swarm: {answer}"
            for name, answer in answers.items()
            if isinstance(answer, HostError)
        ]


def _mirror(name: str) -> str:
    """Return what a mirror is called among the members: a machine may be a target as well."""
    return f"mirror {name}"
