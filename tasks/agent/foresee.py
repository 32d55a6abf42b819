"""Foreseeing: what a release would do to this host, by the rules that would do it. Nothing is written."""

from __future__ import annotations

import os

from .fetch import standing
from .place import Place
from .prune import doomed
from .repo import Repo
from .route import Route, path_of
from .stage import not_adopted, refuse_lacking
from .state import HISTORY_MOST, State

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List

    from .problem import Json
    from .wire import Wire


def foresee(wire: Wire, place: Place, request: Json) -> Json:
    """Tell what ``fetch``, ``stage``, a flip and ``prune`` would do; ``request`` has the fields of ``fetch`` and more.

    Return {"here": whether nothing needs to be brought, "inline": whether the delta would serve, "restricted": whether
    the key lets none through, "mirrors": names in the order in which they would be asked, "pruned": ids}. ``carries``
    says that a delta would come along; one that was adopted has no ``commit``. Problem where staging would be refused.
    """
    identity, restricted = request["id"], bool(request.get("restricted"))
    here, inline, mirrors = True, False, []
    if "commit" in request:
        refuse_lacking(place, request["linked_dirs"], request["linked_files"])
        base, refs = request.get("base"), [request["ref"]]
        there = standing(Repo(wire, place.repo, place.own), refs + ([base] if base else []), request) or {}
        here = there.get(request["ref"]) == request["commit"]
        applies = not base or there.get(base) == request["base_commit"]
        inline = not here and not restricted and request["carries"] and applies
        if not here and not inline:
            mirrors = [mirror["name"] for mirror in Route(path_of(place.own)).order(request["mirrors"])]
    elif not place.adopted(identity) or not place.stands(identity):
        raise not_adopted(identity)
    return {
        "here": here,
        "inline": inline,
        "restricted": restricted,
        "mirrors": mirrors,
        "pruned": _pruned(place, request),
    }


def _pruned(place: Place, request: Json) -> List[str]:
    """Return what prune would remove once the release is live and that is in this host's record."""
    if not os.path.isdir(place.manifests):
        return []
    state = State(place)
    flipped = {"id": request["id"], "kind": request["kind"]}
    state.history, state.pending = [*state.lived(), flipped][-HISTORY_MOST:], None
    return doomed(place, state, request["keep"], request["id"])
