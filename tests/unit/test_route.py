"""What a target remembers of its mirrors, when a mirror is too slow, and how targets spread over one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from config_text import SMALL, read

from tasks.agent import fetch, probe
from tasks.agent.fetch import is_refused
from tasks.agent.place import Place
from tasks.agent.problem import Problem
from tasks.agent.route import AVOIDED_S, NEVER, REMEMBERED_S, SLOW_RATE, SLOW_S, Pace, Route, bytes_read, median_time
from tasks.agent.wire import Wire
from tasks.core.hosts import Host
from tasks.transports.git import SPREAD_MOST_S, GitTransport

NEAR, FAR, ALONE = "ssh://near/x", "ssh://far/x", "ssh://alone/x"
MIRRORS = [{"name": url, "url": url, "rank": rank} for url, rank in ((FAR, 0), (NEAR, 0), (ALONE, 1))]


class World:
    """A route whose clock and measurements are the test's."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 1000.0
        self.times = {NEAR: 0.1, FAR: 0.5, ALONE: 0.2}
        self.measured: list[str] = []

    def measure(self, url: str) -> float:
        self.measured.append(url)
        return self.times[url]

    def route(self) -> Route:
        return Route(str(self.path), self.measure, lambda: self.now)

    def order(self) -> list[str]:
        route = self.route()
        names = [mirror["name"] for mirror in route.order(MIRRORS)]
        route.save()
        return names


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "route.json")


def test_a_route_is_measured_once_and_remembered_for_a_day(world: World) -> None:
    assert world.order() == [NEAR, FAR, ALONE]
    world.times[FAR] = 0.0
    world.now += REMEMBERED_S - 1
    assert world.order() == [NEAR, FAR, ALONE]
    assert world.measured == [FAR, NEAR]
    world.now += 2
    assert world.order() == [FAR, NEAR, ALONE]


def test_a_mirror_that_disappointed_comes_last_for_a_while_and_is_measured_again(world: World) -> None:
    world.order()
    route = world.route()
    route.disappoint(NEAR)
    route.save()
    assert world.order() == [FAR, ALONE, NEAR]
    world.now += AVOIDED_S + 1
    assert world.order() == [NEAR, FAR, ALONE]
    assert world.measured == [FAR, NEAR, NEAR]


def test_a_mirror_that_does_not_answer_is_not_remembered(world: World) -> None:
    world.times[NEAR] = NEVER
    assert world.order() == [FAR, NEAR, ALONE]
    world.times[NEAR] = 0.1
    assert world.order() == [NEAR, FAR, ALONE]


def test_a_clock_that_was_set_back_makes_the_memory_worthless(world: World) -> None:
    world.order()
    world.now -= 500
    world.order()
    assert world.measured == [FAR, NEAR] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "mirrors": [1]}'])
def test_a_memory_that_cannot_be_read_is_made_anew(world: World, text: str) -> None:
    world.path.write_text(text)
    assert world.order() == [NEAR, FAR, ALONE]
    assert set(json.loads(world.path.read_text())["mirrors"]) == {NEAR, FAR}


def test_a_newer_skein_s_memory_is_left_as_it_is(world: World) -> None:
    world.path.write_text('{"format": 2, "mirrors": {}}')
    assert world.order() == [NEAR, FAR, ALONE]
    assert world.path.read_text() == '{"format": 2, "mirrors": {}}'


def test_a_full_disk_only_costs_the_memory(world: World) -> None:
    world.path = world.path / "no" / "such" / "folder"
    assert world.order() == [NEAR, FAR, ALONE]


def test_the_median_of_three_attempts_counts_and_one_failure_is_enough() -> None:
    times = iter([0.9, 0.1, 0.2])
    assert median_time("x", lambda url: next(times)) == 0.2
    times = iter([0.1, NEVER])
    assert median_time("x", lambda url: next(times)) == NEVER


class Fetch:
    """A fetch that receives ``rate`` bytes a second."""

    def __init__(self, rate: float) -> None:
        self.now, self.rate = 0.0, rate
        self.received = 0.0
        self.pace = Pace(lambda: self.now, lambda pid: int(self.received))

    def run(self, seconds: float, errors: bytes = b"", pid: int = 7) -> None:
        for _ in range(int(seconds * 4)):
            self.pace.look(pid, errors)
            self.now += 0.25
            self.received += self.rate / 4


