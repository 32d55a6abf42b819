"""The environment's lock: a kernel lock on a file in the hub, held by this process and gone with it."""

from __future__ import annotations

import fcntl
import os
import time

from .lean import Pattern, dumps, loads, suppress
from .mirror import refuse_foreign, refuse_unmade
from .problem import Problem
from .repo import Repo

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict

    from .problem import Json
    from .wire import Wire

ENVIRONMENT = Pattern(r"[a-z0-9][a-z0-9-]{0,31}\Z")
WAIT_S = 2.0  # the session of a killed deployer takes a moment to see the end of its input
TEXT_MOST = 300

_held: Dict[str, int] = {}
"""The locks of this process: the file's path and its descriptor, which no child inherits."""


def hold(wire: Wire, request: Json) -> Json:
    """Take the lock of ``environment`` in the repository at ``path``, or look whether it is still ours.

    Return {"held": bool, "who", "since", "why"} of whoever has it. Asked again by who has it, it only looks: where the
    lock was broken meanwhile, the answer is {"held": false} for good.
    """
    path = _file_of(wire, request)
    if path not in _held:
        refuse_foreign(Repo(wire, os.path.dirname(path)), request.get("app", ""))
    if path not in _held and not _take(wire, path, request):
        return dict(_signature(path), held=False)
    held = _is_current(path, _held[path])
    return dict(_signature(path), held=held)


def let_go(wire: Wire, request: Json) -> Json:
    """End the hold of this process, if it has it."""
    descriptor = _held.pop(_file_of(wire, request), None)
    if descriptor is not None:
        os.close(descriptor)
    return {}


def break_hold(wire: Wire, request: Json) -> Json:
    """Take the lock away from whoever holds it; return {"broken": bool, "who", "since", "why"}.

    A new file takes the place of the locked one, so that the next one to come gets the lock; the old holder keeps a
    file without a name, and finds that out when he looks.
    """
    path = _file_of(wire, request)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"broken": False, **_signature(path)}
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return {"broken": False, **_signature(path)}
        found = _signature(path)
        draft = "%s.%d" % (path, os.getpid())
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        os.rename(draft, path)
    finally:
        os.close(descriptor)
    return dict(found, broken=True)


def _file_of(wire: Wire, request: Json) -> str:
    """Return the path of the lock's file; raise Problem where no bare repository is there to hold it."""
    if not ENVIRONMENT.match(request["environment"]):
        raise Problem("bad-request", "%r is no environment" % (request["environment"],))
    folder = os.path.expanduser(request["path"])
    if not os.path.isfile(os.path.join(folder, "HEAD")):
        refuse_unmade(Repo(wire, folder), request.get("app", ""))
    return os.path.join(folder, "skein.%s.lock" % request["environment"])


def _take(wire: Wire, path: str, request: Json) -> bool:
    """Take the lock within a moment and sign it; tell whether it is ours now."""
    ends_at = time.monotonic() + WAIT_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            wire.check()
            if time.monotonic() > ends_at:
                return False
            time.sleep(0.1)
            continue
        if _is_current(path, descriptor):  # or it was broken between open and lock
            break
        os.close(descriptor)
    _held[path] = descriptor
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = {"who": str(request["who"])[:TEXT_MOST], "since": now, "why": str(request["why"])[:TEXT_MOST]}
    with suppress(OSError):  # a full disk must not keep anybody from the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, dumps(told).encode("ascii"), 0)
    return True


def _is_current(path: str, descriptor: int) -> bool:
    """Tell whether the file that we have locked is the one that others find."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _signature(path: str) -> Json:
    """Return what the holder wrote of itself."""
    found: Json = {}
    with suppress(OSError, ValueError), open(path, encoding="utf-8", errors="replace") as file:
        found = loads(file.read(4096))
    known = found if isinstance(found, dict) else {}
    return {name: str(known.get(name, ""))[:TEXT_MOST] for name in ("who", "since", "why")}
