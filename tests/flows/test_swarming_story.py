"""A deploy by swarm: who is asked to join, what each is told, what the mirrors take, and who goes another road."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import pytest
from fake_fleet import FakeFleet, FakeHost, refused
from pydantic import BaseModel
from world import FakeSource, World

from tasks.core.errors import HostError, RefusedError, RepositoryError
from tasks.core.facts import Joined, Moved
from tasks.core.hosts import Host
from tasks.core.release import Release
from tasks.core.report import Report
from tasks.core.requests import Request
from tasks.flows.deploy import deploy
from tasks.flows.releasing import Releasing
from tasks.flows.swarming import Swarming
from tasks.transports.git import GitTransport
from tasks.transports.inline import InlineTransport
from tasks.transports.swarm import SwarmTransport

M = TypeVar("M", bound=BaseModel)
PACK = b"P" * 200_000
NAME = sha256(PACK).hexdigest()


class Peer(FakeHost):
    """A target that can take part."""

    gone: dict[str, Any] | None = None
    at: str | None = None

    def _do_swarm_join(self, name: str, torrents: list[int], lengths: list[int], port: int, seconds: int) -> Any:
        assert (name, sum(lengths)) == (NAME, len(PACK))
        return {"port": port, "address": self.at}

    def _do_swarm_go(self, name: str, go: dict[str, Any]) -> dict[str, Any]:
        self.gone = go
        return {}

    def _do_fetch(self, commit: str, mirrors: list[dict[str, str]], **more: Any) -> dict[str, Any]:
        if "swarm" in more:
            assert self.gone, "it waits for what it never began"
            self.objects.add(commit)
            return {"from": "swarm", "skipped": [], "swarm_s": 2.0}
        return super()._do_fetch(commit, mirrors)


@dataclass
class FakeCrew:
    """Two mirrors and a source; ``asked`` is what was asked of them, in order."""

    settings: Any
    asked: list[tuple[str, str, Request]] = field(default_factory=list)
    faults: dict[tuple[str, str], HostError] = field(default_factory=dict)
    broken: bool = False

    def mirrors(self) -> Mapping[str, Host]:
        return {mirror.name: mirror.server for mirror in self.settings.mirrors}

    def ask(self, verb: str, requests: Mapping[str, Request], reply: type[M]) -> dict[str, M | HostError]:
        answers = {"meet": {"port": 6881, "address": "10.0.0.9"}, "go": {}, "take": {"changed": ["ref"]}}
        self.asked += [(verb, name, request) for name, request in requests.items()]
        answer = reply.model_validate({"sent": 0, "received": 0, **answers.get(verb, {})})
        return {name: self.faults.get((verb, name), answer) for name in requests}

    def seed(self, request: Request, pack: bytes, toward: str) -> Joined:
        if self.broken:
            raise RepositoryError("port 6881 is taken")
        self.asked.append(("seed", "source", request))
        return Joined(port=6881, address="10.0.0.1")

    def go(self, request: Request) -> None:
        self.asked.append(("go", "source", request))

    def leave(self, name: str) -> Moved:
        return Moved(sent=len(PACK), received=0)

    def address(self, host: Host) -> str | None:
        return f"10.1.0.{host.name[-1]}"

    def got(self, verb: str) -> list[str]:
        return [name for asked, name, _ in self.asked if asked == verb]


class Source(FakeSource):
    """A source that has what tags need besides releases."""

    rest_pack: bytes | None = b"rest"

    def rest(self, release: Release) -> bytes | None:
        return self.rest_pack

    def refspecs(self, release: Release) -> tuple[str, ...]:
        return (f"{release.commit}:{release.ref}", f"{'7' * 40}:refs/tags/{release.tag}")


class Swarm:
    """A world whose deploys go by swarm."""

    def __init__(self) -> None:
        self.world = World(after_flip=False)
        self.world.targets[:] = [Peer(**vars(target)) for target in self.world.targets]
        self.world.fleet = FakeFleet(self.world.targets)
        self.source = Source(**vars(self.world.source))
        self.world.source = self.world.mirrors.source = self.source
        git = GitTransport(self.world.settings.mirrors, "deploy", 900.0)
        inline = InlineTransport(git, lambda base, release: PACK, 1 << 26, is_whole=True)
        self.transport = self.world.transport = SwarmTransport(inline)
        self.crew = FakeCrew(self.world.settings)

    def deploy(self) -> Report:
        hands = self.world.hands()
        swarming = Swarming(hands, self.transport, self.crew)
        return deploy(hands, Releasing(hands, self.source, self.world.mirrors, swarm=swarming))


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


def test_all_join_before_any_is_told_to_go_and_the_source_and_mirrors_before_the_targets(swarm: Swarm) -> None:
    report = swarm.deploy()
    assert report.exit_code == 0
    assert [verb for verb, _, _ in swarm.crew.asked] == [
        *("seed", "meet", "meet", "go", "go", "go", "take", "take", "leave", "leave")
    ]
    assert swarm.world.fleet.verbs[1:4] == ["swarm_join", "swarm_go", "fetch"]
    assert report.notes == ("a swarm carried 200.0 kB to 3 targets; its source sent about 200.0 kB",)


def test_each_is_told_addresses_alone_and_lets_in_whoever_is_told_to_ask_it(swarm: Swarm) -> None:
    swarm.deploy()
    gone = {target.name: target.gone for target in swarm.world.targets if isinstance(target, Peer)}
    for name, go in gone.items():
        assert go
        assert f"10.1.0.{name[-1]}" not in go["allow"]
        for ways in go["upstreams"]:
            assert {address for address, _ in ways} <= set(go["allow"])
            assert ways[-1] == ["10.0.0.1", 6881]


def test_a_host_that_knows_its_address_is_believed(swarm: Swarm) -> None:
    first = swarm.world.targets[0]
    assert isinstance(first, Peer)
    first.at = "192.0.2.7"
    swarm.deploy()
    (go,) = [request for verb, name, request in swarm.crew.asked if (verb, name) == ("go", "source")]
    told: Any = go.fields["go"]
    assert "192.0.2.7" in told["allow"]


def test_mirrors_take_release_and_tag_before_anything_is_pushed(swarm: Swarm) -> None:
    report = swarm.deploy()
    orders = [request for verb, _, request in swarm.crew.asked if verb == "take"]
    assert len(orders) == 2
    refs: Any = orders[0].fields["refs"]
    assert set(refs) == {f"refs/tags/release/{report.release}", f"refs/skein/releases/prod/{report.release}"}
    assert orders[0].payload == b"rest"
    assert len(swarm.world.mirrors.pushed) == 1


def test_mirrors_are_pushed_to_first_where_the_tag_needs_much_besides(swarm: Swarm) -> None:
    swarm.source.rest_pack = None
    assert swarm.deploy().exit_code == 0
    assert swarm.crew.got("meet") == swarm.crew.got("take") == []
    assert len(swarm.world.mirrors.pushed) == 1
    assert swarm.world.fleet.got("swarm_go") == ["web-1", "web-2", "web-3"]


def test_a_target_that_cannot_join_asks_a_mirror_and_is_named(swarm: Swarm) -> None:
    swarm.world.targets[1].faults["swarm_join"] = refused("swarm")
    report = swarm.deploy()
    assert report.exit_code == 0
    assert "not in the swarm: web-2: the agent says swarm" in report.notes
    fetches = {name: request for verb, name, request in swarm.world.fleet.asked if verb == "fetch"}
    assert [name for name, request in fetches.items() if "swarm" not in request.fields] == ["web-2"]
    assert not any(request.payload for request in fetches.values()), "nothing rides on a session"


def test_a_mirror_that_does_not_take_it_is_named_and_pushed_to(swarm: Swarm) -> None:
    swarm.crew.faults["take", "mirror-2"] = RefusedError("git", "its disk is full")
    report = swarm.deploy()
    assert report.exit_code == 0
    assert "mirror mirror-2 did not take the release from the swarm: its disk is full" in report.notes
    assert swarm.world.mirrors.pushed


def test_without_a_source_there_is_no_swarm_and_all_ask_the_mirrors(swarm: Swarm) -> None:
    swarm.crew.broken = True
    report = swarm.deploy()
    assert report.exit_code == 0
    assert "no swarm for web-[1-3]: port 6881 is taken" in report.notes
    assert not any("swarm" in request.fields for request in swarm.world.fleet.requests("fetch"))


def test_what_is_too_little_to_share_rides_on_the_session(swarm: Swarm) -> None:
    git = swarm.transport.inline.git
    swarm.transport.inline = InlineTransport(git, lambda base, release: b"little", 1 << 26, is_whole=True)
    assert swarm.deploy().exit_code == 0
    assert swarm.crew.asked == []
    assert [request.payload for request in swarm.world.fleet.requests("fetch")] == [b"little"] * 3


def test_what_a_swarm_took_is_measured_from_its_go(swarm: Swarm) -> None:
    (carried,) = swarm.deploy().carried
    assert (carried.by, carried.hosts, carried.bytes, carried.seconds) == ("swarm", 3, 3 * len(PACK), 2.0)
