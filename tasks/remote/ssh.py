"""Open Fabric connections the safe way: pinned host keys, chosen identities, shared gateways, a deadline on every wait.

What Fabric and paramiko would do by themselves (accept any host key, ask the agent, decode the identity anew for every
host, read half of ssh's configuration) is switched off here; ssh's configuration is honoured by asking ``ssh -G``.
"""

from __future__ import annotations

import getpass
import glob
import logging
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import fabric
import paramiko
import stamina
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from ..core.errors import UnreachableError, UsageError
from ..core.hosts import Host
from ..core.text import printable
from .known_hosts import KnownHosts, PinnedKeys

LOGINS_PER_GATEWAY = 8
"""A stock sshd (MaxStartups 10:30:100) refuses some of 16 log-ins at once, and none of 8."""

GATEWAY_REST_S = 30.0
"""For how long a gateway that failed is not tried again: it must not cost each host behind it a whole timeout."""

LONGEST_PAUSE_S = 2.0
CHANNEL_TIMEOUT_S = 30.0
SSH_G_TIMEOUT_S = 10.0
IDENTITIES = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"]
SOCKET_OPTIONS = {"TCP_NODELAY": 1, "TCP_USER_TIMEOUT": 30_000, "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5}
CONFIGURES = re.compile(r"\s*(match|hostname|port|user|identityfile|proxy(jump|command)|hostkeyalias)\b", re.IGNORECASE)
CONNECT_FAILED = 2  # RFC 4254, 5.1
V = TypeVar("V")


class SshSettings(Protocol):
    """The ``[ssh]`` table. None leaves the choice to ssh's own configuration, then to ssh's defaults.

    ``gateway`` is ``[user@]host[:port]``, or several with commas between, the nearest first; ``none`` for none.
    ``connect_timeout`` is in seconds and covers everything up to the log-in, retries included. ``config_file`` is what
    ``ssh -F`` would be given.
    """

    @property
    def user(self) -> str | None: ...  # noqa: D102
    @property
    def known_hosts(self) -> str | os.PathLike[str]: ...  # noqa: D102
    @property
    def identity_file(self) -> str | os.PathLike[str] | None: ...  # noqa: D102
    @property
    def agent(self) -> bool: ...  # noqa: D102
    @property
    def gateway(self) -> str | None: ...  # noqa: D102
    @property
    def connect_timeout(self) -> float: ...  # noqa: D102
    @property
    def config_file(self) -> str | os.PathLike[str] | None: ...  # noqa: D102


@dataclass(frozen=True)
class Endpoint:
    """Where and as whom to log in; ``host_key_names`` is what known_hosts calls it, with the port if that is not 22."""

    name: str
    address: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    host_key_names: tuple[str, ...]
    gateway: Endpoint | None

    @property
    def where(self) -> str:
        """The host as messages name it."""
        return f"{self.name} ({self.address}:{self.port})"


class Connector:
    """Opens connections to the hosts of one environment, from as many threads as you like; close it last."""

    def __init__(self, ssh: SshSettings) -> None:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        stamina.instrumentation.set_on_retry_hooks(())
        self._ssh = ssh
        self._known = KnownHosts.read(Path(ssh.known_hosts).expanduser())
        self._ssh_answers = _Once(self._ask_ssh)
        self._keys = _Once(_load_key)
        self._gateways: dict[Endpoint, _Gateway] = {}
        self._lock = threading.Lock()
        self._configured = ssh.config_file is not None or os.path.exists(os.path.expanduser("~/.ssh/config"))
        self._configured = self._configured or _configures("/etc/ssh/ssh_config")

    def __enter__(self) -> Connector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the gateways, and with them what runs through them."""
        with self._lock:
            gateways, self._gateways = list(self._gateways.values()), {}
        for gateway in gateways:
            with gateway.lock:
                if gateway.connection is not None:
                    gateway.connection.client.close()

    def endpoint(self, host: Host) -> Endpoint:
        """Say where and as whom to log in: host and settings first, then what ``ssh -G`` says, then ssh's defaults.

        Raises UnreachableError where ssh refuses its configuration, or names a ProxyCommand, which Skein does not run,
        and UsageError where a gateway is malformed.
        """
        return self._resolve(host, host.gateway or self._ssh.gateway, None, frozenset({host.name}))

    def open(self, host: Host) -> fabric.Connection:
        """Log in to ``host`` and return the open connection.

        Raises UnreachableError with one of the codes ``unknown-key``, ``changed-key``, ``refused-login``, ``no-key``,
        ``unreachable`` and ``gateway``. Only a host that hangs up before the log-in is tried again, five times in all.
        """
        return self._open(self.endpoint(host))

    def _resolve(self, host: Host, jump: str | None, through: Endpoint | None, passed: frozenset[str]) -> Endpoint:
        said = self._ssh_answers.get(host.name) if self._configured else {}
        first = {key: values[0] for key, values in said.items()}
        if not (jump or through) and first.get("proxycommand", "none") != "none":
            raise UnreachableError("gateway", f"{host.name}: ProxyCommand is not run; use ProxyJump or set ssh.gateway")
        for hop in [] if through else _hops(jump or first.get("proxyjump", "none")):
            if hop.name not in passed:
                through = self._resolve(hop, None, through, passed | {hop.name})
        identities = [self._ssh.identity_file] if self._ssh.identity_file else said.get("identityfile", IDENTITIES)
        files = [os.path.expanduser(path) for path in identities]
        address, port = host.address or first.get("hostname", host.name), host.port or int(first.get("port", 22))
        names = (first.get("hostkeyalias", _with_port(address, port)), _with_port(host.name, port))
        return Endpoint(
            name=host.name,
            address=address,
            port=port,
            user=host.user or self._ssh.user or first.get("user") or getpass.getuser(),
            identity_files=tuple(file for file in files if self._ssh.identity_file or os.path.exists(file)),
            host_key_names=tuple(dict.fromkeys(names)),
            gateway=through,
        )

    def _ask_ssh(self, name: str) -> dict[str, list[str]]:
        config = ("-F", os.path.expanduser(self._ssh.config_file)) if self._ssh.config_file else ()
        command = ("ssh", "-G", *config, "--", name)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SSH_G_TIMEOUT_S)
        except FileNotFoundError:
            return {}
        except subprocess.TimeoutExpired as error:
            raise UnreachableError("unreachable", f"{name}: ssh -G did not end within {SSH_G_TIMEOUT_S:g} s") from error
        if done.returncode:
            said = printable(done.stderr.decode(errors="replace"))
            raise UnreachableError("unreachable", f"{name}: ssh -G says: {said}; correct the ssh configuration")
        answer: dict[str, list[str]] = {}
        for line in done.stdout.decode(errors="replace").splitlines():
            key, _, value = line.partition(" ")
            answer.setdefault(key, []).append(value)
        return answer

    def _open(self, to: Endpoint) -> fabric.Connection:
        keys, deadline = self._identities(to), _Deadline(self._ssh.connect_timeout)

        def again(error: Exception) -> bool:
            return isinstance(error, _DroppedError) and deadline.left() > LONGEST_PAUSE_S

        for attempt in stamina.retry_context(again, 5, None, wait_initial=0.2, wait_max=LONGEST_PAUSE_S):
            with attempt:
                if to.gateway is None:
                    return self._log_in(to, _dial(to, deadline), keys, deadline)
                with deadline.paused():
                    gateway = self._gateway(to, to.gateway)
                    gateway.slots.acquire()
                try:
                    return self._log_in(to, gateway.channel(to, deadline), keys, deadline)
                finally:
                    gateway.slots.release()
        raise AssertionError("the last attempt returns or raises")

    def _identities(self, to: Endpoint) -> list[paramiko.PKey]:
        loaded = {file: self._keys.get(file) for file in to.identity_files}
        keys = [key for key in loaded.values() if isinstance(key, paramiko.PKey)]
        if keys or self._ssh.agent:
            return keys
        problems = ", ".join(f"{file} {problem}" for file, problem in loaded.items()) or "ssh's usual files are missing"
        advice = "set ssh.identity_file to a deploy key without a passphrase, or ssh.agent = true"
        raise UnreachableError("no-key", f"{to.name}: no identity to log in with: {problems}; {advice}")

    def _gateway(self, to: Endpoint, through: Endpoint) -> _Gateway:
        with self._lock:
            gateway = self._gateways.setdefault(through, _Gateway(through.where))
        try:
            gateway.ensure(lambda: self._open(through))
        except UnreachableError as error:
            raise UnreachableError("gateway", f"{to.name}: gateway {error}") from error
        return gateway

    def _log_in(self, to: Endpoint, sock: Any, keys: list[paramiko.PKey], deadline: _Deadline) -> fabric.Connection:
        pinned = PinnedKeys(self._known, to.host_key_names, to.where)
        login = _Login(to, keys, self._ssh.agent, deadline)
        connection = fabric.Connection(
            to.address,
            user=to.user,
            port=to.port,
            config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
            gateway=False,
            forward_agent=False,
            connect_kwargs={
                "sock": sock,
                "timeout": deadline.left(),
                "banner_timeout": deadline.left(),
                "channel_timeout": CHANNEL_TIMEOUT_S,
                "allow_agent": False,
                "look_for_keys": False,
                "auth_strategy": login,
                "transport_factory": pinned.transport,
            },
        )
        connection.client.set_missing_host_key_policy(pinned)
        try:
            connection.open()
        except BaseException as error:
            connection.client.close()
            sock.close()
            if isinstance(error, (paramiko.SSHException, EOFError, OSError)):
                raise _explained(to, error, login.begun, deadline) from error
            raise
        return connection


class _Gateway:
    """The one connection to a gateway, opened before anybody goes through it and shared by all who do."""

    def __init__(self, where: str) -> None:
        self.where, self.lock, self.slots = where, threading.Lock(), threading.BoundedSemaphore(LOGINS_PER_GATEWAY)
        self.connection: fabric.Connection | None = None
        self._failure: tuple[float, UnreachableError] | None = None

    def ensure(self, connect: Callable[[], fabric.Connection]) -> None:
        with self.lock:
            if self.connection is not None and self.connection.is_connected:
                return
            if self._failure and time.monotonic() < self._failure[0] + GATEWAY_REST_S:
                raise self._failure[1]
            try:
                self.connection = connect()
            except UnreachableError as error:
                self._failure = time.monotonic(), error
                raise

    def channel(self, to: Endpoint, deadline: _Deadline) -> paramiko.Channel:
        assert self.connection is not None  # noqa: S101
        transport: paramiko.Transport = self.connection.transport
        try:
            return transport.open_channel("direct-tcpip", (to.address, to.port), ("", 0), timeout=deadline.left())
        except (paramiko.SSHException, EOFError, OSError) as error:
            refused = isinstance(error, paramiko.ChannelException) and error.code == CONNECT_FAILED
            said = printable(str(error)) or "connection lost"
            message = f"{to.where}: gateway {self.where} could not connect to it: {said}"
            raise UnreachableError("unreachable" if refused else "gateway", message) from error


class _Login:
    """A paramiko AuthStrategy that offers keys decoded already; the usual way reads each file anew for every host."""

    def __init__(self, to: Endpoint, keys: list[paramiko.PKey], agent: bool, deadline: _Deadline) -> None:
        self.begun, self._to, self._keys, self._agent, self._deadline = False, to, keys, agent, deadline

    def authenticate(self, transport: paramiko.Transport) -> None:
        self.begun = True
        agent = paramiko.Agent() if self._agent else None
        try:
            self._offer(transport, [*self._keys, *(agent.get_keys() if agent else ())])
        finally:
            if agent:
                agent.close()

    def _offer(self, transport: paramiko.Transport, keys: list[paramiko.PKey]) -> None:
        offered: list[str] = []
        for key in keys:
            transport.auth_timeout = self._deadline.left()
            try:
                more = transport.auth_publickey(self._to.user, key)
            except paramiko.AuthenticationException:
                hung_up = not transport.is_active()
                if self._deadline.left() <= 0 or (hung_up and not offered):
                    raise
                offered.append(key.fingerprint)
                if hung_up:
                    break
            else:
                if not more:
                    return
                offered.append(f"{key.fingerprint} (accepted, but it wants {printable(' and '.join(more))} as well)")
        files = ", ".join(self._to.identity_files) or "no identity file"
        files += " and the ssh agent" if self._agent else ""
        message = (
            f"{self._to.where}: refused to log in {self._to.user} with {', '.join(offered) or 'no key'} ({files});"
            " put the public key into that user's authorized_keys there, or correct ssh.user or ssh.identity_file"
        )
        raise UnreachableError("refused-login", message)


class _DroppedError(UnreachableError):
    """The host hung up before the log-in began, as a busy sshd does: worth another try."""


class _Deadline:
    """The seconds that one host has, all tries together."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        return max(self._end - time.monotonic(), 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time within: others' log-ins, each with a deadline of its own, are waited for."""
        began = time.monotonic()
        yield
        self._end += time.monotonic() - began


class _Once(Generic[V]):
    """Make a value once per key however many threads ask; a failure is raised and not kept."""

    def __init__(self, make: Callable[[str], V]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._made: dict[str, V] = {}

    def get(self, key: str) -> V:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]


def _dial(to: Endpoint, deadline: _Deadline) -> socket.socket:
    try:
        found = socket.getaddrinfo(to.address, to.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"{to.where}: {to.address} has no address: {_said(error)}; check the name, or set its address"
        raise UnreachableError("unreachable", message) from error
    problem: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in SOCKET_OPTIONS.items():
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            sock.settimeout(max(deadline.left() / (len(found) - index), 0.01))
            sock.connect(address)
        except OSError as error:
            problem = error
            sock.close()
        else:
            return sock
    said = f"no answer within {deadline.seconds:g} s" if isinstance(problem, TimeoutError) else _said(problem)
    raise UnreachableError("unreachable", f"{to.where}: {said}; check address, port and firewall") from problem


def _explained(to: Endpoint, error: Exception, begun: bool, deadline: _Deadline) -> UnreachableError:
    if deadline.left() <= 0:
        phase = "the log-in did not end" if begun else "it accepts connections, but no SSH session began"
        message = f"{to.where}: {phase} within {deadline.seconds:g} s; is it overloaded, and is that sshd's port?"
        return UnreachableError("unreachable", message)
    if begun:
        return UnreachableError("unreachable", f"{to.where}: connection lost during the log-in: {_said(error)}")
    # Paramiko wraps what ended the wait for the banner.
    if any(isinstance(cause, (EOFError, ConnectionError)) for cause in (error, error.__context__)):
        advice = "a busy sshd does that (MaxStartups); try again, or fewer at once"
        return _DroppedError("unreachable", f"{to.where}: hung up before the log-in: {_said(error)}; {advice}")
    return UnreachableError("unreachable", f"{to.where}: no SSH session: {_said(error)}")


def _said(error: Exception | None) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text) or type(error).__name__


def _load_key(file: str) -> paramiko.PKey | str:
    """Decode a private key, or say what is wrong with it; never ask for a passphrase."""
    try:
        return paramiko.PKey.from_path(file)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (TypeError, paramiko.PasswordRequiredException):  # cryptography's word for a missing passphrase
        return "has a passphrase"
    except (ValueError, UnsupportedAlgorithm, UnknownKeyType, paramiko.SSHException):
        return "is no private key that can be used"


def _hops(jump: str) -> list[Host]:
    """Read ``[user@]host[:port],…`` as ssh writes it; ``none`` is no hop."""
    hops = []
    for hop in [] if jump == "none" else jump.split(","):
        user, _, place = hop.strip().removeprefix("ssh://").rpartition("@")
        match = re.fullmatch(r"\[(.+)\](?::(\d{1,5}))?|([^:]+)(?::(\d{1,5}))?", place)
        if not match:
            raise UsageError(f"malformed gateway {hop!r}: one looks like user@bastion:22")
        name, port = match[1] or match[3], match[2] or match[4]
        hops.append(Host(name, user=user or None, port=int(port) if port else None))
    return hops


def _with_port(name: str, port: int) -> str:
    return name if port == 22 else f"[{name}]:{port}"


def _configures(path: str) -> bool:
    """Tell whether a system-wide ssh configuration says anything about where and how to log in."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    included = [word for line in lines if line.strip().lower().startswith("include") for word in line.split()[1:]]
    files = [file for word in included for file in glob.glob(os.path.join(os.path.dirname(path), word))]
    return any(CONFIGURES.match(line) for line in lines) or any(map(_configures, files))
