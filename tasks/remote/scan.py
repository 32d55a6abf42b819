"""Host keys of a new fleet: what hosts show, held against what the operator learnt through another channel."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from ..core.errors import UnreachableError, UsageError
from ..core.hosts import Host
from ..core.pins import ScanReport, Shown
from .dialing import Deadline, explained
from .endpoints import Endpoint, SshSettings
from .known_hosts import KnownHosts
from .ssh import Connector

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")
WIDTH = 32

Trusted = tuple[Mapping[str, set[str]], str]
"""What ``core.preparation.fingerprints`` returns."""


def scan(environment: str, ssh: SshSettings, hosts: Iterable[Host], trusted: Trusted | None) -> ScanReport:
    """Ask every host whose key is not pinned for its keys, gateways first; pin those that ``trusted`` names.

    Without ``trusted`` nothing is written. A key that is pinned already is neither asked for nor doubted.
    """
    shown: list[Shown] = []
    added: list[Shown] = []
    troubles: list[tuple[str, str]] = []
    file = Path(ssh.known_hosts).expanduser()
    with Connector(ssh) as connector:
        endpoints = [connector.endpoint(host) for host in hosts]
    for rank in _ranks(endpoints):
        known = KnownHosts.read(file)
        unknown = [each for each in rank if not known.keys_for(each.host_key_names)]
        with Connector(ssh) as connector, ThreadPoolExecutor(WIDTH, thread_name_prefix="scan") as pool:
            found = dict(zip(unknown, pool.map(lambda to, by=connector: _look(by, to), unknown), strict=True))
        good: list[Shown] = []
        for to, keys in found.items():
            if isinstance(keys, UnreachableError):
                troubles.append((to.name, str(keys)))
                continue
            shown += keys
            if trusted is not None:
                matching, trouble = _compared(to, keys, trusted, file)
                good += matching
                troubles += [(to.name, trouble)] if trouble else []
        _append(file, [key.line for key in good])
        added += good
    return ScanReport(environment, tuple(shown), tuple(troubles), tuple(added), str(ssh.known_hosts))


def _ranks(endpoints: Sequence[Endpoint]) -> Iterator[list[Endpoint]]:
    """Yield endpoints in ranks, so that the gateways of one are in those before; each place once."""
    seen: set[tuple[str, ...]] = set()
    by_rank: dict[int, list[Endpoint]] = {}
    for to in endpoints:
        chain = [to]
        while chain[-1].gateway is not None:
            chain.append(chain[-1].gateway)
        for rank, each in enumerate(reversed(chain)):
            if each.host_key_names not in seen:
                seen.add(each.host_key_names)
                by_rank.setdefault(rank, []).append(each)
    for rank in sorted(by_rank):
        yield by_rank[rank]


def _look(connector: Connector, to: Endpoint) -> list[Shown] | UnreachableError:
    """Return a host's keys, one of each kind that it has; it proves in the key exchange that they are its own."""
    found = []
    for kind in KINDS:
        try:
            seen = connector.reach(to, lambda sock, deadline, kind=kind: _key(to, sock, deadline, kind))  # type: ignore[misc]
        except UnreachableError as error:
            return error
        if seen is not None:
            found.append(seen)
    if not found:
        return UnreachableError("unknown-key", f"{to.where}: it shows no host key of a kind that can be pinned")
    return found


def _key(to: Endpoint, sock: Any, deadline: Deadline, kind: str) -> Shown | None:
    """Exchange keys with a host and hang up; None where it has none of the kind."""
    transport = None
    try:
        transport = paramiko.Transport(sock)
        transport.get_security_options().key_types = (kind,)
        transport.start_client(timeout=deadline.left())
        key = transport.get_remote_server_key()
        address = sock.getpeername()[0] if to.gateway is None else to.address
        return Shown(to.name, address, to.host_key_names, key.get_name(), key.fingerprint, key.get_base64())
    except IncompatiblePeer:
        return None
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise explained(to, error, False, deadline) from error
    finally:
        with contextlib.suppress(Exception):
            transport.close() if transport else sock.close()


def _compared(to: Endpoint, keys: Sequence[Shown], trusted: Trusted, file: Path) -> tuple[list[Shown], str]:
    """Return those of a host's keys that are trusted, or what is wrong."""
    prints, lines = trusted
    names = [name.lower() for name in (to.name, to.address, *to.host_key_names)]
    wanted = {each for name in names for each in prints.get(name, ())}
    wanted |= {key.fingerprint for key in KnownHosts(file, lines).keys_for(names)}
    good = [key for key in keys if key.fingerprint in wanted]
    if good:
        return good, ""
    if not wanted:
        return [], "its key is not pinned, and the file of --trust says nothing of it"
    shows = " or ".join(f"{key.kind} {key.fingerprint}" for key in keys)
    told = f"it shows {shows}, and the file of --trust has {' or '.join(sorted(wanted))}: nothing was pinned for it"
    return [], f"{told}; somebody may stand in between"


def _append(file: Path, lines: Sequence[str]) -> None:
    """Add lines to known_hosts; the file is replaced as a whole, so that a killed run leaves the old one or the new."""
    if not lines:
        return
    real = Path(os.path.realpath(file))
    draft = real.with_name(f"{real.name}.{secrets.token_hex(4)}.skein-new")
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = real.read_bytes() if real.exists() else b""
        mode = real.stat().st_mode & 0o777 if real.exists() else 0o600
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        draft.write_bytes(before + gap + "".join(f"{line}\n" for line in lines).encode())
        draft.chmod(mode)
        draft.replace(real)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UsageError(f"{real}: host keys cannot be written there: {error.strerror}; set ssh.known_hosts") from error
