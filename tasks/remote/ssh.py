"""Open Fabric connections the safe way: pinned host keys, chosen identities, shared gateways, a deadline on every wait.

What Fabric and paramiko would do by themselves (accept any host key, ask the agent, decode the identity anew for every
host, read half of ssh's configuration) is switched off here; ssh's configuration is honoured by asking ``ssh -G``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fabric
import paramiko
import stamina
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from ..core.errors import UnreachableError
from ..core.hosts import Host
from ..core.text import printable
from .dialing import Deadline, DroppedError, dial, explained
from .endpoints import Endpoint, Resolver, SshSettings
from .known_hosts import KnownHosts, PinnedKeys
from .once import Once

T = TypeVar("T")

LOGINS_PER_GATEWAY = 8
"""A stock sshd (MaxStartups 10:30:100) refuses some of 16 log-ins at once, and none of 8."""

GATEWAY_REST_S = 30.0
"""For how long a gateway that failed is not tried again: it must not cost each host behind it a whole timeout."""

LONGEST_PAUSE_S = 2.0
CHANNEL_TIMEOUT_S = 30.0
CONNECT_FAILED = 2  # RFC 4254, 5.1


class Connector:
    """Opens connections to the hosts of one environment, from as many threads as you like; close it last."""

    def __init__(self, ssh: SshSettings) -> None:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        stamina.instrumentation.set_on_retry_hooks(())
        self._ssh = ssh
        self._known = KnownHosts.read(Path(ssh.known_hosts).expanduser())
        self._resolver = Resolver(ssh)
        self._keys = Once(_load_key)
        self._gateways: dict[Endpoint, _Gateway] = {}
        self._lock = threading.Lock()

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
        """Say where and as whom a host is logged in to; see ``Resolver.endpoint``."""
        return self._resolver.endpoint(host)

    def open(self, host: Host) -> fabric.Connection:
        """Log in to ``host`` and return the open connection.

        Raises UnreachableError with one of the codes ``unknown-key``, ``changed-key``, ``refused-login``, ``no-key``,
        ``unreachable`` and ``gateway``. Only a host that hangs up before the log-in is tried again, five times in all.
        """
        return self._open(self.endpoint(host))

    def reach(self, to: Endpoint, use: Callable[[Any, Deadline], T]) -> T:
        """Give ``use`` a socket, or a gateway's channel, to an sshd; raise UnreachableError where there is none.

        Only a host that hangs up before the log-in (DroppedError) is tried again, five times in all.
        """
        deadline = Deadline(self._ssh.connect_timeout)

        def again(error: Exception) -> bool:
            return isinstance(error, DroppedError) and deadline.left() > LONGEST_PAUSE_S

        for attempt in stamina.retry_context(again, 5, None, wait_initial=0.2, wait_max=LONGEST_PAUSE_S):
            with attempt:
                if to.gateway is None:
                    return use(dial(to, deadline), deadline)
                with deadline.paused():
                    gateway = self._gateway(to, to.gateway)
                    gateway.slots.acquire()
                try:
                    return use(gateway.channel(to, deadline), deadline)
                finally:
                    gateway.slots.release()
        raise AssertionError("the last attempt returns or raises")

    def _open(self, to: Endpoint) -> fabric.Connection:
        keys = self._identities(to)
        return self.reach(to, lambda sock, deadline: self._log_in(to, sock, keys, deadline))

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

    def _log_in(self, to: Endpoint, sock: Any, keys: list[paramiko.PKey], deadline: Deadline) -> fabric.Connection:
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
                raise explained(to, error, login.begun, deadline) from error
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

    def channel(self, to: Endpoint, deadline: Deadline) -> paramiko.Channel:
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

    def __init__(self, to: Endpoint, keys: list[paramiko.PKey], agent: bool, deadline: Deadline) -> None:
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
