"""The embedded fleet: what a Connector can do with it, what it refuses, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import fabric
import paramiko
import pytest

from tasks.core.errors import UnreachableError, UsageError
from tasks.core.hosts import Host
from tasks.remote.embedded import EmbeddedFleet
from tasks.remote.ssh import Connector

NAMES = tuple(f"web-{n}" for n in range(1, 7))


@dataclass(frozen=True)
class Settings:
    known_hosts: Path
    identity_file: Path | None
    config_file: Path
    user: str | None = "demo"
    agent: bool = False
    gateway: str | None = None
    connect_timeout: float = 30.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedFleet]:
    with EmbeddedFleet(tmp_path_factory.mktemp("fleet"), NAMES) as fleet:
        yield fleet


def settings_of(fleet: EmbeddedFleet) -> Settings:
    config = fleet.root / "no_ssh_config"
    config.touch()
    return Settings(fleet.known_hosts, fleet.identity_file, config)


@pytest.fixture
def connector(fleet: EmbeddedFleet) -> Iterator[Connector]:
    with Connector(settings_of(fleet)) as connector:
        yield connector


def at(fleet: EmbeddedFleet, name: str = "web-1") -> Host:
    return Host(name, address="127.0.0.1", port=fleet.ports[name])


def run(connection: fabric.Connection, command: str) -> tuple[str, str, int]:
    _, stdout, stderr = connection.client.exec_command(command, timeout=20)
    out, errors = stdout.read().decode(), stderr.read().decode()
    return out, errors, stdout.channel.recv_exit_status()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_host_opens_and_runs_commands_in_a_home_of_its_own(fleet: EmbeddedFleet, connector: Connector) -> None:
    with ThreadPoolExecutor(6) as pool:
        connections = list(pool.map(lambda name: connector.open(at(fleet, name)), NAMES))
        answers = list(pool.map(lambda connection: run(connection, 'echo "$HOME" "$LC_ALL"; pwd'), connections))
    for name, connection, (out, errors, status) in zip(NAMES, connections, answers, strict=True):
        home = fleet.root / "hosts" / name
        assert (out, errors, status) == (f"{home} C\n{home}\n", "", 0)
        connection.close()


def test_output_errors_and_exit_status_come_back_apart(fleet: EmbeddedFleet, connector: Connector) -> None:
    with connector.open(at(fleet)) as connection:
        assert run(connection, "echo out; echo errors >&2; exit 7") == ("out\n", "errors\n", 7)
        assert run(connection, "kill -9 $$")[2] == -1, "ended by a signal: paramiko knows no status"
        assert connection.run("echo by fabric", hide=True, in_stream=False).stdout == "by fabric\n"


def test_several_connections_and_channels_serve_at_once(fleet: EmbeddedFleet, connector: Connector) -> None:
    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(connector.open, [at(fleet)] * 4))
        jobs = [(connection, f"cat >/dev/null; echo {n}") for n, connection in enumerate(connections * 3)]
        channels = [connection.client.exec_command(command, timeout=20) for connection, command in jobs]
        for n, (stdin, stdout, _) in reversed(list(enumerate(channels))):
            stdin.channel.shutdown_write()
            assert stdout.read() == f"{n}\n".encode()
        list(pool.map(lambda connection: connection.close(), connections))


def test_twenty_megabytes_go_there_and_back_unchanged_and_bounded(fleet: EmbeddedFleet, connector: Connector) -> None:
    payload, page = os.urandom(20_000_000), os.sysconf("SC_PAGESIZE")
    digest, before = hashlib.sha256(), int(Path("/proc/self/statm").read_text().split()[1])
    with connector.open(at(fleet)) as connection:
        channel = connection.transport.open_session()
        channel.settimeout(60)
        channel.exec_command("cat")

        def receive() -> None:
            while chunk := channel.recv(65_536):
                digest.update(chunk)

        receiver = threading.Thread(target=receive)
        receiver.start()
        channel.sendall(payload)
        channel.shutdown_write()
        receiver.join(60)
        assert channel.recv_exit_status() == 0
    assert digest.digest() == hashlib.sha256(payload).digest()
    grown = (int(Path("/proc/self/statm").read_text().split()[1]) - before) * page
    assert grown < 60_000_000


def writers(fleet: EmbeddedFleet) -> list[str]:
    """Return the processes that have their working directory below web-1's home."""
    home = str(fleet.root / "hosts" / "web-1")
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            found += [str(link)] if os.readlink(link).startswith(home) else []
    return found


