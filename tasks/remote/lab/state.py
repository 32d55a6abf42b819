"""What is asked of a lab, and what is written down of one that is up."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...core.errors import LabError
from ...core.hosts import fold
from .machines import Lab

MACHINES, STATE, LOCK, LOG = "machines", "lab.json", "lock", "keeper.log"
"""What stands in the lab's folder: the machines' files, its state, who holds it, and what that one had to say."""


class Order(BaseModel):
    """What is asked for. ``disks`` are words such as ``web-05=20M,nr_inodes=500``, ``sshd`` lines of its settings."""

    model_config = ConfigDict(frozen=True)

    hosts: int = 12
    mirrors: int = 2
    rate: str | None = None
    disks: tuple[str, ...] = ()
    sshd: tuple[str, ...] = ()

    def lab(self, folder: Path) -> Lab:
        """Return the lab that is asked for, not yet built; raise LabError where there can be none."""
        if not 1 <= self.hosts <= 500 or not 1 <= self.mirrors <= 50:
            asked = f"--hosts {self.hosts} --mirrors {self.mirrors}"
            raise LabError(f"{asked}: a lab has 1 to 500 hosts and 1 to 50 mirrors")
        return Lab(
            folder / MACHINES,
            self.hosts,
            self.mirrors,
            laptop=True,
            balancer=True,
            rate=self.rate,
            small_disk=dict(map(_disk, self.disks)),
            sshd=self.sshd,
        )


class State(BaseModel):
    """A lab that is up: its keeper's name, and the pids of the hub and of every machine's process 1."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    owner: str
    order: Order
    hub: int
    operators: tuple[str, ...]
    unserved: tuple[str, ...] = ()  # programs that this machine lacks for pages to be served
    machines: dict[str, int]

    def first(self, machine: str) -> int:
        """Return the pid of the machine's process 1."""
        if machine not in self.machines:
            raise LabError(f"--on {machine}: no machine of this lab; it has {self}")
        return self.machines[machine]

    def __str__(self) -> str:
        return fold(self.machines)


def _disk(word: str) -> tuple[str, str]:
    machine, _, size = word.partition("=")
    if not machine or not size:
        raise LabError(f"--disk {word!r}: write it like web-05=20M or web-05=20M,nr_inodes=500")
    return machine, size
