"""What differs between two releases that a mirror has: names alone, so that no file needs to travel."""

from __future__ import annotations

import os

from .problem import Problem, os_text
from .repo import OBJECT_ID, Repo

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, List

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
        if not OBJECT_ID.match(commit):
            raise Problem("bad-request", "malformed commit")
    trees = (request["old"] + "^{tree}", request["new"] + "^{tree}")
    words = ("diff-tree", "-r", "-z", "--name-status", "--no-renames", "--end-of-options", *trees)
    fields = repo.must(*words, timeout_s=request["timeout_s"]).split(b"\0")[:-1]
    found: Dict[str, List[str]] = {"added": [], "changed": [], "removed": []}
    for kind, path in zip(fields[::2], fields[1::2]):
        found[KINDS.get(kind, "changed")].append(os_text(path)[:NAME_MOST])
    return {
        "counts": {kind: len(names) for kind, names in found.items()},
        "names": {kind: names[: request["most"]] for kind, names in found.items()},
    }
