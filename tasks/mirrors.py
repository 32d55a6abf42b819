"""`invoke mirrors.check` and `fab mirrors.sync`."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

LOOKING = {key: _cli.LOOKING[key] for key in ("env", "json")}


@task(help=LOOKING)
def check(c: Context, env: str | None = None, json: bool = False) -> None:
    """Look whether every mirror is reachable, complete, sound and guarded; changes nothing."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.check_mirrors()


@task(
    help={
        **LOOKING,
        "from": "the mirror to take releases from (default: the hub, the first one)",
        "keep": "retire releases on all mirrors but this many newest and those that targets need (default: none)",
    }
)
def sync(c: Context, env: str | None = None, from_: str | None = None, keep: int = 0, json: bool = False) -> None:
    """Bring every mirror to what the hub, or another mirror, has; nothing that stands is moved."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.sync_mirrors(from_, keep)
