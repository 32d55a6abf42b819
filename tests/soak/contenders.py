"""Many operators on two machines who all deploy at once: one does; each other one is told who, since when and why."""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Sequence

from lab_operator import Operator, Run, open_server, small_site, somebody
from looking import records
from tally import Tally

from tasks.remote.lab import Lab

GO = "/srv/go"
HOLDING = ["sh", "-c", f"until test -e {GO}; do sleep 0.1; done"]
MOST_S = 120.0
CONTENDERS = 10


def contenders(lab: Lab, tally: Tally, times: int = 20, count: int = CONTENDERS) -> None:
    """Let them all begin at once, so many times; the winner's run does not end before all the others have."""
    site = small_site(lab, "/srv/contenders")
    open_server(lab)
    tables = {"targets": {"after_flip": HOLDING, "after_flip_timeout": 300}, "groups": {"web": {"hosts": lab.targets}}}
    sides = [Operator(lab, "contenders", "/srv/contenders", machine, **tables) for machine in lab.operators]
    people = list(itertools.islice(zip((f"op-{n}" for n in itertools.count()), itertools.cycle(sides)), count))
    gates = [lab.path(host, GO) for host in lab.targets]
    for gate in gates:
        gate.touch()
    sides[0].fab("setup")
    sides[0].deploy()
    won: list[str] = []
    for number in range(1, times + 1):
        site.change({"index.html": f"round {number}\n".encode()})
        for gate in gates:
            gate.unlink()
        before, why = len(records(sides[0])), f"round {number}"
        started = {
            name: side.start("deploy", "--json", "--reason", f"{why} by {name}", env=somebody(name))
            for name, side in people[number % count :] + people[: number % count]
        }
        slowest_s = _await_all_but_one(list(started.values()))
        for gate in gates:
            gate.touch()
        runs = {name: side.finish(started[name], MOST_S) for name, side in people}
        tally.check("all others ended while the winner was at work", slowest_s is not None, f"round {number}")
        won += _judge(tally, runs, dict(people), why)
        kinds = [record["kind"] for record in records(sides[0])][: len(records(sides[0])) - before]
        tally.check("one decision and its outcome in the ledger", kinds == ["outcome", "deploy"], f"{why}: {kinds}")
    tally.note("winners by machine", ", ".join(f"{side.machine} {_on(won, people, side)}" for side in sides))


def _on(won: Sequence[str], people: Sequence[tuple[str, Operator]], side: Operator) -> int:
    return sum(dict(people)[name] is side for name in won)


def _await_all_but_one(processes: Sequence[subprocess.Popen[str]]) -> float | None:
    """Return the seconds until at most one is left, None where that does not come about."""
    began = time.monotonic()
    while sum(process.poll() is None for process in processes) > 1:
        if time.monotonic() - began > MOST_S:
            return None
        time.sleep(0.05)
    return time.monotonic() - began


def _judge(tally: Tally, runs: dict[str, Run], sides: dict[str, Operator], why: str) -> list[str]:
    winners = [name for name, run in runs.items() if run.code == 0]
    told = {name: (run.code, run.said[-300:]) for name, run in runs.items()}
    if not tally.check("exactly one winner", len(winners) == 1, f"{why}: {told}"):
        return []
    winner = winners[0]
    who = re.escape(f"{winner}@{sides[winner].machine} is at work since 20")
    expected = re.compile(rf"{who}[0-9T:Z-]+ \({re.escape(why)} by {winner}\).*fab unlock --env contenders --reason")
    for name, run in runs.items():
        if name != winner:
            tally.check("exit 4", run.code == 4, f"{why}, {name}: {told[name]}")
            tally.check(
                "told who, since when, why and how to break it", expected.search(run.said) is not None, told[name]
            )
    return winners
