"""The operator's known_hosts file: read once for a whole fleet, and the policy that holds every connection to it.

Paramiko's own loader refuses the whole file for one ``@cert-authority`` line and costs a parse per connection; this one
passes over what it cannot use and decodes a key when it is asked for. The format is that of sshd(8).
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import paramiko
from paramiko.pkey import UnknownKeyType

from ..core.errors import UnreachableError, UsageError

KEY_TYPES = frozenset({"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"})
"""What paramiko can verify and a plain line can pin."""


class _Entry(NamedTuple):
    key_type: str
    blob: str


class _Pattern(NamedTuple):
    wanted: re.Pattern[str]
    unwanted: re.Pattern[str]
    entry: _Entry


class _Hashed(NamedTuple):
    salt: bytes
    digest: bytes
    entry: _Entry


class KnownHosts:
    """The pinned host keys of one file.

    ``missing`` says that there is no such file, ``skipped`` counts the lines that pin nothing: comments, markers,
    unknown key types, malformed ones. A key that any ``@revoked`` line names is pinned for no host at all.
    """

    def __init__(self, path: Path, text: str | None) -> None:
        self.path, self.missing, self.skipped = path, text is None, 0
        self._exact: dict[str, list[_Entry]] = {}
        self._patterns: list[_Pattern] = []
        self._hashed: list[_Hashed] = []
        self._revoked: set[str] = set()
        for line in (text or "").splitlines():
            if line.strip() and not self._take(line.split()):
                self.skipped += 1

    @classmethod
    def read(cls, path: Path) -> KnownHosts:
        """Read the file at ``path``; a missing one pins nothing, an unreadable one raises UsageError."""
        try:
            return cls(path, path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return cls(path, None)
        except OSError as error:
            raise UsageError(f"{path}: cannot read the known hosts: {error.strerror}; set ssh.known_hosts") from error

    def keys_for(self, names: Sequence[str]) -> list[paramiko.PKey]:
        """Return the keys pinned for the first of ``names`` that has any; ``[name]:port`` where the port is not 22."""
        for name in names:
            keys = [key for entry in dict.fromkeys(self._entries(name.lower())) if (key := _decode(entry))]
            if keys:
                return keys
        return []

    def is_revoked(self, key: paramiko.PKey) -> bool:
        """Tell whether the file marks ``key`` as revoked."""
        return key.get_base64() in self._revoked

    def _take(self, fields: list[str]) -> bool:
        if fields[0] == "@revoked" and len(fields) >= 4:
            self._revoked.add(fields[3])
        if len(fields) < 3 or fields[0].startswith(("#", "@")) or fields[1] not in KEY_TYPES:
            return False
        names, entry = fields[0].lower() if "|" not in fields[0] else fields[0], _Entry(fields[1], fields[2])
        if names.startswith("|"):
            return self._take_hashed(names.split("|"), entry)
        if any(mark in names for mark in "*?!"):
            terms = names.split(",")
            unwanted = [term[1:] for term in terms if term.startswith("!")]
            wanted = [term for term in terms if not term.startswith("!")]
            self._patterns.append(_Pattern(_wildcards(wanted), _wildcards(unwanted), entry))
        else:
            for name in names.split(","):
                self._exact.setdefault(name, []).append(entry)
        return True

    def _take_hashed(self, parts: list[str], entry: _Entry) -> bool:
        try:
            _, version, salt, digest = parts
            hashed = _Hashed(_bytes(salt), _bytes(digest), entry)
        except ValueError:
            return False
        if version == "1":
            self._hashed.append(hashed)
        return version == "1"

    def _entries(self, name: str) -> list[_Entry]:
        found = list(self._exact.get(name, ()))
        found += [p.entry for p in self._patterns if p.wanted.fullmatch(name) and not p.unwanted.fullmatch(name)]
        found += [h.entry for h in self._hashed if hmac.digest(h.salt, name.encode(), "sha1") == h.digest]
        return [entry for entry in found if entry.blob not in self._revoked]


class PinnedKeys(paramiko.MissingHostKeyPolicy):
    """Refuse every host key but those pinned for this one host.

    Paramiko's table holds one key per host and type where OpenSSH takes any number (two, while a key is replaced): so
    the client's table stays empty and this policy alone decides. ``where`` is what messages call the host.
    """

    def __init__(self, known: KnownHosts, names: Sequence[str], where: str) -> None:
        self.known, self.names, self.where = known, tuple(names), where
        self.keys = known.keys_for(names)

    def transport(self, sock: Any, **options: Any) -> paramiko.Transport:
        """Make paramiko's transport, to ask the host for the pinned kinds of key first and for the fastest cipher."""
        transport = paramiko.Transport(sock, **options)
        pinned = {key.get_name() for key in self.keys}
        pinned |= {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in pinned else set()
        security = transport.get_security_options()
        security.key_types = sorted(security.key_types, key=lambda kind: kind not in pinned)
        security.ciphers = sorted(security.ciphers, key=lambda cipher: "gcm" not in cipher)
        return transport

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Return if ``key`` is pinned; else raise UnreachableError ``changed-key`` or ``unknown-key``."""
        if any(key.asbytes() == pinned.asbytes() for pinned in self.keys):
            return
        name, file, shown = self.names[0], self.known.path, f"{key.get_name()} {key.fingerprint}"
        if self.known.is_revoked(key):
            raise UnreachableError("changed-key", f"{self.where}: its host key {shown} is marked @revoked in {file}")
        if self.keys:
            pinned = " or ".join(key.fingerprint for key in self.keys)
            raise UnreachableError(
                "changed-key",
                f"{self.where}: the host key changed: it shows {shown}, but {file} has {pinned}; somebody may stand in"
                f" between; if not, `ssh-keygen -R '{name}' -f {file}` and add the new key once compared",
            )
        lacks = "does not exist" if self.known.missing else f"has no {name}"
        raise UnreachableError(
            "unknown-key",
            f"{self.where}: host key {shown} is not known: {file} {lacks}; compare it with"
            f" `ssh-keygen -lf /etc/ssh/ssh_host_{_family(key)}_key.pub` on the host itself, then add to that file the"
            f" line `{name} {key.get_name()} …` of ssh-keyscan",
        )


def _decode(entry: _Entry) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_type_string(entry.key_type, _bytes(entry.blob))
    except (ValueError, TypeError, LookupError, OverflowError, paramiko.SSHException, UnknownKeyType):
        return None


def _wildcards(terms: Sequence[str]) -> re.Pattern[str]:
    escaped = (re.escape(term).replace(r"\*", ".*").replace(r"\?", ".") for term in terms)
    return re.compile("|".join(escaped) if terms else r"(?!)", re.DOTALL)


def _family(key: paramiko.PKey) -> str:
    return {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519"}.get(key.get_name(), "ecdsa")


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)
