"""Machines on which set-up, check and deploy cannot work: each is named, with what to do, and nothing breaks."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from lab_operator import FOLDER, HOME, KNOWN_HOSTS, THREE, Operator, small_site
from real_site import Site

from tasks.remote.lab import Lab

UID = 7700
ODD_LINES = """
# ours
@cert-authority *.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsVbtmdbsHlUWMZbgrBBZT3aNWEkeZIhSIoxKhOlEyL ca
@cert-authority web-01
@revoked * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsVbtmdbsHlUWMZbgrBBZT3aNWEkeZIhSIoxKhOlEyL
@what web-01 ssh-ed25519 AAAA
|1|odd|line ssh-ed25519 AAAA
|2|c2FsdA==|aGFzaA== ssh-ed25519 AAAA
web-01
web-01 ssh-ed25519
web-01 ssh-ed25519 !!!!
web-01 ssh-dss AAAAB3NzaC1kc3M=
*,!web-01 ssh-ed25519 AAAA
\t  \t
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets and two mirrors."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@pytest.fixture
def operator(lab: Lab) -> Operator:
    """Give a test machines on which nobody has set anything up, and a site."""
    for machine in [*lab.mirrors, *lab.targets]:
        for left in lab.path(machine, "/srv").iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    shutil.rmtree(lab.path("server-1", f"{HOME}/.local/state/skein"), ignore_errors=True)  # of ledgers that are no more
    return Operator(lab, "prod", f"/srv/site-{next(_numbers)}", groups=THREE)


@pytest.fixture
def site(operator: Operator) -> Site:
    return small_site(operator.lab, operator.folder)


@contextmanager
def mounted(lab: Lab, machine: str, path: str, option: str) -> Iterator[None]:
    """Have a directory of one machine be a mount of its own with an option such as ro."""
    lab.run(machine, ["mount", "--bind", path, path])
    lab.run(machine, ["mount", "-o", f"remount,bind,{option}", path])
    try:
        yield
    finally:
        lab.run(machine, ["umount", "-l", path])


@contextmanager
def program(lab: Lab, machine: str, name: str, text: str | None) -> Iterator[None]:
    """Put a script in the place of a program of /usr/bin on one machine alone, or nothing."""
    script = lab.path(machine, "/tmp/program")
    script.write_text(text or "")
    script.chmod(0o755)
    overlay = "upper=$(mktemp -d -p /run) work=$(mktemp -d -p /run) && chmod 755 $upper"
    mount = f"{overlay} && mount -t overlay -o lowerdir=/usr/bin,upperdir=$upper,workdir=$work overlay /usr/bin"
    change = f"rm /usr/bin/{name}" if text is None else f"cp --remove-destination /tmp/program /usr/bin/{name}"
    lab.run(machine, ["sh", "-ec", f"cp -L /usr/bin/{name} /run/real-{name}; {mount}; {change}"])
    try:
        yield
    finally:
        lab.run(machine, ["umount", "-l", "/usr/bin"])


def setup_says(operator: Operator, machine: str, code: int) -> str:
    """Set up and return the troubles of the one machine that has any."""
    document = operator.fab("setup", "--json", code=code).json
    machines = {**document["mirrors"], **document["targets"]}
    assert [name for name, each in machines.items() if not each["ready"]] == [machine], machines
    return " ".join(machines[machine]["troubles"])


def check_says(operator: Operator, host: str) -> str:
    """Check and return what is wrong on the one target on which anything is."""
    findings = {each["host"]: each["findings"] for each in operator.fab("check", "--json", code=6).json["targets"]}
    wrong = {name: [each["message"] for each in found if not each["ok"]] for name, found in findings.items()}
    assert [name for name, told in wrong.items() if told] == [host], wrong
    return " ".join(wrong[host])


def deploy_says(operator: Operator, host: str) -> str:
    """Deploy, assert that nothing became live anywhere, and return why not."""
    before = operator.live()
    reasons = operator.deploy(code=5).reasons
    assert list(reasons) == [host], reasons
    assert operator.live() == before
    return str(reasons[host])


def assert_all_well(operator: Operator, site: Site) -> None:
    """Assert that what was in the way left nothing behind that is in the way still."""
    operator.fab("setup")
    operator.fab("check")
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[-1]))


OLD_PYTHON = """#!/bin/sh
for last; do :; done
code=$6
shift 6
exec /run/real-python3 -I -S -X utf8 -c "import sys; sys.version_info = (3, 7, 3, 'final', 0); sys.version = '3.7.3'
$code" "$@"
"""
OLD_GIT = '#!/bin/sh\ntest "$1" = --version && echo git version 2.20.1 && exit\nexec /run/real-git "$@"\n'

