"""What a host served before Skein came: whether it can be adopted, and what an operator should know of it first.

Two kinds are understood. A plain directory at the link's path: a docroot. And the layout that other tools make in what
is now our ``deploy_to``: a link into ``releases``, and ``shared`` next to it, which serves us as it is. ::

    Capistrano   current -> <deploy_to>/releases/20250131101500    repo/, revisions.log
    Deployer     current -> releases/7                             .dep/, and a link ``release`` while it is at work
    Ansistrano   current -> ./releases/20250131101500Z             repo/

Read in lib/capistrano/dsl/paths.rb and lib/capistrano/tasks/deploy.rake of capistrano/capistrano at 72fa723;
recipe/deploy/setup.php, release.php and symlink.php of deployphp/deployer at 45cd417; tasks/setup.yml, update-code.yml
and symlink.yml of ansistrano/deploy at 3b6304b. Capistrano cleans up names of 14 digits alone, Deployer what its log
names, Ansistrano every directory in ``releases`` but the newest: ours as well, where it is left running.
"""

from __future__ import annotations

import os
import re
import stat

from .names import is_id
from .place import Place
from .probe import existing
from .problem import Problem, os_text
from .state import State

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional, Sequence

    from .problem import Json
    from .wire import Wire

NOTHING, DIRECTORY, LAYOUT, ADOPTED, CUT_OFF, OURS = "nothing", "directory", "layout", "adopted", "cut off", "ours"
ADOPTABLE, RETURNABLE = (DIRECTORY, LAYOUT, CUT_OFF), (ADOPTED, CUT_OFF)
NAMED_MOST = 5
MOUNTS = "/proc/self/mountinfo"
TWO_DISKS = (
    "%s and %s are on different file systems, and adopting moves nothing across: set targets.deploy_to to a folder on "
    "the same one, or move the files yourself"
)


class Found:
    """What stands at the link's path; ``text`` is what a link reads, ``identity`` that of a release of ours.

    ``CUT_OFF`` is nothing at the path and the adopted directory in ``releases``, never live there: a run that was
    allowed a gap was killed in it.
    """

    def __init__(self, kind: str, what: str, path: str, text: Optional[str] = None, identity: str = "") -> None:
        self.kind, self.what, self.path, self.text, self.identity = kind, what, path, text, identity


def find(place: Place, state: State) -> Found:
    """Return what stands at the link's path; raise Problem where it is neither a link nor a directory, or foreign."""
    if place.is_directory():
        return Found(DIRECTORY, "the directory " + os_text(place.link), place.link)
    text, adoptions = place.link_reads(), place.adoptions()
    if text is None:
        lived = {record["id"] for record in state.history}
        for identity, record in adoptions.items():
            if record["link"] is None and place.stands(identity) and identity not in lived:
                return Found(CUT_OFF, record["what"], record["adopted"], identity=identity)
        return Found(NOTHING, "", place.link)
    known = place.named(text)
    if known:
        kind, what = (ADOPTED, adoptions[known]["what"]) if known in adoptions else (OURS, "")
        return Found(kind, what, place.where(known), text, known)
    path = place.leads(text)
    if not _is_of_another_tool(place, path):
        told = "%s points at %s, which is no directory in %s: set targets.deploy_to to where the tool's releases are, "
        raise Problem("foreign-link", (told + "or remove it") % (place.link, os_text(text), place.releases))
    name = os.path.basename(path)
    return Found(LAYOUT, "%s release %s" % (_tool(place, name), os_text(name)), path, text)


def adoption(wire: Wire, place: Place, request: Json) -> Json:
    """Say what ``adopt``, or with ``undo`` ``give_back``, would do here; raise Problem where it must not.

    Nothing is written. Return {"due": whether there is anything to do, "told": a sentence, "notes", "adopted": ids of
    what was adopted before, "unsettled": whether a killed run left its record open}.
    """
    state = State(place)
    found = find(place, state)
    notes: List[str] = []
    if request["undo"]:
        refuse_moved_on(place, found)
        due = found.kind in RETURNABLE
        told = "would give back " + found.what if due else "nothing to give back: nothing is adopted here"
    else:
        due = found.kind in ADOPTABLE
        told = "would adopt " + found.what if due else "nothing to adopt: " + _why_not(place, found)
        if due:
            refuse(place, found)
            notes = _notes(place, found, [*request["linked_dirs"], *request["linked_files"]])
    answer = {"due": due, "told": told, "notes": notes, "unsettled": state.pending is not None}
    return dict(answer, adopted=sorted(place.adoptions()))


