"""What this operator remembers of a ledger: the newest head that was seen, and records that wait for the hub."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import RepositoryError
from ..core.history import Chain, Head
from ..core.ledger import Record, read, write

FORMAT = 1


@dataclass(frozen=True)
class Remembered:
    """``head`` was the end of the ledger at ``seen_at``, seconds since 1970; ``waiting`` came to be without the hub."""

    head: Head | None = None
    seen_at: float = 0.0
    waiting: tuple[Record, ...] = ()


class Memory:
    """One small file per ledger, replaced whole, so that a killed process leaves the old one or the new."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Remembered:
        """Return what is remembered; raise RepositoryError where the file is there and cannot be understood."""
        try:
            value = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError) as error:
            raise self._damaged() from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise self._damaged()
        try:
            waiting = tuple(read(text.encode(), f"a record in {self._path}") for text in value["waiting"])
            head = Head(str(value["head"]), int(value["number"])) if value["head"] else None
            return Remembered(head, float(value["seen_at"]), waiting)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged() from error

    def see(self, chain: Chain, at: float, *, anew: bool = False) -> None:
        """Remember the end of a chain, unless a newer one is remembered; ``anew`` forgets the one that was."""

        def seen(old: Remembered) -> Remembered:
            if chain.head is None or (old.head and old.head.number > chain.number and not anew):
                return old
            return replace(old, head=Head(chain.head, chain.number), seen_at=at)

        self._change(seen)

    def keep(self, records: Sequence[Record]) -> None:
        """Remember records until the hub takes them."""
        self._change(lambda old: replace(old, waiting=(*old.waiting, *records)))

    def drop(self, records: Sequence[Record]) -> None:
        """Forget records that the hub took."""
        self._change(lambda old: replace(old, waiting=tuple(one for one in old.waiting if one not in records)))

    def _change(self, change: Callable[[Remembered], Remembered]) -> None:
        with self._locked():
            before = self.load()
            after = change(before)
            if after == before:
                return
            value = {
                "format": FORMAT,
                "head": after.head.commit if after.head else None,
                "number": after.head.number if after.head else 0,
                "seen_at": after.seen_at,
                "waiting": [write(record) for record in after.waiting],
            }
            draft = self._path.with_suffix(".new")
            with draft.open("w", encoding="utf-8") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path.with_name(self._path.name + ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise RepositoryError(f"what is known of the ledger cannot be kept in {self._path}: {error}") from error

    def _damaged(self) -> RepositoryError:
        return RepositoryError(f"{self._path} is damaged: it holds what is known of the ledger here; move it away")
