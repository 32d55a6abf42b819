"""The part of a machine that the lab and the virtual machines of vagrant/ share: one script makes both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import spaces

SCRIPT = str(Path(__file__).resolve().parents[3] / "vagrant/provision.sh")
SERVICES = {"target": "nginx -e stderr", "balancer": "haproxy -D -f /etc/haproxy/haproxy.cfg"}
"""What a role serves with; on a virtual machine systemd starts the same."""


def provision(root: Path, roles: Mapping[str, str], addresses: Mapping[str, str]) -> None:
    """Make all keys, and of each fresh machine below ``root`` what its role says; root is every operator."""
    keys = root / "keys"
    fleet = [f"{machine}={role}={addresses[machine]}" for machine, role in roles.items()]
    spaces.call("bash", SCRIPT, "keys", str(keys), *fleet)

    def settle(machine: str) -> None:
        spaces.call("bash", SCRIPT, "settle", roles[machine], f"{keys}/{machine}", f"{root}/{machine}", "root")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(settle, roles):
            pass


def services(roles: Mapping[str, str]) -> dict[str, str]:
    """Return the machines that serve, each with its command: those whose program this machine has."""
    return {machine: SERVICES[role] for machine, role in roles.items() if role in SERVICES and _has(role)}


def unserved() -> tuple[str, ...]:
    """Return the programs that this machine lacks for its lab to serve pages; Debian's packages are called the same."""
    return tuple(SERVICES[role].split()[0] for role in SERVICES if not _has(role))


def _has(role: str) -> bool:
    return shutil.which(SERVICES[role].split()[0], path=spaces.PATH) is not None
