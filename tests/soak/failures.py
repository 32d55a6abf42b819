"""A large fleet of which four fail in different ways: the others go live, and a second run mends those four alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from invariants import check_host
from lab_operator import Operator, Run, small_site
from looking import carried, differences, timed, trace, turn_of
from real_site import Site
from tally import Tally

from tasks.remote.lab import Lab, wait_until

DISK, BIG = "16M", 600_000
SLOW = "800kbit"
CONNECT_S, SILENT_S = 5, 15
"""The deadlines that end the wait for a host that is off, and for one that was heard of before: ``ssh.connect_timeout``
and the lease."""

REASONS = {"off": "no answer within", "other key": "host key changed", "full": "no space", "cut": "for 15 s"}


def disks(hosts: int) -> dict[str, str]:
    """Return the small disk that a lab of so many targets must have: the last but one of them is to be filled."""
    return {f"web-{hosts - 1:0{max(2, len(str(hosts)))}d}": DISK}


def failures(lab: Lab, tally: Tally, _times: int = 1) -> None:
    """Deploy with four broken targets: once more than are allowed, once just as many, once after they were mended."""
    site = small_site(lab, "/srv/failures", {f"pages/{n:02d}.html": b"version 1\n" for n in range(20)})
    tables = {"targets": {"fail_limit": 4}, "ssh": {"connect_timeout": CONNECT_S}}
    operator = Operator(lab, "failures", "/srv/failures", groups={"web": {"hosts": lab.targets}}, **tables)
    operator.fab("setup", timeout=300)
    ordinary_s = timed(lambda: operator.fab("deploy", timeout=300))
    tally.note("first deploy, all well, s", f"{ordinary_s:.1f}")
    before, old = operator.live(), site.commits[-1]
    new = site.change({"pages/00.html": b"version 2\n", "big.bin": os.urandom(BIG)})
    victims = dict(zip(REASONS, lab.targets[-4:], strict=True))
    good = [host for host in operator.hosts if host not in victims.values()]

    lab.power_off(victims["off"])
    lab.change_host_key(victims["other key"])
    ballast = lab.fill(victims["full"], "/srv/ballast")
    links = {host: _link(operator, host) for host in operator.hosts}
    refused, seconds = _cut_half_way(operator, victims["cut"], tally, ordinary_s, "--fail-limit", "3")
    tally.check("limit 3: exit 5", refused.code == 5, refused.said)
    tally.note("limit 3: s", f"{seconds:.1f}")
    _told(tally, "limit 3", refused, victims)
    tally.check("limit 3: no link changed", {host: _link(operator, host) for host in links} == links)
    tally.check("limit 3: all live as before", operator.live() == before, operator.live())

    partial, seconds = _cut_half_way(operator, victims["cut"], tally, ordinary_s)
    tally.check("limit 4: exit 12", partial.code == 12, partial.said)
    tally.note("limit 4: s", f"{seconds:.1f}")
    tally.note("limit 4: stages, s", _stages(partial))
    _told(tally, "limit 4", partial, victims)
    _serve(tally, "limit 4: the others serve the new files", operator, site, new, good)
    _serve(tally, "limit 4: the four serve the old files", operator, site, old, list(victims.values()))

    lab.power_on(victims["off"])
    lab.restore_host_key(victims["other key"])
    ballast.unlink()
    lab.rate(victims["cut"], None)
    traces = {host: trace(operator.path(host)) for host in good}
    turns = {host: turn_of(operator, host) for host in operator.hosts}
    began = time.monotonic()
    repaired = operator.fab("deploy", "--json", code=None, timeout=300)
    tally.note("after repair: s", f"{time.monotonic() - began:.1f}")
    tally.check("after repair: exit 0", repaired.code == 0, repaired.said)
    for host in good:
        changed = differences(traces[host], trace(operator.path(host)))
        tally.check(
            "after repair: not one inode, byte or time changed elsewhere", not changed, f"{host}: {changed[:5]}"
        )
    for way, host in victims.items():
        risen = turn_of(operator, host) > turns[host]
        tally.check("after repair: the four went live", repaired.states[host] == "live" and risen, f"{way} {host}")
    _serve(tally, "after repair: all serve the new files", operator, site, new, operator.hosts)


def _cut_half_way(operator: Operator, victim: str, tally: Tally, ordinary_s: float, *argv: str) -> tuple[Run, float]:
    """Deploy, and cut a target's link when half of what it is sent has come; put the link up again at the end.

    Return how the run ended, and the seconds from the cut to that end: those of the lease and, at most, twice what an
    ordinary deploy takes.
    """
    lab = operator.lab
    lab.rate(victim, SLOW)
    start = carried(lab, victim)
    process = operator.start("deploy", "--json", *argv)
    try:
        half = start + BIG // 2
        wait_until(lambda: carried(lab, victim) > half or process.poll() is not None, "half of the bytes", 120)
        lab.cut(victim)
        began = time.monotonic()
        run = operator.finish(process, 300)
        seconds = time.monotonic() - began
    finally:
        lab.mend(victim)
    came = carried(lab, victim) - start
    tally.check("the link was cut in the midst of the bytes", BIG // 2 < came < BIG, f"{came} bytes came")
    most = SILENT_S + 5 + 2 * ordinary_s
    tally.check("after the cut it ended within the lease and two ordinary deploys", seconds < most, f"{seconds:.1f} s")
    tally.note(f"after the cut, limit {argv[-1] if argv else 4}: s of at most", f"{seconds:.1f} of {most:.1f}")
    return run, seconds


def _told(tally: Tally, when: str, run: Run, victims: Mapping[str, str]) -> None:
    tally.check(f"{when}: just the four are named", sorted(run.reasons) == sorted(victims.values()), run.reasons)
    for way, host in victims.items():
        reason = run.reasons.get(host, "")
        tally.check(f"{when}: the reason is told", REASONS[way] in reason.lower(), f"{way}: {reason}")
        tally.note(f"{when}: {way}", reason[:100])


def _serve(tally: Tally, what: str, operator: Operator, site: Site, commit: str, hosts: list[str]) -> None:
    for host in hosts:
        try:
            check_host(operator.path(host), operator.path(host, "current"), {commit: site.files_at(commit)})
            tally.check(what, True)
        except (AssertionError, OSError) as error:
            tally.check(what, False, f"{host}: {error}")


def _link(operator: Operator, host: str) -> tuple[int, int]:
    about = Path(operator.path(host, "current")).lstat()
    return about.st_ino, about.st_mtime_ns


def _stages(run: Run) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.json["timings_s"].items())
