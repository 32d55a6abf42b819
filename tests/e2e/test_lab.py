"""The lab is what it claims to be, and so is the site that it serves."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from invariants import assert_no_orphans, read_tree
from real_site import Site, build_site

from tasks.remote.lab import Lab, LabError, sweep, wait_until

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5")
ABANDONED = """
import sys, pathlib
from tasks.remote.lab import Lab
lab = Lab(pathlib.Path(sys.argv[1]), targets=1, mirrors=0, small_disk={"web-01": "1M"}).__enter__()
print(*(pid for machine in lab.machines for pid, _ in lab.processes(machine)), flush=True)
sys.stdin.read()
"""


def ssh(lab: Lab, machine: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return lab.run("server-1", [*SSH, f"deploy@{machine}", *argv], check=False)


def test_the_server_reaches_every_machine_as_deploy(lab: Lab) -> None:
    said = {machine: ssh(lab, machine, "hostname; id -un").stdout.split() for machine in lab.machines}
    assert said == {machine: [machine, "deploy"] for machine in lab.machines}
    assert len(lab.machines) == 15


def test_addresses_are_known_hosts_too(lab: Lab) -> None:
    assert ssh(lab, lab.addresses["web-12"], "hostname").stdout == "web-12\n"


def test_every_machine_has_its_own_srv(lab: Lab) -> None:
    for machine in lab.targets:
        lab.run(machine, ["sh", "-c", f"echo {machine} > /srv/own"], user="deploy")
    assert [lab.path(machine, "/srv/own").read_text().strip() for machine in lab.targets] == lab.targets
    assert not lab.path("mirror-1", "/srv/own").exists()


def test_a_path_that_machines_share_has_no_place_outside(lab: Lab) -> None:
    with pytest.raises(LabError, match="no place outside"):
        lab.path("web-01", "/usr/bin")


def test_a_target_fetches_from_a_mirror_with_its_own_key(lab: Lab) -> None:
    make = "git init -q --bare /srv/git/www.git && cd /srv/git/www.git && git update-ref refs/heads/main $(git -c "
    make += "user.name=a -c user.email=a@b commit-tree -m first $(git hash-object -wt tree /dev/null))"
    lab.run("mirror-1", ["sh", "-c", make], user="deploy")
    found = lab.run("web-03", ["git", "ls-remote", "deploy@mirror-1:/srv/git/www.git"], user="deploy")
    assert found.stdout.endswith("refs/heads/main\n")


def test_a_target_cannot_reach_another_target(lab: Lab) -> None:
    assert lab.run("web-01", [*SSH, "deploy@web-02", "true"], user="deploy", check=False).returncode == 255


def test_the_operators_python_runs_on_the_server(lab: Lab) -> None:
    lab.run("server-1", [sys.executable, "-c", "import fabric"])


def test_a_machine_without_power_is_out_of_reach_until_it_has_it_again(lab: Lab) -> None:
    sleeper = lab.popen("web-02", ["sleep", "1000"])
    lab.run("web-02", ["sh", "-c", "rm -f /srv/*; touch /srv/disk /run/memory"])
    lab.power_off("web-02")
    assert ssh(lab, "web-02", "true").returncode == 255
    assert sleeper.wait(1) == -signal.SIGKILL
    with pytest.raises(LabError, match="off"):
        lab.run("web-02", ["true"])
    lab.power_on("web-02")
    assert ssh(lab, "web-02", "ls /srv; test -e /run/memory || echo forgot").stdout.split() == ["disk", "forgot"]


def test_a_cut_link_is_silent_and_sessions_survive_it(lab: Lab) -> None:
    session = lab.popen("server-1", [*SSH, "deploy@web-04", "cat"], stdin=subprocess.PIPE)
    assert session.stdin is not None
    assert session.stdout is not None
    session.stdin.write("before\n")
    session.stdin.flush()
    assert session.stdout.readline() == "before\n"
    lab.cut("web-04")
    assert ssh(lab, "web-04", "true").returncode == 255
    session.stdin.write("late\n")
    session.stdin.flush()
    assert session.poll() is None
    lab.mend("web-04")
    assert session.communicate(timeout=60)[0] == "late\n"


def test_a_changed_host_key_is_refused_until_the_first_is_back(lab: Lab) -> None:
    lab.change_host_key("web-06")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(lab, "web-06", "true").stderr
    lab.restore_host_key("web-06")
    assert ssh(lab, "web-06", "true").returncode == 0


def test_a_handle_is_the_command_itself(lab: Lab) -> None:
    sleeper = lab.popen("web-07", ["sleep", "1000"], user="deploy")
    wait_until(lambda: (sleeper.pid, ["sleep", "1000"]) in lab.processes("web-07"), "sleep runs", 10)
    assert Path(f"/proc/{sleeper.pid}").stat().st_uid == 7700
    sleeper.kill()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert all(argv[0] != "sleep" for _, argv in lab.processes("web-07"))


def test_a_machine_sees_no_process_of_another(lab: Lab) -> None:
    with lab.popen("web-08", ["cat"], stdin=subprocess.PIPE):
        names = "cat /proc/[0-9]*/comm"
        assert "cat" in lab.run("web-08", ["sh", "-c", names]).stdout.split()
        assert lab.run("web-09", ["sh", "-c", names]).stdout.split() == ["sshd", "sh"]


def test_a_failed_command_carries_what_it_said(lab: Lab) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        lab.run("web-09", ["sh", "-c", "echo why >&2; exit 3"])
    assert caught.value.returncode == 3
    assert "why" in caught.value.__notes__[0]


def test_a_command_past_its_time_is_killed_with_its_children(lab: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab.run("web-09", ["sh", "-c", "sleep 1000 & sleep 1000"], timeout=0.5)
    wait_until(lambda: all(argv[0] != "sleep" for _, argv in lab.processes("web-09")), "the sleeps are gone", 10)


def test_an_orphan_is_named_and_its_end_is_awaited(lab: Lab) -> None:
    with lab.popen("web-10", ["python3", "-c", "input()"], stdin=subprocess.PIPE) as orphan:
        wait_until(lambda: any(argv[0] == "python3" for _, argv in lab.processes("web-10")), "python3 runs", 10)
        with pytest.raises(AssertionError, match=f"web-10: {orphan.pid} python3"):
            assert_no_orphans(lab, lab.targets, seconds=0)
        orphan.kill()
        assert_no_orphans(lab, lab.targets)


def test_a_second_lab_stands_beside_the_first_and_its_small_disk_fills(lab: Lab, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", targets=1, mirrors=0, small_disk={"web-01": "1M,nr_inodes=20"}) as second:
        place = second.fill("web-01", "/srv/ballast")
        full = second.run("web-01", ["cp", "/etc/hosts", "/srv/more"], user="deploy", check=False)
        assert "No space left" in full.stderr
        place.unlink()
        second.run("web-01", ["cp", "/etc/hosts", "/srv/more"], user="deploy")
        assert not lab.path("web-01", "/srv/more").exists()
        with pytest.raises(LabError, match="no small disk"):
            second.fill("server-1", "/srv/ballast")
    assert ssh(lab, "web-01", "true").returncode == 0


@pytest.mark.usefixtures("able")
def test_a_killed_test_run_leaves_no_process_and_the_next_lab_no_mount(tmp_path: Path) -> None:
    path = str(Path(__file__).parents[2])
    argv = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{ABANDONED}", str(tmp_path / "lab")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pids = run.stdout.readline().split()
        assert len(pids) == 2
        run.kill()
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in pids), "all processes are gone", 10)
    assert str(tmp_path) in Path("/proc/self/mountinfo").read_text()
    sweep()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_the_real_machine_has_nothing_of_the_lab(lab: Lab) -> None:
    assert "web-01" not in Path("/etc/hosts").read_text()
    assert ":7700:" not in Path("/etc/passwd").read_text()
    assert str(lab.root) not in Path("/proc/self/mountinfo").read_text()
    assert "10.77." not in subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build_site(tmp_path_factory.mktemp("site") / "www")


def test_the_site_is_large_and_its_releases_change_little(site: Site) -> None:
    manifests = [site.files_at(commit) for commit in site.commits]
    assert len(manifests) == 3
    for old, new in pairwise(manifests):
        assert len(new) > 3000
        assert 0 < len(old.items() ^ new.items()) < len(new) // 20


def test_the_site_on_disk_is_its_last_commit(site: Site, tmp_path: Path) -> None:
    site.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "copy"), site.commits[-1])
    (tmp_path / "copy/.git").unlink()
    assert read_tree(tmp_path / "copy") == site.files_at(site.commits[-1])
    site.git("worktree", "prune")
