"""A host's part in a swarm: the process that carries, whom it is told to carry with, and the payload that it brought.

The process is started by this session and ends with it, for it reads what this session writes: see ``swarm_peer``. It
is given torrents whose hashes came over the session, and the planned peers alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import time
from importlib.util import find_spec

from .failpoints import failpoint
from .library import LACKING, folders
from .place import Place
from .problem import Problem, os_text
from .trees import remove

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .problem import Json
    from .wire import Wire

FOLDER = "skein-swarm"
START_S, LEAVE_S, LOOK_S = 20.0, 5.0, 2.0
STALL_S = 20.0
"""Without a byte for so long, by any of its upstreams, the swarm is given up."""

WRITTEN_LOOKS, WRITTEN_S = 10, 0.2
MEMORY = 1 << 30
SLACK = 1 << 20
PIECE = 1 << 20

_peers: Dict[str, Peer] = {}
"""The processes of this session, by the hash of what they carry."""


def join(wire: Wire, place: Place, request: Json) -> Json:
    """Take part as a target; see ``start``."""
    return start(wire, place.private("swarm"), folders(place.own), request)


def meet(wire: Wire, request: Json) -> Json:
    """Take part as a mirror at ``request["path"]``, or as the source with a folder there; see ``start``."""
    path = os.path.expanduser(request["path"])
    folder = os.path.join(path, FOLDER)
    with contextlib.suppress(FileNotFoundError):
        remove(folder)  # of a run that was killed: the lock of the environment keeps others out
    return start(wire, folder, request.get("libraries") or folders(path), request)


def start(wire: Wire, folder: str, found: List[str], request: Json) -> Json:
    """Start this host's peer and return {"port", "address"}, where it listens; nobody may connect to it yet.

    The payload holds the torrents, of ``request["torrents"]`` bytes each. With ``request["pack"]`` this is the source,
    which has the payload in that file. Raise Problem "swarm" where the host cannot take part.
    """
    if not found:
        raise Problem("swarm", LACKING)
    end(request["name"])
    os.makedirs(folder, 0o700)
    paths, data = [], request["payload"]
    for number, size in enumerate(request["torrents"]):
        paths.append(os.path.join(folder, "%d.torrent" % number))
        with open(paths[-1], "wb") as file:
            file.write(data[:size])
        data = data[size:]
    if request.get("pack"):
        _cut(request["pack"], folder, request["lengths"])
    address = request.get("address") or _own_address()
    order = {
        "library": found[0],
        "folder": folder,
        "torrents": paths,
        "seed": bool(request.get("pack")),
        "listen": [_shown(address or "0.0.0.0")],  # noqa: S104 - peers are let in by name, see swarm_peer
        "port": request["port"],
        "seconds": request["seconds"],
        "memory": MEMORY + 4 * sum(request["lengths"]),
        "bytes": sum(request["lengths"]) + SLACK,
    }
    peer = Peer(folder, request["lengths"], order)
    try:
        told = peer.hear(wire, START_S)
        if "port" not in told:
            raise Problem("swarm", str(told.get("failed", "its process says what is none of its words")))
    except BaseException:
        peer.end()
        raise
    _peers[request["name"]] = peer
    return {"port": told["port"], "address": address}


def go(wire: Wire, request: Json) -> Json:
    """Let the planned peers in and connect to the planned upstreams, ``request["go"]``."""
    _peer(request["name"]).tell({"go": request["go"]})
    return {}


def leave(wire: Wire, request: Json) -> Json:
    """End this host's part; return the bytes that it {"sent", "received"}."""
    peer = _peers.get(request["name"])
    counts = peer.counts(wire) if peer else {}
    end(request["name"])
    return {"sent": counts.get("sent", 0), "received": counts.get("received", 0)}


def end(name: str) -> None:
    """End a process of this session, if there is one of that name."""
    peer = _peers.pop(name, None)
    if peer:
        peer.end()


def gather(wire: Wire, about: Json) -> Tuple[str, float]:
    """Wait until the payload is here whole; return its path, and the seconds since the go that it took to come.

    Raise Problem "swarm" where it does not come.

    ``about`` has its ``name``, which is its hash, and the seconds that it may take.
    """
    peer = _peer(about["name"])
    peer.wait(wire, about["timeout_s"])
    failpoint("agent.swarm.gathered")
    for _ in range(WRITTEN_LOOKS):  # it has all, and may not have written all
        path = peer.joined(about["name"])
        if path and peer.whole:
            return path, peer.whole["seconds"]
        wire.check()
        time.sleep(WRITTEN_S)
    raise Problem("swarm", "what came is not what was to come: its hash differs")


