"""Chores of those who work on Skein itself."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ._cli import refuse_host

ROOT = Path(__file__).resolve().parent.parent
CALL = re.compile(r"\bfailpoint\(\"((?:agent|deploy)\.[a-z_.]+)\"\)")


def failpoint_names() -> list[str]:
    """Return every failpoint that the code passes, as the code itself tells."""
    files = sorted((ROOT / "tasks").rglob("*.py"))
    return sorted({name for path in files for name in CALL.findall(path.read_text("utf-8"))})


@task
def failpoints(c: Context) -> None:
    """List the places where SKEIN_FAILPOINT=name[@host][:n[:kill|error|pause]] makes deployer or agent stop."""
    sys.stdout.write("\n".join(failpoint_names()) + "\n")


@task(help={"files": "how many files the site has", "runs": "how many hotfixes; the table shows their medians"})
def cost(c: Context, files: int = 3000, runs: int = 10) -> None:
    """Show where the processor time of one target goes in a hotfix: the agent on this machine, without ssh."""
    refuse_host(c)
    from .remote.cost import measure

    sys.stdout.write(f"{'ms':8}{'agent':>8}{'git':>8}{'clock':>8}\n")
    for row in measure(files, runs):
        sys.stdout.write(f"{row.phase:8}{row.own:8.1f}{row.children:8.1f}{row.clock:8.1f}\n")


@task(name="test", help={"only": "a part of the tests, as pytest's -k takes it"})
def run_tests(c: Context, only: str = "") -> None:
    """Run lint, types and all tests; installs sshd, git and iproute2 where it may and they are missing."""
    refuse_host(c)
    commands = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
    commands.append(["pytest", "-q", "-n", "2", "--dist", "loadfile", *(["-k", only] if only else [])])
    failed = []
    for command in commands:
        with c.cd(str(ROOT)):
            result = c.run(shlex.join([sys.executable, "-m", *command]), warn=True, in_stream=False)
        if not result:
            failed.append(" ".join(command))
    if failed:
        raise Exit(f"failed: {', '.join(failed)}", code=1)


@task(
    positional=["name"],
    help={
        "name": "failures, kills, contenders, frozen or one-mirror",
        "hosts": "how many targets the lab has (default: what docs/figures.md says)",
        "times": "how often it is done (default: likewise)",
    },
)
def soak(c: Context, name: str, hosts: int = 0, times: int = 0) -> None:
    """Let one kind of trouble happen many times on a lab, look at every host, and count; needs root."""
    refuse_host(c)
    sizes = [word for flag, size in (("--hosts", hosts), ("--times", times)) if size for word in (flag, str(size))]
    command = shlex.join([sys.executable, "tests/soak", name, *sizes])
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests/e2e")))
    with c.cd(str(ROOT)):
        result = c.run(command, env={"PYTHONPATH": path}, warn=True, in_stream=False)
    if result is not None and result.exited:
        raise Exit(code=result.exited)
