"""Connections to real sshd's on loopback: what is accepted, what is refused, and how soon."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
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
from tasks.remote.known_hosts import KnownHosts
from tasks.remote.ssh import Connector

USER = getpass.getuser()
PASSPHRASE = "a long passphrase"  # noqa: S105


@dataclass(frozen=True)
class Settings:
    known_hosts: Path
    identity_file: Path | None
    user: str | None = None
    agent: bool = False
    gateway: str | None = None
    connect_timeout: float = 20.0
    config_file: Path | None = None


@dataclass
class Sshd:
    port: int
    keys: list[Path]
    log: Path
    process: subprocess.Popen[bytes]

    def pin(self, name: str | None = None, key: int = 0) -> str:
        return f"{name or f'[127.0.0.1]:{self.port}'} {self.keys[key].with_suffix('.pub').read_text()}"

    def fingerprint(self) -> str:
        return fingerprint(self.keys[0])

    def seen(self, text: str) -> int:
        return self.log.read_text().count(text)


def keygen(path: Path, kind: str = "ed25519", secret: str = "") -> Path:
    options = ("-b", "2048") if kind == "rsa" else ()
    subprocess.run(("ssh-keygen", "-q", "-t", kind, *options, "-N", secret, "-C", "", "-f", path), check=True)
    return path


def fingerprint(key: Path) -> str:
    done = subprocess.run(("ssh-keygen", "-lf", key), check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll, with a deadline; no test sleeps for a fixed time."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.02)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keygen(tmp_path_factory.mktemp("client") / "id")


StartSshd = Callable[..., Sshd]


@pytest.fixture
def start_sshd(tmp_path: Path, client_key: Path) -> Iterator[StartSshd]:
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    assert os.path.exists(program), "these tests need sshd: apt-get install openssh-server"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    running: list[Sshd] = []

    def start(*extra: str, kinds: tuple[str, ...] = ("ed25519",)) -> Sshd:
        place = tmp_path / f"sshd-{len(running)}"
        place.mkdir()
        keys = [keygen(place / f"host_{kind}", kind) for kind in kinds]
        (place / "authorized_keys").write_text(client_key.with_suffix(".pub").read_text())
        port, log = free_port(), place / "log"
        lines = [f"Port {port}", "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no"]
        lines += [f"HostKey {key}" for key in keys] + [f"AuthorizedKeysFile {place}/authorized_keys"]
        lines += ["PasswordAuthentication no", "KbdInteractiveAuthentication no", "LogLevel VERBOSE", *extra]
        (place / "config").write_text("\n".join([*lines, "MaxStartups 10:30:100", ""]))
        process = subprocess.Popen((program, "-D", "-E", log, "-f", place / "config"), stdin=subprocess.DEVNULL)
        running.append(Sshd(port, keys, log, process))
        wait_for(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return running[-1]

    yield start
    for sshd in running:
        sshd.process.terminate()
        sshd.process.wait(10)


@pytest.fixture
def settings(tmp_path: Path, client_key: Path) -> Settings:
    config = tmp_path / "no_ssh_config"
    config.touch()
    return Settings(known_hosts=tmp_path / "known_hosts", identity_file=client_key, config_file=config)


def at(sshd: Sshd, name: str = "web-1") -> Host:
    return Host(name, address="127.0.0.1", port=sshd.port)


def say(connection: fabric.Connection, command: str) -> str:
    _, stdout, _ = connection.client.exec_command(command, timeout=20)
    return str(stdout.read().decode())


def refusal(settings: Settings, host: Host) -> UnreachableError:
    with Connector(settings) as connector, pytest.raises(UnreachableError) as caught:
        connector.open(host)
    return caught.value


def test_a_pinned_key_is_accepted_and_the_socket_is_tuned(start_sshd: StartSshd, settings: Settings) -> None:
    sshd = start_sshd()
    settings.known_hosts.write_text(sshd.pin())
    with Connector(settings) as connector, connector.open(at(sshd)) as connection:
        assert say(connection, "echo here") == "here\n"
        sock = connection.transport.sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert not connection.forward_agent


@pytest.mark.parametrize("pinned", [0, 1, 2])
def test_the_host_is_asked_for_the_kind_of_key_that_is_pinned(
    start_sshd: StartSshd, settings: Settings, pinned: int
) -> None:
    sshd = start_sshd(kinds=("ed25519", "ecdsa", "rsa"))
    settings.known_hosts.write_text(sshd.pin(key=pinned))
    with Connector(settings) as connector, connector.open(at(sshd)) as connection:
        assert say(connection, "echo here") == "here\n"


def test_each_of_two_pinned_keys_of_one_kind_is_accepted(
    start_sshd: StartSshd, settings: Settings, tmp_path: Path
) -> None:
    sshd, next_key = start_sshd(), keygen(tmp_path / "next").with_suffix(".pub").read_text()
    name = f"[127.0.0.1]:{sshd.port}"
    for lines in ([sshd.pin(), f"{name} {next_key}"], [f"{name} {next_key}", sshd.pin()]):
        settings.known_hosts.write_text("".join(lines))
        with Connector(settings) as connector:
            connector.open(at(sshd)).close()


def test_an_unknown_key_is_refused_with_its_fingerprint_and_the_file(start_sshd: StartSshd, settings: Settings) -> None:
    sshd = start_sshd()
    error = refusal(settings, at(sshd))
    assert error.code == "unknown-key"
    assert sshd.fingerprint() in str(error)
    assert f"{settings.known_hosts} does not exist" in str(error)
    settings.known_hosts.write_text(sshd.pin("elsewhere"))
    error = refusal(settings, at(sshd))
    assert error.code == "unknown-key"
    assert f"{settings.known_hosts} has no [127.0.0.1]:{sshd.port}" in str(error)
    assert sshd.seen("Accepted publickey") == 0


def test_a_changed_key_is_refused_with_both_fingerprints(
    start_sshd: StartSshd, settings: Settings, tmp_path: Path
) -> None:
    sshd, former = start_sshd(), keygen(tmp_path / "former")
    settings.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {former.with_suffix('.pub').read_text()}")
    error = refusal(settings, at(sshd))
    assert error.code == "changed-key"
    assert sshd.fingerprint() in str(error)
    assert fingerprint(former) in str(error)
    assert sshd.seen("Accepted publickey") == 0
    assert sshd.seen("Connection from") == 2, "the fixture's look and one try: no retry"


def test_a_revoked_key_is_refused_even_where_it_is_pinned(start_sshd: StartSshd, settings: Settings) -> None:
    sshd = start_sshd()
    settings.known_hosts.write_text(sshd.pin() + f"@revoked * {sshd.keys[0].with_suffix('.pub').read_text()}")
    error = refusal(settings, at(sshd))
    assert error.code == "changed-key"
    assert "@revoked" in str(error)


def test_a_wrong_identity_is_refused_once_and_named(start_sshd: StartSshd, settings: Settings, tmp_path: Path) -> None:
    sshd, stranger = start_sshd(), keygen(tmp_path / "stranger")
    settings.known_hosts.write_text(sshd.pin())
    error = refusal(replace(settings, identity_file=stranger), at(sshd))
    assert error.code == "refused-login"
    assert all(word in str(error) for word in (USER, str(stranger), fingerprint(stranger)))
    assert sshd.seen("Connection from") == 2, "the fixture's look and one try: no retry"


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_an_encrypted_identity_is_an_error_and_no_prompt(settings: Settings, tmp_path: Path, kind: str) -> None:
    locked = keygen(tmp_path / "locked", kind, secret=PASSPHRASE)
    error = refusal(replace(settings, identity_file=locked), Host("web-1", address="127.0.0.1"))
    assert error.code == "no-key"
    assert f"{locked} has a passphrase" in str(error)
    assert "ssh.agent = true" in str(error)


def test_a_missing_or_broken_identity_is_an_error_before_any_connection(settings: Settings, tmp_path: Path) -> None:
    error = refusal(replace(settings, identity_file=tmp_path / "none"), Host("web-1"))
    assert (error.code, "does not exist" in str(error)) == ("no-key", True)
    (tmp_path / "broken").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    error = refusal(replace(settings, identity_file=tmp_path / "broken"), Host("web-1"))
    assert (error.code, "no private key" in str(error)) == ("no-key", True)


def test_a_closed_port_and_an_unknown_name_are_unreachable(settings: Settings) -> None:
    port = free_port()
    error = refusal(settings, Host("web-1", address="127.0.0.1", port=port))
    assert error.code == "unreachable"
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error).lower()
    assert refusal(settings, Host("web-1", address="nowhere.invalid")).code == "unreachable"


def test_a_listener_that_says_nothing_costs_no_more_than_the_deadline(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, began = silent.getsockname()[1], time.monotonic()
        error = refusal(replace(settings, connect_timeout=1.5), Host("web-1", address="127.0.0.1", port=port))
    assert error.code == "unreachable"
    assert f"127.0.0.1:{port}" in str(error)
    assert "1.5 s" in str(error)
    assert 1.4 < time.monotonic() - began < 5


@pytest.mark.parametrize("greeting", [b"", b"Exceeded MaxStartups\r\n", b"SSH-2.0-busy\r\n"])
def test_a_host_that_hangs_up_before_the_login_is_tried_again(settings: Settings, greeting: bytes) -> None:
    calls = 0

    def hang_up(server: socket.socket) -> None:
        nonlocal calls
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            calls += 1
            with caller:
                caller.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        error = refusal(replace(settings, connect_timeout=15), Host("web-1", address="127.0.0.1", port=port))
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert error.code == "unreachable"
    assert "hung up before the log-in" in str(error)
    assert calls == 5


def test_forty_hosts_behind_one_gateway_all_open_over_one_login_there(
    start_sshd: StartSshd, settings: Settings
) -> None:
    bastion, target = start_sshd(), start_sshd()
    settings.known_hosts.write_text(bastion.pin() + target.pin())
    behind = replace(settings, gateway=f"127.0.0.1:{bastion.port}", connect_timeout=60)
    with Connector(behind) as connector, ThreadPoolExecutor(64) as pool:
        connections = list(pool.map(connector.open, [at(target, f"web-{n}") for n in range(40)]))
        assert set(pool.map(lambda connection: say(connection, "echo here"), connections)) == {"here\n"}
        for connection in connections:
            connection.close()
    assert bastion.seen("Accepted publickey") == 1
    assert target.seen("Accepted publickey") == 40
    assert target.seen("MaxStartups") == 0, "the width is kept below what a stock sshd drops"


def test_a_gateway_with_a_changed_key_is_refused_and_nothing_goes_through(
    start_sshd: StartSshd, settings: Settings, tmp_path: Path
) -> None:
    bastion, target, former = start_sshd(), start_sshd(), keygen(tmp_path / "former")
    wrong = f"[127.0.0.1]:{bastion.port} {former.with_suffix('.pub').read_text()}"
    settings.known_hosts.write_text(wrong + target.pin())
    error = refusal(replace(settings, gateway=f"127.0.0.1:{bastion.port}"), at(target))
    assert error.code == "gateway"
    assert bastion.fingerprint() in str(error)
    assert fingerprint(former) in str(error)
    assert bastion.seen("Accepted publickey") == 0


def test_a_host_behind_a_gateway_is_held_to_its_own_key(start_sshd: StartSshd, settings: Settings) -> None:
    bastion, target = start_sshd(), start_sshd()
    settings.known_hosts.write_text(bastion.pin() + bastion.pin(f"[127.0.0.1]:{target.port}"))
    error = refusal(replace(settings, gateway=f"127.0.0.1:{bastion.port}"), at(target))
    assert error.code == "changed-key"
    assert target.fingerprint() in str(error)


def test_what_a_gateway_cannot_reach_or_will_not_forward_is_told_apart(
    start_sshd: StartSshd, settings: Settings
) -> None:
    bastion, strict = start_sshd(), start_sshd("AllowTcpForwarding no")
    settings.known_hosts.write_text(bastion.pin() + strict.pin())
    nobody = Host("web-1", address="127.0.0.1", port=free_port())
    error = refusal(replace(settings, gateway=f"127.0.0.1:{bastion.port}"), nobody)
    assert (error.code, "could not connect" in str(error)) == ("unreachable", True)
    assert refusal(replace(settings, gateway=f"127.0.0.1:{strict.port}"), nobody).code == "gateway"


def test_a_dead_gateway_costs_its_timeout_once_and_not_once_a_host(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        through = replace(settings, gateway=f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=1.5)
        began = time.monotonic()
        with Connector(through) as connector, ThreadPoolExecutor(16) as pool:
            errors = list(pool.map(lambda n: _error_of(connector, Host(f"web-{n}")), range(16)))
    assert {error.code for error in errors} == {"gateway"}
    assert time.monotonic() - began < 6


def _error_of(connector: Connector, host: Host) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        connector.open(host)
    return caught.value


def test_the_ssh_configuration_is_honoured_with_its_includes_and_jumps(
    start_sshd: StartSshd, settings: Settings, client_key: Path, tmp_path: Path
) -> None:
    outer, inner, target = start_sshd(), start_sshd(), start_sshd()
    config, included = tmp_path / "ssh_config", tmp_path / "included"
    config.write_text(f"Include {included}\nHost *\n  ProxyJump outer\n  IdentityFile {client_key}\n")
    included.write_text(
        f"Host outer\n  HostName 127.0.0.1\n  Port {outer.port}\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n"
        f"Host web-1\n  HostName 127.0.0.1\n  Port {target.port}\n  HostKeyAlias the-web\n  ProxyJump outer,inner\n"
    )
    settings.known_hosts.write_text(outer.pin() + inner.pin() + target.pin("the-web"))
    with Connector(replace(settings, config_file=config, identity_file=None)) as connector:
        with connector.open(Host("web-1")) as connection:
            assert say(connection, "echo here") == "here\n"
        endpoint = connector.endpoint(Host("web-1"))
        assert connector.endpoint(Host("web-1", gateway="none")).gateway is None
    assert endpoint.identity_files == (str(client_key),)
    assert endpoint.host_key_names[0] == "the-web"
    assert endpoint.gateway is not None
    assert endpoint.gateway.gateway is not None
    assert (endpoint.gateway.name, endpoint.gateway.gateway.name) == ("inner", "outer")
    assert endpoint.gateway.gateway.gateway is None
    assert all(sshd.seen("Accepted publickey") == 1 for sshd in (outer, inner, target))


def test_host_and_settings_go_before_the_ssh_configuration(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host web-1\n  User theirs\n  Port 2022\n  HostName 192.0.2.9\n  ProxyCommand nc %h %p\n")
    ours = replace(settings, config_file=config, gateway="ops@bastion:2200")
    with Connector(ours) as connector:
        plain = connector.endpoint(Host("web-1"))
        explicit = connector.endpoint(Host("web-1", address="192.0.2.1", port=22, user="mine"))
    assert (plain.address, plain.port, plain.user) == ("192.0.2.9", 2022, "theirs")
    assert (explicit.address, explicit.port, explicit.user) == ("192.0.2.1", 22, "mine")
    assert explicit.host_key_names == ("192.0.2.1", "web-1")
    assert plain.gateway is not None
    assert (plain.gateway.name, plain.gateway.user, plain.gateway.port) == ("bastion", "ops", 2200)


def test_a_proxy_command_and_a_broken_configuration_are_errors_that_say_so(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host web-1\n  ProxyCommand nc %h %p\n")
    with Connector(replace(settings, config_file=config)) as connector:
        assert _error_of(connector, Host("web-1")).code == "gateway"
        config.write_text("NoSuchKeyword yes\n")
        assert "nosuchkeyword" in str(_error_of(connector, Host("web-2"))).lower()
    with Connector(settings) as connector, pytest.raises(UsageError, match="malformed gateway"):
        connector.endpoint(Host("web-1", gateway="a:b:c"))


def test_a_host_name_never_becomes_an_option_of_ssh(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_ssh(tmp_path, monkeypatch)
    with Connector(settings) as connector:
        connector.endpoint(Host("-oProxyCommand=id"))
    assert calls.read_text() == f"-G -F {settings.config_file} -- -oProxyCommand=id\n"


def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program named ssh first on PATH that writes its arguments down, and return where."""
    calls, program = tmp_path / "calls", tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\necho hostname 192.0.2.7\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return calls


