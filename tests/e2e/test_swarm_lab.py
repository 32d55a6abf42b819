"""A swarm on real hosts in two zones: set up, carried, and what becomes of it where peers are missing or die."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from hashlib import shake_128
from importlib.metadata import distribution
from pathlib import Path

import pytest
from lab_operator import Operator, small_site
from real_site import Site

from tasks.remote.lab import Lab, wait_until

SIZE, LITTLE = 3_000_000, 1_000_000
TABLES = {
    "groups": {
        "eu": {"hosts": ["web-01", "web-02"], "zone": "eu"},
        "us": {"hosts": ["web-03", "web-04"], "zone": "us"},
    },
    "targets": {"reuse_after": 0},
}
SWARM = '\n[transport]\nkind = "swarm"\nswarm = { enabled = true }\n'
WHEELS = "/root/wheels"
HOLDING = """
import socket, time
taken = socket.socket()
taken.bind(("", 6881))
taken.listen()
print("up", flush=True)
time.sleep(99)
"""
PEER = "enable_dht"  # a word of the text that a peer is started with


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=4, mirrors=2) as machines:
        yield machines


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return small_site(lab, "/srv/www", {"index.html": b"first", "big": noise(0)})


@pytest.fixture(scope="module")
def operator(lab: Lab, site: Site) -> Operator:
    """Return an operator whose mirrors and targets were given libtorrent by set-up."""
    found = Operator(lab, **TABLES)
    config = lab.path("server-1", "/root/config/prod.toml")
    config.write_text(config.read_text() + SWARM)
    make_wheel(lab.path("server-1", WHEELS))
    done = found.fab("setup", "--json", "--wheels", WHEELS).json
    assert done["notes"] == []
    for name in lab.targets:
        assert "placed libtorrent" in done["targets"][name]["changed"]
    for name in lab.mirrors:
        assert "placed libtorrent" in done["mirrors"][name]["changed"]
    found.deploy()
    return found


def make_wheel(folder: Path) -> None:
    """Pack the libtorrent of this Python into a wheel again."""
    found = distribution("libtorrent")
    tags = [line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    python, abi, _ = tags[0].split("-")
    name = f"libtorrent-{found.version}-{python}-{abi}-{'.'.join(tag.split('-')[2] for tag in tags)}.whl"
    folder.mkdir()
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(file.locate(), str(file))


def noise(seed: int, size: int = SIZE) -> bytes:
    """Return bytes that do not compress."""
    return shake_128(bytes([seed])).digest(size)


def sent(lab: Lab) -> int:
    """Return the bytes that left server-1 so far (proc(5), /proc/net/dev)."""
    lines = Path(f"/proc/{lab.first('server-1')}/net/dev").read_text().splitlines()
    (words,) = [line.split() for line in lines if line.lstrip().startswith("eth0:")]
    return int(words[9])


def peers(lab: Lab, machine: str) -> list[int]:
    return [pid for pid, argv in lab.processes(machine) if any(PEER in word for word in argv)]


def library(lab: Lab, operator: Operator, machine: str) -> Path:
    return operator.path(machine, "lib" if machine in lab.mirrors else ".skein/lib")


def test_set_up_again_changes_nothing_and_check_says_who_can_take_part(lab: Lab, operator: Operator) -> None:
    done = operator.fab("setup", "--json").json
    assert not any(found["changed"] for kind in ("mirrors", "targets") for found in done[kind].values())
    targets = operator.fab("check", "--json").json["targets"]
    told = [each["message"] for target in targets for each in target["findings"] if each["what"] == "swarm"]
    assert told == ["can take part"] * 4


def test_the_source_sends_a_release_once_and_all_have_it(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"big": noise(1)})
    before = sent(lab)
    run = operator.deploy()
    assert set(run.states.values()) == {"live"}
    (note,) = run.json["notes"]
    assert re.fullmatch(r"a swarm carried 3\.0 MB to 4 targets; its source sent about (2\.[5-9]|3\.\d) MB", note)
    assert (sent(lab) - before) / SIZE < 1.5, "to four targets and two mirrors"
    operator.assert_serves(site.files_at(site.commits[-1]))
    for mirror in lab.mirrors:
        assert f"refs/tags/release/{run.release}" in operator.refs(mirror)
        operator.git(mirror, "fsck", "--strict")
        assert not operator.path(mirror, "skein-swarm").exists()
    assert not any(peers(lab, machine) for machine in lab.machines)


def test_a_change_travels_as_what_changed(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"more": noise(2, 200_000)})
    (note,) = operator.deploy().json["notes"]
    told = re.fullmatch(r"a swarm carried 200\.\d kB to 4 targets; its source sent about (\d+)\.\d kB", note)
    assert told, note
    assert 100 < int(told[1]) < 300, "what was sent in the last second is not counted yet"
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_whoever_lacks_the_library_asks_a_mirror_and_is_named(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"big": noise(3)})
    for name in ("web-01", "mirror-2"):
        library(lab, operator, name).rename(library(lab, operator, name).with_name("away"))
    try:
        run = operator.deploy()
        (found,) = [each for each in operator.fab("check", "--json").json["targets"] if each["host"] == "web-01"]
    finally:
        for name in ("web-01", "mirror-2"):
            library(lab, operator, name).with_name("away").rename(library(lab, operator, name))
    told = "\n".join(run.json["notes"])
    for name in ("web-01", "mirror-2"):
        assert f"not in the swarm: {name}: libtorrent is not here: run fab setup" in told
    assert "to 3 targets" in told
    (finding,) = [each for each in found["findings"] if each["what"] == "swarm"]
    assert finding["message"] == "takes no part, and asks a mirror instead: libtorrent is not here: run fab setup"
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_a_port_that_is_taken_costs_one_host_the_swarm(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"big": noise(4)})
    with lab.popen("web-02", ["python3", "-c", HOLDING]) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "up\n"
        run = operator.deploy()
        os.kill(holder.pid, signal.SIGKILL)
    assert "not in the swarm: web-02: port 6881 cannot be listened at" in "\n".join(run.json["notes"])
    operator.assert_serves(site.files_at(site.commits[-1]))


@pytest.fixture
def slow(lab: Lab) -> Iterator[None]:
    """Let all links carry so little that there is time to do harm."""
    for machine in lab.machines:
        lab.rate(machine, "2mbit")
    yield
    for machine in lab.machines:
        lab.rate(machine, None)


def begin(lab: Lab, operator: Operator) -> subprocess.Popen[str]:
    """Start a deploy and return when the swarm carries."""
    process = operator.start("deploy", "--json")
    wait_until(lambda: bool(peers(lab, "server-1")), "the source is ready", 60)
    before = sent(lab)
    wait_until(lambda: sent(lab) - before > LITTLE / 3, "the source sends", 60)
    return process


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("victim", ["mirror-1", "web-01"])
def test_where_a_peer_dies_the_others_get_it(lab: Lab, operator: Operator, site: Site, victim: str) -> None:
    site.change({"big": noise(5 + len(victim), LITTLE)})
    process = begin(lab, operator)
    (pid,) = peers(lab, victim)
    os.kill(pid, signal.SIGKILL)
    run = operator.finish(process)
    assert run.code == 0, run.err
    told = "\n".join(run.json["notes"])
    assert victim in told
    assert all(other not in told for other in {*lab.mirrors, *lab.targets} - {victim})
    operator.assert_serves(site.files_at(site.commits[-1]))


@pytest.mark.usefixtures("slow")
def test_nothing_of_a_swarm_outlives_a_deployer_that_is_killed(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"big": noise(20, LITTLE)})
    process = begin(lab, operator)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(peers(lab, machine) for machine in lab.machines), "all peers are gone", 30)
    for mirror in lab.mirrors:
        wait_until(lambda: not operator.path(mirror, "skein-swarm").exists(), "the mirror is tidy", 10)  # noqa: B023
    assert operator.deploy().code == 0
    operator.assert_serves(site.files_at(site.commits[-1]))


@pytest.mark.usefixtures("slow")
def test_a_host_at_a_tenth_of_the_speed_gets_it_too(lab: Lab, operator: Operator, site: Site) -> None:
    site.change({"big": noise(21, LITTLE // 2)})
    lab.rate("web-01", "200kbit")
    run = operator.deploy()
    assert set(run.states.values()) == {"live"}
    operator.assert_serves(site.files_at(site.commits[-1]))
