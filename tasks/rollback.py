"""`fab rollback`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli


@task(help={**_cli.HELP, "to": "id of the release to go back to (default: what was live before)"})
def rollback(
    c: Context,
    env: str | None = None,
    to: str | None = None,
    only: str | None = None,
    reason: str = "",
    fail_limit: str | None = None,
    json: bool = False,
) -> None:
    """Put back what was live before, on every target at once; needs nothing but SSH to the targets."""
    with _cli.desk(c, _cli.Options(env, only, reason, fail_limit, json)) as desk:
        desk.rollback(to)
