"""`invoke status`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli


@task(help={**_cli.LOOKING, "live": "ask the targets themselves instead of the ledger"})
def status(c: Context, env: str | None = None, only: str | None = None, live: bool = False, json: bool = False) -> None:
    """Tell what is live where, since when, and which targets differ from what was decided."""
    with _cli.desk(c, _cli.Options(env, only, as_json=json)) as desk:
        desk.status(live=live)
