"""What a configuration's values may look like.

Many of them end on a command line of ssh or git, so none may look like an option. Each function returns the value it
was given or raises ValueError with a sentence for the operator.
"""

from __future__ import annotations

import posixpath
import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from .hosts import NAME, expand
from .release import check_ref
from .text import printable

LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
PERCENT = re.compile(r"[0-9]{1,3}%")
GATEWAY = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:@\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
SCHEMES = ("ssh", "git", "file", "https")


def check_label(text: str) -> str:
    """Return ``text`` if it can name an app, a group or a zone."""
    if not LABEL.fullmatch(text):
        raise ValueError(f"{_quoted(text)} is no name: letters, digits, dots, dashes and underscores")
    return text


def check_user(text: str) -> str:
    """Return ``text`` if it can be a user's name and never an option."""
    if not USER.fullmatch(text):
        raise ValueError(f"{_quoted(text)} is no user name: letters, digits, dots, dashes and underscores")
    return text


def check_pattern(text: str) -> str:
    """Return ``text`` if it names hosts; a colon gets the advice that it needs."""
    if ":" in text:
        advice = 'write a table such as { name = "web-1", address = "2001:db8::1", port = 2222 }'
        raise ValueError(f"malformed host {_quoted(text)}: {advice}")
    expand(text)
    return text


def check_address(text: str) -> str:
    """Return ``text`` if it is an IPv4 or IPv6 address, without brackets, or a DNS name."""
    if not (NAME.fullmatch(text) or _is_ipv6(text)):
        raise ValueError(f"malformed address {_quoted(text)}: an IPv4 or IPv6 address or a DNS name")
    return text


def check_gateway(text: str) -> str:
    """Return ``text`` if it is ``[user@]host[:port]``; an IPv6 address stands in brackets."""
    match = GATEWAY.fullmatch(text)
    if match:
        user, host, port = match["user"], match["host"], int(match["port"] or 22)
        reachable = _is_ipv6(host[1:-1]) if host.startswith("[") else NAME.fullmatch(host)
        if reachable and (user is None or USER.fullmatch(user)) and 1 <= port <= 65535:
            return text
    raise ValueError(f"malformed gateway {_quoted(text)}: write [user@]host[:port]")


def check_path(text: str) -> str:
    """Return ``text`` if it is a normalised path that is absolute or begins with ``~/``, and not a root."""
    if not _is_tidy(text) or not text.startswith(("/", "~/")):
        rule = "it begins with / or ~/, without control characters or outer spaces"
        raise ValueError(f"bad path {_quoted(text)}: {rule}")
    if ".." in text.split("/"):
        raise ValueError(f"bad path {_quoted(text)}: it may not hold ..")
    normal = "/" + posixpath.normpath(text).lstrip("/") if text.startswith("/") else posixpath.normpath(text)
    if normal in ("/", "~"):
        raise ValueError(f"bad path {_quoted(text)}: it must lie below / or ~/")
    if normal != text:
        raise ValueError(f"bad path {_quoted(text)}: write it as {_quoted(normal)}")
    return text


def check_repository(text: str) -> str:
    """Return ``text`` if it is such a path and stands in git's ssh addresses for itself; ``/~`` is a home there."""
    if text.startswith("/~"):
        raise ValueError(f"bad path {_quoted(text)}: it may not begin with /~")
    return check_path(text)


def check_relative(text: str) -> str:
    """Return ``text`` if it is a normalised path inside a release."""
    if not _is_tidy(text) or text.startswith("/") or ".." in text.split("/"):
        rule = "it is relative to the release, without .., control characters or outer spaces"
        raise ValueError(f"bad path {_quoted(text)}: {rule}")
    if text in ("", ".") or posixpath.normpath(text) != text:
        normal = posixpath.normpath(text)
        hint = "name something inside the release" if normal == "." else f"write it as {_quoted(normal)}"
        raise ValueError(f"bad path {_quoted(text)}: {hint}")
    return text


def check_url(text: str) -> str:
    """Return ``text`` if git may be given it as a repository's address: no option, no helper program, no password."""
    if not text.isprintable() or " " in text:
        raise ValueError(f"bad url {_quoted(text)}: it may not hold spaces or control characters")
    if text.startswith("/"):
        return check_path(text)
    try:
        parts = urlsplit(text)
        host, user, _ = parts.hostname or "", parts.username, parts.port
    except ValueError as error:
        raise ValueError(f"bad url {_quoted(text)}: malformed host or port") from error
    if parts.scheme not in SCHEMES or not text.startswith(f"{parts.scheme}://"):
        raise ValueError(f"bad url {_quoted(text)}: it begins with ssh://, git://, file://, https:// or /")
    if parts.password is not None:
        raise ValueError("bad url: it may not hold a password; leave that to git's credential helper")
    named = not host if parts.scheme == "file" else NAME.fullmatch(host) or _is_ipv6(host)
    if not named or not parts.path.startswith("/") or (user is not None and not USER.fullmatch(user)):
        raise ValueError(f"bad url {_quoted(text)}: malformed user, host or path")
    return text


def check_branch(text: str) -> str:
    """Return ``text`` if it can name a branch."""
    if set(text) & set("~^"):
        raise ValueError(f"{_quoted(text)} is no branch")
    return check_ref(text)


def check_key(text: str) -> str:
    """Return ``text`` if it can name a signing key and never an option."""
    if not text or not text.isprintable() or text.startswith("-"):
        raise ValueError(f"{_quoted(text)} names no key: a file, or a key's id")
    return text


def check_fail_limit(value: object) -> int | str:
    """Return ``value`` if it is a number of hosts or a percentage of them."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and PERCENT.fullmatch(value) and int(value[:-1]) <= 100:
        return value
    raise ValueError('must be a number of hosts such as 2, or a percentage from "0%" to "100%"')


def check_word(text: str) -> str:
    """Return ``text`` if it can be a word of a command: not empty, no zero byte."""
    if not text or "\0" in text:
        raise ValueError("a word of a command may not be empty or hold a zero byte")
    return text


def _is_ipv6(text: str) -> bool:
    if not re.fullmatch(r"[0-9A-Fa-f:.]+", text) or ":" not in text:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_tidy(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def _quoted(text: str) -> str:
    return printable(f"'{text}'", 80)
