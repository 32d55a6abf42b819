"""A lab that is measured: what a command takes on server-1, what it moves, and what the targets serve afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ...core.errors import LabError
from ...core.figures import FLOOR, Figure
from ..lab import sample, spaces
from ..lab.machines import Lab
from . import skein
from .meter import Meter, Usage
from .peers import SSH, WIDE, lacking_programs
from .site import Site

TRUE = f"{SSH} -o KexAlgorithms=curve25519-sha256 deploy@{{}} true || echo {{}}"
FILE_BYTES = 4096
CHEAP = ("KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org",)  # one algorithm, two names
APP = "/srv/app"


class Rig:
    """The main job's steps on a lab, each returned as a figure."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.meter = Meter(lab)
        self.site = Site(lab, folder)

    def floor(self) -> Figure:
        """Log in at every target, 32 at once, with the quickest key exchange, and do nothing there."""
        each = ["xargs", "-P", str(WIDE), "-I{}", "sh", "-c", TRUE]
        feed = 'targets=$1; shift; printf "%s\\n" $targets | "$@"'
        usage = self.meter.run(["sh", "-c", feed, "sh", " ".join(self.lab.targets), *each])
        return self.figure(FLOOR, usage, usage.out.split())

    def commit(self, files: int) -> int:
        """Write so many files of the site anew, commit them, and return the version's number."""
        return self.site.commit(range(files), FILE_BYTES)

    def fab(self, step: str, argv: Sequence[str], version: int | None = None) -> Figure:
        """Run a command of Skein's with --json; with ``version``, hash what every target then serves."""
        return self.judge(step, self.meter.run(skein.command(*argv)), version)

    def judge(self, step: str, usage: Usage, version: int | None, kind: str = "") -> Figure:
        """Make a figure of what a command of Skein's said and took, after a look at what every target then serves."""
        document, lost = skein.read(step, usage.out, usage.error)
        if version:
            lost |= self.wrong(version, skein.place(kind) if kind else APP)
        found = replace(self.figure(step, usage, lost), memory=usage.memory, skew_s=document.get("skew_s"))
        return replace(found, note=skein.carried(document, kind) if kind else "")

    def wrong(self, version: int, deploy_to: str = APP) -> dict[str, str]:
        """Return the targets that do not serve exactly the files of a version, by every file's hash, and why."""
        places = {target: self.lab.path(target, deploy_to) for target in self.lab.targets}
        return self.site.wrong(version, places, "uploads")

    def figure(self, step: str, usage: Usage, lost: Sequence[str] | dict[str, str]) -> Figure:
        """Make a figure of what a command took; hosts that are off are no part of the average target."""
        up = [target for target in self.lab.targets if target in usage.received]
        return Figure(
            step,
            usage.seconds,
            fmean(usage.received[target] for target in up),
            fmean(usage.sent[target] for target in up),
            usage.cpu_s,
            lost=tuple(sorted(lost)),
            source_sent=usage.sent[self.lab.server],
            target_cpu_s=usage.target_cpu_s / len(up),
        )


@contextmanager
def open_lab(folder: Path, hosts: int, **more: Any) -> Iterator[tuple[Lab, Path]]:
    """Bring up a lab of its own below ``folder`` and take it down at the end, with what a killed one left there."""
    spaces.need()
    if lacks := lacking_programs({"rsync": "rsync"}):
        raise LabError(f"no benchmark for want of {', '.join(lacks)}: apt-get install it")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.name.startswith("skein-lab-") and spaces.is_dead(left.name):
            shutil.rmtree(left, ignore_errors=True)  # two benchmarks may sweep at once
    own = folder / spaces.owner()
    try:
        with Lab(own / "machines", hosts, **more) as lab:
            sample.lay_out(lab, skein.RULES)
            yield lab, own
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def open_rig(folder: Path, hosts: int) -> Iterator[Rig]:
    """Bring up a lab for the main job's story, stock settings and full speed."""
    with open_lab(folder, hosts) as (lab, own):
        yield Rig(lab, own)
