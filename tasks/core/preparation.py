"""What set-up is asked for beyond its usual work: the texts of command line and files in, values out."""

from __future__ import annotations

import hashlib
import posixpath
import re
from binascii import Error, a2b_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import UsageError
from .text import printable

PUBLIC = re.compile(r"(?P<kind>[a-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]+={0,3})(?: .*)?")
FINGERPRINT = re.compile(r"(?P<name>\S+)\s+(?P<print>SHA256:[A-Za-z0-9+/]{43})(?:\s.*)?")
SHARED_MOST = 500_000
"""Bytes of linked files that fit into one request."""


@dataclass(frozen=True)
class Wishes:
    """What was asked for. ``shared`` is {path below shared: content}, ``admit`` are keys to restrict to the gate."""

    dry: bool = False  # print the lines for authorized_keys instead of writing them
    prune: bool = False
    replace: bool = False
    shared: Mapping[str, bytes] = field(default_factory=dict)
    admit: tuple[str, ...] = ()


def shared_files(specs: Sequence[str], linked_files: Sequence[str], linked_dirs: Sequence[str]) -> dict[str, str]:
    """Read ``FILE[=PATH]``, several with commas between; return {path below shared: file on this machine}.

    A path left out is the file's own, or its name, where that is a linked file. Raise UsageError where a release would
    not link to the path: the file would lie there unread.
    """
    found: dict[str, str] = {}
    for spec in [each for text in specs for each in text.split(",") if each]:
        file, given, path = spec.partition("=")
        names = (path,) if given else (file, posixpath.basename(file))
        fitting = [name for name in names if name in linked_files or _lies_in(name, linked_dirs)]
        if not fitting:
            known = ", ".join((*linked_files, *(f"{name}/…" for name in linked_dirs))) or "none is configured"
            raise UsageError(f"--shared {spec}: {names[-1]!r} is no linked file; targets.linked_files has: {known}")
        if found.setdefault(fitting[0], file) != file:
            raise UsageError(f"--shared: {fitting[0]} is given twice")
    return found


def public_keys(text: str, where: str) -> tuple[str, ...]:
    """Read a file of public keys, one a line, and return each as kind and text; raise UsageError where it is none."""
    keys = []
    for line in (line.strip() for line in text.splitlines()):
        match = PUBLIC.fullmatch(line)
        if match and _is_key(match["kind"], match["blob"]):
            keys.append(f"{match['kind']} {match['blob']}")
        elif line and not line.startswith("#"):
            raise UsageError(f"{where}: holds what is no public key; give the .pub file that ssh-keygen made")
    if not keys:
        raise UsageError(f"{where}: holds no public key; give the .pub file that ssh-keygen made")
    return tuple(dict.fromkeys(keys))


def short_name(key: str) -> str:
    """Return a short name of a public key, the same everywhere."""
    return hashlib.sha256(key.split()[1].encode()).hexdigest()[:16]


def fingerprints(text: str, where: str) -> tuple[dict[str, set[str]], str]:
    """Read ``host SHA256:…`` lines; return them by host, and the rest of the text, which is known_hosts' kind.

    Raise UsageError that names the lines that are neither.
    """
    found: dict[str, set[str]] = {}
    rest, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        match, words = FINGERPRINT.fullmatch(line.strip()), line.split()
        if match:
            found.setdefault(match["name"].lower(), set()).add(match["print"])
        elif (words and words[0].startswith("@")) or (len(words) >= 3 and _is_key(words[1], words[2])):
            rest.append(line)
        elif words and not words[0].startswith("#"):
            wrong.append(str(number))
    if wrong:
        form = "`host SHA256:…`, or a line of known_hosts"
        raise UsageError(f"{printable(where)}: malformed line {', '.join(wrong)}; one is {form}")
    return found, "\n".join(rest)


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    tidy = posixpath.normpath(path) == path and not path.startswith(("/", "../"))
    return tidy and any(path.startswith(f"{folder}/") for folder in folders)


def _is_key(kind: str, blob: str) -> bool:
    """Tell whether text is a key of a kind: its first field repeats the kind (RFC 4253, 6.6)."""
    try:
        data = a2b_base64(blob, strict_mode=True)
    except Error:
        return False
    return data[4 : 4 + int.from_bytes(data[:4], "big")] == kind.encode()