def test_ssh_is_asked_once_for_a_host_and_done_without_where_it_is_missing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_ssh(tmp_path, monkeypatch)
    with Connector(settings) as connector, ThreadPoolExecutor(16) as pool:
        endpoints = set(pool.map(connector.endpoint, [Host("web-1")] * 16))
    assert {endpoint.address for endpoint in endpoints} == {"192.0.2.7"}
    assert calls.read_text() == f"-G -F {settings.config_file} -- web-1\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    with Connector(settings) as connector:
        assert connector.endpoint(Host("web-1")).address == "web-1"


def test_the_agent_is_not_consulted_unless_asked_for(
    start_sshd: StartSshd, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd = start_sshd()
    settings.known_hosts.write_text(sshd.pin())
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        agent.settimeout(0.2)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with Connector(settings) as connector, connector.open(at(sshd)) as connection:
            assert say(connection, 'echo "<$SSH_AUTH_SOCK>"') == "<>\n"
        assert refusal(replace(settings, identity_file=keygen(tmp_path / "no")), at(sshd)).code == "refused-login"
        with pytest.raises(TimeoutError):
            agent.accept()


def test_the_agent_serves_where_it_is_asked_for(
    start_sshd: StartSshd, settings: Settings, client_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd, place = start_sshd(), tmp_path / "agent"
    settings.known_hosts.write_text(sshd.pin())
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
    with subprocess.Popen(("ssh-agent", "-D", "-a", place), stdout=subprocess.DEVNULL) as agent:
        try:
            wait_for(place.exists)
            subprocess.run(("ssh-add", "-q", client_key), check=True)
            locked = keygen(tmp_path / "locked", secret=PASSPHRASE)
            with (
                Connector(replace(settings, agent=True, identity_file=locked)) as connector,
                connector.open(at(sshd)) as connection,
            ):
                assert say(connection, "echo here") == "here\n"
        finally:
            agent.terminate()


def test_an_identity_is_decoded_once_for_many_hosts(
    start_sshd: StartSshd, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd, loads, load = start_sshd(), [], paramiko.PKey.from_path

    def counted(path: str) -> paramiko.PKey:
        loads.append(path)
        return load(path)

    monkeypatch.setattr(paramiko.PKey, "from_path", staticmethod(counted))
    settings.known_hosts.write_text(sshd.pin())
    with Connector(settings) as connector, ThreadPoolExecutor(4) as pool:
        for connection in pool.map(connector.open, [at(sshd, f"web-{n}") for n in range(4)]):
            connection.close()
    assert len(loads) == 1


def test_known_hosts_takes_every_form_of_name_and_skips_odd_lines(tmp_path: Path) -> None:
    key = keygen(tmp_path / "key").with_suffix(".pub").read_text().strip()
    other = keygen(tmp_path / "other", "ecdsa").with_suffix(".pub").read_text().strip()
    hashed = tmp_path / "hashed"
    hashed.write_text(f"hidden.example {key}\n[hidden.example]:2222 {key}\n")
    subprocess.run(("ssh-keygen", "-q", "-H", "-f", hashed), check=True, capture_output=True)
    file = tmp_path / "known_hosts"
    odd = [
        f"@cert-authority *.example {key}",
        f"@revoked old.example {other}",
        "# a comment",
        "half a",
        "zzz",
        "host 1024 35 123456",
        "sk.example sk-ssh-ed25519@openssh.com AAAA",
        f"|1|%%%|salt {key}",
        f"|1|two {key}",
    ]
    good = [
        f"Web-1.example,192.0.2.1 {key} a comment",
        f"[port.example]:2222 {key}",
        f"*.wild.example,!bad.wild.example {key}",
        f"[*.wild.example]:2222 {key}",
        f"?.short {key}",
        f"old.example {other}",
        f"old.example {key}",
        "torn.example ssh-ed25519 AAAAC3Nza",
        "torn.example ssh-rsa !!!!",
        "torn.example ecdsa-sha2-nistp256 AAAA",
    ]
    file.write_text("\n\n".join([*odd, *good, hashed.read_text()]) + "\n\xff\xfe\n", encoding="latin-1")
    known = KnownHosts.read(file)
    assert known.skipped == len(odd) + 1
    assert not known.missing
    found = {name: len(known.keys_for([name])) for name in (
        "web-1.example", "WEB-1.EXAMPLE", "192.0.2.1", "[port.example]:2222", "a.wild.example", "[a.wild.example]:2222",
        "x.short", "hidden.example", "[hidden.example]:2222",
    )}  # fmt: skip
    assert found == dict.fromkeys(found, 1)
    for name in ("port.example", "bad.wild.example", "xx.short", "torn.example", "sk.example", "old", ""):
        assert known.keys_for([name]) == [], name
    assert [k.get_name() for k in known.keys_for(["old.example"])] == ["ssh-ed25519"]
    assert len(known.keys_for(["unknown.example", "192.0.2.1"])) == 1


def test_known_hosts_of_a_large_fleet_are_quick(tmp_path: Path) -> None:
    key = keygen(tmp_path / "key").with_suffix(".pub").read_text()
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"web-{n:04},192.0.2.{n % 250} {key}" for n in range(3000)))
    began = time.process_time()
    known = KnownHosts.read(file)
    assert all(known.keys_for([f"web-{n:04}"]) for n in range(1000))
    assert time.process_time() - began < 2


def test_known_hosts_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ssh\.known_hosts"):
        KnownHosts.read(tmp_path)
    assert KnownHosts.read(tmp_path / "none").missing
