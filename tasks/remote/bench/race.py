"""One scenario on one lab: every tool brings the same change to targets in the same state, and is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from ...core import scenarios
from ...core.errors import LabError
from ...core.figures import Figure, phase
from ...core.scenarios import Course
from ...core.text import printable
from ..lab import spaces
from ..lab.files import UID
from ..lab.machines import Lab
from . import goodput, peers, skein
from .meter import Usage, cpu_s
from .rig import CHEAP, Rig, open_lab

OWNER = f"--chown={UID}:{UID}"
TINY = 100
MUCH = 100_000
"""Bytes of a change beside which those of a session do not count."""
WARM_UPS = ("first deploy", "nothing to reuse", "hardly any change")
"""A fleet that has been deployed to three times has a release to make the next one of."""


class Race(Rig):
    """The steps of a scenario; `prepare` comes first, then `change` before every round of tools."""

    def __init__(self, lab: Lab, folder: Path, course: Course) -> None:
        super().__init__(lab, folder)
        self._course = course
        self._scenario = course.scenario
        self._bases: dict[str, int | None] = {}
        self._kinds: list[str] = []  # of Skein's carriers, those that work here
        self._control: dict[str, Mapping[str, int]] = {}  # by carrier: the bytes of its last step of preparation
        self._dead: list[str] = []
        self.payload = 0
        self.goodput: float | None = None

    @property
    def rate(self) -> str | None:
        """What each link carries, None where there is no limit."""
        return self._scenario.rate(len(self.lab.targets))

    def prepare(self) -> Iterator[Figure]:
        """Make the site, deploy it with each carrier until that costs what it always will, then slow the links."""
        folder = self.lab.path(self.lab.server, peers.BENCH)
        folder.mkdir()
        for name, text in peers.FILES.items():
            (folder / name).write_text(text, "utf-8")
        (folder / "inventory").write_text(
            "".join(f"{name} ansible_user=deploy\n" for name in self.lab.targets), "utf-8"
        )
        version = self._commit(self._scenario.files)
        for kind in self._course.transports:
            skein.configure(self.lab, kind)
            self._kinds.append(kind)
            yield from self._prepared(kind, [("setup", None, None), (WARM_UPS[0], ["deploy"], version)])
        for name in WARM_UPS[1:]:
            tiny = name == WARM_UPS[-1]
            version = self.site.commit([0], TINY) if tiny else self._commit(self._scenario.changed)
            for kind in [*self._kinds]:
                yield from self._prepared(kind, [(name, ["deploy"], version)])
        if self.rate:
            self._slow_down(self.rate)

    def change(self) -> None:
        """Write the version that the next round brings, and have the fleet as the scenario begins."""
        before = self.site.version
        self._bases = dict.fromkeys(self.lab.targets, before)
        if self._scenario.mixed:
            self._mix(before)
        oldest = min(self._bases.values(), key=lambda version: version or 0)
        nearest = self.site.version
        self._commit(self._scenario.changed)
        self.payload = self.site.payload(nearest)
        names = "".join(f"{name}\n" for name in self.site.changed(oldest))
        self.lab.path(self.lab.server, f"{peers.BENCH}/changed").write_text(names, "utf-8")

    def measure(self, tool: str) -> Figure:
        """Bring the newest version to all targets with a tool, and hash every file there."""
        self.meter.settle()
        kind = tool.removeprefix("skein ")
        try:
            if kind != tool:
                return self._skein(tool, kind)
            return self._peer(tool, peers.PEERS[tool])
        except LabError as error:
            return not_run(tool, error)

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Pull the plug of some targets and give one a tenth of its link, until the end of the block."""
        dead, slow = scenarios.troubled(self.lab.targets)
        rate = self.rate or "10mbit"
        for target in dead:
            self.lab.power_off(target)
        self._dead = dead
        self.lab.rate(slow, times(rate, 0.1))
        try:
            yield
        finally:
            self.lab.rate(slow, rate)
            for target in dead:
                self.lab.power_on(target)
                self.lab.rate(target, rate)
            self._dead = []
            for kind in self._kinds:
                with suppress(LabError):
                    self._fab(kind, "deploy")

    def _prepared(self, kind: str, steps: Sequence[tuple[str, list[str] | None, int | None]]) -> Iterator[Figure]:
        """Do steps that come before what is compared; a carrier that cannot is left out from then on."""
        try:
            for name, argv, version in steps:
                words = argv or skein.set_up(self.lab, kind)
                usage = self.meter.run(skein.command(*words, "--env", kind))
                self._control[kind] = usage.received
                yield self.judge(f"skein {kind}: {name}", usage, version, kind)
        except LabError as error:
            self._kinds.remove(kind)
            yield not_run(f"skein {kind}", error)

    def _commit(self, count: int) -> int:
        scenario = self._scenario
        numbers = [place * scenario.files // count for place in range(count)]
        return self.site.commit(numbers, scenario.file_bytes, text=scenario.text)

    def _slow_down(self, rate: str) -> None:
        for machine in self.lab.machines:
            factor = 10 if self._course.fast_source and machine == self.lab.server else 1
            self.lab.rate(machine, times(rate, factor))
        self.goodput = goodput.measure(self.lab, self.lab.targets[0], rate)

    def _mix(self, before: int) -> None:
        newer, older, empty = scenarios.bases(self.lab.targets)
        version = self._commit(self._scenario.changed)
        for kind in self._kinds:
            self._fab(kind, "deploy", *skein.only(newer))
            for target in empty:
                shutil.rmtree(self.lab.path(target, skein.place(kind)))
            self._fab(kind, *skein.set_up(self.lab, kind), *skein.only(empty))
        self._bases = dict.fromkeys(newer, version) | dict.fromkeys(older, before) | dict.fromkeys(empty, None)

    def _fab(self, kind: str, *argv: str) -> None:
        """Run a command that is not measured; a host that it does not leave as wished ends the benchmark."""
        usage = self.meter.run(skein.command(*argv, "--env", kind))
        _, lost = skein.read(f"skein {kind}", usage.out, usage.error)
        if lost:
            raise LabError(f"{' '.join(argv)} --env {kind}: {lost}")

    def _skein(self, tool: str, kind: str) -> Figure:
        usage = self.meter.run(skein.command("deploy", "--env", kind), patience_s=self._course.patience_s)
        place = skein.place(kind)
        if usage.code is None:
            return self._cut(tool, usage, self.wrong(self.site.version, place))
        control = self._control[kind]
        found = self._told(self.judge(tool, usage, self.site.version, kind), usage, f"{place}/current", control)
        return replace(found, control=fmean(control[target] for target in self.lab.targets))

    def _peer(self, name: str, peer: peers.Peer) -> Figure:
        if lacks := peers.lacking_programs(peer.needs):
            raise LabError(f"no {', '.join(lacks)}; apt-get install it")
        clones = {base: self.site.clone(base) for base in set(self._bases.values())}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda target: self._lay(target, peer, clones), self.lab.targets))
        env = {"hosts": " ".join(self.lab.targets), "ssh": peers.SSH, "bench": peers.BENCH, "each": peer.each}
        env |= {"version": str(self.site.version), "remote": peer.remote}
        with self._daemon(peer) as daemon:
            usage = self.meter.run(["sh", "-c", peer.script()], env, self._course.patience_s)
            usage = replace(usage, cpu_s=usage.cpu_s + (cpu_s(daemon) if daemon else 0))
        self._end_swarm(peer)
        places = {target: self.lab.path(target, peer.live) for target in self.lab.targets}
        wrong = self.site.wrong(self.site.version, places)
        if usage.code is None:
            return self._cut(name, usage, wrong)
        found = self._told(self.figure(name, usage, wrong), usage, peer.live, {})
        said = [line for line in usage.error.splitlines() if line.strip()]
        return replace(found, note=printable(said[-1], 200)) if found.lost and said else found

    def _told(self, figure: Figure, usage: Usage, live: str, control: Mapping[str, int]) -> Figure:
        """Add what is known in the end: dead hosts are not lost; when the last good one was live; the data phase."""
        lost = [name for name in figure.lost if name not in self._dead]
        good = [name for name in self.lab.targets if name not in [*lost, *self._dead]]
        at = [self._live_at(self.lab.path(name, live)) for name in good]
        told = replace(figure, lost=tuple(lost), live_s=max(at) - usage.began if at else None)
        if not self.goodput or not good:
            return told
        samples = [
            (time, {name: count for name, count in seen.items() if name in (*self.lab.mirrors, *self.lab.targets)})
            for time, seen in usage.samples
        ]
        found = phase(samples, good, self.payload, self.payload / self.goodput, control)
        return replace(told, data_s=found[0], tail=found[1]) if found else told

    def _live_at(self, live: Path) -> float:
        """Return when a link, or else the last file that changed, came to be what it is: no tool can set that."""
        if live.is_symlink():
            return live.lstat().st_ctime
        names = self.lab.path(self.lab.server, f"{peers.BENCH}/changed").read_text("utf-8").splitlines()
        return max((live / name).lstat().st_ctime for name in names)

    def _cut(self, step: str, usage: Usage, wrong: Mapping[str, str]) -> Figure:
        """Say how long it would have taken at this pace, by the hosts that are done or the bytes that came."""
        told = self.figure(step, usage, ())
        done = 1 - len(wrong) / len(self.lab.targets)
        share = max(done, min(told.received / self.payload, 1) if self.payload > MUCH else 0)
        note = f"cut off after {usage.seconds:.0f} s with {share:.0%} done"
        seconds = usage.seconds / share if share else usage.seconds
        return replace(
            told, seconds=seconds, extrapolated=True, note=note + (": extrapolated" if share else ": at least")
        )

    def _lay(self, target: str, peer: peers.Peer, clones: Mapping[int | None, Path]) -> None:
        """Put a target's files into the state from which a tool starts, past the tool itself."""
        base = self._bases[target]
        folder = self.lab.path(target, peers.PLAIN if peer.live == peers.PLAIN else peers.CAPISTRANO)
        if peer.live != peers.PLAIN or not base:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            os.chown(folder, UID, UID)
        if peer.live == peers.PLAIN and base:
            spaces.call("rsync", "-a", "--delete", OWNER, f"{self.site.tree(base)}/", f"{folder}/")
        if peer.live != peers.PLAIN:
            spaces.call("rsync", "-a", OWNER, f"{clones[base]}/", f"{folder}/repo/")

    @contextmanager
    def _daemon(self, peer: peers.Peer) -> Iterator[int | None]:
        """Run what serves on server-1 until the end of the block; yield its pid."""
        if not peer.daemon:
            yield None
            return
        process = self.lab.popen(
            self.lab.server, peer.daemon, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(10)

    def _end_swarm(self, peer: peers.Peer) -> None:
        """End what still gives pieces to others, on every target."""
        for target in self.lab.targets if peer.remote == peers.JOIN else ():
            if target not in self._dead:
                self.lab.run(target, ["sh", "-c", f"kill $(cat {peers.SWARM}/pid); rm -rf {peers.SWARM}"], check=False)


@contextmanager
def open_race(folder: Path, course: Course, hosts: int) -> Iterator[Race]:
    """Bring up a lab for one scenario; its sshds offer the quickest key exchange alone, so that all tools use it."""
    with open_lab(folder, hosts, sshd=CHEAP) as (lab, own):
        yield Race(lab, own, course)


def not_run(tool: str, error: LabError) -> Figure:
    """Return the figure of a tool that could not run, with the reason."""
    return Figure(tool, 0, 0, 0, 0, ran=False, note=str(error))


def times(rate: str, factor: float) -> str:
    """Return a rate times a factor: ``times("10mbit", 0.1)`` is ``1000kbit``."""
    unit = {"kbit": 1, "mbit": 1000, "gbit": 1_000_000}
    suffix = rate.lstrip("0123456789")
    return f"{round(int(rate.removesuffix(suffix)) * unit[suffix] * factor)}kbit"
