"""The release commit: what it says, how it is written and how one that came from elsewhere is read."""

from __future__ import annotations

import re
from datetime import datetime

from ..core.errors import RepositoryError, UsageError
from ..core.release import ENVIRONMENT, OBJECT_ID, Release, check_id, number_of
from ..core.text import printable
from .repository import Repository

MESSAGE = "Release {id}\n\nSkein-Source-Commit: {commit}\nSkein-Tag: release/{id}\nSkein-Number: {number}\n"
HEADER = re.compile(rb"tree ([0-9a-f]{40,64})\n(?:parent [0-9a-f]{40,64}\n)?author [^\n]*\ncommitter [^\n]*\n\n")
SOURCE_COMMIT = re.compile(r"^Skein-Source-Commit: ([0-9a-f]+)$", re.MULTILINE)
LARGEST = 4096
"""Bytes; a release commit of ours has under 500."""


def commit_tree(
    repository: Repository, tree: str, parent: str | None, message: str, *, operator: str, when: datetime
) -> str:
    """Write a commit by ``operator`` at ``when`` and return its object id; the same arguments give the same one."""
    parents = ("-p", parent) if parent else ()
    return repository.run(
        f"cannot make a commit of {tree}",
        *("commit-tree", *parents, "-F", "-", tree),
        stdin=message.encode(),
        environment=signature(operator, when),
    ).text


def signature(operator: str, when: datetime) -> dict[str, str]:
    """Return the variables that make ``operator`` author, committer and tagger, so that git asks for no identity."""
    who = {"NAME": operator, "EMAIL": operator, "DATE": f"@{int(when.timestamp())} +0000"}
    return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}


def read_release(repository: Repository, environment: str, identity: str, commit: str) -> Release:
    """Return the release that the commit says it is; raise RepositoryError unless all of it is as Skein writes it."""
    broken = RepositoryError(
        f"{printable(commit, 64)} is not the release commit of {printable(identity, 64)} in {repository.git_dir}"
    )
    if not OBJECT_ID.fullmatch(commit) or check_id(identity) != identity:
        raise broken
    size = repository.attempt("cat-file", "-s", commit)
    if size.status or int(size.text) > LARGEST:
        raise broken
    raw = repository.attempt("cat-file", "commit", commit).output
    header = HEADER.match(raw)
    message = raw[header.end() :].decode("ascii", "replace") if header else ""
    source = SOURCE_COMMIT.search(message)
    if not header or not source or not OBJECT_ID.fullmatch(source[1]) or not identity.endswith(f"-{source[1][:7]}"):
        raise broken
    number = number_of(identity)
    if message != MESSAGE.format(id=identity, commit=source[1], number=number):
        raise broken
    return Release(identity, number, check_environment(environment), source[1], commit, header[1].decode())


def check_environment(name: str) -> str:
    """Return ``name`` if it can be an environment's, and so a part of a ref; else raise UsageError."""
    if not ENVIRONMENT.fullmatch(name):
        raise UsageError(f"{name!r} is no environment's name: small letters, digits and dashes")
    return name
