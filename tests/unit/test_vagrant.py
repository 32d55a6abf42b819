"""The virtual machines of vagrant/ and the configuration that deploys to them are one fleet, known to each other."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.core.config import Settings, parse
from tasks.remote.known_hosts import KnownHosts

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "vagrant/provision.sh"
MACHINE = re.compile(r'name: "(?P<name>[a-z0-9-]+)", role: "(?P<role>[a-z]+)", address: "(?P<address>[0-9.]+)"')
HOST_ONLY = ipaddress.ip_network("192.168.56.0/21")  # VirtualBox refuses private networks elsewhere
ROLES = {"server-1": "server", "mirror-1": "mirror", "mirror-2": "mirror"}

needs_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def machines() -> dict[str, tuple[str, str]]:
    """Read role and address of every machine from the Vagrantfile."""
    found = MACHINE.findall((ROOT / "vagrant/Vagrantfile").read_text("utf-8"))
    assert len({name for name, _, _ in found}) == len(found)
    return {name: (role, address) for name, role, address in found}


def settings() -> Settings:
    return parse((ROOT / "config/vagrant.toml").read_text("utf-8"), "vagrant", "config/vagrant.toml")


def run(*argv: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **variables}
    )


def make_keys(folder: Path) -> None:
    """Lay the keys of the whole fleet below ``folder``, as `vagrant up` does first."""
    fleet = [f"{name}={role}={address}" for name, (role, address) in machines().items()]
    made = run("bash", SCRIPT, "keys", folder, *fleet)
    assert (made.returncode, made.stderr) == (0, "")


def public(key: Path) -> str:
    return run("ssh-keygen", "-y", "-f", key).stdout.rpartition(" ")[0]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_the_configuration_and_the_vagrantfile_name_the_same_machines() -> None:
    fleet = settings()
    servers = [mirror.server for mirror in fleet.mirrors if mirror.server]
    told = {host.name: ("mirror", host.address) for host in servers}
    told |= {host.name: ("target", host.address) for host in fleet.hosts}
    assert told == {name: found for name, found in machines().items() if found[0] != "server"}


def test_there_are_two_mirrors_and_four_targets_in_two_zones() -> None:
    fleet = settings()
    assert {mirror.name: mirror.zone for mirror in fleet.mirrors} == {"mirror-1": "eu", "mirror-2": "us"}
    zones = {"web-1": "eu", "web-2": "eu", "web-3": "us", "web-4": "us"}
    assert {host.name: host.zone for host in fleet.hosts} == zones
    assert {name: role for name, (role, _) in machines().items()} == {**ROLES, **dict.fromkeys(zones, "target")}


def test_every_address_is_one_that_virtualbox_allows_and_no_two_are_the_same() -> None:
    addresses = [address for _, address in machines().values()]
    assert len(set(addresses)) == len(addresses)
    assert [address for address in addresses if ipaddress.ip_address(address) not in HOST_ONLY] == []


def test_the_paths_of_the_configuration_are_those_that_the_script_prepares() -> None:
    script, fleet = SCRIPT.read_text("utf-8"), settings()
    assert f"site={fleet.source.path}\n" in script
    assert f"target) make_deploy {fleet.targets.deploy_to} ;;" in script
    assert {f"mirror) make_deploy {Path(mirror.path).parent} ;;" in script for mirror in fleet.mirrors} == {True}
    assert f"id {fleet.ssh.user} >" in script


@needs_keygen
def test_every_machine_knows_every_other_by_name_and_address_before_the_first_one_starts(tmp_path: Path) -> None:
    make_keys(tmp_path)
    for machine in machines():
        known = KnownHosts.read(tmp_path / machine / "known_hosts")
        assert known.skipped == 0
        for name, (_, address) in machines().items():
            key = public(tmp_path / name / "host_key")
            assert [[f"{k.get_name()} {k.get_base64()}" for k in known.keys_for([n])] for n in (name, address)] == [
                [key]
            ] * 2


@needs_keygen
def test_targets_let_the_server_in_and_mirrors_the_targets_too(tmp_path: Path) -> None:
    make_keys(tmp_path)
    users = {name: public(tmp_path / name / "user_key") for name in machines()}
    assert len(set(users.values())) == len(users)
    targets = {name for name, (role, _) in machines().items() if role == "target"}
    let_in = {"server": set(), "mirror": {"server-1", *targets}, "target": {"server-1"}}
    for name, (role, _) in machines().items():
        trusted = (tmp_path / name / "authorized_keys").read_text().splitlines()
        assert sorted(trusted) == sorted(users[each] for each in let_in[role]), name


@needs_keygen
def test_making_the_keys_again_changes_nothing_also_from_several_machines_at_once(tmp_path: Path) -> None:
    fleet = [f"{name}={role}={address}" for name, (role, address) in machines().items()]
    running = [subprocess.Popen(["bash", SCRIPT, "keys", tmp_path, *fleet], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [b""] * 3
    assert [process.returncode for process in running] == [0] * 3
    first = contents(tmp_path)
    assert len(first) == 1 + 4 * len(machines())
    make_keys(tmp_path)
    assert contents(tmp_path) == first


@needs_keygen
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_sees_nothing_of_the_keys_and_nobody_else_can_read_them(tmp_path: Path) -> None:
    run("git", "init", "--quiet", tmp_path)
    make_keys(tmp_path / "vagrant/keys")
    listed = run("git", "-C", tmp_path, "status", "--porcelain", "--untracked-files=all")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert [path for path in (tmp_path / "vagrant/keys").rglob("*") if path.stat().st_mode & 0o077] == []


def test_the_script_is_sound_bash_and_can_be_executed() -> None:
    checked = run("bash", "-n", SCRIPT)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize("argv", [(), ("web",), ("server-1",)])
def test_the_script_refuses_a_role_that_it_does_not_know_before_it_does_anything(argv: tuple[str, ...]) -> None:
    refused = run("bash", SCRIPT, *argv)
    assert refused.returncode == 2
    assert refused.stderr.startswith("usage: provision.sh")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed: the script was not linted")
def test_shellcheck_has_nothing_to_say() -> None:
    checked = run("shellcheck", SCRIPT)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.skipif(
    shutil.which("vagrant") is None,
    reason="vagrant is not installed: the Vagrantfile was not checked; apt-get install --no-install-recommends vagrant",
)
def test_vagrant_accepts_the_vagrantfile(tmp_path: Path) -> None:
    places = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "state")}
    variables = {**places, "VAGRANT_CWD": str(ROOT / "vagrant"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    checked = run("vagrant", "validate", "--ignore-provider", **variables)
    assert checked.returncode == 0, checked.stdout + checked.stderr