HOSTS: dict[str, tuple[Callable[[Lab], AbstractContextManager[None]], str]] = {
    "read-only": (lambda lab: mounted(lab, "web-02", "/srv", "ro"), "mounted read-only"),
    "no python": (lambda lab: program(lab, "web-02", "python3", None), "python3 is not installed there"),
    "old python": (lambda lab: program(lab, "web-02", "python3", OLD_PYTHON), "needs python 3.8 or newer"),
    "no git": (lambda lab: program(lab, "web-02", "git", None), "git is not installed"),
    "old git": (lambda lab: program(lab, "web-02", "git", OLD_GIT), "git 2.20.1 is too old"),
}


@pytest.mark.parametrize(
    ("kind", "known"), [*((kind, False) for kind in HOSTS), ("read-only", True), ("old git", True)]
)
def test_a_target_that_cannot_serve_is_named_by_each_command(
    operator: Operator, site: Site, kind: str, known: bool
) -> None:
    spoil, words = HOSTS[kind]
    operator.fab("setup")
    if known:
        operator.deploy()
        site.change({"index.html": b"second\n"}, "second")
    else:
        operator.wipe(["web-02"])
    with spoil(operator.lab):
        assert words in setup_says(operator, "web-02", 5)
        assert words in check_says(operator, "web-02")
        assert words in deploy_says(operator, "web-02")
        assert operator.deploy("--fail-limit", "1", code=12).states["web-01"] == "live"
    assert_all_well(operator, site)


@pytest.mark.parametrize("path", ["", ".skein", "releases", ".skein/tmp", ".skein/state.json"])
def test_what_belongs_to_another_user_on_a_target_is_named(operator: Operator, site: Site, path: str) -> None:
    operator.fab("setup")
    operator.deploy()
    site.change({"index.html": b"second\n"}, "second")
    place = operator.path("web-03", path) if path else operator.path("web-03")
    os.chown(place, 0, 0)
    place.chmod(0o700 if place.is_dir() else 0o600)
    assert "fab setup" in check_says(operator, "web-03")
    told = deploy_says(operator, "web-03")
    assert "permission denied" in told
    assert operator.deploy("--fail-limit", "1", code=12).states["web-01"] == "live"
    os.chown(place, UID, UID)
    place.chmod(0o755)
    assert_all_well(operator, site)


def test_a_target_on_a_noexec_mount_serves_and_its_own_script_is_what_fails(operator: Operator, site: Site) -> None:
    site.change({"bin/reload": b"#!/bin/sh\nexit 0\n"}, "a script")
    (site.folder / "bin/reload").chmod(0o755)
    site.commit("executable")
    with mounted(operator.lab, "web-02", "/srv", "noexec"):
        operator.fab("setup")
        operator.fab("check")
        operator.deploy()
        operator.assert_serves(site.files_at(site.commits[-1]))
        operator.configure(groups=THREE, targets={"after_flip": ["bin/reload"]})
        site.change({"index.html": b"second\n"}, "second")
        reasons = operator.deploy(code=10).reasons
        assert "after_flip cannot run bin/reload: it may not be executed" in reasons["web-02"]
    operator.configure(groups=THREE, targets={"after_flip": ["bin/reload"]})
    assert_all_well(operator, site)


MIRRORS: dict[str, tuple[Callable[[Lab], AbstractContextManager[None]], str]] = {
    "read-only": (lambda lab: mounted(lab, "mirror-2", "/srv", "ro"), "mounted read-only"),
    "noexec": (lambda lab: mounted(lab, "mirror-2", "/srv", "noexec"), "noexec"),
    "no python": (lambda lab: program(lab, "mirror-2", "python3", None), "python3 is not installed there"),
    "old python": (lambda lab: program(lab, "mirror-2", "python3", OLD_PYTHON), "needs python 3.8 or newer"),
    "no git": (lambda lab: program(lab, "mirror-2", "git", None), "git is not installed"),
    "old git": (lambda lab: program(lab, "mirror-2", "git", OLD_GIT), "git 2.20.1 is too old"),
}


