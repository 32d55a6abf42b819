"""Directory trees: removing one, listing one, checking one against what git says it must hold."""

from __future__ import annotations

import os
import stat
from itertools import islice

from .lean import digest, suppress
from .problem import os_text

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterator, List, Optional, Tuple

    from .record import Record

    Entries = Dict[bytes, Tuple[bytes, bytes]]
    Changes = Dict[bytes, Optional[Tuple[bytes, bytes]]]
    Links = Dict[bytes, bytes]

CHUNK = 1 << 20
DIRECTORY = 0o755
LINK = b"120000"
MODES = {b"100644": 0o644, b"100755": 0o755}


def as_text(path: bytes) -> str:
    """Return a path as text that ``as_bytes`` turns back, whatever bytes it has."""
    return path.decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    """Return the path that a text stands for."""
    return text.encode("utf-8", "surrogateescape")


def parents(path: bytes) -> List[bytes]:
    """Return the directories above a path, the uppermost first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


def remove(path: str) -> None:
    """Remove a file, a link or a whole tree, also one whose directories cannot be read or written."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    folders = [path]
    for folder in folders:  # it grows on the way
        with suppress(OSError):
            os.chmod(folder, 0o700)
        with os.scandir(folder) as listing:
            for item in listing:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                else:
                    os.unlink(item.path)
    for folder in reversed(folders):
        os.rmdir(folder)


def blob_id(path: bytes, entry: os.stat_result, length: int) -> bytes:
    """Return git's object id of what stands at ``path``, in hexadecimal digits; ``length`` is that of an id."""
    total = digest("sha1" if length == 40 else "sha256", entry.st_size)
    if stat.S_ISLNK(entry.st_mode):
        text = os.readlink(path)
        total.update(b"blob %d\0" % len(text) + text)
        return total.hexdigest().encode()
    total.update(b"blob %d\0" % entry.st_size)
    with open(path, "rb", buffering=0) as file:
        while True:
            data = file.read(CHUNK)
            if not data:
                return total.hexdigest().encode()
            total.update(data)


def differences(
    root: bytes,
    entries: Entries,
    links: Links,
    most: int = 20,
    check: Callable[[], None] = lambda: None,
    record: Optional[Record] = None,
) -> List[str]:
    """Return how what stands below ``root`` differs from what must, at most ``most`` sentences; see ``compare``."""
    found = islice(compare(root, entries, links, check, record), most)
    return ["%s: %s" % (os_text(path), wrong) for path, wrong in found]


def compare(
    root: bytes,
    entries: Entries,
    links: Links,
    check: Callable[[], None] = lambda: None,
    record: Optional[Record] = None,
) -> Iterator[Tuple[bytes, str]]:
    """Hash every file below ``root`` and yield (path, what is wrong) of those that differ from ``entries``.

    ``entries`` maps paths (bytes, relative) to (mode, object id) as git lists them; ``links`` maps the paths of shared
    links to what they must read. Directories must be exactly those that the files need, modes 0644 and 0755. ``check``
    is called between files and may raise. What ``record`` knows is not hashed again, and it learns the others.
    """
    if record:
        record.begin()
    missing = set(entries) | set(links)
    directories = {b"", *(parent for path in missing for parent in parents(path))}
    for path, entry in walk(root):
        check()
        if stat.S_ISDIR(entry.st_mode):
            told = None if path in directories else "a directory that is not of the release"
            if told is None and stat.S_IMODE(entry.st_mode) & 0o777 != DIRECTORY:
                told = "mode %o, not 755" % stat.S_IMODE(entry.st_mode)
        else:
            missing.discard(path)
            told = wrong(os.path.join(root, path), path, entry, entries, links, record)
        if told:
            yield path, told
    for path in sorted(missing):
        yield path, "missing"


def set_modes(root: bytes, entries: Entries) -> None:
    """Give ``root``, and the directories and files below it, the modes that they must have."""
    os.chmod(root, DIRECTORY)
    for path, entry in walk(root):
        if stat.S_ISDIR(entry.st_mode):
            os.chmod(os.path.join(root, path), DIRECTORY)
        elif stat.S_ISREG(entry.st_mode) and path in entries:
            os.chmod(os.path.join(root, path), MODES[entries[path][0]])


def walk(root: bytes) -> Iterator[Tuple[bytes, os.stat_result]]:
    """Yield (path relative to ``root``, its lstat) of everything below ``root``; links are not followed."""
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder) if folder else root) as listing:
            for item in listing:
                path = os.path.join(folder, item.name) if folder else item.name
                entry = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(entry.st_mode):
                    waiting.append(path)
                yield path, entry


def wrong(
    full: bytes, path: bytes, entry: os.stat_result, entries: Entries, links: Links, record: Optional[Record]
) -> Optional[str]:
    """Return what is wrong with what stands at a path, or None; what ``record`` knows is not hashed again."""
    if path in links:
        good = stat.S_ISLNK(entry.st_mode) and os.readlink(full) == links[path]
        return None if good else "not the link to the shared directory that it must be"
    if path not in entries:
        return "a file that is not of the release"
    mode, identity = entries[path]
    if mode == LINK:
        if not stat.S_ISLNK(entry.st_mode):
            return "not a symbolic link"
    elif not stat.S_ISREG(entry.st_mode):
        return "not a regular file"
    elif stat.S_IMODE(entry.st_mode) != MODES[mode]:  # no file inherits a set-user-id or set-group-id bit
        return "mode %o, not %o" % (stat.S_IMODE(entry.st_mode), MODES[mode])
    if record and record.knows(path, entry):
        return None
    if blob_id(full, entry, len(identity)) != identity:
        return "its content is not that of the release"
    if record:
        record.note(path, entry)
    return None
