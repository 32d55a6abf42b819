"""Adopting: what a host served before Skein came becomes a release without being copied, and goes back the same way.

A release that was adopted has no commit and no tree. It is a record among the manifests: ``adopted`` is its directory,
``link`` what the link reads where another tool laid it (None: the link is ours), ``what`` says it in words.

- A plain directory: a link to ``releases/<id>`` is laid at ``releases/<id>`` itself, and then the two change places, in
  one step (renameat2 with RENAME_EXCHANGE, Linux 3.15): the path is never missing, and nothing is copied or changed.
  Back again by the same exchange, with a detour for those who read the link just before it.
- Another tool's layout: only the record is written. The link stays as it is, and a rollback lays it again to the byte.

It takes no turn, for nobody decided anything for the fleet: a host that is adopted late must not look like the newest.

What makes it safe to be killed at any moment is the flip's own record: ``pending`` is written first, and whoever comes
next sees by the link whether it happened; see ``state``. What was laid and not used the sweep knows and removes.
"""

from __future__ import annotations

import errno
import os
import time

from .adoption import ADOPTABLE, CUT_OFF, LAYOUT, RETURNABLE, TWO_DISKS, find, refuse, refuse_moved_on
from .failpoints import failpoint
from .flip import TEXT_MOST, lay
from .place import BEFORE, FORMAT, Place, sync, write_json
from .problem import Problem
from .state import State, sweep, write_log

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from .adoption import Found
    from .problem import Json
    from .wire import Wire

AT_FDCWD, RENAME_EXCHANGE = -100, 2
CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
GRACE_S = 0.5  # for those who had read the link that is taken away


def adopt(wire: Wire, place: Place, request: Json) -> Json:
    """Make what stands at the link's path the live release ``request["id"]``; return {"changed": [what was done, …]}.

    Nothing is done where nothing can be adopted; ``adoption`` says why. Raise Problem where it must not be, and
    "no-exchange" where it cannot be done in one step and ``request["gap"]`` does not allow two.
    """
    state = State(place)
    found = find(place, state)
    if found.kind not in ADOPTABLE:
        return {"changed": []}
    refuse(place, found)
    identity = found.identity or request["id"]
    if BEFORE not in identity or os.path.lexists(place.manifest(identity)) != (found.kind == CUT_OFF):
        raise Problem("bad-request", "%s is no id for what is adopted, or another has it here" % identity)
    state.pending = {"id": identity, "turn": state.turn, "kind": "adopt", "was": None, "at": time.time()}
    state.pending.update({key: str(request[key])[:TEXT_MOST] for key in ("by", "reason")})
    record = dict(state.pending, event="live")
    state.save()
    failpoint("agent.adopt.pending")
    try:
        _write_record(place, identity, found)
        failpoint("agent.adopt.recorded")
        if found.kind != LAYOUT:
            _take_in(place, identity, found, request["gap"])
        failpoint("agent.adopt.done")
    finally:
        state.settle()
        sweep(place)
    write_log(place, record)
    return {"changed": ["adopted %s as release %s" % (found.what, identity)]}


def give_back(wire: Wire, place: Place, request: Json) -> Json:
    """Undo ``adopt`` where what it took is live; return {"changed": [what was done, …]}. ``gap`` is as there."""
    state = State(place)
    found = find(place, state)
    refuse_moved_on(place, found)
    if found.kind not in RETURNABLE:
        return {"changed": []}
    identity = found.identity
    records = [record for record in state.history if record["id"] == identity]
    state.history = [record for record in state.history if record["id"] != identity]
    state.pending = records[-1] if records else None
    state.save()
    failpoint("agent.adopt.giving")
    try:
        if found.path != place.release(identity):
            os.unlink(place.manifest(identity))
            sync(place.manifests)
        else:
            _put_out(place, identity, found, request["gap"])
        failpoint("agent.adopt.given")
    finally:
        state.settle()
        sweep(place)
    write_log(place, {"id": identity, "event": "given back"})
    return {"changed": ["gave back " + found.what]}


def _write_record(place: Place, identity: str, found: Found) -> None:
    if found.kind == CUT_OFF:
        return
    where = found.path if found.kind == LAYOUT else place.release(identity)
    record = {"format": FORMAT, "id": identity, "number": 0, "environment": place.environment}
    write_json(place.manifest(identity), dict(record, adopted=where, link=found.text, what=found.what))


def _take_in(place: Place, identity: str, found: Found, gap: bool) -> None:
    release, text = place.release(identity), place.link_text(identity)
    if found.kind != CUT_OFF and _takes_one_step(place, gap):
        lay(text, release)
        failpoint("agent.adopt.laid")
        exchange(release, place.link)
    else:
        lay(text, place.beside())
        if found.kind != CUT_OFF:
            os.rename(place.link, release)
        failpoint("agent.adopt.gap")
        os.rename(place.beside(), place.link)
    _sync_both(place)


def _put_out(place: Place, identity: str, found: Found, gap: bool) -> None:
    if found.kind != CUT_OFF and _takes_one_step(place, gap):
        _lay_detour(place, identity)
        failpoint("agent.adopt.detour")
        exchange(place.release(identity), place.link)
    else:
        if found.kind != CUT_OFF:
            os.unlink(place.link)
        failpoint("agent.adopt.back")
        os.rename(place.release(identity), place.link)
    _sync_both(place)
    time.sleep(GRACE_S)


def _lay_detour(place: Place, identity: str) -> None:
    """Have the link lead over another one, so that it leads to the directory from either side of the exchange.

    Who read the link just before the exchange comes to ``releases/<id>`` just after it, and finds the link there: it
    must lead back. So it reads a bare name, and a link of that name stands in both folders, each leading to where the
    directory is while the link stands in that folder.
    """
    folder = os.path.dirname(place.link)
    if os.readlink(place.link) != place.detour:
        lay(place.link_text(identity), os.path.join(folder, place.detour))
        sync(folder)
        lay(place.detour, place.beside())
        os.rename(place.beside(), place.link)
    lay(place.link, os.path.join(place.releases, place.detour))


def _takes_one_step(place: Place, gap: bool) -> bool:
    """Tell whether two names can change places in one step here, as two of our own show; two steps must be allowed."""
    one, other = place.private("one"), place.private("other")
    lay(one, one)
    lay(other, other)
    try:
        exchange(one, other)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        if not gap:
            told = (
                "%s and its release cannot change places in one step here (that takes renameat2: kernel, file system, "
            )
            told += "libc and Python's ctypes); --allow-gap does it in two, and for an instant nothing is there"
            raise Problem("no-exchange", told % place.link) from error
        return False
    return True


def exchange(one: str, other: str) -> None:
    """Have two names change places in one step; raise OSError where this machine cannot, and nothing was done."""
    try:
        import ctypes

        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, AttributeError) as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), other) from error
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        if number == errno.EXDEV:  # two mounts of one file system, or a directory of an overlay's lower one
            raise Problem("two-disks", TWO_DISKS % (other, one))
        raise OSError(number, os.strerror(number), other)


def _sync_both(place: Place) -> None:
    sync(os.path.dirname(place.link))
    sync(place.releases)
