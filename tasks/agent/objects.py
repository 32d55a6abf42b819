"""Objects of a repository, read by one git that stays open: to start one costs more than to read."""

from __future__ import annotations

import os
import select
import time

from .children import LOOK_S, Child
from .names import is_object_id
from .problem import Problem
from .repo import environment, kind_of, last_line

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple

    from .repo import Repo
    from .trees import Changes

    Tree = Dict[bytes, Tuple[bytes, bytes]]

READ_S = 60.0
FOLDER = b"40000"
ALL = 1 << 40  # bytes


class Objects:
    """What a repository holds. Leaving ends git, and so does the end of the agent: its input ends with it."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self._child: Optional[Child] = None
        self._pending = b""

    def __enter__(self) -> Objects:
        """Git is started when it is first asked."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End git, if it was started; the next question starts another."""
        child, self._child, self._pending = self._child, None, b""
        if child:
            child.end()

    def tree_of(self, commit: str) -> str:
        """Return the tree of a release commit that is here."""
        if not is_object_id(commit):
            raise Problem("bad-request", "malformed commit")
        return (self.read(commit.encode(), "commit") or b"")[5:].partition(b"\n")[0].decode("ascii", "replace")

    def changes(self, old: str, new: str) -> Changes:
        """Return what a tree must hold where it differs from an older one: {path: (mode, object id), or None}."""
        changes: Changes = {}
        waiting = [(b"", old.encode(), new.encode())]
        while waiting:
            folder, before, after = waiting.pop()
            was, now = self._tree(before), self._tree(after)
            for name in {**was, **now}:
                one, other = was.get(name), now.get(name)
                if one == other:
                    continue
                before, after = (each[1] if each and each[0] == FOLDER else b"" for each in (one, other))
                if before or after:
                    waiting.append((folder + name + b"/", before, after))
                if one and not before:
                    changes[folder + name] = None
                if other and not after:
                    changes[folder + name] = (kind_of(other[0], folder + name), other[1])
        return changes

    def read(self, identity: bytes, kind: str, most: int = ALL) -> Optional[bytes]:
        """Return an object's content, None where that is more than ``most`` bytes; raise Problem where it lacks."""
        try:
            if self._child is None:
                words = self.repo.words("cat-file", "--batch")
                self._child = Child(words, environment(os.path.dirname(self.repo.path)), None, hold=True)
            return self._read(self._child, identity, kind, most)
        except (OSError, ValueError) as error:
            self.close()
            raise Problem("git", "git cat-file: %s" % error) from error
        except BaseException:
            self.close()
            raise

    def _read(self, child: Child, identity: bytes, kind: str, most: int) -> Optional[bytes]:
        os.write(child.input, identity + b"\n")
        while b"\n" not in self._pending:
            self._pending += self._more(child)
        header, _, self._pending = self._pending.partition(b"\n")
        told = header.split(b" ")
        if told[1:2] != [kind.encode()]:
            raise Problem("git", "an object of the release is missing")
        size = int(told[2])
        if size > most:
            self.close()
            return None
        pieces, missing = [self._pending], size + 1 - len(self._pending)
        while missing > 0:
            pieces.append(self._more(child))
            missing -= len(pieces[-1])
        content = b"".join(pieces)
        self._pending = content[size + 1 :]
        return content[:size]

    def _more(self, child: Child) -> bytes:
        poll = select.poll()
        poll.register(child.output, select.POLLIN)
        ends_at = time.monotonic() + READ_S
        while not poll.poll(LOOK_S * 1000):
            self.repo.wire.check()
            if time.monotonic() > ends_at:
                raise Problem("timeout", "git cat-file had not answered after %d seconds and was killed" % READ_S)
        data = os.read(child.output, 65536)
        if not data:
            raise Problem("git", "git cat-file: " + last_line(os.read(child.errors, 4096).decode("utf-8", "replace")))
        return data

    def _tree(self, identity: bytes) -> Tree:
        """Return what a directory holds: {name: (mode, object id)}; see git's Documentation/technical, tree objects."""
        data = (self.read(identity, "tree") if identity else None) or b""
        length, at = len(identity) // 2, 0
        found = {}
        while at < len(data):
            space = data.index(b" ", at)
            zero = data.index(b"\0", space)
            found[data[space + 1 : zero]] = (data[at:space], data[zero + 1 : zero + 1 + length].hex().encode())
            at = zero + 1 + length
        return found
