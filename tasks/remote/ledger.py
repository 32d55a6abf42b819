"""The ledger as commits: one record each, made in the operator's own repository, appended on the hub by one push.

The hub says who was first: it refuses a push that does not descend from what stands there. Mirrors get the whole
chain, whatever they missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..core.errors import LedgerError, OvertakenError, RepositoryError
from ..core.facts import BrokenHold, Difference, Done, Held
from ..core.history import Chain, Head, Link, prove
from ..core.ledger import ANEW, LARGEST, Record, read, write
from ..core.release import OBJECT_ID
from . import chain as commits
from .memory import Memory, Remembered
from .mirrors import Mirror
from .mirrorset import MirrorSet
from .store import Store

RECORD = "record.json"
SEEN = "refs/skein/seen/"
QUICK_S = 30.0
GRACE_S = 0.3
"""For so long at least a first copy waits for the hub's, or a fresher one; or as long again as it took itself."""

LOOK_EVERY_S = 1.0
SPREAD_S = 60.0
"""How long a mirror may take for a ledger: a thousand records are a megabyte."""


@dataclass(frozen=True)
class Copy:
    """A ledger as it could be read: from a mirror, or, where ``mirror`` is None, as it was seen at ``seen_at``.

    ``troubles`` say why the mirrors before it could not be read.
    """

    chain: Chain
    mirror: str | None
    seen_at: float
    troubles: tuple[str, ...] = ()


