"""Set-up on real hosts: keys of targets' own, who is let in where and for what, and every way to be cut off."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_operator import HOME, THREE, Operator, Run, small_site
from real_site import Site

from tasks.remote.lab import Lab, wait_until

UID = 7700

KEYS = "/home/deploy/.ssh/authorized_keys"
SAME = "ready, nothing to change"
ALONE = ["-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-oConnectTimeout=5", "-oLogLevel=ERROR"]


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets and two mirrors."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        keep_what_was(machines)
        yield machines


def keep_what_was(lab: Lab) -> None:
    """Copy the keys that machines begin with aside; let root log in, and deploy with the operator's key alone."""
    for machine in [*lab.mirrors, *lab.targets]:
        keys = lab.path(machine, KEYS)
        keys.write_text(keys.read_text().splitlines(True)[0])
        folder = lab.path(machine, f"{HOME}/.ssh")
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(keys, folder / "authorized_keys")
        shutil.rmtree(lab.path(machine, "/home/deploy/kept"), ignore_errors=True)
        shutil.copytree(keys.parent, lab.path(machine, "/home/deploy/kept"))


@pytest.fixture
def operator(lab: Lab) -> Operator:
    """Give a test machines on which nobody has set anything up; targets have no ssh key or settings to fall back on."""
    for machine in [*lab.mirrors, *lab.targets]:
        for left in lab.path(machine, "/srv").iterdir():
            shutil.rmtree(left)
        os.chown(lab.path(machine, "/srv"), UID, UID)
        home = lab.path(machine, "/home/deploy/.ssh")
        shutil.rmtree(home)
        shutil.copytree(lab.path(machine, "/home/deploy/kept"), home)
        for name in ("id_ed25519", "id_ed25519.pub", "known_hosts"):
            (home / name).unlink(missing_ok=True)
        for path in [home, *home.iterdir()]:
            os.chown(path, UID, UID)
    for known in ("/srv/www", f"{HOME}/.local/state/skein"):
        shutil.rmtree(lab.path("server-1", known), ignore_errors=True)
    return Operator(lab, "prod", "/srv/www", groups=THREE)


@pytest.fixture
def site(operator: Operator) -> Site:
    return small_site(operator.lab, "/srv/www")


def changed(run: Run) -> dict[str, list[str]]:
    """Return what set-up changed, by machine, those that it left alone left out."""
    machines = {**run.json["mirrors"], **run.json["targets"]}
    return {name: each["changed"] for name, each in machines.items() if each["changed"]}


def setup(operator: Operator, *argv: str, code: int | None = 0, point: str = "") -> Run:
    return operator.fab("setup", "--json", *argv, code=code, env={"SKEIN_FAILPOINT": point} if point else None)


def everything(lab: Lab) -> dict[str, tuple[int, int, int, bytes]]:
    """Return all that set-up may write, on every machine; who held the lock last is no matter."""
    found = {}
    for machine in [*lab.mirrors, *lab.targets]:
        for base in ("/srv", "/home", "/root"):
            for path in sorted(lab.path(machine, base).rglob("*")):
                if path.name not in ("lock", "skein.prod.lock"):
                    about = path.lstat()
                    content = path.read_bytes() if path.is_file() else b""
                    found[str(path)] = (about.st_mode, about.st_uid, about.st_ino, content)
    return found


# Set-up itself


def test_a_second_time_changes_nothing(operator: Operator) -> None:
    first = changed(setup(operator))
    assert sorted(first) == ["mirror-1", "mirror-2", "web-01", "web-02", "web-03"]
    assert "made its own key" in first["web-02"]
    assert "let in web-[01-03]" in first["mirror-1"]
    before = everything(operator.lab)
    assert changed(setup(operator)) == {}
    assert everything(operator.lab) == before
    assert operator.fab("setup").out.count(SAME) == 3


