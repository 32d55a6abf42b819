"""A swarm of real libtorrents on loopback: agents, and a source that is this process, as in a deploy."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from hashlib import sha1, sha256, shake_128
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from agent_host import DEADLINE_S, Agent, Content, Host, Made, Refused, alive, git, until
from test_agent_delta import pack

from tasks.agent import swarm as agent_swarm
from tasks.agent.policy import permit
from tasks.agent.problem import Problem
from tasks.agent.swarm import end, go, leave, meet
from tasks.agent.wire import Wire
from tasks.core import swarm

HERE, STRANGER = "127.0.0.1", "127.0.0.9"
FOUND = find_spec("libtorrent")
assert FOUND
assert FOUND.origin
PACKAGE = Path(FOUND.origin).parent


def noise(seed: int, count: int) -> bytes:
    """Return bytes that do not compress, the same every time."""
    return shake_128(bytes([seed])).digest(count)


ONE: dict[bytes, Content] = {b"big": noise(1, 200_000), b"small": b"one"}
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Ring:
    """What one swarm carries, and the source in this process."""

    def __init__(self, folder: Path, payload: bytes) -> None:
        self.folder, self.payload = folder, payload
        self.files = swarm.torrents(payload)
        self.name = sha256(payload).hexdigest()
        self.wire = Wire()
        self.port = 0

    def fields(self, **changed: object) -> dict[str, Any]:
        lengths = list(swarm.stripe_lengths(len(self.payload)))
        torrents = [len(file) for file in self.files]
        fields = {"name": self.name, "torrents": torrents, "lengths": lengths, "port": free_port(), "seconds": 60}
        return {**fields, "address": HERE, **changed}

    def seed(self, held: bytes | None = None) -> None:
        """Begin as the source, which has other bytes where ``held`` says so."""
        self.folder.mkdir()
        (self.folder / "pack").write_bytes(self.payload if held is None else held)
        whole = {"path": str(self.folder), "pack": str(self.folder / "pack"), "libraries": [str(PACKAGE.parent)]}
        self.port = meet(self.wire, self.fields(**whole, payload=b"".join(self.files)))["port"]

    def serve(self) -> None:
        go(self.wire, {"name": self.name, "go": {"allow": [HERE], "upstreams": [[], []]}})

    @property
    def process(self) -> Any:
        return agent_swarm._peers[self.name].process


@pytest.fixture
def made(host: Host) -> Made:
    return host.release(ONE)


@pytest.fixture
def ring(host: Host, made: Made, tmp_path: Path) -> Iterator[Ring]:
    ring = Ring(tmp_path / "source", pack(host, made, None))
    yield ring
    end(ring.name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port: int = probe.getsockname()[1]
        return port


def lay_library(host: Host) -> None:
    folder = host.own / "lib" / ("a" * 64)
    folder.mkdir(parents=True)
    (folder / "libtorrent").symlink_to(PACKAGE)


def join(agent: Agent, ring: Ring, **changed: object) -> int:
    number = agent.order_with(b"".join(ring.files), "swarm_join", **ring.fields(**changed))
    port: int = agent.answer(number)["port"]
    return port


def begin(agent: Agent, ring: Ring, *ports: int) -> None:
    way = [[HERE, port] for port in ports or (ring.port,)]
    agent.ask("swarm_go", name=ring.name, go={"allow": [HERE], "upstreams": [way, way]})


def fetch(agent: Agent, made: Made, ring: Ring, timeout_s: float = DEADLINE_S, *urls: str) -> dict[str, Any]:
    mirrors = [{"name": "m", "url": url, "rank": 0} for url in urls]
    fields = {
        "commit": made.commit,
        "ref": made.ref,
        "mirrors": mirrors,
        "timeout_s": 20,
        "base": "",
        "base_commit": "",
    }
    return agent.ask("fetch", **fields, swarm={"name": ring.name, "timeout_s": timeout_s})


@contextlib.contextmanager
def target(host: Host, **opening: object) -> Iterator[Agent]:
    if not (host.own / "lib").exists():
        lay_library(host)
    with host.session(**opening) as agent:
        yield agent


def peers(agent: Agent) -> list[int]:
    """Return the processes that an agent started and that live."""
    children = [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]
    return [pid for pid in children if alive(pid)]


def test_what_one_target_gets_from_the_source_another_gets_from_it(
    host: Host, made: Made, ring: Ring, tmp_path: Path
) -> None:
    other = Host(tmp_path / "other")
    ring.seed()
    with target(host) as near, target(other) as far:
        port = join(near, ring)
        join(far, ring)
        ring.serve()
        begin(near, ring)
        begin(far, ring, port)
        for agent in (near, far):
            found = fetch(agent, made, ring)
            assert (found["from"], found["skipped"]) == ("swarm", [])
            assert 0 < found["swarm_s"] < DEADLINE_S
            agent.stage(made, fetch=False)
        assert 1.0 <= leave(ring.wire, {"name": ring.name})["sent"] / len(ring.payload) < 1.05
        processes = [*peers(near), *peers(far)]
        assert len(processes) == 2
        assert near.leave() == far.leave() == 0
    until(lambda: not any(map(alive, processes)))
    assert host.files(made) == other.files(made) == ONE
    assert not host.leftovers()
    assert not other.leftovers()


def test_the_mirrors_are_asked_where_the_source_dies(host: Host, made: Made, ring: Ring) -> None:
    ring.seed()
    with target(host) as agent:
        join(agent, ring)
        ring.serve()
        begin(agent, ring)
        ring.process.kill()
        found = fetch(agent, made, ring, 2.0, f"file://{host.mirror}")
        agent.stage(made, fetch=False)
    assert found["from"] == "m"
    (skipped,) = found["skipped"]
    assert skipped["mirror"] == "swarm"
    assert "bytes came" in skipped["reason"]


def test_another_upstream_is_asked_where_the_first_is_dead(host: Host, made: Made, ring: Ring) -> None:
    ring.seed()
    with target(host) as agent:
        join(agent, ring)
        ring.serve()
        begin(agent, ring, free_port(), ring.port)
        assert fetch(agent, made, ring)["from"] == "swarm"


def test_damaged_bytes_are_refused_by_their_hashes(host: Host, made: Made, ring: Ring) -> None:
    ring.seed(held=bytes(len(ring.payload)))
    with target(host) as agent:
        join(agent, ring)
        ring.serve()
        begin(agent, ring)
        assert fetch(agent, made, ring, 4.0, f"file://{host.mirror}")["from"] == "m"


def test_a_payload_that_is_not_what_the_session_named_is_refused(host: Host, made: Made, ring: Ring) -> None:
    ring.name = "f" * 64
    ring.seed()
    with target(host) as agent:
        join(agent, ring)
        ring.serve()
        begin(agent, ring)
        with pytest.raises(Refused, match="its hash differs"):
            fetch(agent, made, ring)


def test_a_host_without_the_library_says_so(host: Host, ring: Ring) -> None:
    with host.session() as agent, pytest.raises(Refused, match="libtorrent is not here: run fab setup"):
        join(agent, ring)


def test_a_library_that_does_not_work_here_is_said(host: Host, ring: Ring) -> None:
    broken = host.own / "lib" / ("b" * 64) / "libtorrent"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('GLIBC_9.99 not found')")
    with host.session() as agent:
        with pytest.raises(Refused, match=r"cannot be loaded: GLIBC_9\.99 not found"):
            join(agent, ring)
        assert not peers(agent)


def test_a_port_that_is_taken_is_said(host: Host, ring: Ring) -> None:
    with socket.socket() as other, target(host) as agent:
        other.bind((HERE, 0))
        other.listen()
        with pytest.raises(Refused, match=r"port \d+ cannot be listened at: it is taken"):
            join(agent, ring, port=other.getsockname()[1])


def shakes_hands(ring: Ring, port: int, address: str) -> bool:
    """Tell whether a peer answers a handshake that comes from an address."""
    info = ring.files[0][7:-1]
    words = HANDSHAKE + sha1(info, usedforsecurity=False).digest() + b"-XX0000-" + bytes(12)
    try:
        with socket.create_connection((HERE, port), 5, (address, 0)) as peer:
            peer.sendall(words)
            return peer.recv(68)[:20] == HANDSHAKE[:20]
    except OSError:
        return False


def test_a_stranger_is_not_let_in(host: Host, made: Made, ring: Ring) -> None:
    ring.seed()
    with target(host) as agent:
        port = join(agent, ring)
        assert not shakes_hands(ring, port, HERE), "nobody is before the go"
        ring.serve()
        begin(agent, ring)
        fetch(agent, made, ring)
        assert shakes_hands(ring, port, HERE)
        assert not shakes_hands(ring, port, STRANGER)
        assert not shakes_hands(ring, ring.port, STRANGER)


@pytest.mark.parametrize("how", ["killed", "left", "silent"])
def test_nothing_is_left_of_a_session_however_it_ends(host: Host, ring: Ring, how: str) -> None:
    with target(host, **({"lease_s": 1} if how == "silent" else {})) as agent:
        join(agent, ring)
        (process,) = peers(agent)
        (folder,) = (host.own / "tmp").glob("swarm*")
        if how == "killed":
            os.kill(agent.pid, 9)
        elif how == "left":
            agent.leave()
        until(lambda: not alive(process))
        until(lambda: not folder.exists())


def test_the_source_ends_with_the_deployer(ring: Ring) -> None:
    ring.seed()
    process = ring.process
    process.stdin.close()  # as the kernel does for one that was killed
    process.wait(DEADLINE_S)
    assert not (ring.folder / agent_swarm.FOLDER).exists()


def test_a_restricted_key_joins_no_swarm() -> None:
    for verb, request in (("swarm_join", {}), ("swarm_go", {}), ("fetch", {"swarm": {}})):
        with pytest.raises(Problem, match="restricted key"):
            permit({"mirrors": [], "environment": "prod"}, verb, dict(request), {"fetch"})


def mirror_for(host: Host, folder: Path, *refs: str) -> Path:
    """Make a mirror of ours with some refs of the host's, and the library."""
    path = folder / "www.git"
    with host.session() as agent:
        agent.ask("mirror", path=str(path), app="www")
    if refs:
        git("push", "-q", str(path), *(f"{ref}:{ref}" for ref in refs), cwd=host.mirror)
    (path / "lib" / ("a" * 64)).mkdir(parents=True)
    (path / "lib" / ("a" * 64) / "libtorrent").symlink_to(PACKAGE)
    return path


