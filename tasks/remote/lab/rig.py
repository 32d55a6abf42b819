"""A lab that is measured: what a command takes on server-1, what it moves, and what the targets serve afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.errors import LabError
from ...core.figures import Figure
from ...core.text import printable
from . import sample, spaces
from .machines import CHECKOUT, Lab
from .state import Order

CHECKER = "tests/e2e/invariants.py"  # shares no code with Skein, so it runs by itself
TRUE = "ssh -o BatchMode=yes -o KexAlgorithms=curve25519-sha256 deploy@{} true || echo {}"
AT_ONCE = "32"
FILE_BYTES = 4096
RULES = "keep = 2\nreuse_after = 0\n"  # so that few deploys are as good as many: the last one pruned is made use of
GOOD = ("live", "already live")


@dataclass(frozen=True)
class Usage:
    """What a command said and took; ``received`` and ``sent`` are bytes on the links of all targets together."""

    out: str
    seconds: float
    received: int
    sent: int
    cpu_s: float
    memory: int


class Rig:
    """The main job's steps on a lab, each returned as a figure."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._versions = folder / "versions"
        self._version = 0
        self._random = random.Random(7)  # noqa: S311  the same site every time

    def floor(self) -> Figure:
        """Log in at every target, 32 at once, with the quickest key exchange, and do nothing there."""
        each = ["xargs", "-P", AT_ONCE, "-I{}", "sh", "-c", TRUE]
        feed = 'targets=$1; shift; printf "%s\\n" $targets | "$@"'
        usage = self._run(["sh", "-c", feed, "sh", " ".join(self._lab.targets), *each])
        return self._figure("ssh HOST true", usage, set(usage.out.split()))

    def commit(self, files: int) -> int:
        """Write so many files of the site anew, commit them, and return the version's number."""
        site = self._lab.path(self._lab.server, sample.SITE)
        for number in range(files):
            path = site / f"pages/{number // 100:03d}/{number % 100:02d}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._random.randbytes(FILE_BYTES // 2).hex(), "utf-8")
        self._version += 1
        self._lab.run(self._lab.server, ["sh", "-c", sample.COMMIT, "sh", sample.SITE, f"bench {self._version}"])
        shutil.copytree(site, self._versions / str(self._version), ignore=shutil.ignore_patterns(".git"))
        return self._version

    def fab(self, step: str, argv: Sequence[str], version: int | None = None) -> Figure:
        """Run a command of Skein's with --json; with ``version``, hash what every target then serves."""
        usage = self._run([sys.executable, "-m", "fabric", *argv, "--json"])
        try:
            document = json.loads(usage.out)
            lost = {name for name, good in _outcomes(document["targets"]) if not good}
        except (ValueError, KeyError) as error:
            raise LabError(f"{step}: no result but {printable(usage.out[-500:])!r}") from error
        lost |= self.wrong(version) if version else set()
        return replace(self._figure(step, usage, lost), memory=usage.memory, skew_s=document.get("skew_s"))

    def _figure(self, step: str, usage: Usage, lost: set[str]) -> Figure:
        count = len(self._lab.targets)
        received, sent = usage.received / count, usage.sent / count
        return Figure(step, usage.seconds, received, sent, usage.cpu_s, lost=tuple(sorted(lost)))

    def _run(self, argv: Sequence[str]) -> Usage:
        """Run a command on server-1 to its end, its children's processor time and memory counted with its own."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
            received, sent = self._carried()
            began = time.monotonic()
            process = self._lab.popen(
                self._lab.server, argv, env=sample.variables(), cwd=str(CHECKOUT), stdout=out, stderr=None
            )
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            received_now, sent_now = self._carried()
            out.seek(0)
            cpu_s, memory = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
            return Usage(out.read(), seconds, received_now - received, sent_now - sent, cpu_s, memory)

    def _carried(self) -> tuple[int, int]:
        """Return the bytes that all targets' links carried so far, to them and from them (proc(5), /proc/net/dev)."""
        received = sent = 0
        for target in self._lab.targets:
            lines = Path(f"/proc/{self._lab.first(target)}/net/dev").read_text("ascii").splitlines()
            (words,) = [line.split() for line in lines if line.lstrip().startswith("eth0:")]
            received, sent = received + int(words[1]), sent + int(words[9])
        return received, sent

    def wrong(self, version: int) -> set[str]:
        """Return the targets that do not serve exactly the files of a version, by every file's hash."""
        folders = {str(self._lab.path(target, "/srv/app")): target for target in self._lab.targets}
        argv = [sys.executable, CHECKER, str(self._versions / str(version)), "uploads", *folders]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{CHECKER} failed: {done.stderr.strip()[-500:]}")
        return {folders[folder] for folder in json.loads(done.stdout)}


@contextmanager
def open_rig(folder: Path, hosts: int) -> Iterator[Rig]:
    """Bring up a lab of its own below ``folder`` and take it down at the end, with what a killed one left there."""
    spaces.need()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if spaces.is_dead(left.name):
            shutil.rmtree(left)
    own = folder / spaces.owner()
    try:
        with Order(hosts=hosts).lab(own) as lab:
            sample.lay_out(lab, RULES)
            yield Rig(lab, own)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _outcomes(targets: Any) -> Iterator[tuple[str, bool]]:
    """List every target of a result with whether all went well there; set-up's document is by name."""
    if isinstance(targets, dict):
        yield from ((name, each["ready"]) for name, each in targets.items())
    else:
        yield from ((each["host"], each["state"] in GOOD) for each in targets)