class Book:
    """One environment's ledger and lock. ``store`` opens the operator's own repository for ledgers, when needed."""

    def __init__(
        self,
        environment: str,
        mirrors: MirrorSet,
        store: Callable[[], Store],
        memory: Memory,
        operator: str,
        *,
        anew: bool = False,
    ) -> None:
        self.environment, self._mirrors, self._open, self._memory = environment, mirrors, store, memory
        self._operator, self._anew = operator, anew
        self._early: threading.Thread | None = None
        self._ref = f"refs/skein/ledger/{commits.check_environment(environment)}"
        self._hub_name = mirrors.names[0]

    def knock(self, wait_s: float) -> bool:
        """Begin to open the hub; tell whether that came to an end, well or not, within so long."""
        return self._mirrors.knock(self._hub_name, wait_s)

    def hold(self, why: str, wait_s: float = 0.0) -> Held:
        """Take the environment's lock on the hub, or look whether it is still ours; wait for it at most so long.

        Raise RepositoryError where the hub is out of reach. The lock is gone with this process, or its connection.
        """
        ends_at = time.monotonic() + wait_s
        while True:
            fields = {"environment": self.environment, "who": self._operator, "why": why}
            held = self._mirrors.ask_one(self._hub_name, "hold", fields, Held)
            if held.held or time.monotonic() >= ends_at:
                return held
            time.sleep(LOOK_EVERY_S)

    def let_go(self) -> None:
        """Give the lock back."""
        self._mirrors.ask_one(self._hub_name, "let_go", {"environment": self.environment}, Done)

    def break_hold(self) -> BrokenHold:
        """Take the lock away from whoever holds it."""
        return self._mirrors.ask_one(self._hub_name, "break_hold", {"environment": self.environment}, BrokenHold)

    def read(self) -> Chain:
        """Return the hub's ledger, proved to be whole; raise RepositoryError where it cannot be, LedgerError if not."""
        chain = self._fetched(self._mirrors.one(self._hub_name), () if self._anew else self._remembered())
        self._see(chain)
        return chain

    def append(self, chain: Chain, records: Sequence[Record]) -> Chain:
        """Append records to the end of ``chain``, all or none; raise OvertakenError where that is not the end any more.

        Raise RepositoryError where the hub does not take them; an answer that was lost is looked for.
        """
        links = list(chain.links)
        for record in records:
            parent = links[0].commit if links else None
            links.insert(0, Link(self._commit(record, parent), (parent,) if parent else (), record))
        hub, commit = self._mirrors.one(self._hub_name), links[0].commit
        try:
            hub.extend(self._store, self._ref, commit, QUICK_S)
        except RepositoryError as error:
            there = hub.refs(self._ref, QUICK_S).get(self._ref)
            if there != commit:
                if there != chain.head:
                    raise OvertakenError(f"somebody else wrote into the ledger of {self.environment}") from error
                raise
        longer = replace(chain, links=tuple(links))
        self._anew = False
        self._see(longer, anew=True)
        return longer

    def spread_early(self, chain: Chain) -> None:
        """Begin to bring the ledger to the other mirrors, and wait for none of them: they get it again at the end."""
        _ = self._store  # which no two threads may open
        self._early = threading.Thread(target=self._extend, args=(chain,), name="skein-spread", daemon=True)
        self._early.start()

    def spread(self, chain: Chain) -> dict[str, RepositoryError]:
        """Bring the ledger to the other mirrors, side by side; return those that did not take it."""
        if self._early:
            self._early.join()
        return self._extend(chain)

    def _extend(self, chain: Chain) -> dict[str, RepositoryError]:
        others = self._mirrors.names[1:]
        if not chain.head or not others:
            return {}
        return self._mirrors.extend(others, self._store, self._ref, chain.head, SPREAD_S)

    def remembered(self) -> Remembered:
        """Return what this operator remembers of the ledger."""
        return self._memory.load()

    def keep(self, records: Sequence[Record]) -> None:
        """Keep records here until the hub can take them."""
        self._memory.keep(records)

    def drop(self, records: Sequence[Record]) -> None:
        """Forget records that the hub took."""
        self._memory.drop(records)

    def copy(self) -> Copy:
        """Return the best copy that can be had now: the hub's, else the longest, else what was seen here last.

        All are asked at once, and a mirror that is away delays nobody for more than a moment. Raise RepositoryError
        where nothing is known.
        """
        answers: dict[str, Chain | RepositoryError] = {}
        told = threading.Condition()

        def ask(name: str) -> None:
            try:
                answer: Chain | RepositoryError = self._fetched(self._mirrors.one(name))
            except RepositoryError as error:
                answer = error
            with told:
                answers[name] = answer
                told.notify()

        names, _ = self._mirrors.names, self._store  # which no two threads may open
        for name in names:
            threading.Thread(target=ask, args=(name,), name="skein-ledger", daemon=True).start()
        with told:
            began = time.monotonic()
            told.wait_for(lambda: len(answers) == len(names) or any(isinstance(a, Chain) for a in answers.values()))
            grace_s = max(GRACE_S, time.monotonic() - began)
            hub = self._hub_name
            told.wait_for(lambda: len(answers) == len(names) or isinstance(answers.get(hub), Chain), grace_s)
            found = {name: answers[name] for name in names if name in answers}
        return self._best(found)

    def head_of(self, mirror: str) -> str | None:
        """Return where the ledger ends on one mirror."""
        return self._mirrors.one(mirror).refs(self._ref, QUICK_S).get(self._ref)

    def difference(self, mirror: str | None, old: str, new: str, most: int) -> Difference:
        """Have a mirror, or the first that can, compare two release commits."""
        fields = {"old": old, "new": new, "most": most, "timeout_s": QUICK_S}
        troubles = []
        for name in [mirror] if mirror else self._mirrors.names:
            try:
                return self._mirrors.ask_one(name, "difference", fields, Difference)
            except RepositoryError as error:
                troubles.append(str(error))
        raise RepositoryError("; ".join(troubles))

    def releases(self, mirror: str) -> dict[str, str]:
        """Return the releases that a mirror has, id to commit."""
        prefix = f"refs/skein/releases/{self.environment}/"
        refs = self._mirrors.one(mirror).refs(prefix, QUICK_S)
        return {ref.removeprefix(prefix): commit for ref, commit in refs.items()}

    @property
    def _store(self) -> Store:
        return self._open()

    def _remembered(self) -> tuple[Head, ...]:
        head = self._memory.load().head
        return (head,) if head else ()

    def _see(self, chain: Chain, *, anew: bool = False) -> None:
        if chain.head is None:
            return
        private = self._store.private
        orders = f"update {self._ref} {chain.head}\n"
        orders += "".join(f"delete {name}\n" for name in private.refs(SEEN.rstrip("/")))
        private.attempt("update-ref", "--stdin", stdin=orders.encode())  # another process may do just that now
        self._memory.see(chain, time.time(), anew=anew)

    def _best(self, found: dict[str, Chain | RepositoryError]) -> Copy:
        remembered = self._memory.load()
        troubles = tuple(str(each) for each in found.values() if not isinstance(each, Chain))
        chains = {name: each for name, each in found.items() if isinstance(each, Chain)}
        if chains:
            name = self._hub_name if self._hub_name in chains else max(chains, key=lambda each: chains[each].number)
            chain = chains[name]
            troubles += tuple(_doubts(chain, name, remembered))
            if name == self._hub_name and len(troubles) == 0:
                self._see(chain)
            return Copy(replace(chain, waiting=remembered.waiting), name, time.time(), troubles)
        head = self._store.private.commit(self._ref)
        if head is None:
            told = "; ".join(troubles)
            raise RepositoryError(f"the ledger of {self.environment} cannot be read, nor was it ever seen here: {told}")
        chain = prove(self._links(head), self.environment)
        return Copy(replace(chain, waiting=remembered.waiting), None, remembered.seen_at, troubles)

    def _fetched(self, mirror: Mirror, seen: Sequence[Head] = ()) -> Chain:
        head = mirror.refs(self._ref, QUICK_S).get(self._ref)
        if head and not self._store.private.has(head):
            mirror.fetch(self._store, [f"{head}:{SEEN}{head}"], QUICK_S)
        return prove(self._links(head) if head else (), self.environment, seen)

    def _links(self, head: str) -> tuple[Link, ...]:
        private, what = self._store.private, f"the ledger of {self.environment} cannot be read"
        listed = private.run(what, "rev-list", "--topo-order", "--parents", "--end-of-options", head)
        lines = [line.split() for line in listed.text.splitlines()]
        asked = "".join(f"{line[0]}:{RECORD}\n" for line in lines).encode()
        texts = _texts(private.run(what, "cat-file", "--batch", stdin=asked).output)
        if len(texts) != len(lines):
            raise LedgerError(
                f"{what}: its objects are damaged in {private.git_dir}; remove that folder, it is a cache"
            )
        where = f"the ledger of {self.environment}, "
        return tuple(
            Link(line[0], tuple(line[1:]), read(text, f"{where}commit {line[0][:12]}", ANEW))
            for line, text in zip(lines, texts, strict=True)
        )

    def _commit(self, record: Record, parent: str | None) -> str:
        private, what = self._store.private, "cannot write a record of the ledger"
        text = write(record)
        if len(text) > LARGEST:
            raise LedgerError(f"{what}: it is larger than {LARGEST} bytes")
        blob = private.run(what, "hash-object", "-w", "--stdin", stdin=text.encode()).text
        tree = private.run(what, "mktree", stdin=f"100644 blob {blob}\t{RECORD}\n".encode()).text
        subject = f"{record.number} {record.kind}, turn {record.turn}\n"
        who = f"{record.by}@{record.machine}"
        return commits.commit_tree(private, tree, parent, subject, operator=who, when=record.at)


def _doubts(chain: Chain, name: str, remembered: Remembered) -> list[str]:
    """Say where a copy has less than was seen here, or something else."""
    head = remembered.head
    if head is None:
        return []
    if chain.number < head.number:
        return [f"mirror {name} has the ledger up to record {chain.number}; record {head.number} was seen here before"]
    if not any(link.commit == head.commit for link in chain.links):
        return [f"the ledger on mirror {name} was rewritten: it lacks record {head.number} as it was seen here before"]
    return []


def _texts(batch: bytes) -> list[bytes]:
    """Split what ``cat-file --batch`` prints; what is missing or no blob, or too large to be ours, is empty text."""
    texts, at = [], 0
    while at < len(batch):
        end = batch.index(b"\n", at)
        words = batch[at:end].split(b" ")
        at = end + 1
        if len(words) != 3 or not OBJECT_ID.fullmatch(words[0].decode("ascii", "replace")):
            texts.append(b"")
            continue
        size = int(words[2])
        texts.append(batch[at : at + size] if words[1] == b"blob" and size <= LARGEST else b"")
        at += size + 1
    return texts