def test_targets_fetch_with_their_own_key_alone(operator: Operator, site: Site) -> None:
    setup(operator)
    operator.fab("check", "--json")
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))
    for mirror in operator.lab.mirrors:
        keys = operator.lab.path(mirror, KEYS)
        keys.write_text(keys.read_text().splitlines(True)[0])
    site.change({"index.html": b"second\n"}, "second")
    assert "no mirror gave the release" in " ".join(operator.deploy("--transport", "git", code=5).reasons.values())


def test_a_fleet_whose_keys_another_tool_keeps_gets_lines_to_hand_over(operator: Operator, site: Site) -> None:
    before = operator.lab.path("mirror-1", KEYS).read_bytes()
    lines = setup(operator, "--print").json["authorized_keys"]
    assert operator.lab.path("mirror-1", KEYS).read_bytes() == before
    for mirror in operator.lab.mirrors:
        with operator.lab.path(mirror, KEYS).open("a") as file:
            file.write("\n".join(lines[mirror]) + "\n")
    operator.deploy()
    assert changed(setup(operator)) == {}


def test_a_host_that_left_is_named_and_let_in_until_that_is_ended(operator: Operator) -> None:
    setup(operator)
    operator.configure(groups={"eu": {"hosts": ["web-01", "web-02"], "zone": "eu"}})
    assert "mirror-1 still lets in web-03: --prune-keys ends that" in setup(operator).json["notes"]
    assert changed(setup(operator, "--prune-keys"))["mirror-1"] == ["no longer let in web-03"]
    assert "web-03" not in operator.lab.path("mirror-1", KEYS).read_text()
    assert setup(operator, "--only", "web-01").json["notes"] == []


def test_a_changed_key_is_let_in_in_the_old_ones_place(operator: Operator) -> None:
    setup(operator)
    operator.path("web-02", ".skein/ssh/id_ed25519").unlink()
    again = changed(setup(operator))
    assert again["web-02"] == ["made its own key"]
    assert again["mirror-1"] == ["let in with another key web-02"]


POINTS = (
    *("agent.locked@web-01", "agent.install.before@web-02", "agent.setup.key@web-03", "agent.setup.share@web-01"),
    *("agent.setup.authorize@mirror-1", "agent.setup.authorized@mirror-2"),
)


@pytest.mark.parametrize("point", POINTS)
def test_set_up_that_was_killed_on_a_host_is_completed_by_the_next(operator: Operator, site: Site, point: str) -> None:
    operator.configure(groups=THREE, targets={"linked_files": [".env"]})
    operator.lab.path("server-1", f"{HOME}/.env").write_text("SECRET=1\n")
    assert setup(operator, "--shared", f"{HOME}/.env", code=None, point=point).code in (3, 5)
    assert_completed(operator)


MOMENTS = {
    "mirror": ("mirror-1", "/srv/git"),
    "directories": ("web-01", "/srv/app/releases"),
    "agent": ("web-02", "/srv/app/.skein/agent"),
    "key": ("web-03", "/srv/app/.skein/ssh"),
    "pins": ("web-03", "/srv/app/.skein/ssh/known_hosts"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_set_up_whose_operator_was_killed_is_completed_by_the_next(operator: Operator, site: Site, moment: str) -> None:
    operator.configure(groups=THREE, targets={"linked_files": [".env"]})
    operator.lab.path("server-1", f"{HOME}/.env").write_text("SECRET=1\n")
    place = operator.lab.path(*MOMENTS[moment])
    process = operator.start("setup", "--shared", f"{HOME}/.env")
    wait_until(lambda: place.exists() or process.poll() is not None, f"{place} is there", 60)
    process.send_signal(signal.SIGKILL)
    operator.finish(process)
    assert_completed(operator)


def assert_completed(operator: Operator) -> None:
    """Assert that set-up runs through, that then nothing is left to do, and that nobody left anything behind."""
    lab = operator.lab
    setup(operator, "--shared", f"{HOME}/.env")
    assert changed(setup(operator, "--shared", f"{HOME}/.env")) == {}
    for machine in [*lab.mirrors, *lab.targets]:
        left = [path for base in ("/srv", "/home") for path in lab.path(machine, base).rglob("*new*")]
        assert [path for path in left if "skein-new" in path.name or path.name.endswith(".new")] == []
    for target in lab.targets:
        assert list(operator.path(target, ".skein/tmp").iterdir()) == []
        assert operator.path(target, "shared/.env").read_text() == "SECRET=1\n"
        assert operator.path(target, "shared/.env").stat().st_mode & 0o777 == 0o640
    operator.fab("check")


def test_root_prepares_hosts_on_which_the_deploy_user_owns_nothing(operator: Operator, site: Site) -> None:
    lab = operator.lab
    for machine in [*lab.mirrors, *lab.targets]:
        os.chown(lab.path(machine, "/srv"), 0, 0)
    operator.path("web-02", "releases").mkdir(parents=True)
    operator.path("web-03", ".skein/ssh").mkdir(parents=True)
    assert "permission denied" in setup(operator, code=3).json["targets"]["web-01"]["troubles"][0]
    done = changed(setup(operator, "--user", "root"))
    assert f"gave {operator.deploy_to}/releases to deploy" in done["web-02"]
    assert any("files and directories" in each for each in done["web-03"])
    assert changed(setup(operator, "--user", "root")) == {}
    assert changed(setup(operator)) == {}
    wrong = [path for host in lab.targets for path in operator.path(host).rglob("*") if path.lstat().st_uid != UID]
    assert wrong == []
    assert lab.path("web-01", "/srv").stat().st_uid == 0
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))