class Peer:
    """The process that carries."""

    def __init__(self, folder: str, lengths: List[int], order: Json) -> None:
        self.folder, self.lengths = folder, lengths
        self.pending = b""
        self.whole: Optional[Json] = None
        with open(os.path.join(folder, "said"), "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _program()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                start_new_session=True,
            )
        self.tell(order)

    def tell(self, order: Json) -> None:
        """Write one line to it; one that is gone does not hear, which shows when it is asked for something."""
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.write(json.dumps(order).encode("ascii") + b"\n")
                self.process.stdin.flush()

    def hear(self, wire: Wire, seconds: float) -> Json:
        """Return what it says next, or nothing where that takes too long; raise Problem where it is gone."""
        ends_at = time.monotonic() + seconds
        while b"\n" not in self.pending:
            wire.check()
            left = ends_at - time.monotonic()
            if left <= 0 or not self.process.stdout:
                return {}
            if select.select([self.process.stdout], [], [], min(0.25, left))[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise Problem("swarm", "its process ended: %s" % self._last_words())
                self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        told: Json = json.loads(line)
        self.whole = told.get("whole", self.whole)
        return told

    def counts(self, wire: Wire) -> Dict[str, Any]:
        """Return how much it carried; nothing where it is gone."""
        self.tell({"counts": True})
        with contextlib.suppress(Problem):
            while True:
                told = self.hear(wire, LOOK_S)
                if "counts" in told or not told:
                    return dict(told.get("counts", {}))
        return {}

    def wait(self, wire: Wire, timeout_s: float) -> None:
        """Wait until it has all; raise Problem "swarm" where it gets nothing any more, or takes too long."""
        now = moved = time.monotonic()
        ends_at, done = now + timeout_s, -1
        while self.whole is None:
            if "whole" in self.hear(wire, LOOK_S):
                return
            found = self.counts(wire).get("done", 0)
            now = time.monotonic()
            if found > done:
                done, moved = found, now
            if now - moved > STALL_S or now > ends_at:
                told = "%d of %d bytes came, then none for %d s"
                raise Problem("swarm", told % (max(0, done), sum(self.lengths), now - moved))

    def joined(self, digest: str) -> Optional[str]:
        """Put the payload together from its stripes; return its path, or None where its hash differs."""
        path = os.path.join(self.folder, "pack")
        found = hashlib.sha256()
        with open(path, "wb") as file:
            for number in range(len(self.lengths)):
                with open(os.path.join(self.folder, str(number)), "rb") as stripe:
                    for data in iter(lambda: stripe.read(PIECE), b""):
                        found.update(data)
                        file.write(data)
        return path if found.hexdigest() == digest else None

    def end(self) -> None:
        """End it and take away what it held."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            remove(self.folder)

    def _last_words(self) -> str:
        with open(os.path.join(self.folder, "said"), "rb") as file:
            lines = file.read()[-2000:].strip().splitlines()
        return os_text(lines[-1])[:300] if lines else "it said nothing"


def _peer(name: str) -> Peer:
    if name not in _peers:
        raise Problem("swarm", "this host takes no part in that swarm")
    return _peers[name]


def _program() -> str:
    """Return the text of ``swarm_peer``, wherever this agent came from."""
    spec = find_spec((__package__ or "agent") + ".swarm_peer")
    loader: Any = spec and spec.loader
    text: str = loader.get_source(spec and spec.name)
    return text


def _cut(pack: str, folder: str, lengths: List[int]) -> None:
    """Lay the stripes of a payload out as files."""
    with open(pack, "rb") as file:
        for number, length in enumerate(lengths):
            with open(os.path.join(folder, str(number)), "wb") as stripe:
                while length:
                    data = file.read(min(PIECE, length))
                    stripe.write(data)
                    length -= len(data)


def _own_address() -> Optional[str]:
    """Return the address at which this host was logged in at, where sshd told (ssh(1), SSH_CONNECTION)."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else None


def _shown(address: str) -> str:
    return "[%s]" % address if ":" in address else address
