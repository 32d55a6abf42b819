"""Hosts that are off, full, reinstalled or cut off; deployers that collide, sleep or are interrupted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from invariants import assert_no_leftovers, assert_no_orphans
from lab_operator import Operator, Run, await_stopped, is_stopped, small_fleet
from real_site import build_site

from tasks.remote.lab import Lab, wait_until

OFF, FULL, REINSTALLED = "web-02", "web-05", "web-08"
AGENT_PAUSES = {"SKEIN_FAILPOINT": "agent.stage.verified@web-03:1:pause"}
DEPLOYER_PAUSES = {"SKEIN_FAILPOINT": "deploy.barrier:1:pause"}


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Twelve targets, one of them with a disk that can be filled."""
    with Lab(tmp_path_factory.mktemp("lab"), small_disk={FULL: "300M"}) as machines:
        yield machines


def test_three_broken_hosts_of_twelve_are_named_and_the_others_go_live(lab: Lab) -> None:
    site = build_site(lab.path("server-1", "/srv/www"))
    old, new = (site.files_at(commit) for commit in site.commits[:2])
    operator = Operator(lab, targets={"fail_limit": 3}, ssh={"connect_timeout": 5})
    operator.fab("setup")
    operator.deploy("--ref", site.commits[0])
    before = operator.live()
    lab.power_off(OFF)
    lab.change_host_key(REINSTALLED)
    ballast = lab.fill(FULL, "/srv/ballast")

    began = time.monotonic()
    refused = operator.deploy("--ref", site.commits[1], "--fail-limit", "2", code=5)
    assert time.monotonic() - began < 60
    assert sorted(refused.reasons) == [OFF, FULL, REINSTALLED]
    assert operator.live() == before
    assert operator.assert_serves({"old": old}, operator.hosts[8:]).keys() == set(operator.hosts[8:])

    began = time.monotonic()
    partial = operator.deploy("--ref", site.commits[1], code=12)
    assert time.monotonic() - began < 60
    reasons = partial.reasons
    assert sorted(reasons) == [OFF, FULL, REINSTALLED]
    assert "no space" in reasons[FULL].lower()
    assert "host key changed" in reasons[REINSTALLED]
    assert {name: state for name, state in partial.states.items() if name in reasons} == {
        OFF: "unreachable",
        FULL: "failed",
        REINSTALLED: "unreachable",
    }
    good = [host for host in operator.hosts if host not in reasons]
    operator.assert_serves(new, good)
    operator.assert_serves(old, [FULL])
    assert sorted(operator.status(code=6).reasons) == [OFF, FULL, REINSTALLED]
    table = operator.fab("deploy", "--ref", site.commits[1], code=12)
    assert all(host in table.out for host in (OFF, FULL, REINSTALLED))
    assert "live on 9 of 12" in table.said

    lab.power_on(OFF)
    lab.restore_host_key(REINSTALLED)
    ballast.unlink()
    repaired = operator.deploy("--ref", site.commits[1])
    assert repaired.release == partial.release
    assert {host for host, state in repaired.states.items() if state == "live"} == {OFF, FULL, REINSTALLED}
    assert {repaired.states[host] for host in good} == {"already live"}
    operator.assert_serves(new)


def test_a_full_disk_does_not_keep_a_host_from_rolling_back(lab: Lab) -> None:
    operator, site = small_fleet(lab, groups={"all": {"hosts": [FULL, "web-06"]}})
    operator.deploy()
    site.change({"index.html": b"second\n"})
    operator.deploy()
    ballast = lab.fill(FULL, "/srv/ballast")
    try:
        assert set(operator.rollback().states.values()) == {"live"}
        operator.assert_serves(site.files_at(site.commits[0]))
    finally:
        ballast.unlink()


def test_two_deploys_at_once_leave_every_host_whole(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    first = operator.deploy().release
    for name in ("a", "b"):
        site.change({"index.html": f"{name}\n".encode()})
        site.git("branch", name)
    both = [operator.start("deploy", "--json", "--ref", name) for name in ("a", "b")]
    runs = [operator.finish(process) for process in both]
    assert all(run.code in (0, 4, 5, 10) for run in runs), [run.said for run in runs]
    live = set(operator.live().values())
    assert len(live) == 1, "the fleet is not mixed"
    assert live <= {run.release for run in runs if run.code == 0} or live == {first}
    for loser in (run for run in runs if run.code):
        assert_no_false_claim(loser, operator)
    operator.assert_serves({commit: site.files_at(commit) for commit in site.commits})
    operator.deploy("--ref", "a")
    operator.assert_serves(site.files_at(site.commits[1]))


def assert_no_false_claim(run: Run, operator: Operator) -> None:
    """Assert that a report names as live on a host what is live there, or says that it does not know."""
    live = operator.live()
    claimed = {each["host"]: each["release"] for each in run.json.get("targets", ())}
    assert all(release in (None, live[host]) for host, release in claimed.items()), f"{claimed}, but live is {live}"


def test_a_deployer_that_slept_changes_nothing_after_another_has_deployed(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    operator.deploy()
    site.change({"index.html": b"late\n"})
    site.git("branch", "late")
    sleeper = operator.start("deploy", "--json", "--ref", "late", env=DEPLOYER_PAUSES)
    wait_until(lambda: is_stopped(sleeper.pid), "the deployer sleeps before its flip", 60)
    site.change({"index.html": b"quick\n"})
    quick = operator.deploy("--wait", "30")
    os.kill(sleeper.pid, signal.SIGCONT)
    late = operator.finish(sleeper)
    assert late.code in (4, 5, 10), late.said
    assert_no_false_claim(late, operator)
    assert set(operator.live().values()) == {quick.release}
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_a_host_that_is_cut_off_while_it_stages_is_named_and_its_agent_goes(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"fail_limit": 1})
    operator.deploy()
    site.change({"index.html": b"second\n"})
    deployer = operator.start("deploy", "--json", env=AGENT_PAUSES)
    agent = await_stopped(lab, "web-03")
    lab.cut("web-03")
    try:
        os.kill(agent, signal.SIGCONT)
        assert_no_orphans(lab, ["web-03"], seconds=25)
        run = operator.finish(deployer, timeout=60)
        assert run.code == 12, run.said
        assert run.states == {"web-01": "live", "web-02": "live", "web-03": "unreachable"}
        assert_no_leftovers(operator.path("web-03"))
    finally:
        lab.mend("web-03")
    contents = {"old": site.files_at(site.commits[0]), "new": site.files_at(site.commits[1])}
    assert list(operator.assert_serves(contents).values()) == ["new", "new", "old"]
    assert operator.deploy().states["web-03"] == "live"
