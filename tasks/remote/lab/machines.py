"""The machines of a lab: namespaces, no containers, nothing of the machine itself changed.

A machine of the lab is one sshd that is process 1 of its own network, mount, process and host name namespaces. The
namespaces have no names, so they go with that process, and the process goes with the one that holds the lab, even a
killed one: two labs can never meet, and nothing but files and a small disk's mount can outlive a crash (the next lab
sweeps that away).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ...core.errors import LabError
from . import boot, files, links, provision, spaces

PRIVATE = ("srv", "home", "root", "tmp", "etc")  # what `Lab.path` can reach; /run is private too, and new at each boot
CHECKOUT = Path(__file__).resolve().parents[3]


class Lab:
    """Server, mirrors and targets as a context manager; every machine listens with a stock sshd on port 22.

    ``root`` must not exist or be empty; the machines' files live under ``root/<machine>``. ``laptop`` adds a second
    operator's machine, with keys of its own and no source; ``balancer`` adds a HAProxy that spreads requests over the
    targets, which then serve what is live, where this machine has the programs. ``rate`` is what each link
    carries each way, such as 10mbit. ``small_disk`` gives a machine a /srv of its own size, in words of tmpfs:
    ``{"web-05": "20M,nr_inodes=500"}``. ``sshd`` are settings that go before the stock ones. ``visible`` are folders of
    the real machine that server-1 and laptop see under their own path though /root, /home or /tmp are private there; by
    default this Python and this checkout, so that the operator's commands run. A failure to build raises LabError.
    """

    def __init__(
        self,
        root: Path,
        targets: int = 12,
        mirrors: int = 2,
        *,
        laptop: bool = False,
        balancer: bool = False,
        rate: str | None = None,
        small_disk: Mapping[str, str] | None = None,
        sshd: Sequence[str] = (),
        visible: Sequence[Path] | None = None,
    ) -> None:
        links.check_rate(rate)
        self.root = root.resolve()
        self.server = "server-1"
        self.operators = [self.server, *["laptop"][: int(laptop)]]
        self.mirrors = [f"mirror-{number}" for number in range(1, mirrors + 1)]
        width = max(2, len(str(targets)))
        self.targets = [f"web-{number:0{width}d}" for number in range(1, targets + 1)]
        groups = {"server": self.operators, "balancer": ["balancer"][: int(balancer)]}
        groups |= {"mirror": self.mirrors, "target": self.targets}
        self.roles = {machine: role for role, machines in groups.items() for machine in machines}
        self.machines = list(self.roles)
        self.small_disk = dict(small_disk or {})
        if unknown := self.small_disk.keys() - set(self.machines):
            raise LabError(f"no machine for a small disk: {', '.join(sorted(unknown))}")
        self.sshd = list(sshd)
        self.visible = [Path(sys.prefix), Path(sys.base_prefix), CHECKOUT] if visible is None else list(visible)
        self._services = provision.services(self.roles) if balancer else {}
        self._rates: dict[str, str | None] = dict.fromkeys(self.machines, rate) if rate else {}
        self._owner = spaces.owner()
        self._on: dict[str, subprocess.Popen[str]] = {}  # machine, or "" for the hub with the bridge: its process 1
        self._handles: dict[str, list[subprocess.Popen[str]]] = {machine: [] for machine in self.machines}
        self._spawner = spaces.Spawner()

    def __enter__(self) -> Lab:
        spaces.sweep()
        try:
            files.build(self.root, self.machines, self.operators, self.visible, self.sshd)
            provision.provision(self.root, self.roles, self.addresses)
            for machine, size in self.small_disk.items():
                uid = 0 if machine in self.operators else files.UID
                options = f"mode=755,uid={uid},gid={uid},size={size}"
                spaces.call("mount", "-t", "tmpfs", "-o", options, self._owner, str(self.path(machine, "/srv")))
            self._on[""] = self._spawner.first(boot.hub(self._owner))
            self._ready("")
            links.make_bridge(self.first(""))
            self._boot(self.machines)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process of the lab and unmount the small disks; the files stay, for whoever looks for a cause."""
        for first in self._on.values():
            first.kill()
        for machine in list(self._on):
            self._reap(machine)
        for handles in self._handles.values():
            for process in handles:
                spaces.close_streams(process)
        for machine in self.small_disk:
            subprocess.run(["umount", "-l", self.path(machine, "/srv")], capture_output=True, check=False)
        self._spawner.close()

    @property
    def addresses(self) -> dict[str, str]:
        """Every machine's address, which exists only inside the lab."""
        singles = [machine for machine in self.machines if machine not in {*self.mirrors, *self.targets}]
        return {
            machine: f"10.77.{2 * group + place // 250}.{place % 250 + 1}"
            for group, machines in enumerate((singles, self.mirrors, self.targets))
            for place, machine in enumerate(machines)
        }

    def path(self, machine: str, inside: str) -> Path:
        """Return where a machine's path is found from outside; only the private folders have such a place."""
        relative = Path(inside.lstrip("/"))
        if machine not in self.machines or relative.parts[:1] not in [(name,) for name in PRIVATE]:
            raise LabError(f"{machine}:{inside} has no place outside; the private folders are {', '.join(PRIVATE)}")
        return self.root / machine / relative

    def run(
        self,
        machine: str,
        argv: Sequence[str],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002  the name that subprocess.run has for it
        timeout: float = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine to its end; a CalledProcessError carries what the command said as a note."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        with self.popen(machine, argv, user, env, stdin=stdin) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode != 0:
            error = subprocess.CalledProcessError(done.returncode, done.args, out, err)
            error.add_note(f"on {machine} as {user}:\n{out[-2000:]}{err[-4000:]}")
            raise error
        return done

    def popen(
        self,
        machine: str,
        argv: Sequence[str],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command on a machine, in a clean environment, at the user's home; the handle's pid is the command.

        The command leads its own process group: a test may kill either.
        """
        first = self.first(machine)
        streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        process = self._spawner.inside(first, spaces.entering(first, argv, user, env, cwd), **streams)
        self._handles[machine] = [each for each in self._handles[machine] if not spaces.is_done(each)] + [process]
        return process

    def first(self, machine: str) -> int:
        """Return the pid, as seen from outside, of the machine's process 1; of the hub's for an empty name."""
        if machine not in self._on:
            raise LabError(f"{machine} is off, or no machine of this lab")
        return self._on[machine].pid

    def power_off(self, machine: str) -> None:
        """Pull the plug: the link goes first, so nobody is told; then every process. Disks stay, /run does not."""
        self.first(machine)
        self.cut(machine)
        self._on[machine].kill()
        self._reap(machine)

    def power_on(self, machine: str) -> None:
        """Start the machine again and return when its sshd listens."""
        if machine in self._on:
            raise LabError(f"{machine} is on; power_off comes first")
        with contextlib.suppress(LabError):  # the old link is there until the kernel has cleared the old namespace away
            links.disconnect(self.first(""), machine)
        self._boot([machine])

    def cut(self, machine: str) -> None:
        """Take the machine's link down; nothing is killed and nobody is told."""
        links.cut(self.first(""), machine)

    def mend(self, machine: str) -> None:
        """Put the link up again."""
        links.mend(self.first(""), machine)

    def rate(self, machine: str, rate: str | None) -> None:
        """Let the machine's link carry so much each way from now on, such as 64kbit; None takes the limit away."""
        links.shape(self.first(""), machine, self.first(machine), rate)
        self._rates[machine] = rate

    def change_host_key(self, machine: str) -> None:
        """Give the machine another host key, as a reinstallation would; sessions that are open stay."""
        self._rekey(machine, lambda: files.change_host_key(self.root / machine))

    def restore_host_key(self, machine: str) -> None:
        """Give the machine its first host key back."""
        self._rekey(machine, lambda: files.restore_host_key(self.root / machine))

    def processes(self, machine: str) -> list[tuple[int, list[str]]]:
        """List the machine's processes, zombies left out, as (pid as seen from outside, argv); none where it is off."""
        return spaces.processes(self.first(machine)) if machine in self._on else []

    def fill(self, machine: str, path: str) -> Path:
        """Write a file until the small disk that it lies on has no byte left; deleting it makes the room again."""
        place = self.path(machine, path)
        if place.parent.stat().st_dev == self.root.stat().st_dev:
            raise LabError(f"{machine}:{path} is on no small disk; give {machine} one with small_disk")
        files.fill(place)
        return place

    def _boot(self, machines: Sequence[str]) -> None:
        before = {machine: files.listens(self.root / machine) for machine in machines}
        for machine in machines:
            self._on[machine] = self._start(machine)
        for machine in machines:
            self._ready(machine)
        try:
            firsts = {machine: self.first(machine) for machine in machines}
            links.connect(self.first(""), firsts, self.addresses)
            for machine in self._rates.keys() & set(machines):
                self.rate(machine, self._rates[machine])
            for machine in machines:
                self._await_sshd(machine, before[machine])
        except LabError:
            with contextlib.suppress(LabError):  # who ends loses its namespaces, and the link, before it can be reaped
                files.wait_until(lambda: any(self._on[each].poll() is not None for each in machines), "an end", 2)
            for machine in machines:
                self._check_runs(machine)
            raise

    def _start(self, machine: str) -> subprocess.Popen[str]:
        home = self.root / machine
        visible = files.hidden(self.visible) if machine in self.operators else []
        argv = boot.machine(home, self._owner, machine, self._services.get(machine, ""), visible)
        with (home / "sshd.log").open("a") as log:
            return self._spawner.first(argv, stderr=log)

    def _ready(self, machine: str) -> None:
        out = self._on[machine].stdout
        if out is None or out.readline() != "ready\n":
            raise LabError(f"{machine or 'the hub'} did not start; see {self.root / machine / 'sshd.log'}")

    def _await_sshd(self, machine: str, before: int) -> None:
        def listens() -> bool:
            self._check_runs(machine)
            return files.listens(self.root / machine) > before

        files.wait_until(listens, f"sshd of {machine} listens", 30)

    def _check_runs(self, machine: str) -> None:
        """Tell why a machine that ended by itself did."""
        if self._on[machine].poll() is not None:
            raise LabError(f"sshd of {machine} ended: {files.last_words(self.root / machine)}")

    def _rekey(self, machine: str, change: Callable[[], None]) -> None:
        before = files.listens(self.root / machine)
        change()
        os.kill(self.first(machine), signal.SIGHUP)
        self._await_sshd(machine, before)

    def _reap(self, machine: str) -> None:
        """Wait for a killed machine; its first process ends only after those whose parent we are have been reaped."""
        for process in self._handles.get(machine, []):
            process.wait(30)
        first = self._on.pop(machine)
        first.wait(30)
        spaces.close_streams(first)
