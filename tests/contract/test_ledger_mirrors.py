"""The ledger on real mirrors: appended by whoever is first, proved when read, kept by every mirror, remembered here."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from agent_host import Host, git
from ledger_records import decided, ended, oid

from tasks.agent import hold as holding
from tasks.agent.mirror import make_mirror
from tasks.agent.wire import Wire
from tasks.core.config import parse
from tasks.core.errors import LedgerError, OvertakenError, RepositoryError
from tasks.core.history import Chain
from tasks.core.ledger import Decided, Ended
from tasks.remote import ledger
from tasks.remote.fleet import Fleet
from tasks.remote.lab import wait_until
from tasks.remote.ledger import Book
from tasks.remote.memory import Memory
from tasks.remote.mirrors import Mirror
from tasks.remote.mirrorset import MirrorSet
from tasks.remote.repository import Repository
from tasks.remote.source import Source
from tasks.remote.store import Store

REF = "refs/skein/ledger/prod"
TOML = """
[app]
name = "www"
[source]
path = "/srv/www"
{mirrors}
[targets]
deploy_to = "/srv/app"
[targets.groups.web]
hosts = ["web-[1-3]"]
"""


class Operators:
    """Operators with a state and a cache each, at the same mirrors on this machine."""

    def __init__(self, root: Path, *others: str) -> None:
        self.root = root
        self.mirrors = [root / "hub.git", root / "other.git", *(root / name for name in others)]
        for path in self.mirrors:
            make_mirror(Wire(), {"path": str(path), "app": "www"})
        tables = "".join(f'[[mirrors]]\npath = "{path}"\nurl = "file://{path}"\n' for path in self.mirrors)
        self.settings = parse(TOML.format(mirrors=tables), "prod", "prod.toml")
        self._stores: list[Store] = []

    def book(self, name: str = "ann", *, anew: bool = False) -> Book:
        fleet = cast(Fleet, Nobody())
        mirrors = MirrorSet(self.settings, fleet, lambda: cast(Source, None))
        store = Store(self.root / name / "ledger.git").__enter__()
        self._stores.append(store)
        memory = Memory(self.root / name / "ledger.json")
        return Book("prod", mirrors, lambda: store, memory, f"{name}@laptop", anew=anew)

    def mirrorset(self) -> MirrorSet:
        """Return the mirrors with an operator's own repository to carry things through."""
        store = Carrier(self.root / "carrier.git").__enter__()
        self._stores.append(store)
        return MirrorSet(self.settings, cast(Fleet, Nobody()), lambda: cast(Source, store))

    def head(self, place: int = 0) -> str:
        return git("for-each-ref", "--format=%(objectname)", REF, cwd=self.mirrors[place])

    def move(self, commit: str) -> None:
        """Put the hub's ledger somewhere, as only somebody on the hub itself can."""
        git("update-ref", REF, commit, cwd=self.mirrors[0])

    def close(self) -> None:
        for store in self._stores:
            store.__exit__(None, None, None)


class Carrier(Store):
    """The part of a source that bringing mirrors level needs."""

    def has(self, oid: str) -> bool:
        return self.private.has(oid)


class Nobody:
    """A fleet of no hosts."""

    def ask(self, requests: dict[str, Any], reply: type[Any]) -> dict[str, Any]:
        assert not requests
        return {}


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[Operators]:
    made = Operators(tmp_path)
    yield made
    made.close()
    holding._held.clear()


def grown(book: Book, *records: Decided | Ended) -> Chain:
    return book.append(book.read(), records)


FIRST = (decided(1, 1, 1), ended(2, 1, 1))


def test_what_was_appended_is_read_by_another_operator(operators: Operators) -> None:
    assert operators.book().read() == Chain()
    chain = grown(operators.book(), *FIRST)
    assert operators.book("bob").read() == chain
    assert [link.record for link in chain.links] == [*reversed(FIRST)]
    assert git("log", "--format=%an %s", operators.head(), cwd=operators.mirrors[0]).splitlines() == [
        "ann@laptop 2 outcome, turn 1",
        "ann@laptop 1 deploy, turn 1",
    ]


