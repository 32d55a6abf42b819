"""`invoke lab.up` and what one does with a lab: real OpenSSH hosts on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from . import _cli

ON = {"on": "the machine: server-1, laptop, balancer, mirror-1, web-01 ..."}
UP = {
    "hosts": "how many targets",
    "mirrors": "how many mirrors",
    "rate": "what each machine's link carries each way, such as 10mbit (default: no limit)",
    "disk": "give a machine a /srv of its own size, such as web-05=20M or web-05=20M,nr_inodes=500; may be repeated",
    "sshd": "a line for every sshd that goes before the stock settings, such as 'MaxStartups 100'; may be repeated",
}
LINK = {
    **ON,
    "rate": "what the link carries each way from now on, such as 64kbit; full takes the limit away",
    "cut": "take the link down; nobody is told",
    "mend": "put the link up again",
}


@task(help=UP, iterable=["disk", "sshd"], auto_shortflags=False)
def up(
    c: Context,
    hosts: int = 12,
    mirrors: int = 2,
    rate: str | None = None,
    disk: list[str] | None = None,
    sshd: list[str] | None = None,
) -> None:
    """Start a fleet of real OpenSSH hosts on this machine, with an environment and a site to deploy; needs root."""
    with _cli.messages(c, _cli.Options()):
        from .remote.lab import kept
        from .remote.lab.state import Order

        order = Order(hosts=hosts, mirrors=mirrors, rate=rate, disks=tuple(disk or ()), sshd=tuple(sshd or ()))
        state, new = kept.up(_folder(), order)
        sys.stdout.write(f"the lab is up{'' if new else ' already'}: {state}\n")
        if state.unserved:
            lacks = " ".join(state.unserved)
            sys.stdout.write(f"not here, so no pages are served: {lacks}; apt-get install {lacks}, lab.down, lab.up\n")
        sys.stdout.write(
            "next: invoke lab.run 'fab setup', invoke lab.run 'fab deploy', and at the end invoke lab.down\n"
        )


@task
def down(c: Context) -> None:
    """End the lab and remove its files; what a crash left is swept up as well."""
    with _cli.messages(c, _cli.Options()):
        from .remote.lab import kept

        was_up = kept.down(_folder())
        sys.stdout.write("the lab is down\n" if was_up else "no lab was up\n")


@task(positional=["command"], help={"command": "a line of shell", **ON, "user": "root or deploy"})
def run(c: Context, command: str, on: str = "server-1", user: str = "root") -> None:
    """Run a command on a machine of the lab, by default as its operator on server-1; end with its exit code."""
    _enter(c, on, ["sh", "-c", command], user)


@task(help={**ON, "user": "root or deploy"})
def shell(c: Context, on: str = "server-1", user: str = "root") -> None:
    """Open a shell on a machine of the lab."""
    _enter(c, on, ["bash"], user)


@task(help=LINK)
def link(c: Context, on: str, rate: str | None = None, cut: bool = False, mend: bool = False) -> None:
    """Slow down, cut or mend a machine's link; sessions that are open stay."""
    with _cli.messages(c, _cli.Options()):
        from .remote.lab import kept

        kept.link(kept.read(_folder()), on, rate=rate, cut=cut, mend=mend)


def _enter(c: Context, on: str, argv: list[str], user: str) -> None:
    with _cli.messages(c, _cli.Options()):
        from .remote.lab import kept

        code = kept.run(kept.read(_folder()), on, argv, user)
    if code:
        raise Exit(code=code)


def _folder() -> Path:
    return _cli.state_folder() / "lab"