def refuse_moved_on(place: Place, found: Found) -> None:
    """Raise Problem where something was adopted, and a later release is live: giving back is no rollback."""
    adopted = max(place.adoptions(), default=None)
    if found.kind == OURS and adopted:
        told = "release %s is live here: fab rollback --to %s first, then adopt --undo"
        raise Problem("moved-on", told % (found.identity, adopted))


def refuse(place: Place, found: Found) -> None:
    """Raise Problem where what was found must or can not be adopted."""
    folders = [os.path.dirname(place.link), existing(place.releases), existing(place.own)]
    if found.kind == DIRECTORY:
        _refuse_holder(place)
        _refuse_mounts(place.link)
        if os.stat(place.link).st_dev != os.stat(existing(place.releases)).st_dev:
            raise Problem("two-disks", TWO_DISKS % (place.link, place.releases))
        folders.append(place.link)
    for path in folders:
        if not os.access(path, os.W_OK | os.X_OK) or (path == folders[0] and _is_sticky_for_us(path, place.link)):
            told = "%s may not be written by this user, and must be to be adopted; what is in it may stay as it is: "
            raise Problem("permission", (told + "chown it (not -R), or set targets.become") % os_text(path))


def _is_of_another_tool(place: Place, path: str) -> bool:
    folder, name = os.path.split(path)
    is_real = os.path.isdir(path) and not os.path.islink(path)
    return is_real and not is_id(name) and os.path.isdir(place.releases) and os.path.samefile(folder, place.releases)


def _is_sticky_for_us(folder: str, path: str) -> bool:
    """Tell whether a name in a sticky directory is somebody else's to rename."""
    about = os.stat(folder)
    owners = (0, about.st_uid, os.lstat(path).st_uid) if os.path.lexists(path) else (os.geteuid(),)
    return bool(about.st_mode & stat.S_ISVTX) and os.geteuid() not in owners


def _refuse_holder(place: Place) -> None:
    inside = os.path.realpath(place.link) + os.sep
    if (os.path.realpath(place.root) + os.sep).startswith(inside):
        told = "%s holds deploy_to, %s, and cannot become a release in it: set targets.deploy_to to a folder elsewhere"
        raise Problem("holds-deploy-to", told % (place.link, place.root))
    if os.path.lexists(os.path.join(place.link, ".skein")):
        told = "%s holds a .skein: it is the deploy_to of Skein's, not a docroot; set targets.link to what is served"
        raise Problem("holds-deploy-to", told % place.link)


def _refuse_mounts(path: str) -> None:
    """Raise Problem where a file system is mounted at or below a path: after a boot it would be mounted elsewhere."""
    real = os.fsencode(os.path.realpath(path))
    try:
        with open(MOUNTS, "rb") as file:
            points = [re.sub(rb"\\([0-7]{3})", _byte, line.split()[4]) for line in file]
    except OSError:
        points = [real] if os.path.ismount(path) else []
    for point in points:
        if (point + b"/").startswith(real + b"/"):
            told = "a file system is mounted at %s, and would not move along for good: mount it elsewhere first"
            raise Problem("mount-point", told % os_text(point))


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes([int(match.group(1), 8)])


def _tool(place: Place, name: str) -> str:
    if os.path.isdir(os.path.join(place.root, ".dep")):
        return "Deployer's"
    if re.match(r"[0-9]{14}Z\Z", name):
        return "Ansistrano's"
    return "Capistrano's" if re.match(r"[0-9]{14}\Z", name) else "another tool's"


def _why_not(place: Place, found: Found) -> str:
    if found.kind == NOTHING:
        return "there is nothing at %s; fab deploy makes it" % place.link
    return "%s is adopted as %s" % (found.what, found.identity) if found.what else "%s is live" % found.identity


def _notes(place: Place, found: Found, linked: Sequence[str]) -> List[str]:
    """Return what the first deploy could surprise with."""
    notes = []
    lacking = [
        name
        for name in linked
        if os.path.lexists(os.path.join(found.path, name)) and not os.path.lexists(os.path.join(place.shared, name))
    ]
    if lacking:
        told = "%s: not in %s yet, where every release after this one has it from; copy it there before the deploy"
        notes.append(told % (", ".join(lacking), place.shared))
    if found.kind == DIRECTORY and os.path.lexists(os.path.join(found.path, ".git")):
        notes.append("it is a git work tree: .git stays in it, and is in no later release")
    if found.kind == LAYOUT:
        others = sorted(name for name in os.listdir(place.releases) if not is_id(name))
        others.remove(os.path.basename(found.path))
        if others:
            more = ", …" if len(others) > NAMED_MOST else ""
            named = ", ".join(os_text(name) for name in others[-NAMED_MOST:])
            notes.append("%d more in %s, kept as they are: %s%s" % (len(others), place.releases, named, more))
    return notes
