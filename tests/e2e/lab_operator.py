"""Somebody who works at server-1, or a laptop: writes a configuration, runs the real commands there, reads their JSON.

Not called `operator`: a module of that name cannot be imported, Python's own stands in its place.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invariants import Manifest, assert_no_leftovers, assert_no_orphans, check_host
from real_site import Site

from tasks.remote.lab import Lab, wait_until
from tasks.remote.lab.spaces import home

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = home("root")  # of whoever works at server-1 or the laptop
KNOWN_HOSTS = f"{HOME}/.ssh/known_hosts"
FOLDER = f"{HOME}/config"
FAR = '[source]\nhost = { name = "server-1", user = "root" }\n'
ZONES = {"mirror-1": "eu", "mirror-2": "us"}
TWELVE = {"eu": {"hosts": ["web-[01-06]"], "zone": "eu"}, "us": {"hosts": ["web-[07-12]"], "zone": "us"}}
THREE = {"eu": {"hosts": ["web-01", "web-02"], "zone": "eu"}, "us": {"hosts": ["web-03"], "zone": "us"}}
FILES = {"index.html": b"first\n", "lib/code.php": b"<?php\n", "bin/run": b"#!/bin/sh\n"}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Run:
    """How a command ended; ``json`` and what follows it are for commands that were run with --json."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it said, with runs of blanks and line breaks as one blank, for a table breaks lines anywhere."""
        return " ".join(f"{self.out}\n{self.err}".split())

    @property
    def json(self) -> dict[str, Any]:
        """The document on standard output, which must be the only thing there."""
        document: dict[str, Any] = json.loads(self.out)
        assert document["format"] == 1
        assert document["exit_code"] == self.code
        return document

    @property
    def release(self) -> str:
        """The id of the release that the run was about."""
        return str(self.json["release"])

    @property
    def states(self) -> dict[str, str]:
        """Every target's state."""
        return {each["host"]: each["state"] for each in self.json["targets"]}

    @property
    def reasons(self) -> dict[str, str]:
        """What is told of the targets that are not as wished."""
        told = {each["host"]: each.get("reason") or each.get("trouble") for each in self.json["targets"]}
        return {name: reason for name, reason in told.items() if reason}


class Operator:
    """One environment of a lab and the commands on it, as root on server-1 or another machine, from the checkout.

    ``environment`` names the configuration and the chain of releases, ``folder`` is the site's path on server-1, so
    that several may live in one lab. The configuration is written at once; `configure` writes another. On another
    ``machine`` it says that the files are on server-1, whose root lets it in once `open_server` was called.
    """

    def __init__(
        self,
        lab: Lab,
        environment: str = "prod",
        folder: str = "/srv/www",
        machine: str = "server-1",
        **tables: Mapping[str, Any],
    ) -> None:
        self.lab, self.environment, self.folder, self.machine = lab, environment, folder, machine
        self.mirror_path, self.deploy_to, self.link = "/srv/git/www.git", "/srv/app", "/srv/app/current"
        self.hosts = lab.targets
        self.configure(**tables)

    def configure(self, **tables: Mapping[str, Any]) -> None:
        """Write the configuration: twelve targets in two zones, unless a table says more.

        ``targets={"keep": 2}`` adds to [targets] or replaces what is there, and so do ``source`` and ``ssh``;
        ``groups`` replaces all groups; a range among their hosts means all targets of the lab.
        """
        mirrors = [{"host": name, "path": self.mirror_path, "zone": ZONES[name]} for name in self.lab.mirrors]
        targets = {"deploy_to": self.deploy_to, **tables.get("targets", {})}
        groups = tables.get("groups", TWELVE)
        parts = [_table("[app]", {"name": "www"})]
        parts += [_table("[source]", {"path": self.folder, **tables.get("source", {})})]
        parts += [_table("[[mirrors]]", mirror) for mirror in mirrors]
        parts += [_table("[ssh]", {"user": "deploy", **tables.get("ssh", {})})]
        parts += [_table("[targets]", targets)]
        parts += [_table(f"[targets.groups.{name}]", group) for name, group in groups.items()]
        self.write("\n".join(parts))
        self.link = targets.get("link", f"{self.deploy_to}/current")
        names = [host for group in groups.values() for host in group["hosts"]]
        self.hosts = self.lab.targets if any("[" in name for name in names) else names

    def write(self, text: str) -> None:
        """Write the configuration as it stands."""
        folder = self.lab.path(self.machine, FOLDER)
        folder.mkdir(exist_ok=True)
        text = text if self.machine == "server-1" else text.replace("[source]\n", FAR)
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
        done = self.lab.run(self.machine, command, env=variables, check=False, timeout=timeout)
        run = Run(done.returncode, done.stdout, done.stderr)
        assert code in (None, run.code), f"{' '.join(argv)} ended with {run.code}, not {code}:\n{run.out}{run.err}"
        assert "Traceback" not in run.err, run.err
        return run

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start what `fab` runs and return at once; the handle's pid is the deployer itself."""
        command, variables = self._command(argv, env, "fabric")
        return self.lab.popen(self.machine, command, env=variables)

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
        """Run ``invoke status --live --json``: what the hosts themselves say."""
        return self.fab("status", "--live", "--json", *argv, code=code, program="invoke")

    def path(self, machine: str, inside: str = "") -> Path:
        """Return a path below ``deploy_to`` of a machine, or below the repository of a mirror, as seen from outside."""
        base = self.mirror_path if machine in self.lab.mirrors else self.deploy_to
        return self.lab.path(machine, f"{base}/{inside}" if inside else base)

    def live(self) -> dict[str, str | None]:
        """Return what the link of every host names, None where there is none."""
        links = {host: self.lab.path(host, self.link) for host in self.hosts}
        return {host: link.readlink().name if link.is_symlink() else None for host, link in links.items()}

    def wipe(self, machines: Iterable[str] | None = None) -> None:
        """Make hosts, by default all targets, as they were before anything was deployed to them."""
        for machine in self.lab.targets if machines is None else machines:
            for left in self.lab.path(machine, "/srv").iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def assert_serves(
        self,
        allowed: Manifest | Mapping[str, Manifest],
        hosts: Sequence[str] | None = None,
        shared: Collection[bytes] = (),
    ) -> dict[str, str]:
        """Hash what is live on hosts, by default all: one allowed manifest whole, nothing left over, no orphan.

        Return the allowed manifest's name by host; a manifest that is given alone is called "it".
        """
        hosts = self.hosts if hosts is None else hosts
        named: Any = allowed if all(isinstance(name, str) for name in allowed) else {"it": allowed}
        links = {host: self.lab.path(host, self.link) for host in hosts}
        found = {host: check_host(self.path(host), links[host], named, shared, self.deploy_to) for host in hosts}
        assert_no_orphans(self.lab, [*hosts, *self.lab.mirrors])
        for host in hosts:
            assert_no_leftovers(self.path(host), links[host])
        return found

    def git(self, machine: str, *argv: str) -> str:
        """Run git in a mirror's, or a target's own, repository and return what it printed."""
        repository = self.mirror_path if machine in self.lab.mirrors else f"{self.deploy_to}/.skein/repo.git"
        return self.lab.run(machine, ["git", f"--git-dir={repository}", *argv], user="deploy").stdout.strip()

    def refs(self, machine: str) -> set[str]:
        """Return the refs of a mirror or of a target's own repository."""
        return set(self.git(machine, "for-each-ref", "--format=%(refname)").split())

    def _command(
        self, argv: Sequence[str], env: Mapping[str, str] | None, program: str
    ) -> tuple[list[str], dict[str, str]]:
        """Return what does the same as the console script `fab` or `invoke`, wherever that is installed."""
        command = ["env", "-C", str(CHECKOUT), sys.executable, "-m", program, *argv]
        command += [] if "--env" in argv else ["--env", self.environment]
        return command, {"SKEIN_CONFIG": FOLDER, **(env or {})}


