"""Somebody who works at server-1: writes a configuration, runs the real commands there, reads their JSON.

Not called `operator`: a module of that name cannot be imported, Python's own stands in its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invariants import Manifest, assert_no_leftovers, assert_no_orphans, check_host
from lab import Lab
from real_site import Site

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = "/root/config"
GROUPS = {"eu": {"hosts": ["web-[01-06]"], "zone": "eu"}, "us": {"hosts": ["web-[07-12]"], "zone": "us"}}
ZONES = {"mirror-1": "eu", "mirror-2": "us"}


@dataclass(frozen=True)
class Run:
    """How a command ended; ``json`` and ``targets`` are for those that were run with --json."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it said, with runs of blanks and line breaks as one blank: a table breaks its lines anywhere."""
        return " ".join(f"{self.out}\n{self.err}".split())

    @property
    def json(self) -> dict[str, Any]:
        """The document on standard output, which must be the only thing there."""
        document: dict[str, Any] = json.loads(self.out)
        assert document["format"] == 1
        assert document["exit_code"] == self.code
        return document

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What the document says of each target, by name."""
        return {each["host"]: each for each in self.json["targets"]}

    def named(self, *states: str) -> dict[str, str]:
        """Return the targets in one of these states, with the reasons given."""
        return {name: each["reason"] for name, each in self.targets.items() if each["state"] in states}


class Operator:
    """One environment of a lab and the commands on it, as root on server-1, from the checkout.

    ``environment`` names the configuration, the hub's chain and the mirrors' path, so that several may live in one lab;
    ``source`` is the site's path on server-1. The configuration is written at once; `configure` writes another.
    """

    def __init__(
        self, lab: Lab, environment: str = "prod", source: str = "/srv/www", **tables: Mapping[str, Any]
    ) -> None:
        self.lab, self.environment, self.source = lab, environment, source
        self.mirror_path = f"/srv/git/{environment}.git"
        self.deploy_to = "/srv/app"
        self.configure(**tables)

    def configure(self, **tables: Mapping[str, Any]) -> None:
        """Write the configuration: twelve targets in two zones, unless ``targets``, ``groups``, ``ssh``, ... say more.

        ``targets={"keep": 2}`` adds to that table or replaces what is there; ``groups`` replaces all groups.
        """
        known = [name for name in self.lab.mirrors if name in ZONES]
        mirrors = [{"host": name, "path": self.mirror_path, "zone": ZONES[name]} for name in known]
        lines = [
            _table("[app]", {"name": "www"}),
            _table("[source]", {"path": self.source, **tables.get("source", {})}),
        ]
        lines += [_table("[[mirrors]]", mirror) for mirror in mirrors]
        lines.append(_table("[ssh]", {"user": "deploy", **tables.get("ssh", {})}))
        lines.append(_table("[targets]", {"deploy_to": self.deploy_to, **tables.get("targets", {})}))
        groups = tables.get("groups", GROUPS).items()
        self.write("\n".join([*lines, *(_table(f"[targets.groups.{name}]", group) for name, group in groups)]))

    def write(self, text: str) -> None:
        """Write the configuration as it stands."""
        folder = self.lab.path("server-1", FOLDER)
        folder.mkdir(exist_ok=True)
        (folder / f"{self.environment}.toml").write_text(text)

    def fab(
        self,
        *argv: str,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        program: str = "fabric",
        timeout: float = 120,
    ) -> Run:
        """Run ``fab <argv> --env <environment>`` to its end; any exit code but ``code`` fails, unless that is None."""
        command, variables = self._command(argv, env, program)
        done = self.lab.run("server-1", command, env=variables, check=False, timeout=timeout)
        run = Run(done.returncode, done.stdout, done.stderr)
        assert code in (None, run.code), f"{' '.join(argv)} ended with {run.code}, not {code}:\n{run.out}{run.err}"
        return run

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start what `fab` runs and return at once; the handle's pid is the deployer itself."""
        command, variables = self._command(argv, env, "fabric")
        return self.lab.popen("server-1", command, env=variables)

    def finish(self, process: subprocess.Popen[str], timeout: float = 120) -> Run:
        """Wait for what `start` started."""
        out, err = process.communicate(timeout=timeout)
        return Run(process.returncode, out, err)

    def deploy(self, *argv: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Run:
        """Run ``fab deploy --json``."""
        return self.fab("deploy", "--json", *argv, code=code, env=env)

    def rollback(self, *argv: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Run:
        """Run ``fab rollback --json``."""
        return self.fab("rollback", "--json", *argv, code=code, env=env)

    def status(self, *argv: str, code: int | None = 0) -> Run:
        """Run ``invoke status --json``."""
        return self.fab("status", "--json", *argv, code=code, program="invoke")

    def path(self, machine: str, inside: str = "") -> Path:
        """Return a path below ``deploy_to`` of a machine, as seen from outside; on mirrors, below the repository."""
        base = self.mirror_path if machine in self.lab.mirrors else self.deploy_to
        return self.lab.path(machine, f"{base}/{inside}" if inside else base)

    def live(self, machine: str) -> str | None:
        """Return the id that ``current`` reads on a machine, None where there is none."""
        current = self.path(machine, "current")
        return current.readlink().name if current.is_symlink() else None

    def wipe(self, machines: Iterable[str] | None = None) -> None:
        """Make hosts, by default all targets, as they were before anything was deployed to them."""
        for machine in self.lab.targets if machines is None else machines:
            if self.path(machine).exists():
                shutil.rmtree(self.path(machine))

    def assert_serves(
        self,
        allowed: Manifest | Mapping[str, Manifest],
        machines: Sequence[str] | None = None,
        shared: Collection[bytes] = (),
    ) -> dict[str, str]:
        """Hash what is live on machines, by default all targets: one allowed manifest whole, nothing left over, no orphan.

        Return the allowed manifest's name for each machine; one manifest alone is called "it".
        """
        machines = self.lab.targets if machines is None else machines
        named: Any = allowed if all(isinstance(name, str) for name in allowed) else {"it": allowed}
        found = {}
        for machine in machines:
            base = self.path(machine)
            found[machine] = check_host(base, base / "current", named, shared, self.deploy_to)
        assert_no_orphans(self.lab, [*machines, *self.lab.mirrors])
        for machine in machines:
            assert_no_leftovers(self.path(machine))
        return found

    def mirror_refs(self, mirror: str) -> dict[str, str]:
        """Return the refs of a mirror with their object ids."""
        argv = ("git", "-C", self.mirror_path, "for-each-ref", "--format=%(refname) %(objectname)")
        lines = self.lab.run(mirror, argv, user="deploy").stdout.splitlines()
        return {name: oid for name, _, oid in (line.partition(" ") for line in lines)}

    def _command(
        self, argv: Sequence[str], env: Mapping[str, str] | None, program: str
    ) -> tuple[list[str], dict[str, str]]:
        """Return what does the same as the console script `fab` or `invoke`, wherever that is installed."""
        command = ["env", "-C", str(CHECKOUT), sys.executable, "-m", program, *argv, "--env", self.environment]
        return command, {"SKEIN_CONFIG": FOLDER, **(env or {})}


def small_site(lab: Lab, path: str = "/srv/small", files: Mapping[str, bytes] | None = None) -> Site:
    """Make a git work tree of few files on server-1, with one commit on main."""
    site = Site(lab.path("server-1", path))
    site.folder.mkdir(parents=True)
    site.git("init", "--quiet", "--initial-branch=main")
    site.change(files or {"index.html": b"first\n", "lib/code.php": b"<?php\n"}, "first")
    return site


def _table(header: str, values: Mapping[str, Any]) -> str:
    """Write one table of a configuration; JSON's texts, numbers and lists are TOML's as well."""
    return "\n".join([header, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]) + "\n"
