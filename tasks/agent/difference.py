"""What differs between two releases that a mirror has: names alone, so that no file needs to travel."""

from __future__ import annotations

import os

from .names import is_object_id
from .problem import Problem, os_text
from .repo import Repo

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, List, Sequence

    from .problem import Json
    from .wire import Wire

KINDS = {b"A": "added", b"D": "removed"}
NAME_MOST = 1000


def difference(wire: Wire, request: Json) -> Json:
    """Compare the commits ``old`` and ``new`` in the repository at ``path``.

    Return {"counts": {"added", "changed", "removed"}, "names": {the same: at most ``most`` paths, sorted}}.
    """
    repo = Repo(wire, os.path.expanduser(request["path"]))
    for commit in (request["old"], request["new"]):
        if not is_object_id(commit):
            raise Problem("bad-request", "malformed commit")
    trees = (request["old"] + "^{tree}", request["new"] + "^{tree}")
    words = ("diff-tree", "-r", "-z", "--name-status", "--no-renames", "--end-of-options", *trees)
    fields = repo.must(*words, timeout_s=request["timeout_s"]).split(b"\0")[:-1]
    return counted(fields, request["most"])


def counted(fields: Sequence[bytes], most: int) -> Json:
    """Return counts, and at most ``most`` names, of what ``git diff-tree --name-status -z`` lists: kinds and paths."""
    found: Dict[str, List[bytes]] = {"added": [], "changed": [], "removed": []}
    for kind, path in zip(fields[::2], fields[1::2]):
        found[KINDS.get(kind, "changed")].append(path)
    return {
        "counts": {kind: len(paths) for kind, paths in found.items()},
        "names": {kind: [os_text(path)[:NAME_MOST] for path in paths[:most]] for kind, paths in found.items()},
    }
