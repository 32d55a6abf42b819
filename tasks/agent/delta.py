"""A release from a delta that came over the session: a thin pack on top of a release that is here."""

from __future__ import annotations

import os

from .children import BRIEF_S
from .failpoints import failpoint
from .place import replace
from .problem import Problem
from .repo import last_line

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Optional, Union

    from .problem import Json
    from .repo import Repo

LOOSE_MOST = 100  # objects; git's own limit for keeping them single (git-config(1), receive.unpackLimit)
APPLY_S = 600.0


def apply(repo: Repo, request: Json, there: Dict[str, str]) -> Optional[str]:
    """Bring the release commit from ``request["payload"]``, bytes or the path of a file that holds them.

    Return None, or why the mirrors must be asked instead.

    ``request["base"]`` is the ref of the release that the pack builds on, ``base_commit`` what it must stand for, and
    ``there`` what it stands for; an empty one: the pack is whole. The pack carries the new commit without its history,
    so the commit is entered as one where history ends (gitrepository-layout(5), shallow), as ``git fetch --depth=1``
    does. The ref comes last. What the commit needs is in the pack, whose hash came over the session, or belongs to the
    base, which is whole; staging reads all that differs, and doubts the repository where anything of it is missing.
    """
    base, commit, pack = request["base"], request["commit"], request["payload"]
    if base and there.get(base) != request["base_commit"]:
        return "the release that the delta builds on is not here"
    try:
        unpack(repo, pack)
        failpoint("agent.delta.unpacked")
        if not repo.holds(commit):
            return "the delta lacks the release's commit"
        _end_history_at(repo, commit)
        repo.enter(request["ref"], commit)
    except Problem as problem:
        if problem.code == "disk-full":
            raise
        return last_line(str(problem))
    return None


def unpack(repo: Repo, pack: Union[bytes, str], *strictly: str) -> None:
    """Take a pack, or a file that holds one, into a repository that has what it builds on; raise Problem."""
    few = int.from_bytes(_head(pack)[8:12], "big") <= LOOSE_MOST
    words = ("unpack-objects", "-q") if few else ("index-pack", "--stdin", "--fix-thin")
    repo.must(*words, *strictly, stdin=pack, timeout_s=BRIEF_S if few else APPLY_S)


def _head(pack: Union[bytes, str]) -> bytes:
    if isinstance(pack, bytes):
        return pack
    with open(pack, "rb") as file:
        return file.read(12)


def _end_history_at(repo: Repo, commit: str) -> None:
    path = os.path.join(repo.path, "shallow")
    try:
        with open(path, encoding="ascii") as file:
            known = file.read().splitlines()
    except FileNotFoundError:
        known = []
    if commit not in known:
        content = "".join(line + "\n" for line in [*known, commit]).encode("ascii")
        replace(path, path + ".lock", content, 0o644)
