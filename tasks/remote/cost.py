"""What a hotfix costs one target: the very agent, on this machine and without ssh, phase by phase."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

from ..core import requests
from ..core.config_models import TargetsConfig
from ..core.errors import LabError
from ..core.release import Release
from ..core.requests import Decision, Delta, Request
from . import bundle
from .source import Source

FILE_BYTES = 4096
WARM = 3  # hotfixes until each is made of the release before last
ENVIRONMENT = "cost"
RULES = {"keep": 2, "reuse_after": 0, "groups": {"all": {"hosts": ("localhost",)}}}

Took = dict[str, tuple[float, float, float]]
"""Milliseconds of each phase: processor time of the agent, of what it started, and by the clock."""


@dataclass(frozen=True)
class Row:
    """The middle of all runs, in milliseconds."""

    phase: str
    own: float
    children: float
    clock: float


def measure(files: int, runs: int) -> list[Row]:
    """Deploy so many hotfixes of one file in so many to a target below a temporary folder, which is then removed."""
    with tempfile.TemporaryDirectory(prefix="skein-cost-") as folder:
        site = _Site(Path(folder), files)
        took = [site.hotfix() for _ in range(WARM + runs)][WARM:]
    rows = []
    for phase in took[0]:
        own, children, clock = (median(each[phase][column] for each in took) for column in range(3))
        rows.append(Row(phase, own, children, clock))
    return rows


class _Site:
    """A folder of files, its releases, and the target that they go to."""

    def __init__(self, folder: Path, files: int) -> None:
        self._folder, self._files = folder, files
        self._random = random.Random(7)  # noqa: S311  the same site every time
        self._last: Release | None = None
        self._turn = 0
        for number in range(files):
            self._write(number)
        self.hotfix()

    def hotfix(self) -> Took:
        """Change one file, deploy it, and return what each phase took."""
        self._write(self._random.randrange(self._files))
        self._turn += 1
        before = self._last
        release, delta = self._release(before)
        self._last = release
        targets = TargetsConfig.model_validate({"deploy_to": str(self._folder / "app"), **RULES})
        decision = Decision(self._turn, f"d{self._turn}", "deploy", "cost", "")
        phases: dict[str, Request] = {
            "probe": Request("probe"),
            "fetch": requests.fetch(release, (), 60.0, delta=delta),
            "stage": requests.stage(release, targets),
            "arm": requests.arm(release.id),
            "flip": requests.flip(release.id, before.id if before else None, decision),
            "confirm": requests.confirm(decision),
            "prune": requests.prune(targets),
        }
        took: Took = {}
        with _Agent(str(self._folder / "app")) as agent:
            took["start"] = (*agent.usage(), agent.started_ms)
            for phase, request in phases.items():
                was, began = agent.usage(), time.monotonic()
                agent.ask(request)
                clock = 1000 * (time.monotonic() - began)
                own, children = (now - then for now, then in zip(agent.usage(), was, strict=True))
                took[phase] = own, children, clock
            spent = [sum(column) for column in zip(*took.values(), strict=True)]
            took["end"] = (max(0.0, agent.leave() - spent[0] - spent[1]), 0.0, 0.0)
        own, children, clock = (sum(column) for column in zip(*took.values(), strict=True))
        took["in all"] = own, children, clock
        return took

    def _write(self, number: int) -> None:
        path = self._folder / f"site/{number // 100:03d}/{number % 100:02d}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._random.randbytes(FILE_BYTES // 2).hex(), "utf-8")

    def _release(self, before: Release | None) -> tuple[Release, Delta]:
        now, parent = datetime.now(UTC), before.commit if before else None
        where, cache = self._folder / "site", self._folder / "cache"
        with Source(where, cache, operator="cost", branch="main", subdir=None, signing_key=None) as source:
            commit = source.snapshot(now)
            release = source.make_release(ENVIRONMENT, self._turn, commit, source.tree_of(commit), parent, now)
            pack = source.delta(parent, release, 1 << 26) or b""
        return release, Delta(before.ref if before else "", parent or "", pack)


class _Agent:
    """A session with the agent over pipes."""

    def __init__(self, home: str) -> None:
        self._number, began = 0, time.monotonic()
        words = ["sh", "-c", bundle.command(home, None)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(bundle.bootstrap())
        if self._line() == b"need\n":
            self._send(b"%d\n" % len(bundle.sources()) + bundle.sources())
        opening = {"deploy_to": home, "link": f"{home}/current", "environment": ENVIRONMENT, "who": "cost"}
        self.ask(Request("open", opening))
        self.started_ms = 1000 * (time.monotonic() - began)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def usage(self) -> tuple[float, float]:
        """Return the processor time until now of the agent and of what it started, in milliseconds."""
        found = self.ask(Request("usage"))
        return found["own_ms"], found["children_ms"]

    def leave(self) -> float:
        """End the session and return the processor time of all of it, in milliseconds."""
        assert self._process.stdin  # noqa: S101
        self._process.stdin.close()
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return 1000 * (used.ru_utime + used.ru_stime)

    def ask(self, request: Request) -> dict[str, Any]:
        """Send a request and return its answer; raise LabError where it is an error."""
        self._number += 1
        self._send(request.line(self._number) + request.payload)
        while True:
            answer: dict[str, Any] = json.loads(self._line())
            if answer.get("id") == self._number:
                break
        if "error" in answer:
            raise LabError(f"{request.verb}: {answer['error']['message']}")
        found: dict[str, Any] = answer["ok"]
        return found

    def _send(self, data: bytes) -> None:
        assert self._process.stdin  # noqa: S101
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _line(self) -> bytes:
        assert self._process.stdout  # noqa: S101
        return self._process.stdout.readline() or b"{}"
