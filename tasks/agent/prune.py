"""Pruning: old releases go; what is live, what was live before, and the newest that were live stay.

The last one to go is kept as the spare, out of sight: see ``spare``.
"""

from __future__ import annotations

import os

from .failpoints import failpoint
from .growth import tidy
from .install import drop_agents
from .lean import suppress
from .place import BEFORE, Place
from .problem import Problem
from .repo import Repo
from .spare import discard, live_until, put, spares
from .stage import read_manifest
from .state import State, live_stack
from .trees import remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Iterator, List, Optional, Sequence, Tuple

    from .problem import Json
    from .wire import Wire


def prune(wire: Wire, place: Place, request: Json) -> Json:
    """Remove old releases and agents; return {"removed": [id, …]}.

    What cannot be deleted, as files of another user, is at least out of ``releases``, and Problem "not-pruned" says so.
    """
    state = State(place)
    removed, stuck = doomed(place, state, request["keep"], place.current()), []
    lived = [identity for identity in removed if request["spare"] and live_until(state.history, identity)]
    works: List[Tuple[Callable[..., None], Sequence[object]]] = [] if request["spare"] else [(discard, (place,))]
    works += [(_retire, (place, identity, identity in lived[-1:])) for identity in removed]
    for work, arguments in works:
        wire.check()
        try:
            work(*arguments)
        except OSError as error:
            stuck.append("%s: %s" % (error.filename, error.strerror))
    drop_agents(place)
    repo = Repo(wire, place.repo)
    if repo.is_ready():
        tidy(repo, _refs(place))
    if stuck:
        raise Problem("not-pruned", "cannot delete %s: a user who may must do so" % "; ".join(stuck[:3]))
    return {"removed": removed}


def _retire(place: Place, identity: str, is_spare: bool) -> None:
    """Take a release out of ``releases``, and delete it or keep it as the spare."""
    grave = place.private("pruned-" + identity)
    os.rename(place.release(identity), grave)
    failpoint("agent.prune.renamed")
    os.unlink(place.manifest(identity))
    if is_spare and os.path.exists(place.record(identity)):
        put(place, identity, grave)
        failpoint("agent.prune.spared")
        return
    with suppress(FileNotFoundError):
        os.unlink(place.record(identity))
    failpoint("agent.prune.forgotten")
    remove(grave)  # last, for as long as the grave is there the next run knows that there is something to settle


def doomed(place: Place, state: State, keep: int, current: Optional[str]) -> List[str]:
    """Return the ids that prune removes: all but ``current``, the one before, and the ``keep`` newest that were live.

    What was adopted stays, by its id, also where its record was lost: it may hold what no release has. None go where
    this host's history does not know what is live: it was lost, and nobody can tell what was live before.
    """
    lived = list(dict.fromkeys(record["id"] for record in reversed(state.history)))
    if current is not None and current not in lived:
        return []
    kept = {current, *live_stack(state.history)[-2:], *lived[: max(0, keep)]}
    if state.pending:
        kept |= {state.pending["id"], state.pending["was"]}
    names = (name[:-5] for name in os.listdir(place.manifests) if name.endswith(".json"))
    return sorted(name for name in names if name not in kept and place.stands(name) and BEFORE not in name)


def _refs(place: Place) -> Iterator[str]:
    """Yield the refs of the releases that stand here, and of the spare."""
    for identity in spares(place):
        yield "refs/skein/releases/%s/%s" % (place.environment, identity)
    for name in os.listdir(place.manifests):
        manifest = read_manifest(place, name[:-5])
        if manifest:
            yield "refs/skein/releases/%s/%s" % (manifest["environment"], name[:-5])