def somebody(name: str) -> dict[str, str]:
    """Return the variables that make an operator with a state and a cache of his own."""
    folder = f"{HOME}/{name}"
    return {"SKEIN_OPERATOR": name, "XDG_STATE_HOME": f"{folder}/state", "XDG_CACHE_HOME": f"{folder}/cache"}


def open_server(lab: Lab) -> None:
    """Let whoever may log in at the other machines log in as root at server-1, where the files are."""
    keys = lab.path("server-1", "/home/deploy/.ssh/authorized_keys").read_bytes()
    lab.path("server-1", f"{HOME}/.ssh/authorized_keys").write_bytes(keys)


def small_site(lab: Lab, path: str, files: Mapping[str, bytes | None] | None = None) -> Site:
    """Make a git work tree of few files on server-1, with one commit on main."""
    site = Site(lab.path("server-1", path))
    site.folder.mkdir(parents=True)
    site.git("init", "--quiet", "--initial-branch=main")
    site.change(FILES if files is None else files, "first")
    return site


def small_fleet(
    lab: Lab, files: Mapping[str, bytes | None] | None = None, **tables: Mapping[str, Any]
) -> tuple[Operator, Site]:
    """Give a test a new environment with a site of few files and three hosts that know nothing; mirrors are shared."""
    number = next(_numbers)
    folder = f"/srv/site-{number}"
    site = small_site(lab, folder, files)
    operator = Operator(lab, f"small-{number}", folder, **{"groups": THREE, **tables})
    if not operator.path("mirror-1", "HEAD").exists():
        operator.fab("setup")
    operator.wipe(operator.hosts)
    return operator, site


def await_stopped(lab: Lab, machine: str) -> int:
    """Wait until a python on the machine stands still at its failpoint; return its pid as seen from here."""
    stopped: list[int] = []

    def found() -> bool:
        pids = [pid for pid, argv in lab.processes(machine) if "python3" in os.path.basename(argv[0])]
        stopped[:] = filter(is_stopped, pids)
        return bool(stopped)

    wait_until(found, f"an agent on {machine} is paused", 60)
    return stopped[0]


def is_stopped(pid: int) -> bool:
    """Tell whether a process stands still."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _table(header: str, values: Mapping[str, Any]) -> str:
    """Write one table of a configuration; JSON's texts, numbers and lists are TOML's as well."""
    return "\n".join([header, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]) + "\n"
