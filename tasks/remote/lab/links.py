"""The lab's network: a bridge in the hub's namespace and a link to every machine, each with a rate of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...core.errors import LabError
from .spaces import call, ip

RATE = re.compile(r"[1-9][0-9]{0,8}[kmg]?bit")
FULL = "full"


def check_rate(rate: str | None) -> None:
    """Refuse what is neither a rate nor None, which means no limit."""
    if rate is not None and not RATE.fullmatch(rate):
        raise LabError(f"rate {rate!r}: write it like 64kbit, 10mbit or 1gbit")


def make_bridge(hub: int) -> None:
    """Make the bridge that all links end at; ``hub`` is a process of the hub's network namespace."""
    ip(hub, "link add name br0 type bridge", "link set br0 up")


def connect(hub: int, machines: Mapping[str, int], addresses: Mapping[str, str]) -> None:
    """Lay a link to every machine, given its first process, and put it up; ``addresses`` are those of the whole lab.

    Each machine is told where all others are: what namespaces learn by themselves stands in one table of the kernel,
    which has room for a thousand neighbours in all.
    """
    laid = []
    for machine, first in machines.items():
        peer = f"peer name eth0 address {_hardware(addresses[machine])} netns {first}"
        laid += [f"link add name {machine} type veth {peer}", f"link set {machine} master br0 up"]
    ip(hub, *laid)
    known = [f"neigh add {address} lladdr {_hardware(address)} dev eth0" for address in addresses.values()]
    for machine, first in machines.items():
        ip(first, f"addr add {addresses[machine]}/16 dev eth0", "link set eth0 up", "link set lo up", *known)


def disconnect(hub: int, machine: str) -> None:
    """Take a machine's link away; raise LabError where there is none."""
    ip(hub, f"link del {machine}")


def cut(hub: int, machine: str) -> None:
    """Take a machine's link down; nobody is told."""
    ip(hub, f"link set {machine} down")


def mend(hub: int, machine: str) -> None:
    """Put a machine's link up again."""
    ip(hub, f"link set {machine} up")


def shape(hub: int, machine: str, first: int, rate: str | None) -> None:
    """Let a machine's link carry ``rate`` each way; None takes the limit away. Sessions go on."""
    check_rate(rate)
    limit = ("tbf", "rate", rate, "burst", "32kb", "latency", "300ms") if rate else ("noqueue",)
    for process, device in ((hub, machine), (first, "eth0")):
        call("nsenter", "-t", str(process), "-n", "tc", "qdisc", "replace", "dev", device, "root", *limit)


def _hardware(address: str) -> str:
    """Return a MAC address that a restart keeps, as hardware does; or others would ask for the old one a while."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
