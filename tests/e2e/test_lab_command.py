"""`invoke lab.up` and what one does with a lab, each command run as an operator would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.config import parse
from tasks.core.errors import LabError
from tasks.remote.lab import Lab, kept, missing, spaces, wait_until
from tasks.remote.lab.sample import configuration
from tasks.remote.lab.state import Order

ROOT = Path(__file__).parents[2]
TOLD_THREE = "balancer,laptop,mirror-[1-2],server-1,web-[01-03]"


def lab_command(state: Path, *argv: str, code: int = 0) -> str:
    """Run ``invoke lab.<argv>`` and return all that it said."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SKEIN_", "INVOKE_"))}
    command = [sys.executable, "-m", "invoke", f"lab.{argv[0]}", *argv[1:]]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**env, "XDG_STATE_HOME": str(state)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def keeper(state: Path) -> int:
    owner: str = json.loads((state / "skein/lab/lab.json").read_text())["owner"]
    return int(owner.split("-")[2])


def mounts(state: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]


@pytest.fixture(scope="module")
def up(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bring up a lab of three targets and give its operator's state folder."""
    state = tmp_path_factory.mktemp("state")
    try:
        assert f"the lab is up: {TOLD_THREE}\n" in lab_command(state, "up", "--hosts", "3")
        yield state
    finally:
        lab_command(state, "down")


@pytest.fixture
def state(able: None, tmp_path: Path) -> Iterator[Path]:
    """Give a state folder of a lab that is down afterwards, whatever the test did."""
    yield tmp_path
    kept.down(tmp_path / "skein/lab")


def test_a_lab_that_is_up_is_found_again(up: Path) -> None:
    pid = keeper(up)
    assert f"the lab is up already: {TOLD_THREE}\n" in lab_command(up, "up", "--hosts", "3")
    assert keeper(up) == pid


def test_another_lab_beside_it_is_refused(up: Path) -> None:
    assert "another lab is up" in lab_command(up, "up", "--hosts", "4", code=2)
    assert lab_command(up, "run", "hostname") == "server-1\n"


def test_a_command_runs_where_it_is_asked_to_and_its_exit_code_comes_back(up: Path) -> None:
    assert lab_command(up, "run", "hostname; id -un; exit 7", "--on", "web-03", "--user", "deploy", code=7) == (
        "web-03\ndeploy\n"
    )
    assert lab_command(up, "run", "kill -9 $$", code=137) == ""


@pytest.mark.parametrize("machine", ["server-1", "laptop"])
def test_an_operator_s_machine_has_the_checkout_and_the_environment(up: Path, machine: str) -> None:
    said = lab_command(up, "run", "pwd; echo $SKEIN_ENV; cat $SKEIN_CONFIG/lab.toml; fab --version", "--on", machine)
    folder, environment, text = said.split("\n", 2)
    assert (folder, environment) == (str(ROOT), "lab")
    settings = parse(text.partition("Fabric ")[0], "lab", "lab.toml")
    assert [(host.name, host.zone) for host in settings.hosts] == [("web-01", "eu"), ("web-02", "eu"), ("web-03", "us")]


def test_server_and_laptop_reach_every_machine_with_keys_of_their_own_and_only_one_has_the_source(up: Path) -> None:
    machines = kept.read(up / "skein/lab").machines
    everywhere = f"for each in {' '.join(machines)}; do ssh -o BatchMode=yes deploy@$each hostname; done"
    for machine in ("server-1", "laptop"):
        assert lab_command(up, "run", everywhere, "--on", machine).split() == list(machines)
    keys = {
        machine: lab_command(up, "run", "cat ~/.ssh/id_ed25519.pub", "--on", machine)
        for machine in ("server-1", "laptop")
    }
    assert keys["server-1"] != keys["laptop"]
    assert lab_command(up, "run", "git -C /srv/www log --format=%s") == "Version 2\nVersion 1\n"
    assert lab_command(up, "run", "ls /srv", "--on", "laptop") == ""


def test_a_link_is_slowed_down_and_freed_both_ways(up: Path) -> None:
    kilobytes = 400
    there = f"head -c {kilobytes}k /dev/zero | ssh deploy@web-01 'cat >/dev/null'"
    back = f"ssh deploy@web-01 'head -c {kilobytes}k /dev/zero' >/dev/null"
    lab_command(up, "link", "--on", "web-01", "--rate", "1mbit")
    for road in (there, back):
        began = time.monotonic()
        lab_command(up, "run", road)
        assert time.monotonic() - began > (kilobytes - 64) * 8192 / 1e6, road
    lab_command(up, "link", "--on", "web-01", "--rate", "full")
    limits = lab_command(up, "run", "tc qdisc show dev eth0", "--on", "web-01")
    assert "tbf" not in limits


def test_a_link_is_cut_and_mended(up: Path) -> None:
    reach = "ssh -o ConnectTimeout=2 deploy@web-02 true"
    lab_command(up, "link", "--on", "web-02", "--cut")
    lab_command(up, "run", reach, code=255)
    lab_command(up, "link", "--on", "web-02", "--mend")
    lab_command(up, "run", reach)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("run", "true", "--on", "web-9"), f"--on web-9: no machine of this lab; it has {TOLD_THREE}"),
        (("run", "true", "--user", "ann"), "the users are root and deploy"),
        (("link", "--on", "web-01"), "say one of --rate, --cut and --mend"),
        (("link", "--on", "web-01", "--rate", "10"), "write it like 64kbit"),
        (("up", "--hosts", "0"), "1 to 500 hosts"),
        (("up", "--rate", "fast"), "write it like 64kbit"),
        (("up", "--disk", "web-01"), "write it like web-05=20M"),
        (("up", "--disk", "web-99=1M"), "no machine for a small disk: web-99"),
    ],
)
def test_what_cannot_be_is_refused_in_words(up: Path, argv: tuple[str, ...], told: str) -> None:
    assert told in lab_command(up, *argv, code=2)