def test_of_two_who_decide_on_the_same_end_one_is_told_to_decide_again(operators: Operators) -> None:
    ann, bob = operators.book("ann"), operators.book("bob")
    old = ann.read()
    assert bob.read() == old
    chain = ann.append(old, FIRST)
    with pytest.raises(OvertakenError):
        bob.append(old, [decided(1, 1, 2)])
    assert bob.read() == chain


def test_ten_writers_at_once_each_get_their_number_and_none_is_lost(operators: Operators) -> None:
    names = [f"op-{number}" for number in range(10)]
    books = [operators.book(name) for name in names]
    lost: list[BaseException] = []

    def write(book: Book, name: str) -> None:
        try:
            while True:
                chain = book.read()
                record = decided(chain.number + 1, chain.turn + 1, 1, by=name)
                try:
                    book.append(chain, [record])
                except OvertakenError:
                    continue
                return
        except BaseException as error:  # noqa: BLE001 - shown below
            lost.append(error)

    threads = [threading.Thread(target=write, args=each) for each in zip(books, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert lost == []
    chain = operators.book("reader").read()
    assert [record.number for record in chain.records] == list(range(10, 0, -1))
    assert sorted(record.by for record in chain.records) == names


def test_the_hub_lets_nobody_rewrite_or_delete_a_ledger(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST)
    older = chain.links[1].commit
    for spec in (f"+{older}:{REF}", f":{REF}"):
        words = ["git", "push", "-q", str(operators.mirrors[0]), spec]
        done = subprocess.run(words, cwd=operators.root / "ann/ledger.git", capture_output=True, check=False)
        assert done.returncode, spec
    assert operators.head() == chain.head


def test_an_answer_that_was_lost_is_looked_for(operators: Operators, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.remote.mirrors import Mirror

    extend = Mirror.extend

    def cut(*arguments: Any) -> None:
        extend(*arguments)
        raise RepositoryError("the link was cut")

    monkeypatch.setattr(Mirror, "extend", cut)
    assert grown(operators.book(), *FIRST).head == operators.head()


def test_mirrors_get_the_whole_ledger_whatever_they_missed(operators: Operators) -> None:
    book = operators.book()
    grown(book, *FIRST)
    hidden = operators.mirrors[1].rename(operators.root / "away")
    (name,) = book.spread(grown(book, decided(3, 2, 2)))
    assert name == book._mirrors.names[1]
    hidden.rename(operators.mirrors[1])
    assert book.spread(grown(book, ended(4, 2, 2))) == {}
    assert operators.head(0) == operators.head(1)


def test_a_decision_is_on_its_way_to_the_mirrors_while_targets_flip(operators: Operators) -> None:
    book = operators.book()
    chain = grown(book, decided(1, 1, 1))
    book.spread_early(chain)
    wait_until(lambda: bool(operators.head(1)), "the other mirror has the decision", 30)
    assert operators.head(1) == chain.head
    assert book.spread(grown(book, ended(2, 1, 1))) == {}
    assert operators.head(1) == operators.head(0)


def test_a_mirror_that_hangs_keeps_no_flip_waiting_and_is_named_at_the_end(
    operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, tried = threading.Event(), list[str]()

    def hang(mirror: Mirror, *_: object) -> None:
        tried.append(mirror.name)
        assert go_on.wait(30)
        raise RepositoryError("its disk is full")

    book = operators.book()
    chain = grown(book, decided(1, 1, 1))
    monkeypatch.setattr(Mirror, "extend", hang)
    book.spread_early(chain)
    wait_until(lambda: bool(tried), "the mirror is asked", 30)
    go_on.set()
    assert [str(error) for error in book.spread(chain).values()] == ["its disk is full"]


def test_a_hub_that_lost_records_is_noticed_by_who_saw_them_and_by_nobody_else(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST)
    operators.move(chain.links[1].commit)
    with pytest.raises(LedgerError, match=r"truncated: it ends with record 1, and this machine saw record 2"):
        operators.book().read()
    assert operators.book("bob").read().number == 1
    book = operators.book(anew=True)
    assert grown(book, ended(2, 1, 1, code=12)).number == 2
    assert operators.book().read().number == 2


def test_a_ledger_written_anew_is_noticed_though_it_is_as_long(operators: Operators) -> None:
    grown(operators.book(), *FIRST)
    git("update-ref", "-d", REF, cwd=operators.mirrors[0])
    grown(operators.book("mallory"), FIRST[0], ended(2, 1, 1, code=13))
    with pytest.raises(LedgerError, match="rewritten"):
        operators.book().read()


def test_a_record_edited_on_the_hub_is_named(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST)
    hub = operators.mirrors[0]
    blob = git("hash-object", "-w", "--stdin", data=b'{"format": 1, "kind": "outcome"}', cwd=hub)
    tree = git("mktree", data=f"100644 blob {blob}\trecord.json\n".encode(), cwd=hub)
    operators.move(git("commit-tree", tree, "-p", chain.links[1].commit, "-m", "x", cwd=hub))
    with pytest.raises(
        LedgerError, match=rf"commit {operators.head()[:12]} is no record of Skein's .*: it was edited: move the hub"
    ):
        operators.book("bob").read()


def rechained(operators: Operators, *commits: str) -> None:
    """Put records on the hub in the order given, oldest first, each naming the one before it."""
    parent: tuple[str, ...] = ()
    for commit in commits:
        made = git("commit-tree", f"{commit}^{{tree}}", *parent, "-m", "x", cwd=operators.mirrors[0])
        parent = ("-p", made)
    operators.move(parent[1])


def test_records_reordered_on_the_hub_are_named_with_what_to_do(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST, decided(3, 2, 2))
    third, second, first = (link.commit for link in chain.links)
    rechained(operators, first, third, second)
    told = (
        r"record 2 of the ledger of prod \(.*\) comes after record 3: records were removed or reordered: move the hub"
    )
    with pytest.raises(LedgerError, match=told):
        operators.book("bob").read()


def test_a_record_taken_out_of_the_middle_is_named_with_what_to_do(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST, decided(3, 2, 2))
    rechained(operators, chain.links[2].commit, chain.links[0].commit)
    with pytest.raises(
        LedgerError, match=r"record 3 .* comes after record 1: records were removed .* mirrors.sync --from"
    ):
        operators.book("bob").read()


def test_a_ledger_made_anew_after_it_was_edited_is_whole_again(operators: Operators) -> None:
    book = operators.book()
    chain = grown(book, *FIRST)
    assert book.spread(chain) == {}
    rechained(operators, chain.links[0].commit, chain.links[1].commit)
    with pytest.raises(LedgerError, match="move the hub's repository away"):
        operators.book().read()
    operators.mirrors[0].rename(operators.root / "edited.git")
    made = operators.mirrorset()
    assert made.make()[made.names[0]]
    made.sync(made.names[1])
    assert operators.book().read() == chain


def test_any_one_mirror_alone_gives_a_copy_and_without_any_what_was_seen_is_shown(operators: Operators) -> None:
    book = operators.book()
    chain = grown(book, *FIRST)
    book.spread(chain)
    operators.mirrors[0].rename(operators.root / "no-hub")
    copy = operators.book("laptop").copy()
    assert (copy.chain, copy.mirror) == (chain, book._mirrors.names[1])
    assert "no bare repository" in copy.troubles[0]
    operators.mirrors[1].rename(operators.root / "no-mirror")
    copy = operators.book("ann").copy()
    assert (copy.chain, copy.mirror) == (chain, None)
    assert copy.seen_at > 0
    with pytest.raises(RepositoryError, match="nor was it ever seen here"):
        operators.book("stranger").copy()


def test_a_stale_mirror_that_answers_first_does_not_win_over_a_fresher_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = Operators(tmp_path, "third.git")
    book = operators.book("ann")
    chain = grown(book, FIRST[0])
    book.spread(chain)
    stale = operators.head(1)
    book.spread(book.append(chain, FIRST[1:]))
    git("update-ref", REF, stale, cwd=operators.mirrors[1])
    operators.mirrors[0].rename(tmp_path / "away")
    answered, refs = threading.Event(), Mirror.refs

    def slow(mirror: Mirror, prefix: str, deadline_s: float = 30.0) -> dict[str, str]:
        if mirror.path.endswith("third.git"):
            assert answered.wait(20)
        try:
            return refs(mirror, prefix, deadline_s)
        finally:
            if mirror.path.endswith("other.git"):
                answered.set()

    monkeypatch.setattr(Mirror, "refs", slow)
    monkeypatch.setattr(ledger, "GRACE_S", 20.0)
    copy = operators.book("stranger").copy()
    operators.close()
    assert (copy.chain.number, str(copy.mirror).endswith("third.git")) == (2, True)


def test_a_mirror_that_is_behind_what_was_seen_says_so(operators: Operators) -> None:
    book = operators.book()
    book.spread(grown(book, FIRST[0]))
    grown(book, FIRST[1])
    operators.mirrors[0].rename(operators.root / "no-hub")
    assert any("record 2 was seen here before" in told for told in operators.book().copy().troubles)


def test_records_wait_for_the_hub_in_the_operators_state(operators: Operators) -> None:
    book = operators.book()
    chain = grown(book, *FIRST)
    late = decided(3, 2, 1, kind="rollback", late=True)
    book.keep([late])
    again = operators.book()
    assert again.remembered().waiting == (late,)
    assert again.copy().chain == replace(chain, waiting=(late,))
    again.drop([late])
    assert operators.book().remembered().waiting == ()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 1}', '{"format": 1, "head": "x", "number": [], "seen_at": 0, "waiting": [1]}']
)
def test_a_memory_that_is_damaged_is_said_and_not_overwritten(operators: Operators, text: str) -> None:
    grown(operators.book(), *FIRST)
    path = operators.root / "ann/ledger.json"
    path.write_text(text)
    with pytest.raises(RepositoryError, match=r"is damaged.*move it away"):
        operators.book().read()
    assert path.read_text() == text


def test_a_cache_that_cannot_be_made_says_where_and_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(RepositoryError, match=r"cache/ledger\.git cannot be used: .*; set XDG_CACHE_HOME"):
        Store(tmp_path / "cache/ledger.git").__enter__()


def test_a_store_that_is_broken_is_made_anew_from_the_mirrors(operators: Operators) -> None:
    chain = grown(operators.book(), *FIRST)
    operators.close()
    git_dir = operators.root / "ann/ledger.git"
    for path in (git_dir / "objects").glob("??/*"):
        path.unlink()
    assert operators.book().read() == chain


def test_a_mirror_tells_what_differs_between_two_releases(operators: Operators) -> None:
    hub = Repository(operators.mirrors[0])
    commits = []
    for names in (["a", "b", "c d"], ["a", "c d", "new\nline"]):
        blobs = {name: git("hash-object", "-w", "--stdin", data=name[:1].encode(), cwd=hub.git_dir) for name in names}
        blobs |= {"a": git("hash-object", "-w", "--stdin", data=str(len(commits)).encode(), cwd=hub.git_dir)}
        lines = b"".join(f"100644 blob {blob}\t{name}\0".encode() for name, blob in blobs.items())
        commits.append(git("commit-tree", git("mktree", "-z", data=lines, cwd=hub.git_dir), "-m", "x", cwd=hub.git_dir))
    found = operators.book().difference(None, *commits, 10)
    assert found.counts == {"added": 1, "changed": 1, "removed": 1}
    assert found.names == {"added": ("new\nline",), "changed": ("a",), "removed": ("b",)}
    assert operators.book().difference(None, *commits, 0).names["added"] == ()
    with pytest.raises(RepositoryError, match="git diff-tree"):
        operators.book().difference(None, commits[0], oid("nothing"), 10)


def test_a_hub_on_this_machine_has_the_same_lock(operators: Operators, tmp_path: Path) -> None:
    book, path = operators.book(), str(operators.mirrors[0])
    assert book.hold("because").held
    with Host(tmp_path / "host").session() as bob:
        mine = bob.ask("hold", path=path, environment="prod", who="bob@desk", why="")
        assert (mine["held"], mine["who"]) == (False, "ann@laptop")
        assert bob.ask("break_hold", path=path, environment="prod")["broken"]
        assert not book.hold("because").held
        book.let_go()
        assert book.hold("because").held
