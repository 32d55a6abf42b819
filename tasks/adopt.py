"""`fab adopt`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

HELP = {
    **_cli.LOOKING,
    "wait": _cli.CHANGING["wait"],
    "undo": "give back what was adopted, where it is live",
    "plan": "say what would be done on every target, and change nothing",
    "allow-gap": "where host or file system cannot exchange two names in one step, do it in two",
}


@task(help=HELP)
def adopt(
    c: Context,
    env: str | None = None,
    only: str | None = None,
    undo: bool = False,
    plan: bool = False,
    allow_gap: bool = False,
    wait: int = 0,
    json: bool = False,
) -> None:
    """Make what targets serve already, a plain directory or another tool's release, their first release, uncopied."""
    with _cli.desk(c, _cli.Options(env, only, as_json=json, wait=wait)) as desk:
        desk.adopt(undo=undo, plan=plan, gap=allow_gap)
