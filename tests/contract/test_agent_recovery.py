"""The agent killed, failed or cut off at every named place: one whole release is live, and the next run converges."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from agent_host import Agent, Content, Host, Made, Refused, elapse, until
from agent_session import staging

AGENT = Path(__file__).resolve().parents[2] / "tasks" / "agent"
FOUND = {
    name
    for path in AGENT.glob("*.py")
    for name in re.findall(r'failpoint\("(agent\.[a-z_.]+)"\)', path.read_text("utf-8"))
}
STORY = ("locked", "install", "fetch", "stage", "armed", "flip", "revert", "confirm", "prune")
"""The chapters of a deploy; whatever else the agent does has its own tests."""

POINTS = sorted(name for name in FOUND if name.split(".")[1] in STORY)
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""The second, where a shell stands between."""

FREEZING = (
    "agent.locked",
    "agent.fetch.before",
    "agent.stage.spare",
    "agent.stage.checkout",
    "agent.stage.manifest",
    "agent.armed",
    "agent.flip.before",
    "agent.flip.after",
    "agent.prune.renamed",
    "agent.prune.spared",
)
ZERO: dict[bytes, Content] = {b"index.html": b"zero"}
ONE: dict[bytes, Content] = {b"index.html": b"one", b"a/b": b"b"}
TWO: dict[bytes, Content] = {b"index.html": b"two", b"c/d": b"d"}


def run(agent: Agent, made: Made, turn: int, *, revert: bool = False, reuse_after: int | None = 0) -> str:
    """Ask for a whole deploy, or for one that is undone, then leave; return how it ended."""
    try:
        agent.stage(made, reuse_after=reuse_after)
        agent.ask("arm", id=made.id)
        agent.flip(made, turn)
        if revert:
            agent.ask("revert", decision=f"d{turn}")
        else:
            agent.ask("confirm", decision=f"d{turn}")
            agent.ask("prune", keep=1, spare=True)
    except EOFError:
        return "killed" if agent.wait() in KILLED else "gone"
    except Refused as refused:
        agent.leave()
        return refused.code
    agent.leave()
    return "done"


def ready(host: Host) -> tuple[Made, Made]:
    """Have releases lived through and the next ready: it is made of the spare, deletes one and makes one the spare."""
    for turn, keep in ((1, None), (2, None), (3, 1)):
        host.deploy(host.release({**ZERO, b"turn": b"%d" % turn}), turn, keep=keep)
    one = host.release(ONE)
    host.deploy(one, 4, reuse_after=None)
    assert len(list((host.own / "spare").iterdir())) == 2
    (installed,) = (host.own / "agent").iterdir()
    installed.rename(installed.with_name("0" * 64))  # so that the run passes the installation too
    return one, host.release(TWO)


def check(host: Host, one: Made, two: Made) -> None:
    """Assert that exactly one whole release is live."""
    live = {made.id: made for made in (one, two)}[host.current() or "nothing"]
    assert host.files(live) == live.files


def test_every_chapter_of_a_deploy_has_its_failpoints() -> None:
    assert {name.split(".")[1] for name in POINTS} == set(STORY)
    assert set(FREEZING) <= set(POINTS)


@pytest.mark.parametrize("action", ["kill", "error"])
@pytest.mark.parametrize("point", POINTS)
def test_stopped_anywhere_one_whole_release_is_live_and_the_next_run_converges(
    host: Host, point: str, action: str
) -> None:
    one, two = ready(host)
    with host.session(failpoint=f"{point}:1:{action}") as agent:
        reuse_after = None if point == "agent.stage.index" else 0  # git is not needed for the few files of a spare
        outcome = run(agent, two, 5, revert="revert" in point, reuse_after=reuse_after)
    goes_on = point == "agent.install.before"  # an agent that cannot be installed works on all the same
    failed = "not-pruned" if ".prune." in point else "os-error"
    assert outcome == ("killed" if action == "kill" else "done" if goes_on else failed)
    check(host, one, two)
    with host.session() as agent:
        found = agent.ask("settle")
        assert found["stack"][-1] == host.current() == found["current"]
        assert run(agent, two, 6) == "done"
    assert host.current() == two.id
    assert host.files(two) == TWO
    assert sorted(os.listdir(host.app / "releases")) == [one.id, two.id]
    assert sorted(os.listdir(host.own / "releases")) == [f"{each.id}.json" for each in (one, two)]
    assert [record["id"] for record in host.state()["history"]][-1] == two.id
    assert not host.leftovers()


@pytest.mark.parametrize("point", FREEZING)
def test_cut_off_while_frozen_anywhere_it_stops_and_the_next_run_converges(host: Host, point: str) -> None:
    one, two = ready(host)
    with host.session(failpoint=f"{point}:1:pause", lease_s=0.4) as agent:
        _until_frozen(agent, two)
        elapse(0.6)
        agent.wake()
        agent.wait()
    check(host, one, two)
    flipped = point in FREEZING[FREEZING.index("agent.flip.after") :]
    assert host.current() == (two.id if flipped else one.id)
    host.deploy(two, 9, keep=1)
    assert host.files(two) == TWO
    assert not host.leftovers()


def _until_frozen(agent: Agent, made: Made) -> None:
    """Send everything at once, keep the lease, and return when the agent stands still."""
    mirrors = [{"name": "hub", "url": f"file://{agent.host.mirror}", "rank": 0}]
    agent.order("fetch", commit=made.commit, ref=made.ref, mirrors=mirrors, timeout_s=20)
    agent.order("stage", **staging(made))
    agent.order("arm", id=made.id)
    agent.go(made, 5)
    agent.order("confirm", decision="d5")
    agent.order("prune", keep=1, spare=True)

    def frozen() -> bool:
        agent.send(b'{"beat":1}\n')
        return agent.is_frozen()

    until(frozen)
