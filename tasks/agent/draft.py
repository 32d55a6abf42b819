"""A release directory in the making: what it lacks is written, all of it is checked and made durable."""

from __future__ import annotations

import os
import stat

from .children import run
from .failpoints import failpoint
from .growth import need_room, sizes_of
from .lean import suppress
from .place import sync
from .problem import Problem, os_text
from .trees import DIRECTORY, LINK, MODES, differences, parents, remove, set_modes, wrong

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List, Optional, Sequence

    from .objects import Objects
    from .record import Record
    from .trees import Changes, Links
    from .wire import Wire

FEW = 200  # files; to sync the whole file system costs less than that of more, one by one
SMALL = 4 << 20  # bytes that may be held in memory


class Draft:
    """A directory that is as ``known`` says and is to become ``tree``, which differs by ``changes``, with ``links``."""

    def __init__(
        self, wire: Wire, objects: Objects, path: str, known: Record, tree: str, changes: Changes, links: Links
    ) -> None:
        self.wire, self.objects, self.repo, self.path, self.tree = wire, objects, objects.repo, path, tree
        self.root = os.fsencode(path)
        self.record, self.is_new = known.becomes(tree, changes, links), not known.lines
        self.unwanted = [name for name in changes if name in known.lines]
        self.unwanted += [name for name in known.links if links.get(name) != known.links[name]]
        self.files = [name for name, entry in changes.items() if entry]
        self.links = [name for name in links if links[name] != known.links.get(name)]

    def fill(self, timeout_s: float) -> None:
        """Take away and write what differs, check all of it, make it durable; raise Problem "bad-checkout"."""
        self._clear()
        contents = None if self.is_new or len(self.files) > FEW else self._contents()
        blobs = [self.record.entry(name)[1] for name in self.files] if contents is None else []
        need_room(self.repo, sizes_of(self.repo, blobs) if contents is None else [len(each) for each in contents])
        failpoint("agent.stage.begin")
        if contents is None:
            self._check_out(timeout_s)
        else:
            self._write(contents)
        failpoint("agent.stage.checkout")
        for name in self.links:
            self._make_parents(name)
            os.symlink(self.record.links[name], os.path.join(self.root, name))
        self._check()
        failpoint("agent.stage.verified")
        self._sync()
        failpoint("agent.stage.synced")

    def _clear(self) -> None:
        for name in self.unwanted:
            os.unlink(os.path.join(self.root, name))
        for folder in sorted({parent for name in self.unwanted for parent in parents(name)}, reverse=True):
            with suppress(OSError):  # it holds something still
                os.rmdir(os.path.join(self.root, folder))

    def _contents(self) -> Optional[List[bytes]]:
        """Return what the files must hold, None where that is more than a little."""
        contents, room = [], SMALL
        for name in self.files:
            content = self.objects.read(self.record.entry(name)[1], "blob", room)
            if content is None:
                return None
            contents.append(content)
            room -= len(content)
        return contents

    def _write(self, contents: Sequence[bytes]) -> None:
        """Write a few small files."""
        for name, content in zip(self.files, contents):
            self._make_parents(name)
            path, mode = os.path.join(self.root, name), self.record.entry(name)[0]
            if mode == LINK:
                os.symlink(content, path)
                continue
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), MODES[mode])

    def _check_out(self, timeout_s: float) -> None:
        """Have git write the files, however many and large."""
        is_odd = stat.S_IMODE(os.lstat(self.path).st_mode) & 0o777 != DIRECTORY  # a default ACL overrides our umask
        index = self.path + ".index"
        try:
            self.repo.must("read-tree", "--index-output=" + index, self.tree, index=index, timeout_s=timeout_s)
            failpoint("agent.stage.index")
            words = ("--work-tree=" + self.path, "checkout-index", "--quiet", "-z", "--stdin")
            names = b"".join(name + b"\0" for name in self.files)
            for name in () if self.is_new else self.files:
                self._make_parents(name)
            if names:
                self.repo.must(*words, index=index, directory=self.path, stdin=names, timeout_s=timeout_s)
        finally:
            if os.path.lexists(index):
                remove(index)
        if is_odd:
            set_modes(self.root, self.record.entries())
        for name in () if self.is_new else self.files:
            mode = self.record.entry(name)[0]
            if mode != LINK:
                os.chmod(os.path.join(self.root, name), MODES[mode])

    def _check(self) -> None:
        """Hash what was written; raise Problem "bad-checkout" where it is not what must be."""
        links = self.record.links
        if self.is_new:
            found = differences(self.root, self.record.entries(), links, 5, self.wire.check, self.record)
        else:
            self.record.begin()
            entries = {name: self.record.entry(name) for name in self.files}
            seen = ((name, os.path.join(self.root, name)) for name in (*self.files, *self.links))
            told = ((name, wrong(path, name, os.lstat(path), entries, links, self.record)) for name, path in seen)
            found = ["%s: %s" % (os_text(name), why) for name, why in told if why]
        if found:
            raise Problem("bad-checkout", "what was unpacked differs from the release: %s" % "; ".join(found[:5]))

    def _make_parents(self, path: bytes) -> None:
        """Make the directories above a path; each must be a real one, or a link could lead out of here."""
        for parent in parents(path):
            folder = os.path.join(self.root, parent)
            if not os.path.lexists(folder):
                os.mkdir(folder, DIRECTORY)
                os.chmod(folder, DIRECTORY)
            elif not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise Problem("linked-path-taken", "%s is not a directory of the release" % os_text(folder))

    def _sync(self) -> None:
        """Make durable what was written: file by file where it is little, else the whole file system."""
        if len(self.files) > FEW and not self._sync_all():
            return
        written = [name for name in self.files if self.record.entry(name)[0] != LINK]
        folders = {parent for name in (*self.files, *self.links, *self.unwanted) for parent in parents(name)}
        for name in (*written, *folders, b""):
            self.wire.check()
            with suppress(FileNotFoundError):  # a directory that went with its last file
                sync(os.path.join(self.root, name))

    def _sync_all(self) -> int:
        try:
            return run(self.wire, ["sync", "-f", self.path], timeout_s=600)[0]
        except FileNotFoundError:
            return 127  # no such program, or one without the option: file by file, then