def test_root_is_not_led_astray_by_a_link_that_the_deploy_user_planted(operator: Operator) -> None:
    lab = operator.lab
    os.chown(lab.path("web-01", "/srv"), 0, 0)
    precious = lab.path("web-01", "/srv/precious")
    precious.mkdir()
    operator.path("web-01").mkdir()
    operator.path("web-01", "releases").symlink_to("/srv/precious")
    os.chown(operator.path("web-01"), UID, UID)
    assert setup(operator, "--user", "root", code=5).json["targets"]["web-01"]["troubles"]
    assert precious.stat().st_uid == 0


def test_root_makes_nothing_where_others_could_put_a_link_and_names_the_directory(operator: Operator) -> None:
    for machine in ("web-01", "mirror-1"):
        os.chown(operator.lab.path(machine, "/srv"), 0, 0)
        operator.lab.path(machine, "/srv").chmod(0o775)
    try:
        document = setup(operator, "--user", "root", code=3).json
        for told in (document["targets"]["web-01"]["troubles"][0], document["mirrors"]["mirror-1"]["troubles"][0]):
            assert told.startswith("root makes nothing in /srv, for others may write there")
        assert list(operator.lab.path("web-01", "/srv").iterdir()) == []
        assert document["targets"]["web-02"]["ready"]
    finally:
        for machine in ("web-01", "mirror-1"):
            operator.lab.path(machine, "/srv").chmod(0o755)


def test_a_user_who_is_not_there_or_may_not_is_named(operator: Operator) -> None:
    assert "sudo" in setup(operator, "--user", "deploy", code=3).json["targets"]["web-01"]["troubles"][0]
    assert not operator.path("web-01").exists()
    operator.configure(groups=THREE, ssh={"user": "nobody-here"})
    troubles = setup(operator, "--user", "root", code=3).json["targets"]["web-01"]["troubles"]
    assert troubles == ["there is no user nobody-here on this host: make it, or correct ssh.user"]


# Linked files


def test_a_linked_file_is_never_written_over_unasked(operator: Operator) -> None:
    operator.configure(groups=THREE, targets={"linked_files": ["conf/.env"]})
    local = operator.lab.path("server-1", f"{HOME}/secrets")
    local.write_text("1\n")
    there = operator.path("web-02", "shared/conf/.env")
    setup(operator, "--shared", f"{HOME}/secrets=conf/.env")
    local.write_text("2\n")
    refused = setup(operator, "--shared", f"{HOME}/secrets=conf/.env", code=5)
    assert "--replace" in refused.json["targets"]["web-02"]["troubles"][0]
    assert there.read_text() == "1\n"
    setup(operator, "--shared", f"{HOME}/secrets=conf/.env", "--replace")
    assert there.read_text() == "2\n"
    assert "targets.linked_files has: conf/.env" in operator.fab("setup", "--shared", f"{HOME}/secrets", code=2).err


