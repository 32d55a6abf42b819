"""A mirror's part in a swarm: it forwards what it gets as targets do, and then takes it in as if it had been pushed."""

from __future__ import annotations

import os

from .delta import unpack
from .failpoints import failpoint
from .mirror import HARMLESS, held, refuse_foreign
from .names import is_object_id
from .problem import Problem
from .repo import Repo
from .swarm import gather

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from .problem import Json
    from .wire import Wire

STRICT = "--strict=" + ",".join("%s=warn" % name for name in HARMLESS)
MADE_ONCE = ("refs/skein/releases/", "refs/tags/release/")


def take(wire: Wire, request: Json) -> Json:
    """Take the swarm's payload, and the pack that came along, into the mirror at ``request["path"]``.

    ``request["refs"]`` are made, all or none, at what they name: {ref: object id}. What arrives is held to the rules
    of a push: only a release and its tag, never one that stands at something else, no object that git would refuse.
    Raise Problem where it cannot be; then nothing is changed but objects that nothing leads to.
    """
    repo = Repo(wire, os.path.expanduser(request["path"]))
    refs = request["refs"]
    if not all(ref.startswith(MADE_ONCE) and is_object_id(oid) for ref, oid in refs.items()):
        raise Problem("bad-request", "malformed refs")
    pack, _ = gather(wire, request["swarm"])
    with held(repo.path):
        refuse_foreign(repo, request["app"])
        there = repo.standing(list(refs))
        moved = [ref for ref, oid in there.items() if refs[ref] != oid]
        if moved:
            raise Problem("moved", "%s stands at something else there" % moved[0])
        if len(there) < len(refs):
            unpack(repo, pack, STRICT)
            if request.get("payload"):
                unpack(repo, request["payload"], STRICT)
            failpoint("agent.swarm.taken")
            orders = "".join("create %s %s\n" % each for each in refs.items() if each[0] not in there)
            repo.must("update-ref", "--stdin", stdin=orders.encode("ascii"))
    return {"changed": sorted(set(refs) - set(there))}