@pytest.mark.parametrize("kind", MIRRORS)
def test_a_mirror_that_cannot_be_made_is_named_and_the_rest_goes_on(operator: Operator, site: Site, kind: str) -> None:
    spoil, words = MIRRORS[kind]
    with spoil(operator.lab):
        assert words in setup_says(operator, "mirror-2", 3)
        run = operator.fab("check", "--json", code=6)
        assert [each["what"] for each in run.json["here"] if not each["ok"]] == ["mirror mirror-2"], run.out
        deployed = operator.deploy()
        assert any(note.startswith("mirror mirror-2 did not take the release") for note in deployed.json["notes"])
    assert_all_well(operator, site)


@pytest.mark.parametrize("kind", ["read-only", "noexec"])
def test_a_mirror_that_became_so_later_is_named(operator: Operator, site: Site, kind: str) -> None:
    spoil, words = MIRRORS[kind]
    operator.fab("setup")
    with spoil(operator.lab):
        run = operator.fab("mirrors.check", "--json", code=6, program="invoke")
        found = {each["mirror"]: each["findings"] for each in run.json["mirrors"]}
        assert words in " ".join(each["message"] for each in found["mirror-2"] if not each["ok"])
        assert [each for each in found["mirror-1"] if not each["ok"]] == []
        deployed = operator.deploy()
        if kind == "read-only":
            assert any(note.startswith("mirror mirror-2 did not take the release") for note in deployed.json["notes"])
    assert_all_well(operator, site)


@pytest.mark.parametrize("mirror", ["mirror-1", "mirror-2"])
def test_a_mirrors_path_that_is_another_users_is_named(operator: Operator, site: Site, mirror: str) -> None:
    folder = operator.lab.path(mirror, "/srv/git")
    folder.mkdir()
    os.chown(folder, 0, 0)
    told = setup_says(operator, mirror, 3)
    assert "permission denied" in told
    assert "/srv/git" in told
    assert list(folder.iterdir()) == []
    os.chown(folder, UID, UID)
    assert_all_well(operator, site)


