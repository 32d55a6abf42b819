"""A release directory in the making: what it lacks is written, all of it is checked and made durable."""

from __future__ import annotations

import contextlib
import os
import stat

from .children import run
from .failpoints import failpoint
from .growth import need_room
from .place import sync
from .problem import Problem, os_text
from .trees import DIRECTORY, differences, parents, remove, set_modes

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import List

    from .record import Record
    from .repo import Repo
    from .trees import Entries, Links
    from .wire import Wire

FEW = 200  # files; to sync the whole file system costs less than that of more, one by one


class Draft:
    """A directory that is as ``known`` says, and is to become ``tree``, which lists ``entries``, with ``links``."""

    def __init__(
        self, wire: Wire, repo: Repo, path: str, known: Record, tree: str, entries: Entries, links: Links
    ) -> None:
        self.wire, self.repo, self.path, self.tree = wire, repo, path, tree
        self.root = os.fsencode(path)
        self.record = known.becomes(entries, links)
        was, will = {**known.links, **known.entries}, {**links, **entries}
        self.unwanted = [name for name in was if will.get(name) != was[name]]
        self.missing = [name for name in will if was.get(name) != will[name]]

    def fill(self, timeout_s: float) -> None:
        """Take away and write what differs, check all of it, make it durable; raise Problem "bad-checkout"."""
        entries, links = self.record.entries, self.record.links
        self._clear()
        files = [name for name in self.missing if name in entries]
        need_room(self.repo, [entries[name][1] for name in files])
        is_odd = stat.S_IMODE(os.lstat(self.path).st_mode) & 0o777 != DIRECTORY  # a default ACL overrides our umask
        failpoint("agent.stage.begin")
        if files:
            self._check_out(files, timeout_s)
        failpoint("agent.stage.checkout")
        if is_odd:
            set_modes(self.root, entries)
        for name in self.missing:
            if name in links:
                self._make_parents(name)
                os.symlink(links[name], os.path.join(self.root, name))
        found = differences(self.root, entries, links, 5, self.wire.check, self.record)
        if found:
            raise Problem("bad-checkout", "what was unpacked differs from the release: %s" % "; ".join(found))
        failpoint("agent.stage.verified")
        self._sync()
        failpoint("agent.stage.synced")

    def _clear(self) -> None:
        for name in self.unwanted:
            os.unlink(os.path.join(self.root, name))
        for folder in sorted({parent for name in self.unwanted for parent in parents(name)}, reverse=True):
            with contextlib.suppress(OSError):  # it holds something still
                os.rmdir(os.path.join(self.root, folder))

    def _check_out(self, files: List[bytes], timeout_s: float) -> None:
        index = self.path + ".index"
        try:
            self.repo.must("read-tree", "--index-output=" + index, self.tree, index=index, timeout_s=timeout_s)
            failpoint("agent.stage.index")
            words = ("--work-tree=" + self.path, "checkout-index", "--quiet", "-z", "--stdin")
            names = b"".join(name + b"\0" for name in files)
            self.repo.must(*words, index=index, directory=self.path, stdin=names, timeout_s=timeout_s)
        finally:
            if os.path.lexists(index):
                remove(index)

    def _make_parents(self, path: bytes) -> None:
        """Make the directories above a linked path; each must be a real one, or a link could lead out of here."""
        for parent in parents(path):
            folder = os.path.join(self.root, parent)
            if not os.path.lexists(folder):
                os.mkdir(folder, DIRECTORY)
            elif not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise Problem("linked-path-taken", "%s is not a directory of the release" % os_text(folder))

    def _sync(self) -> None:
        """Make durable what was written: file by file where it is little, else the whole file system."""
        if len(self.missing) > FEW and not self._sync_all():
            return
        entries = self.record.entries
        written = [name for name in self.missing if name in entries and entries[name][0] != b"120000"]
        folders = {parent for name in (*self.missing, *self.unwanted) for parent in parents(name)}
        for name in (*written, *folders, b""):
            self.wire.check()
            with contextlib.suppress(FileNotFoundError):  # a directory that went with its last file
                sync(os.path.join(self.root, name))

    def _sync_all(self) -> int:
        try:
            return run(self.wire, ["sync", "-f", self.path], timeout_s=600)[0]
        except FileNotFoundError:
            return 127  # no such program, or one without the option: file by file, then
