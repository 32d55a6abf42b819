"""`fab deploy`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

HELP = {
    **_cli.CHANGING,
    "ref": "branch, tag or commit to release (default: source.branch)",
    "snapshot": "release the files exactly as they are on disk, committed or not",
    "transport": "auto, inline, git or swarm: go another road than transport.kind says",
}


@task(help=HELP)
def deploy(
    c: Context,
    env: str | None = None,
    ref: str | None = None,
    snapshot: bool = False,
    only: str | None = None,
    transport: str | None = None,
    plan: bool = False,
    reason: str = "",
    fail_limit: str | None = None,
    wait: int = 0,
    new_hosts: bool = False,
    lost_records: bool = False,
    json: bool = False,
) -> None:
    """Release the source's files to every target, check them there, and make them live everywhere at once."""
    options = _cli.Options(env, only, reason, fail_limit, json, transport, wait, new_hosts, lost_records)
    with _cli.desk(c, options) as desk:
        (desk.plan if plan else desk.deploy)(ref, snapshot=snapshot)
