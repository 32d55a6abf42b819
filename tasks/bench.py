"""`invoke bench`: the figures of docs/figures.md."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from . import _cli

HELP = {
    "scenario": "story, hotfix, patch, minor, cold, many-files, mixed-bases or trouble",
    "hosts": "how many targets; several numbers, with commas between, are a series (default: the scenario's)",
    "files": "how many files the site has (default: the scenario's)",
    "megabytes": "bring so many incompressible MB instead of the scenario's change",
    "rate": "what each link carries each way, such as 4mbit (default: the scenario's)",
    "fast-source": "give server-1 a link of ten times that rate",
    "runs": "how often all is measured; the table shows the medians",
    "transport": "Skein's carriers to measure, with commas between",
    "beside": "the tools to measure beside it, with commas between: "
    "rsync, rsyncd, git, ansible, clush, bittorrent; none (default: all)",
    "patience": "seconds after which a tool is cut off, its time extrapolated (default: none is)",
    "into": "folder for the JSON and the picture of the figures (default: Skein's own for this user)",
    "json": "print one JSON document with every run instead of a table",
}


@task(help=HELP, auto_shortflags=False)
def bench(
    c: Context,
    scenario: str,
    hosts: str = "",
    files: int = 0,
    megabytes: int = 0,
    rate: str = "",
    fast_source: bool = False,
    runs: int = 1,
    transport: str = "inline,git,swarm",
    beside: str = "all",
    patience: int = 0,
    into: str = "",
    json: bool = False,
) -> None:
    """Time Skein on a lab of its own, beside other tools in a SCENARIO, all hosts hashed; needs root."""
    with _cli.messages(c, _cli.Options(as_json=json)):
        from . import _bench

        sizes = _bench.Sizes(hosts, files or None, megabytes or None, rate or None, fast_source, runs, patience or None)
        code = _bench.run(scenario, sizes, transport, beside, into, as_json=json)
    if code:
        raise Exit(code=code)
