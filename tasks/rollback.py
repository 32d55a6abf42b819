"""`fab rollback`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli


@task(help={**_cli.CHANGING, "to": "id of the release to go back to (default: what was live before)"})
def rollback(
    c: Context,
    env: str | None = None,
    to: str | None = None,
    only: str | None = None,
    plan: bool = False,
    reason: str = "",
    fail_limit: str | None = None,
    wait: int = 0,
    new_hosts: bool = False,
    lost_records: bool = False,
    json: bool = False,
) -> None:
    """Put back what was live before, on every target at once; needs nothing but SSH to the targets."""
    options = _cli.Options(env, only, reason, fail_limit, json, None, wait, new_hosts, lost_records)
    with _cli.desk(c, options) as desk:
        (desk.plan_rollback if plan else desk.rollback)(to)
