"""Preparing this host: directories, agent, key, pinned host keys, the gate for restricted keys, and linked files."""

from __future__ import annotations

import os
import sys

from .failpoints import failpoint
from .gate import FORMAT, GATE, POLICY, seal
from .keys import content_of, own_key, pin
from .place import read_json, replace, write_json
from .probe import probe
from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional

    from .place import Place
    from .problem import Json
    from .wire import Wire

SHARED_MODE = 0o640


def lacking(place: Place, digest: str) -> List[str]:
    """Return what taking the host's lock will make, in words; to be asked before."""
    ours = (place.root, place.releases, place.shared, place.own)
    missing = [path for path in ours if not os.path.isdir(path)]
    installed = os.path.isdir(os.path.join(place.agents, digest))
    return ["made " + path for path in missing] + ["installed the agent"] * (not installed)


def prepare(wire: Wire, place: Place, request: Json) -> Json:
    """Make what a deploy needs here; return what ``probe`` does, and {"changed", "public", "gate", "interpreter"}.

    ``comment`` is what the host's own key is called, and None where it needs none; ``pins`` are the mirrors' lines of
    known_hosts; ``policy`` is what a restricted key may do, None where that stays as it is; ``lacked`` is what was
    ``lacking``; ``digest`` names the agent that must have been installed by now.
    """
    if not os.path.isdir(os.path.join(place.agents, request["digest"])):
        raise Problem("not-installed", "the agent could not be installed in %s: is the disk full?" % place.agents)
    changed, public = list(request["lacked"]), None
    if request["comment"]:
        public, made = own_key(wire, place, request["comment"])
        changed += made + pin(place, request["pins"])
    changed += _lay_gate(place, request["digest"], request["policy"])
    answer = probe(wire, place, request)
    answer.update(changed=changed, public=public, gate=os.path.join(place.own, GATE), interpreter=sys.executable)
    return answer


def _lay_gate(place: Place, digest: str, policy: Optional[Json]) -> List[str]:
    """Put the gate and its policy where forced commands find them; return what was changed.

    Without a policy the one that is there stays, and this agent is approved for it; without either there is no gate.
    """
    path = os.path.join(place.own, POLICY)
    before = read_json(path, "policy")
    if policy is None and before is None:
        return []
    changed, folder = [], os.path.join(place.agents, digest)
    wanted = dict(policy or before or {}, format=FORMAT, agent=digest, seal=seal(folder))
    if before != wanted:
        write_json(path, wanted)
        changed.append("wrote down what a restricted key may do")
    text = content_of(os.path.join(folder, "agent", "gate.py"))
    path = os.path.join(place.own, GATE)
    if content_of(path) != text:
        replace(path, place.private("gate"), text, 0o644)
        changed.append("placed the gate")
    return changed


def share(wire: Wire, place: Place, request: Json) -> Json:
    """Place linked files, ``files`` as {path below shared: content in base64}; return {"shared": [what was done, …]}.

    One that is there with another content is left alone, unless ``replace`` says otherwise: Problem "other-content".
    """
    import base64

    files = {name: base64.b64decode(content, validate=True) for name, content in request["files"].items()}
    for name, content in files.items():
        _look_before(place, name, content, request["replace"])
    return {"shared": [done for name, content in files.items() for done in _place(place, name, content)]}


def _look_before(place: Place, name: str, content: bytes, overwrite: bool) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise Problem("bad-request", "%r is no relative path of a linked file" % name)
    path = os.path.join(place.shared, name)
    if os.path.isdir(path):
        raise Problem("other-content", "%s is a directory: it cannot become a linked file" % path)
    if os.path.lexists(path) and not overwrite and content_of(path) != content:
        told = "%s is there with another content: compare, then run again with --replace"
        raise Problem("other-content", told % path)


def _place(place: Place, name: str, content: bytes) -> List[str]:
    path = os.path.join(place.shared, name)
    there, folder = os.path.lexists(path), os.path.dirname(path)
    if os.path.exists(path) and content_of(path) == content:
        return []
    os.makedirs(folder, exist_ok=True)
    draft = place.private("shared")
    if os.stat(folder).st_dev != os.stat(place.tmp).st_dev:  # a file is moved into place within one file system
        draft = os.path.join(folder, ".%s.skein-new" % os.path.basename(path))
    failpoint("agent.setup.share")
    replace(path, draft, content, SHARED_MODE)
    return ["%s shared/%s" % ("replaced" if there else "placed", name)]
