"""Ctrl-C, as a terminal sends it, at each stretch of a deploy: what it says is so, and the next run converges."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from invariants import assert_no_orphans, check_host
from lab_operator import Operator, Run, await_stopped, is_stopped, small_fleet
from real_site import Site

from tasks.remote.lab import Lab, wait_until

BACKED_OUT = "interrupted: backed out, nothing visible was changed; then run the same command again"
TAKEN_BACK = "nothing changed: interrupted before the flip, and the decision taken back"
CARRIED = "interrupted after the flip had begun: it was carried through to the end"


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> tuple[Operator, Site]:
    operator, site = small_fleet(lab)
    operator.deploy()
    return operator, site


def started(fleet: tuple[Operator, Site], failpoint: str) -> subprocess.Popen[str]:
    """Commit something new and start a deploy of it that stands still at a failpoint."""
    operator, site = fleet
    site.change({"index.html": f"{failpoint} {time.monotonic()}\n".encode()})
    return operator.start("deploy", env={"SKEIN_FAILPOINT": f"{failpoint}:1:pause"})


def ended_after_ctrl_c(operator: Operator, deployer: subprocess.Popen[str]) -> Run:
    """Type Ctrl-C at a deployer, which wakes up for it, and wait for its end."""
    os.killpg(deployer.pid, signal.SIGINT)
    os.kill(deployer.pid, signal.SIGCONT)
    return operator.finish(deployer, timeout=40)


def converges(fleet: tuple[Operator, Site]) -> None:
    """Run again: all serve the newest commit, nothing is left over, and no decision is open."""
    operator, site = fleet
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[-1]))
    assert operator.fab("status", program="invoke").code == 0


@pytest.mark.parametrize("failpoint", ["deploy.resolved", "deploy.tagged", "deploy.released", "deploy.staged"])
def test_before_the_decision_it_backs_out(fleet: tuple[Operator, Site], failpoint: str) -> None:
    operator = fleet[0]
    before = operator.live()
    deployer = started(fleet, failpoint)
    wait_until(lambda: is_stopped(deployer.pid), "the deployer is paused", 60)
    run = ended_after_ctrl_c(operator, deployer)
    assert (run.code, run.err.splitlines()[-1]) == (130, f"skein: {BACKED_OUT}")
    assert_no_orphans(operator.lab, operator.hosts)
    assert operator.live() == before
    converges(fleet)


def test_while_it_stages_it_backs_out_at_once_though_a_host_does_not_answer(fleet: tuple[Operator, Site]) -> None:
    operator = fleet[0]
    before = operator.live()
    deployer = started(fleet, "agent.stage.verified@web-03")
    agent = await_stopped(operator.lab, "web-03")
    run = ended_after_ctrl_c(operator, deployer)
    os.kill(agent, signal.SIGCONT)
    assert (run.code, run.err.splitlines()[-1]) == (130, f"skein: {BACKED_OUT}")
    assert_no_orphans(operator.lab, operator.hosts)
    assert operator.live() == before
    converges(fleet)


def test_between_decision_and_flip_it_takes_the_decision_back(fleet: tuple[Operator, Site]) -> None:
    operator = fleet[0]
    before = operator.live()
    deployer = started(fleet, "deploy.barrier")
    wait_until(lambda: is_stopped(deployer.pid), "the deployer is paused", 60)
    run = ended_after_ctrl_c(operator, deployer)
    assert run.code == 130
    assert TAKEN_BACK in run.said
    assert run.out.splitlines()[-1] == "next: run the same command again: it goes on where this one ended"
    assert operator.live() == before
    assert operator.fab("status", program="invoke").code == 0  # what was decided is wanted no more
    converges(fleet)


@pytest.mark.parametrize("failpoint", ["deploy.flipped", "deploy.confirm"])
def test_from_the_flip_on_it_is_carried_through(fleet: tuple[Operator, Site], failpoint: str) -> None:
    operator, site = fleet
    deployer = started(fleet, failpoint)
    wait_until(lambda: is_stopped(deployer.pid), "the deployer is paused", 60)
    run = ended_after_ctrl_c(operator, deployer)
    assert run.code == 130
    assert CARRIED in run.said
    assert "once more stops at once" in run.err
    assert re.search(r"^\S+: live on all 3 targets$", run.out, re.MULTILINE)
    assert all(release and release in run.out for release in operator.live().values())
    operator.assert_serves(site.files_at(site.commits[-1]))
    again = operator.deploy()
    assert set(again.states.values()) == {"already live"}


def test_twice_in_the_middle_of_the_flip_stops_now_and_says_who_may_serve_what(fleet: tuple[Operator, Site]) -> None:
    operator = fleet[0]
    before = operator.live()["web-03"]
    deployer = started(fleet, "agent.flip.before@web-03")
    agent = await_stopped(operator.lab, "web-03")
    wait_until(lambda: operator.live()["web-01"] != before, "the others flipped", 30)
    os.killpg(deployer.pid, signal.SIGINT)
    assert deployer.stderr
    assert any("once more stops at once" in line for line in deployer.stderr)  # it heard the first one
    run = ended_after_ctrl_c(operator, deployer)
    assert run.code == 130
    last = run.err.splitlines()[-1]
    assert last.startswith("skein: interrupted: stopped at once, in the middle of the flip: some targets may serve ")
    assert f"invoke status --env {operator.environment} --live asks them" in last
    os.kill(agent, signal.SIGCONT)
    assert_no_orphans(operator.lab, operator.hosts, seconds=25)
    contents = {"old": fleet[1].files_at(fleet[1].commits[-2]), "new": fleet[1].files_at(fleet[1].commits[-1])}
    found = [check_host(operator.path(host), operator.path(host, "current"), contents) for host in operator.hosts]
    assert found[:2] == ["new", "new"]  # and web-03 one of them whole: it was said that it may serve either
    converges(fleet)
