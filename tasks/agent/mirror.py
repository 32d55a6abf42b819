"""A mirror on this machine: a bare repository that targets fetch from."""

from __future__ import annotations

import os

from .problem import Problem
from .repo import Repo

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from .problem import Json
    from .wire import Wire

SETTINGS = (
    ("receive.fsckObjects", "true"),
    ("receive.denyDeletes", "true"),
    ("receive.denyNonFastForwards", "true"),
    ("uploadpack.allowAnySHA1InWant", "true"),  # targets ask for the one object id that they were told
    ("gc.auto", "0"),
    ("repack.writeBitmaps", "false"),  # a bitmap defeats thin packs
)


def make_mirror(wire: Wire, request: Json) -> Json:
    """Make sure that a bare repository stands at ``request["path"]``; return {"changed": [what was done, …]}.

    Something else at that path is left alone: Problem "not-a-mirror".
    """
    path = request["path"]
    repo, changed = Repo(wire, path), []
    if not os.path.isdir(path) or not os.listdir(path):
        repo.must("init", "--quiet", "--bare", path)
        changed.append("made the bare repository %s" % path)
    status, output, _ = repo.git("rev-parse", "--is-bare-repository")
    if status or output.strip() != b"true":
        told = "%s is there and is no bare repository: choose another path for the mirror"
        raise Problem("not-a-mirror", told % path)
    for key, value in SETTINGS:
        if repo.git("config", "--file", path + "/config", "--get", key)[1].decode().strip() != value:
            repo.must("config", key, value)
            changed.append("set %s" % key)
    return {"changed": changed}