def taken(host: Host, ring: Ring, path: Path, refs: dict[str, str], **opening: object) -> dict[str, Any]:
    """Have a mirror take what a swarm carries."""
    with host.session(**opening) as agent:
        fields = ring.fields(path=str(path), app="www")
        agent.answer(agent.order_with(b"".join(ring.files), "swarm_meet", **fields))
        ring.serve()
        begin(agent, ring)
        about = {"name": ring.name, "timeout_s": DEADLINE_S}
        answer = agent.ask("swarm_take", path=str(path), app="www", refs=refs, swarm=about)
        agent.ask("swarm_leave", name=ring.name)
        return answer


def test_a_mirror_takes_what_it_forwards(host: Host, tmp_path: Path) -> None:
    one, two = host.release(ONE), host.release({**ONE, b"big": noise(2, 200_000)})
    path = mirror_for(host, tmp_path, one.ref)
    ring = Ring(tmp_path / "source", pack(host, two, one))
    ring.seed()
    try:
        assert taken(host, ring, path, {two.ref: two.commit}) == {"changed": [two.ref]}
        assert taken(host, ring, path, {two.ref: two.commit}) == {"changed": []}, "it may be repeated"
        with pytest.raises(Refused, match="stands at something else"):
            taken(host, ring, path, {one.ref: two.commit})
    finally:
        end(ring.name)
    git("fsck", "--strict", cwd=path)
    assert git("rev-parse", two.ref, cwd=path) == two.commit
    assert not (path / agent_swarm.FOLDER).exists()


