"""`fab lock` and `fab unlock`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

KEYS = ("env", "reason", "json")
HELP = {key: text for key, text in _cli.CHANGING.items() if key in KEYS}


@task(help={**HELP, "wait": _cli.CHANGING["wait"]})
def lock(c: Context, env: str | None = None, reason: str = "", wait: int = 0, json: bool = False) -> None:
    """Freeze an environment: refuse all deploys and rollbacks, with your reason, until it is unlocked."""
    with _cli.desk(c, _cli.Options(env, reason=reason, as_json=json, wait=wait)) as desk:
        desk.lock()


@task(help=HELP)
def unlock(c: Context, env: str | None = None, reason: str = "", json: bool = False) -> None:
    """End a freeze, or, with a reason, take the lock from a run that hangs."""
    with _cli.desk(c, _cli.Options(env, reason=reason, as_json=json)) as desk:
        desk.unlock()