# Host keys of a new fleet


def test_unpinned_hosts_are_listed_and_only_trusted_keys_are_pinned(operator: Operator) -> None:
    known = operator.lab.path("server-1", f"{HOME}/.ssh/known_hosts")
    before = known.read_text()
    odd = "# ours\n@cert-authority * ssh-ed25519 AAAA\n|1|odd\n"
    trust = operator.lab.path("server-1", f"{HOME}/trust")
    try:
        known.write_text(odd)
        found = {each["host"]: each for each in operator.fab("setup", "--scan", "--json", code=6).json["keys"]}
        assert sorted(found) == ["mirror-1", "mirror-2", "web-01", "web-02", "web-03"]
        assert found["web-01"]["address"] == operator.lab.addresses["web-01"]
        assert known.read_text() == odd
        prints = {name: each["fingerprint"] for name, each in found.items()}
        swapped = {**prints, "web-02": prints["web-01"]}
        del swapped["web-03"]
        trust.write_text("".join(f"{name} {each}\n" for name, each in swapped.items()))
        run = operator.fab("setup", "--trust", f"{HOME}/trust", code=6)
        assert "web-02: it shows" in run.out
        assert "web-03: its key is not pinned" in run.out
        assert not operator.path("web-01").exists()
        assert known.read_text().startswith(odd)
        assert "web-02" not in known.read_text()
        trust.write_text("".join(line for line in before.splitlines(True) if line.startswith("web-0")))
        operator.fab("setup", "--trust", f"{HOME}/trust")
        assert operator.path("web-03", ".skein").exists()
        assert operator.fab("setup", "--scan", code=0).out.startswith("every host's key is pinned")
        assert known.stat().st_mode & 0o777 == 0o600
    finally:
        known.write_text(before)


# What a stolen key can do


