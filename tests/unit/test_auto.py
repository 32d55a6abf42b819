"""Which carrier ``auto`` takes for which targets, and what it says about that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from config_text import SMALL, read
from test_inline import HOST, RELEASE, probe

from tasks.core.facts import Probe
from tasks.core.hosts import Host
from tasks.core.pricing import GIT, INLINE, SWARM, Carried
from tasks.core.release import Release
from tasks.core.requests import MirrorUrl, Request
from tasks.transports import Load
from tasks.transports.auto import AutoTransport
from tasks.transports.git import GitTransport
from tasks.transports.inline import LARGE, InlineTransport


@dataclass
class Other:
    """A carrier that is not there; it keeps whom it was to serve."""

    name: str = SWARM
    met: dict[str, Probe] = field(default_factory=dict)

    def meet(self, release: Release, probes: Mapping[str, Probe], past: Sequence[Carried]) -> None:
        self.met = dict(probes)

    def bring(self, release: Release, host: Host, probe: Probe) -> tuple[Request, ...]:
        return (Request("other"),)

    def load(self, release: Release, probe: Probe) -> Load:
        return Load(self.name, 7, "it is asked")

    def mirrors_for(self, host: Host) -> tuple[MirrorUrl, ...]:
        return ()

    def spread_s(self, host: Host) -> float:
        return 0.0


@pytest.fixture
def other() -> Other:
    return Other()


def auto(other: Other, packs: Mapping[str | None, int]) -> AutoTransport:
    git = GitTransport(read(SMALL).mirrors, "deploy", 900.0, weigh=lambda base, release: packs.get(base))
    made = {base: bytes(size) for base, size in packs.items()}
    inline = InlineTransport(git, lambda base, release: made.get(base), LARGE, is_whole=True)
    return AutoTransport(inline, {SWARM: other})


def test_each_group_of_targets_that_lack_the_same_gets_the_carrier_that_is_quickest_for_it(other: Other) -> None:
    seen = {f"web-{number}": probe(1, 2, live=2) for number in range(80)}
    seen |= {f"new-{number}": probe() for number in range(20)}
    transport = auto(other, {"2" * 40: 1_200, None: 20_000_000})
    transport.meet(RELEASE, seen, ())
    (small,), (large,) = (transport.bring(RELEASE, HOST, seen[name]) for name in ("web-1", "new-1"))
    assert (small.verb, len(small.payload), large.verb) == ("fetch", 1_200, "other")
    assert set(other.met) == {name for name in seen if name.startswith("new")}
    assert transport.load(RELEASE, seen["web-1"]).by == INLINE
    load = transport.load(RELEASE, seen["new-1"])
    assert (load.by, load.bytes) == (SWARM, 7)
    assert load.why.startswith("swarm takes about ")
    assert "for 20 such targets, inline " in load.why
    assert "git " in load.why


def test_what_was_measured_decides(other: Other) -> None:
    seen = {f"web-{number}": probe(1, live=1) for number in range(20)}
    past = [
        Carried(by=INLINE, hosts=20, bytes=100_000_000, seconds=100),
        Carried(by=GIT, hosts=20, bytes=100_000_000, seconds=2),
        Carried(by=SWARM, hosts=20, bytes=100_000_000, seconds=50),
    ]
    transport = auto(other, {"1" * 40: 5_000_000})
    transport.meet(RELEASE, seen, past)
    (request,) = transport.bring(RELEASE, HOST, seen["web-1"])
    assert (request.verb, request.payload) == ("fetch", b"")
    assert transport.load(RELEASE, seen["web-1"]).by == GIT
    assert not other.met


def test_a_target_of_which_nothing_is_known_asks_the_mirrors(other: Other) -> None:
    seen = {"web-1": probe(5, live=5)}
    transport = auto(other, {})
    transport.meet(RELEASE, seen, ())
    (request,) = transport.bring(RELEASE, HOST, seen["web-1"])
    assert (request.verb, request.payload) == ("fetch", b"")
    assert transport.load(RELEASE, seen["web-1"]).by == GIT
