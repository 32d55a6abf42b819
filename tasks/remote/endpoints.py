"""Where and as whom to log in: what host and settings say, then what ``ssh -G`` says, then ssh's defaults."""

from __future__ import annotations

import getpass
import glob
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.errors import UnreachableError, UsageError
from ..core.hosts import Host
from ..core.text import printable
from .once import Once

SSH_G_TIMEOUT_S = 10.0
IDENTITIES = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"]
CONFIGURES = re.compile(r"\s*(match|hostname|port|user|identityfile|proxy(jump|command)|hostkeyalias)\b", re.IGNORECASE)


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


class Resolver:
    """Finds endpoints; ssh is asked once per host, and only where somebody configured it."""

    def __init__(self, ssh: SshSettings) -> None:
        self._ssh = ssh
        self._ssh_answers = Once(self._ask_ssh)
        self._configured = ssh.config_file is not None or os.path.exists(os.path.expanduser("~/.ssh/config"))
        self._configured = self._configured or _configures("/etc/ssh/ssh_config")

    def endpoint(self, host: Host) -> Endpoint:
        """Say where and as whom to log in: host and settings first, then what ``ssh -G`` says, then ssh's defaults.

        Raises UnreachableError where ssh refuses its configuration, or names a ProxyCommand, which Skein does not run,
        and UsageError where a gateway is malformed.
        """
        return self._resolve(host, host.gateway or self._ssh.gateway, None, frozenset({host.name}))

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
        names = (first.get("hostkeyalias", with_port(address, port)), with_port(host.name, port))
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


def with_port(name: str, port: int) -> str:
    """Write a host as known_hosts does."""
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