def ssh(lab: Lab, key: str, *words: str, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Log in from server-1 with one key alone."""
    return lab.run("server-1", ["ssh", *ALONE, "-i", key, *words], check=False, timeout=20)


def attacks(lab: Lab, key: str, host: str, path: str) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Try what a key's thief would try; the marker is a file that no attempt may make."""
    login, mark = f"deploy@{host}", "/home/deploy/marker"
    other = path.replace("www.git", "other.git")
    for words in (
        *(
            "id",
            f"touch {mark}",
            f"sh -c 'touch {mark}'",
            f"true; touch {mark}",
            f"git-upload-pack '{path}'; touch {mark}",
        ),
        *(f"git-upload-pack '{path}' && touch {mark}", f"git-shell -c 'touch {mark}'", f"$(touch {mark})"),
        *(f"git-receive-pack '{path}'", f"git-upload-archive '{path}'", f"git-upload-pack '{other}'"),
        *(f"scp -t {mark}", "/usr/lib/openssh/sftp-server", "internal-sftp", f"rsync --server . {mark}"),
        f"git-upload-pack --exec='touch {mark}' '{path}'",
    ):
        yield words, ssh(lab, key, login, words)
    yield "shell", ssh(lab, key, "-tt", login)
    yield "sftp", lab.run("server-1", ["sftp", *ALONE, "-i", key, "-b", "/dev/null", login], check=False)
    copy = ["scp", *ALONE, "-i", key, "/etc/hostname", f"{login}:{mark}"]
    yield "scp", lab.run("server-1", copy, check=False)
    yield "subsystem", ssh(lab, key, "-s", login, "sftp")
    yield "forwarding", ssh(lab, key, "-oExitOnForwardFailure=yes", "-W", "127.0.0.1:22", login)
    yield "listening", ssh(lab, key, "-oExitOnForwardFailure=yes", "-N", "-R", "12345:127.0.0.1:22", login)
    variable = ["-oSetEnv=GIT_CONFIG_COUNT=1 LC_ALL=x", login, f"touch {mark}"]
    yield "variables", ssh(lab, key, *variable)


def steal(operator: Operator, machine: str, path: Path) -> str:
    """Copy a private key to where the operator can use it."""
    taken = operator.lab.path("server-1", f"{HOME}/stolen-{machine}")
    shutil.copy(path, taken)
    taken.chmod(0o600)
    return f"{HOME}/stolen-{machine}"


def test_a_targets_stolen_key_reads_one_repository_and_does_nothing_else(operator: Operator, site: Site) -> None:
    lab = operator.lab
    setup(operator)
    operator.deploy()
    lab.run("mirror-1", ["git", "init", "-q", "--bare", "/srv/git/other.git"], user="deploy")
    key = steal(operator, "web-01", operator.path("web-01", ".skein/ssh/id_ed25519"))
    refs, tried = operator.refs("mirror-1"), 0
    for attempt, done in attacks(lab, key, "mirror-1", operator.mirror_path):
        tried += 1
        assert "uid=" not in done.stdout, attempt
        assert not lab.path("mirror-1", "/home/deploy/marker").exists(), attempt
        assert done.returncode != 0 or "0000" in done.stdout, attempt
    command = shlex.join(["ssh", *ALONE, "-i", key])
    git = {"GIT_SSH_COMMAND": command, "HOME": HOME}
    push = ["git", "-C", "/srv/www", "push", "-q", "ssh://deploy@mirror-1/srv/git/www.git", "HEAD:refs/heads/evil"]
    assert lab.run("server-1", push, env=git, check=False).returncode != 0
    other = ["git", "ls-remote", "ssh://deploy@mirror-1/srv/git/other.git"]
    assert "refs/skein/" in lab.run("server-1", other, env=git).stdout  # whatever was asked for, it is the one
    archive = ["git", "archive", "--remote=ssh://deploy@mirror-1/srv/git/www.git", "HEAD"]
    assert lab.run("server-1", archive, env=git, check=False).returncode != 0
    assert tried >= 20
    assert operator.refs("mirror-1") == refs


def restrict(operator: Operator) -> str:
    """Let a new key deploy and nothing else, and take the unrestricted one away; return the key's file."""
    lab, key = operator.lab, f"{HOME}/.ssh/restricted"
    lab.path("server-1", key).unlink(missing_ok=True)
    lab.run("server-1", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    setup(operator, "--restrict", f"{key}.pub")
    assert changed(setup(operator, "--restrict", f"{key}.pub")) == {}
    for target in lab.targets:
        keys = lab.path(target, KEYS)
        keys.write_text("".join(line for line in keys.read_text().splitlines(True) if line.startswith("restrict")))
    for mirror in lab.mirrors:
        with lab.path(mirror, KEYS).open("a") as file:
            file.write(lab.path("server-1", f"{key}.pub").read_text())
    return key


def test_a_restricted_key_deploys_and_does_nothing_else(operator: Operator, site: Site) -> None:
    lab, reload = operator.lab, ["touch", "/home/deploy/reloaded"]
    operator.configure(groups=THREE, targets={"after_flip": reload})
    key = restrict(operator)
    operator.configure(groups=THREE, targets={"after_flip": reload}, ssh={"identity_file": key})
    operator.fab("check")
    first = operator.deploy().release
    site.change({"index.html": b"second\n"}, "second")
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]))
    assert operator.rollback().release == first
    operator.status()
    operator.assert_serves(site.files_at(site.commits[0]))
    assert lab.path("web-01", "/home/deploy/reloaded").exists()
    tried = 0
    for attempt, done in attacks(lab, key, "web-01", operator.mirror_path):
        tried += 1
        assert done.returncode != 0, attempt
        assert "uid=" not in done.stdout, attempt
        assert not lab.path("web-01", "/home/deploy/marker").exists(), attempt
    assert tried >= 20
    assert "restricted key may not" in setup(operator, code=5).json["targets"]["web-01"]["troubles"][0]


