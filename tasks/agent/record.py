"""The record of a release's files as they were when each was last hashed: what still looks so needs no hashing.

In the file: a line of JSON ``{"format", "tree", "links", "crc"}``; all paths; for each of them mode, object id, look.
Between two of them stands a NUL, between the paths and what is said of them two: so it is read and written at once.
A look is what changes with every change of a file; no program can set the time of the last change (stat(2)).
"""

from __future__ import annotations

import os
import stat
import time
import zlib

from .lean import dumps, loads
from .place import FORMAT
from .trees import DIRECTORY, as_bytes, as_text, wrong

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional, Tuple

    from .trees import Changes, Entries, Links


KIND, FOLDER = 0o170000, 0o040000  # of what stands at a path: inode(7)
TICK_NS = 20_000_000  # a file's time of change is that of the last tick of the kernel's clock
COARSE_NS = 2_000_000_000  # where times are kept in whole seconds, as by ext4 with small inodes, or in every other one
LOOK = b" %d %d %d %d %d"


class Record:
    """``lines`` says of each path of ``tree`` what it must be and how it looked when it was just that.

    A file that was changed so shortly before it was hashed that a later change could bear the same time is not trusted,
    as git does with what is racily clean.
    """

    def __init__(self, tree: str, lines: Dict[bytes, bytes], links: Links) -> None:
        self.tree, self.lines, self.links = tree, lines, links
        self._before = 0

    def begin(self) -> None:
        """Note the time before any file is hashed."""
        self._before = time.time_ns()

    def entry(self, path: bytes) -> Tuple[bytes, bytes]:
        """Return the mode and object id of a path, as git lists them."""
        mode, identity = self.lines[path].split(b" ", 2)[:2]
        return mode, identity

    def entries(self) -> Entries:
        """Return what the tree holds."""
        return {path: self.entry(path) for path in self.lines}

    def knows(self, path: bytes, seen: os.stat_result) -> bool:
        """Tell whether a file looks as it did when it was hashed."""
        return self.lines[path].endswith(look(seen))

    def note(self, path: bytes, seen: os.stat_result) -> None:
        """Remember that the file was hashed now and is what it must be."""
        tick = TICK_NS if seen.st_ctime_ns % (COARSE_NS // 2) else COARSE_NS
        is_sure = seen.st_ctime_ns + tick < self._before
        self.lines[path] = b"%s %s" % self.entry(path) + (look(seen) if is_sure else b"")

    def becomes(self, tree: str, changes: Changes, links: Links) -> Record:
        """Return the record of another tree, which has these changes; nothing is known of what changed."""
        lines = {path: line for path, line in self.lines.items() if path not in changes}
        lines.update((path, b"%s %s" % entry) for path, entry in changes.items() if entry)
        return Record(tree, lines, links)

    def holds(self, root: bytes, check: Callable[[], None]) -> bool:
        """Tell whether below ``root`` there is what must be, and nothing else; what is not known is hashed."""
        self.begin()
        if stat.S_IMODE(os.lstat(root).st_mode) & 0o777 != DIRECTORY:
            return False
        count, waiting, lines = 0, [b""], self.lines
        while waiting:
            folder = waiting.pop()
            check()
            with os.scandir(os.path.join(root, folder) if folder else root) as listing:
                before = folder and folder + b"/"
                names = list(listing)
            count += len(names)
            if folder and not names:
                return False
            for item in names:  # every file of a release passes here: mind what it costs
                path = before + item.name
                seen = item.stat(follow_symlinks=False)
                mode = seen.st_mode
                if mode & KIND == FOLDER:
                    if mode & 0o777 != DIRECTORY:
                        return False
                    waiting.append(path)
                    count -= 1
                    continue
                line = lines.get(path)
                found = LOOK % (mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
                if (line is None or not line.endswith(found)) and self._is_wrong(root, path, seen):
                    return False
        return count == len(self.lines) + len(self.links)

    def _is_wrong(self, root: bytes, path: bytes, seen: os.stat_result) -> bool:
        entries = {path: self.entry(path)} if path in self.lines else {}
        return wrong(os.path.join(root, path), path, seen, entries, self.links, self) is not None

    def content(self) -> bytes:
        """Return what its file holds."""
        links = {as_text(name): as_text(text) for name, text in self.links.items()}
        body = b"\0".join(self.lines) + b"\0\0" + b"\0".join(self.lines.values())
        about = {"format": FORMAT, "tree": self.tree, "links": links, "crc": zlib.crc32(body)}
        return dumps(about).encode("ascii") + b"\n" + body


def look(seen: os.stat_result) -> bytes:
    """Return how a file looks, as it ends its line."""
    return LOOK % (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def read_record(path: str) -> Optional[Record]:
    """Return the record, None where there is none that is whole: everything is then hashed."""
    try:
        with open(path, "rb") as file:
            header, _, body = file.read().partition(b"\n")
        about = loads(header)
        if about["format"] != FORMAT or about["crc"] != zlib.crc32(body):
            return None
        names, _, lines = body.partition(b"\0\0")
        links = {as_bytes(name): as_bytes(text) for name, text in about["links"].items()}
        return Record(str(about["tree"]), dict(zip(names.split(b"\0"), lines.split(b"\0"))) if names else {}, links)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
