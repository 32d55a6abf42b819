"""`fab setup`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli


@task(help=_cli.LOOKING)
def setup(c: Context, env: str | None = None, only: str | None = None, json: bool = False) -> None:
    """Make the mirrors and prepare every target; run again, it changes nothing."""
    with _cli.desk(c, _cli.Options(env, only, as_json=json)) as desk:
        desk.setup()