def test_a_restricted_key_runs_no_command_but_the_one_that_was_written_down(operator: Operator, site: Site) -> None:
    key = restrict(operator)
    evil = ["touch", "/home/deploy/marker"]
    operator.configure(groups=THREE, targets={"after_flip": evil}, ssh={"identity_file": key})
    assert "restricted key" in operator.deploy(code=10).reasons["web-01"]
    operator.configure(groups=THREE, targets={"link": "/home/deploy/.ssh/rc"}, ssh={"identity_file": key})
    assert "another link" in operator.deploy(code=5).reasons["web-01"]
    operator.configure(groups=THREE, targets={"deploy_to": "/home/deploy/x"}, ssh={"identity_file": key})
    assert "installed agents" in operator.deploy(code=5).reasons["web-01"]
    assert not operator.lab.path("web-01", "/home/deploy/marker").exists()
    assert not operator.lab.path("web-01", "/home/deploy/x").exists()


def test_an_unrestricted_line_of_the_same_key_is_named(operator: Operator) -> None:
    lab = operator.lab
    trouble = setup(operator, "--restrict", f"{HOME}/.ssh/id_ed25519.pub", code=5).json["targets"]["web-01"]["troubles"]
    assert "remove that line" in trouble[0]
    assert len(lab.path("web-01", KEYS).read_text().splitlines()) == 1


def test_one_restricted_key_for_two_environments_is_refused_and_named(operator: Operator, site: Site) -> None:
    lab, key = operator.lab, restrict(operator)
    other = Operator(lab, "live", "/srv/www")
    other.deploy_to = "/srv/other"
    other.configure(groups=THREE)
    for target in lab.targets:
        with lab.path(target, KEYS).open("a") as file:
            file.write(lab.path("server-1", f"{HOME}/.ssh/id_ed25519.pub").read_text())
    before = lab.path("web-01", KEYS).read_bytes()
    trouble = setup(other, "--restrict", f"{key}.pub", code=5).json["targets"]["web-01"]["troubles"]
    assert "is let in there as skein-gate:www:prod:" in trouble[0]
    assert "use another key" in trouble[0]
    assert lab.path("web-01", KEYS).read_bytes() == before
    operator.configure(groups=THREE, ssh={"identity_file": key})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))


def test_a_skein_that_set_up_has_not_approved_is_told_to_run_set_up(operator: Operator, site: Site) -> None:
    lab, key = operator.lab, restrict(operator)
    approved = operator.path("web-02", ".skein/gate.json")
    approved.write_text(json.dumps({**json.loads(approved.read_text()), "agent": "0"}))
    operator.configure(groups=THREE, ssh={"identity_file": key})
    for told in (operator.deploy(code=5).reasons, operator.status(code=6).reasons):
        assert list(told) == ["web-02"]
        assert "has not approved this Skein's agent here: run fab setup" in told["web-02"]
    with lab.path("web-02", KEYS).open("a") as file:
        file.write(lab.path("server-1", f"{HOME}/.ssh/id_ed25519.pub").read_text())
    operator.configure(groups=THREE)
    setup(operator, "--only", "web-02")
    operator.configure(groups=THREE, ssh={"identity_file": key})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))


@pytest.mark.parametrize("name", ["a b's.git", 'it"s $(id) \\100%h.git'])
def test_a_mirror_path_of_any_kind_is_let_in_to(operator: Operator, site: Site, name: str) -> None:
    operator.mirror_path = f"/srv/git/{name}"
    try:
        operator.configure(groups=THREE)
        setup(operator)
        operator.deploy()
        operator.assert_serves(site.files_at(site.commits[0]))
    finally:
        operator.mirror_path = "/srv/git/www.git"


@pytest.mark.parametrize("deploy_to", ['/srv/my app\'s "site" 100%h'])
def test_a_place_of_any_kind_is_prepared_and_guarded(operator: Operator, site: Site, deploy_to: str) -> None:
    operator.deploy_to = deploy_to
    operator.configure(groups=THREE)
    key = restrict(operator)
    operator.configure(groups=THREE, ssh={"identity_file": key})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))