def test_a_setting_that_sshd_does_not_take_is_told_in_its_own_words(state: Path) -> None:
    said = lab_command(state, "up", "--hosts", "1", "--mirrors", "1", "--sshd", "Bogus yes", code=2)
    assert "/etc/ssh/sshd_config" in said
    assert lab_command(state, "down") == "no lab was up\n"


def test_after_a_crash_nothing_runs_and_the_next_command_sweeps_up(state: Path) -> None:
    argv = (
        "up",
        "--hosts",
        "1",
        "--mirrors",
        "1",
        "--disk",
        "web-01=1M",
        "--sshd",
        "MaxSessions 3",
        "--rate",
        "10mbit",
    )
    lab_command(state, *argv)
    assert "tbf" in lab_command(state, "run", "tc qdisc show dev eth0", "--on", "web-01")
    firsts = kept.read(state / "skein/lab").machines.values()
    assert len(mounts(state)) == 1
    os.kill(keeper(state), signal.SIGKILL)
    wait_until(lambda: all(spaces.identity(pid).endswith("gone") for pid in firsts), "all machines have ended", 10)
    assert "has crashed" in lab_command(state, "run", "true", code=2)
    lab_command(state, *argv)
    lab_command(state, "down")
    assert mounts(state) == []
    assert not (state / "skein/lab/machines").exists()
    assert "no lab is up" in lab_command(state, "run", "true", code=2)


def test_two_that_start_one_at_once_get_one(state: Path) -> None:
    argv = [sys.executable, "-m", "invoke", "lab.up", "--hosts", "1"]
    env = {**os.environ, "XDG_STATE_HOME": str(state)}
    both = [subprocess.Popen(argv, cwd=ROOT, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    said = [b"".join(each.communicate(timeout=60)) for each in both]
    assert all(b"the lab is up" in one or b"at work" in one for one in said)
    assert 0 in [each.returncode for each in both]
    assert lab_command(state, "run", "hostname") == "server-1\n"


def test_without_root_it_is_said_what_a_lab_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing()[0] == "root"
    with pytest.raises(LabError, match=r"no lab for want of root.*: run as root, on Debian after apt-get install"):
        kept.up(tmp_path, Order())
    with pytest.raises(LabError, match="run this as root"):
        kept.read(tmp_path)


def test_the_lab_in_config_is_what_a_default_lab_gets() -> None:
    order = Order()
    lab = order.lab(Path("unused"))
    assert (ROOT / "config/lab.toml").read_text() == configuration(lab.mirrors, lab.targets)
    assert len(parse((ROOT / "config/lab.toml").read_text(), "lab", "config/lab.toml").hosts) == order.hosts


@pytest.mark.parametrize(("mirrors", "targets"), [(1, 1), (1, 5), (2, 1), (3, 2), (2, 300)])
def test_a_lab_of_any_size_has_a_valid_environment(mirrors: int, targets: int) -> None:
    lab = Order(hosts=targets, mirrors=mirrors).lab(Path("unused"))
    settings = parse(configuration(lab.mirrors, lab.targets), "lab", "lab.toml")
    assert [host.name for host in settings.hosts] == lab.targets
    assert len(set(lab.addresses.values())) == len(lab.machines)


def test_a_rate_outlasts_a_restart_and_a_link_may_be_slowed_in_a_test(able: None, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", targets=1, mirrors=0, rate="10mbit") as lab:
        lab.rate("web-01", "64kbit")
        lab.power_off("web-01")
        lab.power_on("web-01")
        assert "rate 64Kbit" in lab.run("web-01", ["tc", "qdisc", "show", "dev", "eth0"]).stdout
        assert "rate 10Mbit" in lab.run("server-1", ["tc", "qdisc", "show", "dev", "eth0"]).stdout
