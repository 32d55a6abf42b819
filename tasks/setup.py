"""`fab setup`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

HELP = {
    **_cli.LOOKING,
    "wait": _cli.CHANGING["wait"],
    "user": "log in as this user for set-up only: root, or one that may sudo; all is made for ssh.user",
    "print": "print the lines for authorized_keys by machine and write none",
    "prune-keys": "remove the lines of hosts and keys that are no longer wanted",
    "shared": "FILE[=PATH]: place a linked file on the targets (several: with commas, or again)",
    "replace": "with --shared: replace a file of another content",
    "restrict": "file of public keys that may then deploy to the targets and do nothing else there",
    "scan": "list the host keys that are not pinned, with their fingerprints, and do nothing else",
    "wheels": "folder of wheels with libtorrent for mirrors and targets (default: what pip finds)",
    "trust": "file of `host SHA256:…` or known_hosts lines, learnt elsewhere: pin the keys that match",
}


@task(help=HELP, iterable=["shared"])
def setup(
    c: Context,
    env: str | None = None,
    only: str | None = None,
    wait: int = 0,
    json: bool = False,
    user: str | None = None,
    print_: bool = False,
    prune_keys: bool = False,
    shared: list[str] | None = None,
    replace: bool = False,
    restrict: str | None = None,
    scan: bool = False,
    trust: str | None = None,
    wheels: str | None = None,
) -> None:
    """Make the mirrors, prepare every target and its keys; run again, it changes nothing."""
    with _cli.desk(c, _cli.Options(env, only, as_json=json, wait=wait)) as desk:
        if scan or trust:
            desk.pin(trust, go_on=not scan)
        if not scan:
            desk.setup(_cli.Asked(user, restrict, tuple(shared or ()), print_, prune_keys, replace, wheels))
