"""`invoke log`, `invoke releases`, `invoke diff` and `invoke history`: what the ledger tells."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _cli

HELP = {key: _cli.LOOKING[key] for key in ("env", "json")}
LIMIT = {**HELP, "limit": "how many to list, the newest first (default: 20)"}


@task(help=LIMIT)
def log(c: Context, env: str | None = None, limit: int = 20, json: bool = False) -> None:
    """List what was decided, by whom, when and why, and what became of it."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.tell(lambda reader: reader.log(limit))


@task(help=LIMIT)
def releases(c: Context, env: str | None = None, limit: int = 20, json: bool = False) -> None:
    """List the releases, and where each is live."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.tell(lambda reader: reader.releases(limit))


@task(help={**HELP, "old": "id or number of a release", "new": "id or number of another"})
def diff(c: Context, old: str, new: str, env: str | None = None, json: bool = False) -> None:
    """List the files that differ between two releases."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.tell(lambda reader: reader.diff(old, new))


@task(help={**HELP, "host": "a target's name"})
def history(c: Context, host: str, env: str | None = None, json: bool = False) -> None:
    """List what was decided for one target, and what became of it there."""
    with _cli.desk(c, _cli.Options(env, as_json=json)) as desk:
        desk.tell(lambda reader: reader.history(host))
