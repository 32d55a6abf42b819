"""An operator killed at many moments, now and then with an agent: every host always serves one whole release."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invariants import read_tree
from lab_operator import Operator, Run, small_site
from looking import digest, ledger_wrongs, seconds_until_free, timed
from real_site import Site
from tally import Tally

from tasks.dev import failpoint_names
from tasks.remote.lab import Lab

PAGES = 40
LEASE_S = 15
POINTS = [name for name in failpoint_names() if name.startswith("deploy.") and name != "deploy.tagged"]


class Story:
    """A fleet, its site, and the digests that may be served: ``allowed`` is the file that the watcher reads."""

    def __init__(self, lab: Lab, allowed: Path) -> None:
        self.site = small_site(lab, "/srv/kills", _pages(1))
        self.operator = Operator(lab, "kills", "/srv/kills", groups={"web": {"hosts": lab.targets}})
        self.allowed, self.version = allowed, 1
        self.allow()
        self.operator.fab("setup")
        self.operator.deploy()

    def allow(self) -> None:
        """Let the watcher know the files of the newest commit."""
        with self.allowed.open("a") as file:
            file.write(_digest(self.site) + "\n")

    def commit(self) -> None:
        """Write every page anew and commit that."""
        self.version += 1
        self.site.change(_pages(self.version), f"version {self.version}")
        self.allow()

    def kill(self, argv: list[str], after_s: float, victim: str | None) -> Run:
        """Start a command and kill it after a while; with ``victim``, that host's agent a moment before."""
        process = self.operator.start(*argv)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        if victim:
            for pid, words in self.operator.lab.processes(victim):
                if "python" in os.path.basename(words[0]):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        process.kill()
        return self.operator.finish(process)


def kills(lab: Lab, tally: Tally, times: int = 20) -> None:
    """Kill deploys and rollbacks, half of them at a failpoint and half at any time; run each again and look."""
    with tempfile.TemporaryDirectory() as folder:
        story = Story(lab, Path(folder, "allowed"))
        with watched(story, tally):
            story.commit()
            whole_s = timed(story.operator.deploy)
            tally.note("an undisturbed deploy, s", f"{whole_s:.1f}")
            _kill_all(story, tally, times, whole_s)


def _kill_all(story: Story, tally: Tally, times: int, whole_s: float) -> None:
    chance, points, slowest_s = random.Random(11), itertools.cycle(POINTS), 0.0  # noqa: S311  the same every time
    moments = []
    for number in range(1, times + 1):
        story.commit()
        argv = _command(story, number)
        if number % 2:
            run, moment = _at_failpoint(story, argv, next(points))
            tally.check("the run was killed there", run.code == -signal.SIGKILL, f"{moment}: {run.said}")
        else:
            after_s = chance.uniform(0.3, whole_s)
            victim = chance.choice(story.operator.hosts) if number % 4 == 0 else None
            run = story.kill(argv, after_s, victim)
            moment = f"{after_s:.1f} s" + (f" with {victim}" if victim else "")
        moments.append(f"{argv[0]} {moment}")
        free_s = seconds_until_free(story.operator, LEASE_S + 2)
        tally.check("the lock is free within its lease", free_s is not None, moment)
        slowest_s = max(slowest_s, free_s or 0.0)
        _run_again(story, tally, argv, moments[-1])
    tally.note("killed", "\n".join(moments))
    tally.note("longest wait for the lock, s", f"{slowest_s:.2f}")


def _command(story: Story, number: int) -> list[str]:
    """Return a deploy, or at every fifth time a rollback to what is live before the newest release."""
    if number % 5:
        return ["deploy", "--json"]
    stack = sorted(path.name for path in story.operator.path(story.operator.hosts[0], "releases").iterdir())
    return ["rollback", "--json", "--to", stack[-2]]


def _at_failpoint(story: Story, argv: list[str], point: str) -> tuple[Run, str]:
    point = point if argv[0] == "deploy" else "deploy.barrier"  # those before it are none of a rollback's
    process = story.operator.start(*argv, env={"SKEIN_FAILPOINT": f"{point}:1:kill"})
    return story.operator.finish(process), point


def _run_again(story: Story, tally: Tally, argv: list[str], moment: str) -> None:
    operator = story.operator
    run = operator.fab(*argv, "--wait", "20", code=None)
    tally.check("run again: exit 0", run.code == 0, f"{moment}: {run.said}")
    live = set(operator.live().values())
    wanted = run.json.get("release")
    tally.check("run again: one release everywhere", live == {wanted}, f"{moment}: {live}, not {wanted}")
    if argv[0] == "deploy":
        tally.check("run again: it is the newest", *_newest(story, moment))
    wrongs = ledger_wrongs(operator)
    tally.check("run again: the ledger is whole, on both mirrors", not wrongs, f"{moment}: {wrongs}")
    try:
        operator.assert_serves({commit: story.site.files_at(commit) for commit in story.site.commits})
        tally.check("run again: whole releases, nothing left over, no process left", True)
    except AssertionError as error:
        tally.check("run again: whole releases, nothing left over, no process left", False, f"{moment}: {error}")


def _newest(story: Story, moment: str) -> tuple[bool, str]:
    operator = story.operator
    shown = {digest(read_tree(operator.path(host, "current").resolve())) for host in operator.hosts}
    return shown == {_digest(story.site)}, moment


@contextmanager
def watched(story: Story, tally: Tally) -> Iterator[None]:
    """Have a process of its own read what every host serves, all the time."""
    folders = [str(story.operator.path(host)) for host in story.operator.hosts]
    argv = [sys.executable, str(Path(__file__).with_name("watch.py")), str(story.allowed), *folders]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout
        assert watcher.stdout.readline() == "ready\n"
        began = time.monotonic()
        try:
            yield
        finally:
            out, _ = watcher.communicate(timeout=60)
    found = json.loads(out)
    tally.add("a host was read while all that went on", found["reads"], found["wrong"])
    tally.note("watched, s", f"{time.monotonic() - began:.0f}")
    tally.note("releases seen live, all hosts together", found["served"])


def _pages(version: int) -> dict[str, bytes | None]:
    return {f"pages/{n:02d}.html": f"page {n} of version {version}\n".encode() * 50 for n in range(PAGES)}


def _digest(site: Site) -> str:
    return digest(site.files_at(site.commits[-1]))