def test_a_mirror_that_dies_before_it_has_the_refs_takes_it_again(host: Host, tmp_path: Path) -> None:
    one = host.release(ONE)
    path = mirror_for(host, tmp_path)
    ring = Ring(tmp_path / "source", pack(host, one, None))
    ring.seed()
    try:
        with pytest.raises(EOFError):
            taken(host, ring, path, {one.ref: one.commit}, failpoint="agent.swarm.taken:1:kill")
        assert git("for-each-ref", cwd=path) == ""
        until(lambda: not (path / agent_swarm.FOLDER).exists())
        assert taken(host, ring, path, {one.ref: one.commit}) == {"changed": [one.ref]}
    finally:
        end(ring.name)


def test_a_target_that_dies_when_all_has_come_gets_it_again(host: Host, made: Made, ring: Ring) -> None:
    ring.seed()
    with target(host, failpoint="agent.swarm.gathered:1:kill") as agent:
        join(agent, ring)
        ring.serve()
        begin(agent, ring)
        (process,) = peers(agent)
        with pytest.raises(EOFError):
            fetch(agent, made, ring)
        until(lambda: not alive(process))
    with target(host) as agent:
        join(agent, ring)
        begin(agent, ring)
        assert fetch(agent, made, ring)["from"] == "swarm"
        agent.stage(made, fetch=False)
        agent.leave()
    assert host.files(made) == ONE
    assert not host.leftovers()


def test_a_mirror_without_the_base_takes_nothing(host: Host, tmp_path: Path) -> None:
    one, two = host.release(ONE), host.release({**ONE, b"more": noise(2, 100_000)})
    path = mirror_for(host, tmp_path)
    ring = Ring(tmp_path / "source", pack(host, two, one))
    ring.seed()
    try:
        with pytest.raises(Refused, match="git"):
            taken(host, ring, path, {two.ref: two.commit})
    finally:
        end(ring.name)
    assert git("for-each-ref", cwd=path) == ""
    shutil.rmtree(path)
