"""Releases: their ids, tags and refs, and the grammar of what an operator may call a ref."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import UsageError

ID = re.compile(r"(?P<time>[0-9]{8}T[0-9]{6}Z)-(?P<number>[0-9]{4,9})-(?P<commit>[0-9a-f]{7})")
OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
NUMBER_MOST = 999_999_999
"""The last release number that fits into an id."""
REF = re.compile(r"(?!.*(?:\.\.|@\{|//|\.lock(?:$|[/~^])))[A-Za-z0-9_][A-Za-z0-9._/+@-]*(?:[~^][0-9]{0,6}){0,8}")
ENVIRONMENT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Release:
    """An immutable snapshot to deploy.

    ``source_commit`` is what the operator's ref resolved to; ``commit`` is the release commit on the environment's own
    chain, whose ``tree`` is exactly what is deployed. All three are object ids.
    """

    id: str
    number: int
    environment: str
    source_commit: str
    commit: str
    tree: str

    @property
    def tag(self) -> str:
        """The annotated tag on the source commit, for developers."""
        return f"release/{self.id}"

    @property
    def ref(self) -> str:
        """Where the release commit stands on source, mirrors and targets."""
        return release_ref(self.environment, self.id)


@dataclass(frozen=True)
class Adopted:
    """What targets served before Skein came: a directory of theirs, with an id and no commit; no mirror has it."""

    id: str


def release_ref(environment: str, identity: str) -> str:
    """Return the ref of a release commit."""
    return f"refs/skein/releases/{environment}/{identity}"


def release_id(at: datetime, number: int, commit: str) -> str:
    """Make the id: UTC time, number, short commit; sorts as text in the order of time.

    Raise ValueError for a time without a zone: whose time it is must not depend on the machine.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{number:04d}-{commit[:7]}"


def check_id(text: str) -> str:
    """Return ``text`` if it is a release id, with or without ``release/`` before it; else raise UsageError."""
    bare = text.removeprefix("release/")
    if not ID.fullmatch(bare):
        raise UsageError(f"{text!r} is no release id; one looks like 20261122T101500Z-0042-1a2b3c4")
    return bare


def number_of(identity: str) -> int:
    """Return the release number that an id carries."""
    match = ID.fullmatch(identity)
    if not match:
        raise UsageError(f"{identity!r} is no release id")
    return int(match["number"])


def check_ref(text: str) -> str:
    """Return ``text`` if it can name a commit and nothing else: no option, range or path; else raise UsageError."""
    if not REF.fullmatch(text):
        raise UsageError(f"{text!r} is no ref: a branch, tag or commit id, such as main, v1.2 or HEAD~1")
    return text
