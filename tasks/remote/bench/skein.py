"""Skein's own rows: an environment for each carrier, deployed as an operator does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ...core.errors import LabError
from ...core.hosts import fold
from ...core.text import printable
from ..lab import sample
from ..lab.machines import Lab

RULES = "keep = 2\nreuse_after = 0\n"  # so that few deploys are as good as many: the last one pruned is made use of
LIMIT = 'fail_limit = "20%"\n'
SWARM = "swarm = { enabled = true }\n"
WHEELS = "/srv/bench/wheels"
PYTHON = ("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")  # that of the lab's hosts
GOOD = ("live", "already live")


def place(kind: str) -> str:
    """Return ``deploy_to`` of a carrier's environment."""
    return f"/srv/skein-{kind}"


def configure(lab: Lab, kind: str) -> None:
    """Write the environment that deploys by one carrier, with a folder and mirrors' repositories of its own."""
    text = sample.configuration(lab.mirrors, lab.targets, RULES + LIMIT)
    text = text.replace("/srv/app", place(kind)).replace("/srv/git/www.git", f"/srv/git/{kind}.git")
    swarm = SWARM if kind == "swarm" else ""
    lab.path(lab.server, f"{sample.FOLDER}/{kind}.toml").write_text(
        f'{text}\n[transport]\nkind = "{kind}"\n{swarm}', "utf-8"
    )


def set_up(lab: Lab, kind: str) -> list[str]:
    """Return the words of the set-up that a carrier wants; the lab has no way out, so wheels are fetched beforehand."""
    if kind != "swarm":
        return ["setup"]
    folder = lab.path(lab.server, WHEELS)
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    version = subprocess.run(PYTHON, capture_output=True, text=True, check=False).stdout.strip()
    argv = [*fetch, str(folder), f"--python-version={version}", "libtorrent"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"no wheel of libtorrent: {printable(done.stderr[-200:])}")
    return ["setup", "--wheels", WHEELS]


def command(*argv: str) -> list[str]:
    """Return what does the same as `fab` with --json."""
    return [sys.executable, "-m", "fabric", *argv, "--json"]


def read(step: str, out: str, error: str) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Return the result's document, and the hosts that it does not call good, with its words; else raise LabError."""
    try:
        document = json.loads(out)
        return document, {name: why for name, good, why in _outcomes(document["targets"]) if not good}
    except (ValueError, KeyError) as problem:
        said = printable(out[-300:]) or printable(error[-300:])
        raise LabError(f"{step}: no result but {said!r}") from problem


def carried(document: Mapping[str, Any], kind: str) -> str:
    """Say which carriers brought a release to how many hosts, where it was not the one that was asked for alone."""
    found = {each["by"]: each["hosts"] for each in document.get("carried", ())}
    return "" if found.keys() <= {kind} else "carried to " + ", ".join(f"{n} by {by}" for by, n in found.items())


def only(hosts: list[str]) -> list[str]:
    """Return the option that leaves all other hosts alone."""
    return ["--only", fold(hosts)]


def _outcomes(targets: Any) -> Iterator[tuple[str, bool, str]]:
    """List every target of a result, whether all went well there, and the reason; set-up's document is by name."""
    if isinstance(targets, dict):
        yield from ((name, each["ready"], "not ready") for name, each in targets.items())
    else:
        yield from ((each["host"], each["state"] in GOOD, each["reason"]) for each in targets)
