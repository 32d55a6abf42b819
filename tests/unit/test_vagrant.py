"""The virtual machines of vagrant/ and the configuration that deploys to them are one fleet, known to each other."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from needs import need_program

from tasks.core.config import Settings, parse
from tasks.remote.known_hosts import KnownHosts

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "vagrant/provision.sh"
VAGRANTFILE = (ROOT / "vagrant/Vagrantfile").read_text("utf-8")
CONFIGURATION = (ROOT / "config/vagrant.toml").read_text("utf-8")
MACHINE = re.compile(r'name: "(?P<name>[^"]*)", role: "(?P<role>[^"]*)", address: "(?P<address>[^"]*)"')
SCRIPTS = re.compile(r'File\.join\(__dir__, "(?P<name>[^"]+\.sh)"\)')
HOST_ONLY = ipaddress.ip_network("192.168.56.0/21")  # VirtualBox refuses private networks elsewhere
ROLES = {"server-1": "server", "mirror-1": "mirror", "mirror-2": "mirror", "balancer": "balancer"}
ZONES = {"web-1": "eu", "web-2": "eu", "web-3": "us", "web-4": "us"}
CONFIGURED = ("mirror", "target")


@pytest.fixture
def keygen() -> None:
    need_program("ssh-keygen", "openssh-client")


def machines() -> dict[str, tuple[str, str]]:
    """Read role and address of every machine from the Vagrantfile."""
    return {name: (role, address) for name, role, address in MACHINE.findall(VAGRANTFILE)}


def settings(configuration: str = CONFIGURATION) -> Settings:
    return parse(configuration, "vagrant", "config/vagrant.toml")


def troubles(vagrantfile: str, configuration: str = CONFIGURATION) -> list[str]:
    """Say what `vagrant validate` does not see: addresses, scripts, machines that the configuration has not."""
    found = MACHINE.findall(vagrantfile)
    wrong = [f"no address: {address}" for _, _, address in found if not is_usable(address)]
    for what, values in (("name", [name for name, _, _ in found]), ("address", [address for _, _, address in found])):
        wrong += [f"{what} twice: {value}" for value, count in Counter(values).items() if count > 1]
    scripts = SCRIPTS.findall(vagrantfile)
    wrong += [f"no script: {name}" for name in scripts or ["any"] if not (SCRIPT.parent / name).is_file()]
    fleet = settings(configuration)
    told = {(host.name, "target", host.address) for host in fleet.hosts}
    told |= {(mirror.server.name, "mirror", mirror.server.address) for mirror in fleet.mirrors if mirror.server}
    there = {machine for machine in found if machine[1] in CONFIGURED}
    wrong += [f"only configured: {name}" for name, _, _ in sorted(told - there)]
    return wrong + [f"only in the Vagrantfile: {name}" for name, _, _ in sorted(there - told)]


def is_usable(address: str) -> bool:
    """Tell whether a machine may have the address: in range, and neither network, gateway nor broadcast."""
    try:
        return ipaddress.ip_address(address) in HOST_ONLY and 1 < int(address.rpartition(".")[2]) < 255
    except ValueError:
        return False


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
    return " ".join(run("ssh-keygen", "-y", "-f", key).stdout.split()[:2])


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_vagrantfile_and_configuration_are_one_fleet() -> None:
    assert troubles(VAGRANTFILE) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("192.168.61.24", "192.168.61.256", "no address: 192.168.61.256"),
        ("192.168.61.24", "10.0.0.24", "no address: 10.0.0.24"),
        ("192.168.61.24", "192.168.61.1", "no address: 192.168.61.1"),
        ("192.168.61.10", "192.168.61.11", "address twice: 192.168.61.11"),
        ('"balancer", role', '"server-1", role', "name twice: server-1"),
        ('"provision.sh"', '"prepare.sh"', "no script: prepare.sh"),
        ('name: "web-4"', 'name: "web-5"', "only in the Vagrantfile: web-5"),
        ('name: "web-4"', 'name: "web-5"', "only configured: web-4"),
        ('"mirror-2", role: "mirror"', '"mirror-2", role: "target"', "only configured: mirror-2"),
    ],
)
def test_what_validate_misses_is_found(old: str, new: str, told: str) -> None:
    assert VAGRANTFILE.count(old) == 1
    assert told in troubles(VAGRANTFILE.replace(old, new))


def test_a_host_of_the_configuration_without_a_machine_is_found() -> None:
    more = CONFIGURATION.replace('"web-4"', '"web-9"')
    assert troubles(VAGRANTFILE, more) == ["only configured: web-9", "only in the Vagrantfile: web-4"]


def test_there_are_a_balancer_two_mirrors_and_four_targets_in_two_zones() -> None:
    fleet = settings()
    assert {mirror.name: mirror.zone for mirror in fleet.mirrors} == {"mirror-1": "eu", "mirror-2": "us"}
    assert {host.name: host.zone for host in fleet.hosts} == ZONES
    assert {name: role for name, (role, _) in machines().items()} == {**ROLES, **dict.fromkeys(ZONES, "target")}


def test_the_paths_of_the_configuration_are_those_of_the_script() -> None:
    script, fleet = SCRIPT.read_text("utf-8"), settings()
    assert f"site={fleet.source.path}\n" in script
    assert f"app={fleet.targets.deploy_to}\n" in script
    assert fleet.targets.link is None
    assert f"id {fleet.ssh.user} >" in script


@pytest.mark.usefixtures("keygen")
def test_the_server_knows_every_machine_by_name_and_address_and_all_know_the_mirrors(tmp_path: Path) -> None:
    make_keys(tmp_path)
    for machine, (role, _) in machines().items():
        known = KnownHosts.read(tmp_path / machine / "known_hosts")
        assert known.skipped == 0
        for name, (other, address) in machines().items():
            keys = [public(tmp_path / name / "ssh_host_ed25519_key")] if role == "server" or other == "mirror" else []
            for told in (name, address):
                assert [f"{key.get_name()} {key.get_base64()}" for key in known.keys_for([told])] == keys


@pytest.mark.usefixtures("keygen")
def test_all_let_the_server_in_and_mirrors_the_targets_and_mirrors_too(tmp_path: Path) -> None:
    make_keys(tmp_path)
    users = {name: public(tmp_path / name / "id_ed25519") for name in machines()}
    assert len(set(users.values())) == len(users)
    fetching = {name for name, (role, _) in machines().items() if role in CONFIGURED}
    for name, (role, _) in machines().items():
        trusted = (tmp_path / name / "authorized_keys").read_text().splitlines()
        let_in = {"server-1", *fetching} if role == "mirror" else {"server-1"}
        assert sorted(trusted) == sorted(users[each] for each in let_in), name


def fresh_machine(root: Path) -> None:
    """Lay below a folder what the script finds on a machine; its users have the number of who runs the test."""
    for folder in ("etc/ssh", "etc/nginx", "etc/haproxy", "srv", "home/deploy", "home/ann"):
        (root / folder).mkdir(parents=True)
    users = [f"{name}:x:{os.getuid()}:{os.getgid()}::/home/{name}:/bin/sh\n" for name in ("deploy", "ann")]
    (root / "etc/passwd").write_text("".join(users))
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


@pytest.mark.usefixtures("keygen")
@pytest.mark.parametrize(("name", "user"), [("server-1", "ann"), ("balancer", "deploy"), ("web-4", "deploy")])
def test_settling_a_machine_twice_changes_nothing_and_each_role_has_its_own(
    tmp_path: Path, name: str, user: str
) -> None:
    keys, root, role = tmp_path / "keys", tmp_path / name, machines()[name][0]
    make_keys(keys)
    fresh_machine(root)
    states = []
    for _ in range(2):
        settled = run("bash", SCRIPT, "settle", role, keys / name, root, "ann")
        assert (settled.returncode, settled.stderr) == (0, "")
        states.append(contents(root))
    found, again = states
    assert found == again
    assert found[f"home/{user}/.ssh/id_ed25519"] == (keys / name / "id_ed25519").read_text()
    assert found["etc/hosts"].splitlines()[0] == "127.0.0.1 localhost"
    assert len(found["etc/hosts"].splitlines()) == 1 + len(machines())
    assert ("etc/nginx/nginx.conf" in found) == (role == "target")
    servers = re.findall(r"^  server (\S+) (\S+):80$", found.get("etc/haproxy/haproxy.cfg", ""), re.MULTILINE)
    targets = [(target, address) for target, (what, address) in machines().items() if what == "target"]
    assert servers == (targets if role == "balancer" else [])


@pytest.mark.usefixtures("keygen")
def test_making_the_keys_again_changes_nothing_also_from_several_machines_at_once(tmp_path: Path) -> None:
    fleet = [f"{name}={role}={address}" for name, (role, address) in machines().items()]
    running = [subprocess.Popen(["bash", SCRIPT, "keys", tmp_path, *fleet], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [b""] * 3
    assert [process.returncode for process in running] == [0] * 3
    first = contents(tmp_path)
    assert len(first) == 1 + 7 * len(machines())
    make_keys(tmp_path)
    assert contents(tmp_path) == first


@pytest.mark.usefixtures("keygen")
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


def test_shellcheck_has_nothing_to_say() -> None:
    need_program("shellcheck", "shellcheck")
    checked = run("shellcheck", SCRIPT)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_vagrant_accepts_the_vagrantfile(tmp_path: Path) -> None:
    need_program("vagrant", "vagrant")
    places = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "state")}
    variables = {**places, "VAGRANT_CWD": str(ROOT / "vagrant"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    checked = run("vagrant", "validate", "--ignore-provider", **variables)
    assert checked.returncode == 0, checked.stdout + checked.stderr
