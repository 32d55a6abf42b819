"""`invoke check`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli


@task(help=_cli.LOOKING)
def check(c: Context, env: str | None = None, only: str | None = None, json: bool = False) -> None:
    """Try everything that a deploy needs, on every target, and change nothing."""
    with _cli.desk(c, _cli.Options(env, only, as_json=json)) as desk:
        desk.check()
