"""The record of a release's files as they were when each was last hashed: what still looks so needs no hashing.

In the file: a line of JSON ``{"format", "tree", "links"}``; then for each path mode, object id, look, TAB, path, NUL.
A look is what changes with every change of a file; no program can set the time of the last change (stat(2)).
"""

from __future__ import annotations

import os
import stat
import time

from .lean import dumps, loads
from .place import FORMAT, replace
from .trees import DIRECTORY, as_bytes, as_text, wrong

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional, Tuple

    from .trees import Changes, Entries, Links


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
        count, waiting = 0, [b""]
        while waiting:
            folder = waiting.pop()
            check()
            with os.scandir(os.path.join(root, folder) if folder else root) as listing:
                before = folder and folder + b"/"
                is_empty = True
                for item in listing:
                    is_empty = False
                    path = before + item.name
                    seen = item.stat(follow_symlinks=False)
                    line = self.lines.get(path)
                    if stat.S_ISDIR(seen.st_mode):
                        if stat.S_IMODE(seen.st_mode) & 0o777 != DIRECTORY:
                            return False
                        waiting.append(path)
                    elif line is None or not line.endswith(look(seen)):
                        if self._is_wrong(root, path, seen):
                            return False
                        count += 1
                    else:
                        count += 1
                if is_empty and folder:
                    return False
        return count == len(self.lines) + len(self.links)

    def _is_wrong(self, root: bytes, path: bytes, seen: os.stat_result) -> bool:
        entries = {path: self.entry(path)} if path in self.lines else {}
        return wrong(os.path.join(root, path), path, seen, entries, self.links, self) is not None

    def save(self, path: str) -> None:
        """Write it, durably."""
        links = {as_text(name): as_text(text) for name, text in self.links.items()}
        header = dumps({"format": FORMAT, "tree": self.tree, "links": links}).encode("ascii")
        body = b"".join([b"%s\t%s\0" % (line, name) for name, line in self.lines.items()])
        replace(path, path + ".new", header + b"\n" + body, 0o644)


def look(seen: os.stat_result) -> bytes:
    """Return how a file looks, as it ends its line."""
    return LOOK % (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def read_record(path: str) -> Optional[Record]:
    """Return the record, None where there is none that is whole: everything is then hashed."""
    try:
        with open(path, "rb") as file:
            header, _, body = file.read().partition(b"\n")
        about = loads(header)
        if about["format"] != FORMAT:
            return None
        pairs = [line.split(b"\t", 1) for line in body.split(b"\0")[:-1]]
        links = {as_bytes(name): as_bytes(text) for name, text in about["links"].items()}
        record = Record(str(about["tree"]), {name: line for line, name in pairs}, links)
        return record if all(line.count(b" ") in (1, 6) for line in record.lines.values()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
