"""Which texts may become part of a path, a ref or an order to git; told without re, which every session would load."""

from __future__ import annotations

DIGITS = "0123456789"
HEX = DIGITS + "abcdef"
LOWER = DIGITS + "abcdefghijklmnopqrstuvwxyz-"
WORD = LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OBJECT_ID_LENGTHS = (40, 64)


def is_id(text: str) -> bool:
    """Tell whether a text is a release's id, as 20261122T101500Z-0042-1a2b3c4."""
    parts = text.split("-")
    if len(parts) != 3 or len(parts[0]) != 16 or not 4 <= len(parts[1]) <= 9 or len(parts[2]) != 7:
        return False
    at, number, commit = parts
    is_time = at[8] == "T" and at[15] == "Z" and consists_of(at[:8] + at[9:15], DIGITS)
    return is_time and consists_of(number, DIGITS) and consists_of(commit, HEX)


def is_object_id(text: str) -> bool:
    """Tell whether a text names an object of git's."""
    return len(text) in OBJECT_ID_LENGTHS and consists_of(text, HEX)


def is_release_ref(text: str) -> bool:
    """Tell whether a text is the ref of a release, as refs/skein/releases/prod/<id>."""
    parts = text.split("/")
    if len(parts) != 5 or parts[:3] != ["refs", "skein", "releases"]:
        return False
    return consists_of(parts[3], LOWER) and consists_of(parts[4], WORD)


def is_odd(path: bytes) -> bool:
    """Tell whether git itself would not check out a path: a part of it is empty, dots, or git's own directory."""
    return any(part in (b"", b".", b"..") or part.lower() == b".git" for part in path.split(b"/"))


def consists_of(text: str, characters: str) -> bool:
    """Tell whether there is a text, of these characters alone."""
    return text != "" and not text.strip(characters)