def test_output_that_nobody_reads_holds_the_command_back(fleet: EmbeddedFleet, connector: Connector) -> None:
    count = fleet.root / "hosts" / "web-1" / "count"
    with connector.open(at(fleet)) as connection:
        channel = connection.transport.open_session()
        channel.exec_command("n=0; while :; do head -c 1000000 /dev/zero; n=$((n+1)); echo $n > count; done")
        sizes: list[int] = []

        def stands_still() -> bool:
            sizes.append(int(count.read_text() or 0) if count.exists() else 0)
            return len(sizes) > 25 and len(set(sizes[-25:])) == 1 and sizes[-1] > 0

        wait_for(stands_still)
        assert sizes[-1] < 20
    last = sizes[-1]
    wait_for(lambda: not writers(fleet), seconds=15)
    assert int(count.read_text()) >= last  # it wrote on while it was drained, and is gone now


def test_a_command_sees_the_end_of_its_input_when_the_client_goes(fleet: EmbeddedFleet, connector: Connector) -> None:
    ended = fleet.root / "hosts" / "web-2" / "ended"
    connection = connector.open(at(fleet, "web-2"))
    channel = connection.transport.open_session()
    channel.exec_command("echo ready; cat >/dev/null; echo yes > ended")
    assert channel.recv(6) == b"ready\n"
    connection.close()
    wait_for(ended.exists, seconds=4)


@pytest.mark.parametrize("way", ["connection", "channel"])
def test_a_command_that_stays_is_killed_with_all_its_children(
    fleet: EmbeddedFleet, connector: Connector, way: str
) -> None:
    with connector.open(at(fleet)) as connection:
        channel = connection.transport.open_session()
        channel.exec_command("trap '' HUP TERM; sleep 1000 & echo $$ $!; while :; do wait; done")
        pids = [int(word) for word in channel.makefile().readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        (connection if way == "connection" else channel).close()
        wait_for(lambda: not any(map(is_alive, pids)), seconds=15)


def test_a_stranger_is_refused(fleet: EmbeddedFleet, tmp_path: Path) -> None:
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"), check=True)
    with (
        Connector(replace(settings_of(fleet), identity_file=tmp_path / "stranger")) as connector,
        pytest.raises(UnreachableError) as caught,
    ):
        connector.open(at(fleet))
    assert caught.value.code == "refused-login"


def test_there_is_no_shell_no_terminal_no_sftp_and_no_forwarding(fleet: EmbeddedFleet, connector: Connector) -> None:
    with connector.open(at(fleet)) as connection:
        transport = connection.transport
        shell = transport.open_session()
        shell.invoke_shell()
        assert shell.recv_exit_status() == 1
        terminal = transport.open_session()
        with pytest.raises(paramiko.SSHException):
            terminal.get_pty()
        with pytest.raises(paramiko.SSHException):
            transport.open_sftp_client()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", fleet.ports["web-2"]), ("", 0), timeout=10)
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)


def test_keys_persist_and_are_private_while_ports_are_new(tmp_path: Path) -> None:
    def start() -> tuple[dict[str, int], list[str], bytes]:
        with EmbeddedFleet(tmp_path / "fleet", NAMES[:2]) as fleet:
            lines = fleet.known_hosts.read_text().splitlines()
            assert [line.split()[0] for line in lines] == [f"[127.0.0.1]:{fleet.ports[name]}" for name in NAMES[:2]]
            return dict(fleet.ports), [line.split()[2] for line in lines], fleet.identity_file.read_bytes()

    first, second = start(), start()
    assert first[1:] == second[1:]
    assert len(set(first[1])) == 2
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "fleet").glob("*.key")} == {"0o600"}


def test_a_fleet_that_stops_leaves_no_thread_no_process_and_no_listener(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    fleet = EmbeddedFleet(tmp_path / "fleet", NAMES[:2])
    fleet.start()
    with Connector(settings_of(fleet)) as connector:
        connection, port = connector.open(at(fleet)), fleet.ports["web-1"]
        channel = connection.transport.open_session()
        channel.exec_command("trap '' TERM HUP; echo $$; while :; do sleep 0.1; done")
        pid = int(channel.makefile().readline())
        fleet.stop()
        fleet.stop()
        assert not is_alive(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        connection.client.close()
        wait_for(lambda: set(threading.enumerate()) <= threads)
    with fleet, Connector(settings_of(fleet)) as connector, connector.open(at(fleet)) as connection:
        assert run(connection, "echo again")[0] == "again\n"


def test_a_fleet_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        EmbeddedFleet(tmp_path / "file", NAMES).start()
    with pytest.raises(UsageError, match="operator"):
        EmbeddedFleet(tmp_path, ["operator"])
    wait_for(lambda: set(threading.enumerate()) <= threads)


def test_without_asyncssh_the_operator_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(UsageError, match=r"pip install -e '\.\[demo\]'"):
        EmbeddedFleet(tmp_path, NAMES).start()