@pytest.mark.parametrize("kind", ["another project's", "another app's", "no repository"])
def test_a_mirrors_path_that_holds_something_else_is_named_and_not_touched(
    operator: Operator, site: Site, kind: str
) -> None:
    lab, path = operator.lab, operator.mirror_path
    if kind == "no repository":
        lab.run("mirror-1", ["mkdir", "-p", f"{path}/photos"], user="deploy")
    else:
        lab.run("mirror-1", ["git", "init", "-q", "--bare", path], user="deploy")
        commit = ["git", f"--git-dir={path}", "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x"]
        tree = lab.run("mirror-1", ["git", f"--git-dir={path}", "mktree"], user="deploy", check=True).stdout.strip()
        head = lab.run("mirror-1", [*commit, tree], user="deploy").stdout.strip()
        lab.run("mirror-1", ["git", f"--git-dir={path}", "update-ref", "refs/heads/main", head], user="deploy")
    if kind == "another app's":
        for key, value in (("skein.format", "1"), ("skein.app", "shop")):
            lab.run("mirror-1", ["git", f"--git-dir={path}", "config", key, value], user="deploy")
    before = everything(lab.path("mirror-1", path))
    words = {"another project's": "another project", "another app's": "shop", "no repository": "no bare repository"}
    assert words[kind] in setup_says(operator, "mirror-1", 3)
    run = operator.fab("check", "--json", code=6)
    told = {each["what"]: each["message"] for each in run.json["here"] if not each["ok"]}
    assert set(told) == {"mirror mirror-1", "ledger"}, "what is no mirror holds no ledger either"
    for each in (told["mirror mirror-1"], told["ledger"], operator.deploy(code=3).json["error"]):
        assert "choose another path for the mirror" in each
        assert "run fab setup" not in each.replace("`", "")
    assert everything(lab.path("mirror-1", path)) == before
    assert site.git("tag", "--list") == b""
    shutil.rmtree(lab.path("mirror-1", path))
    assert_all_well(operator, site)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_mirror_that_was_never_made_is_to_be_made_by_setup(operator: Operator, site: Site, is_there: bool) -> None:
    if is_there:
        operator.lab.run("mirror-1", ["mkdir", "-p", operator.mirror_path], user="deploy")
    run = operator.fab("check", "--json", code=6)
    told = {each["what"]: each["message"] for each in run.json["here"] if not each["ok"]}
    assert set(told) == {"mirror mirror-1", "mirror mirror-2", "ledger"}
    for each in (*told.values(), operator.deploy(code=3).json["error"]):
        assert "no bare repository at" in each
        assert "run fab setup" in each.replace("`", "")
        assert "another path" not in each
    assert_all_well(operator, site)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = sorted(folder.rglob("*"))
    return {str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


@contextmanager
def known_hosts(lab: Lab, change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    path = lab.path("server-1", KNOWN_HOSTS)
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield path.read_bytes()
        path_now = path.read_bytes()
        assert path_now == change(before), "known_hosts was changed"
    finally:
        path.write_bytes(before)


def test_odd_lines_of_known_hosts_harm_nothing(operator: Operator, site: Site) -> None:
    long = b"web-0" + b"9" * (4 << 20) + b" ssh-ed25519 " + b"A" * (4 << 20) + b"\n"
    odd = ODD_LINES.encode() + b"\0\xff\xfe binary\r\n" + long

    with known_hosts(operator.lab, lambda before: odd + before + odd.rstrip(b"\n")):
        assert_all_well(operator, site)


def test_hashed_lines_of_known_hosts_are_read(operator: Operator, site: Site) -> None:
    lab, copy = operator.lab, f"{HOME}/hashed"
    shutil.copy(lab.path("server-1", KNOWN_HOSTS), lab.path("server-1", copy))
    lab.run("server-1", ["ssh-keygen", "-H", "-f", copy])
    hashed = lab.path("server-1", copy).read_bytes()
    assert b"web-01" not in hashed
    with known_hosts(lab, lambda before: hashed):
        assert_all_well(operator, site)


def test_a_revoked_host_key_is_refused_by_each_command(operator: Operator, site: Site) -> None:
    def revoke(before: bytes) -> bytes:
        (key,) = {tuple(line.split()[1:3]) for line in before.splitlines() if line.startswith(b"web-02")}
        return before + b"@revoked * " + b" ".join(key) + b"\n"

    operator.fab("setup")
    with known_hosts(operator.lab, revoke):
        for told in (
            setup_says(operator, "web-02", 5),
            check_says(operator, "web-02"),
            deploy_says(operator, "web-02"),
        ):
            assert "marked @revoked" in told
    assert_all_well(operator, site)


@pytest.mark.parametrize("twin", ["alias", "address"])
def test_two_names_of_one_host_are_named_by_each_command(operator: Operator, site: Site, twin: str) -> None:
    lab = operator.lab
    address = lab.addresses["web-02"]
    names = lab.path("server-1", "/etc/hosts")
    before = names.read_text()
    names.write_text(f"{before}\n{address} web-22\n")
    (key,) = [line for line in lab.path("server-1", KNOWN_HOSTS).read_text().splitlines() if line.startswith("web-02")]
    _, *blob = key.split()

    def also(known: bytes) -> bytes:
        return known + f"web-22 {' '.join(blob)}\n".encode()

    second = {"name": "web-22"} if twin == "alias" else {"name": "web-22", "address": address}
    text = lab.path("server-1", f"{FOLDER}/{operator.environment}.toml").read_text()
    inline = "{ " + ", ".join(f'{key} = "{value}"' for key, value in second.items()) + " }"
    with ExitStack() as stack:
        stack.enter_context(known_hosts(lab, also))
        stack.callback(lambda: names.write_text(before))
        operator.fab("setup")
        operator.write(text.replace('"web-02"]', f'"web-02", {inline}]'))
        run = operator.fab("setup", "--json", code=5)
        told = {name: each["troubles"] for name, each in run.json["targets"].items() if not each["ready"]}
        assert list(told) == ["web-02", "web-22"]
        reasons = operator.deploy(code=5).reasons
        assert list(reasons) == ["web-02", "web-22"]
        for each in (*told["web-02"], *reasons.values()):
            assert each.startswith("web-[02,22] are one and the same place")
        checked = operator.fab("check", code=6)
        assert "web-[02,22] are one and the same place" in checked.said
        assert operator.live() == dict.fromkeys(operator.hosts)
    operator.write(text)
    assert_all_well(operator, site)


def test_one_address_and_port_under_two_names_is_a_mistake_of_the_configuration(operator: Operator) -> None:
    address = operator.lab.addresses["web-02"]
    operator.write(
        operator.lab.path("server-1", f"{FOLDER}/{operator.environment}.toml")
        .read_text()
        .replace(
            '"web-01", "web-02"',
            f'{{ name = "web-01", address = "{address}" }}, {{ name = "web-02", address = "{address}" }}',
        )
    )
    for command in ("setup", "check", "deploy"):
        run = operator.fab(command, code=2)
        assert "web-02 has the address and port of web-01" in run.said
    assert not operator.path("web-02").exists()
