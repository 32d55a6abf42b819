"""Pruning: old releases go; what is live, what was live before, and the newest that were live stay."""

import os

from .failpoints import failpoint
from .place import read_json
from .repo import Repo
from .state import State, live_stack
from .trees import remove

AGENTS_KEPT = 3


def prune(wire, place, request):
    """Remove old releases and agents; return {"removed": [id, …]}."""
    removed = doomed(place, State(place), request["keep"])
    repo = Repo(wire, place.repo)
    for identity in removed:
        manifest = read_json(place.manifest(identity), "manifest")
        grave = os.path.join(place.tmp, "pruned-" + identity)
        os.rename(place.release(identity), grave)
        failpoint("agent.prune.renamed")
        remove(grave)
        failpoint("agent.prune.removed")
        repo.must("update-ref", "--no-deref", "-d", "refs/skein/releases/%s/%s" % (manifest["environment"], identity))
        for path in (os.path.join(place.indexes, identity), place.manifest(identity)):
            if os.path.exists(path):
                os.unlink(path)
    agents = [os.path.join(place.agents, name) for name in os.listdir(place.agents)]
    for agent in sorted(agents, key=os.path.getmtime)[:-AGENTS_KEPT]:
        remove(agent)
    return {"removed": removed}


def doomed(place, state, keep):
    """Return the ids that prune removes: all but the live one, the one before it, and the ``keep`` newest that were live."""
    lived = list(dict.fromkeys(record["id"] for record in reversed(state.history)))
    kept = set(live_stack(state.history)[-2:]) | set(lived[:keep]) | {place.current()}
    names = (name[:-5] for name in os.listdir(place.manifests) if name.endswith(".json"))
    return sorted(name for name in names if name not in kept and os.path.isdir(place.release(name)))
