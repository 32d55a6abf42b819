"""The record of a release's files as they were when each was last hashed: what still looks so needs no hashing."""

from __future__ import annotations

import stat
import time

from .place import FORMAT, read_json, write_json
from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    import os
    from typing import Dict, Optional, Tuple

    from .trees import Entries, Links

    Look = Tuple[int, ...]

TICK_NS = 20_000_000  # a file's time of change is that of the last tick of the kernel's clock
NEVER = (0,)


class Record:
    """``entries`` and ``links`` are what the files must be, ``looks`` how each was seen to be just that.

    A file that was changed so shortly before it was hashed that a later change could bear the same time is not trusted,
    as git does with what is racily clean.
    """

    def __init__(self, entries: Entries, links: Links, looks: Dict[bytes, Look]) -> None:
        self.entries, self.links, self.looks = entries, links, looks
        self._before = 0

    def begin(self) -> None:
        """Note the time before any file is hashed."""
        self._before = time.time_ns() - TICK_NS

    def knows(self, path: bytes, entry: Tuple[bytes, bytes], seen: os.stat_result) -> bool:
        """Tell whether the file was hashed as ``entry``, (mode, object id), and looks as it did then."""
        return self.entries.get(path) == entry and self.looks.get(path) == look(seen)

    def note(self, path: bytes, seen: os.stat_result) -> None:
        """Remember that the file was hashed now and is what it must be."""
        self.looks[path] = look(seen) if seen.st_ctime_ns < self._before else NEVER

    def becomes(self, entries: Entries, links: Links) -> Record:
        """Return the record of another release that is made from the files of this one."""
        same = {path: each for path, each in self.looks.items() if self.entries.get(path) == entries.get(path)}
        return Record(entries, links, same)

    def save(self, path: str) -> None:
        """Write it, durably."""
        files = {
            _text(name): [mode.decode("ascii"), identity.decode("ascii"), *self.looks.get(name, NEVER)]
            for name, (mode, identity) in self.entries.items()
        }
        links = {_text(name): _text(text) for name, text in self.links.items()}
        write_json(path, {"format": FORMAT, "files": files, "links": links})


def look(seen: os.stat_result) -> Look:
    """Return what changes with every change of a file: no program can set the time of the last change (stat(2))."""
    return (stat.S_IFMT(seen.st_mode), seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def read_record(path: str) -> Optional[Record]:
    """Return the record, None where there is none that is whole: everything is then hashed."""
    entries: Entries = {}
    looks: Dict[bytes, Look] = {}
    try:
        value = read_json(path, "record")
        if value is None:
            return None
        for name, (mode, identity, *seen) in value["files"].items():
            entries[_bytes(name)] = (_bytes(mode), _bytes(identity))
            looks[_bytes(name)] = tuple(seen)
        return Record(entries, {_bytes(name): _bytes(text) for name, text in value["links"].items()}, looks)
    except (Problem, KeyError, TypeError, ValueError, AttributeError):
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