def test_a_fetch_below_the_floor_is_given_up_after_a_while_and_not_before() -> None:
    fetch = Fetch(8000)
    fetch.run(SLOW_S - 1)
    with pytest.raises(Problem, match="under 16 KB/s for 20 s") as caught:
        fetch.run(3)
    assert caught.value.code == "slow"


def test_a_fetch_that_becomes_slow_is_given_up_too() -> None:
    fetch = Fetch(10 * SLOW_RATE)
    fetch.run(100)
    fetch.rate = 0
    with pytest.raises(Problem, match="under 16 KB/s"):
        fetch.run(30)


def test_a_fetch_above_the_floor_goes_on() -> None:
    Fetch(SLOW_RATE * 1.1).run(300)


@pytest.mark.parametrize(
    "errors", [b"Receiving objects: 100% (9/9), 1.2 MiB | 8.00 KiB/s, done.\n", b"Resolving deltas:   3% (1/30)\r"]
)
def test_work_on_what_was_received_is_not_slowness(errors: bytes) -> None:
    Fetch(0).run(300, errors)


def test_each_attempt_has_its_own_time() -> None:
    fetch = Fetch(0)
    for pid in range(5):
        fetch.run(SLOW_S - 2, pid=pid)


def test_where_the_kernel_does_not_count_nothing_is_slow() -> None:
    pace = Pace(iter(range(1000)).__next__, lambda pid: None)
    for _ in range(100):
        pace.look(1, b"")
    assert bytes_read(1 << 30) is None


@pytest.mark.parametrize(
    "errors",
    [
        "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1 port 22",
        "kex_exchange_identification: read: Connection reset by peer\nfatal: x",
        "ssh_exchange_identification: Connection closed by remote host",
        "Connection reset by 10.0.0.1 port 22\nfatal: Could not read from remote repository.",
    ],
)
def test_a_log_in_that_sshd_turned_away_is_known(errors: str) -> None:
    assert is_refused(errors)


@pytest.mark.parametrize(
    "errors",
    [
        "deploy@m: Permission denied (publickey).\nfatal: x",
        "ssh: connect to host m port 22: Connection refused",
        "ssh: connect to host m port 22: Connection timed out",
        "Host key verification failed.",
        "remote: Counting objects: 3\nConnection reset by 10.0.0.1 port 22",
        "Receiving objects:  10% (1/10)\rReceiving objects:  20% (2/10)\nConnection closed by 10.0.0.1 port 22",
        "fatal: '/srv/git/x.git' does not appear to be a git repository",
    ],
)
def test_nothing_else_is_tried_again(errors: str) -> None:
    assert not is_refused(errors)


def spread(count: int, width: int = 64) -> float:
    mirrors = read(SMALL).mirrors
    hosts = [Host(f"web-{number}") for number in range(count)]
    return GitTransport(mirrors, "deploy", 900.0, hosts, width).spread_s(hosts[0])


def test_few_targets_do_not_wait_and_many_spread_by_what_one_sshd_takes() -> None:
    assert spread(1) == spread(8) == 0.0
    assert 0 < spread(9) < spread(40) < spread(64) == spread(300)  # 64 at once is what the deployer allows
    assert spread(1000, 1000) == SPREAD_MOST_S


@pytest.mark.parametrize(
    ("url", "moments"), [("ssh://deploy@m/srv/x.git", ["wait 2.5", "ask"]), ("file:///srv/x.git", ["ask"])]
)
def test_a_check_spreads_before_each_mirror_that_it_logs_in_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, moments: list[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(fetch, "pause", lambda wire, most_s: done.append(f"wait {most_s}"))
    monkeypatch.setattr(probe, "unreadable", lambda repo, url: done.append("ask") or "")
    mirrors = [{"name": name, "url": url} for name in ("one", "two")]
    probe.check(Wire(), Place(str(tmp_path), None, "prod"), {"linked_files": [], "mirrors": mirrors, "spread_s": 2.5})
    assert done == moments * 2
