"""`invoke bench`: the figures of docs/figures.md."""

from __future__ import annotations

from functools import partial

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from . import _cli

HELP = {
    "hosts": "how many targets",
    "files": "how many files the site has",
    "runs": "how often all is measured, each time on a new lab; the table shows the medians",
    "json": "print one JSON document with every run instead of a table",
}


@task(help=HELP, auto_shortflags=False)
def bench(c: Context, hosts: int = 100, files: int = 3000, runs: int = 1, json: bool = False) -> None:
    """Time set-up, first deploy, hotfix and rollback on a lab of its own, all hosts hashed; needs root."""
    with _cli.messages(c, _cli.Options(as_json=json)):
        from . import _show
        from .flows.bench import bench as measure
        from .remote.lab.rig import open_rig

        rig = partial(open_rig, _cli.state_folder() / "bench", hosts)
        found = measure(rig, hosts, files, runs, _show.TerminalProgress().say)
        _show.show_bench(found, as_json=json)
    if found.exit_code:
        raise Exit(code=found.exit_code)
