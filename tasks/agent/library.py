"""The libtorrent of this host: what kind it needs, one that set-up sent unpacked, and whether that works.

Nothing is installed: a wheel (PEP 427) is unpacked into a folder of ours, and only a swarm's own process looks there.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys

from .children import run
from .failpoints import failpoint
from .place import Place, sync
from .problem import Problem
from .repo import last_line
from .trees import remove, walk

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional

    from .problem import Json
    from .wire import Wire

FOLDER = "lib"  # in .skein, or in a mirror: folders named by the hash of the wheel that was unpacked there
TRIAL = "import sys; sys.path.insert(0, sys.argv[1]); import libtorrent; libtorrent.session_params()"
LACKING = "libtorrent is not here: run fab setup"


def look(wire: Wire, place: Place, request: Json) -> Json:
    """Return {"python", "machine", "libc", "why"} of a target: which wheel fits, and why it can take no part, or ""."""
    return _look(wire, place.own)


def look_at_mirror(wire: Wire, request: Json) -> Json:
    """Return the same of the mirror at ``request["path"]``."""
    return _look(wire, os.path.expanduser(request["path"]))


def lay(wire: Wire, place: Place, request: Json) -> Json:
    """Unpack the wheel that came along on a target; return {"changed": [what, …]}. Raise Problem where it fails."""
    return _lay(wire, place.own, place.private("lib"), request)


def lay_in_mirror(wire: Wire, request: Json) -> Json:
    """Do the same in the mirror at ``request["path"]``."""
    path = os.path.expanduser(request["path"])
    return _lay(wire, path, os.path.join(path, FOLDER, "new"), request)


def folders(own: str) -> List[str]:
    """Return where libraries were unpacked, the newest first."""
    folder = os.path.join(own, FOLDER)
    names = [name for name in os.listdir(folder) if len(name) == 64] if os.path.isdir(folder) else []
    return sorted((os.path.join(folder, name) for name in names), key=os.path.getmtime, reverse=True)


def trouble(wire: Wire, own: str) -> str:
    """Return why this host can take no part in a swarm; nothing where it can."""
    found = folders(own)
    return _fails(wire, found[0]) if found else LACKING


def _look(wire: Wire, own: str) -> Json:
    libc, version = platform.libc_ver()
    if not libc and os.path.exists("/lib/ld-musl-%s.so.1" % platform.machine()):
        libc, version = "musl", "1.2"
    return {
        "python": "%d.%d" % sys.version_info[:2] if sys.implementation.name == "cpython" else "",
        "machine": platform.machine(),
        "libc": "%s %s" % (libc, version),
        "why": trouble(wire, own),
    }


def _lay(wire: Wire, own: str, draft: str, request: Json) -> Json:
    import hashlib
    import io
    import zipfile

    final = os.path.join(own, FOLDER, hashlib.sha256(request["payload"]).hexdigest())
    shutil.rmtree(draft, ignore_errors=True)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    os.makedirs(draft)
    try:
        with zipfile.ZipFile(io.BytesIO(request["payload"])) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(("libtorrent/", "libtorrent.libs/"))]
            wheel.extractall(draft, names)  # it leaves out "..", as zipfile says
        why = _fails(wire, draft)
        if why:
            raise Problem("library", why)
        for path, _ in walk(os.fsencode(draft)):
            sync(os.path.join(os.fsencode(draft), path))
        failpoint("agent.library.before")
        if os.path.lexists(final):
            remove(final)  # or it would not have been sent
        os.rename(draft, final)
        sync(os.path.dirname(final))
    except zipfile.BadZipFile as error:
        raise Problem("library", "what came is no wheel: %s" % error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for other in folders(own):
        if other != final:
            remove(other)
    return {"changed": ["placed libtorrent"]}


def _fails(wire: Wire, folder: str) -> str:
    status, _, errors = run(wire, [sys.executable, "-I", "-S", "-B", "-c", TRIAL, folder], timeout_s=30)
    return "libtorrent cannot be loaded: %s" % _last(errors) if status else ""


def _last(errors: str) -> str:
    """Return what a traceback ends with."""
    lines: Optional[List[str]] = errors.strip().splitlines()
    return lines[-1][:300] if lines else last_line(errors)
