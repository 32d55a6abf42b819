"""Two states of the source held against each other: files, commits, and the bytes between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..agent.difference import NAME_MOST, counted
from ..core.facts import Difference
from ..core.plan import Commits
from .repository import Repository


def changes(repository: Repository, old: str | None, new: str, most: int) -> Difference:
    """Count the files that differ from ``old`` to ``new``, trees or commits, and name the first ``most`` of each kind.

    All of them are added to None.
    """
    if old is None:
        listed = repository.run(f"cannot read {new}", "ls-tree", "-r", "-z", "--name-only", new).output
        fields = [field for path in listed.split(b"\0")[:-1] for field in (b"A", path)]
    else:
        options = ("-r", "-z", "--name-status", "--no-renames")
        trees = (f"{old}^{{tree}}", f"{new}^{{tree}}")
        what = f"cannot compare {old} and {new}"
        fields = repository.run(what, "diff-tree", *options, "--end-of-options", *trees).output.split(b"\0")[:-1]
    return Difference.model_validate(counted(fields, most))


def commits(repository: Repository, old: str, new: str, most: int) -> Commits | None:
    """Return how two commits lie to each other, with ``most`` first lines at most; None where one is not here."""
    if not repository.has(old) or not repository.has(new):
        return None
    what = f"cannot compare {old} and {new}"
    counted = repository.run(what, "rev-list", "--count", "--left-right", "--end-of-options", f"{old}...{new}").text
    behind, ahead = map(int, counted.split())
    words = ("log", "-z", "--format=%s", "--encoding=UTF-8", f"--max-count={most}", "--end-of-options", f"{old}..{new}")
    listed = repository.run(what, *words).output.decode("utf-8", "backslashreplace")
    return Commits(ahead, behind, tuple(line[:NAME_MOST] for line in listed.split("\0") if line))


def weight(repository: Repository, base: str | None, commit: str) -> int:
    """Return the bytes that the files of ``commit`` that ``base`` has not take as they are stored."""
    kinds = ("diff-tree", "-r", "-z", base) if base else ("ls-tree", "-r", "-z")
    listed = repository.run(f"cannot read {commit}", *kinds, commit).output.split(b"\0")[:-1]
    about = listed[::2] if base else (entry.partition(b"\t")[0] for entry in listed)
    blobs = {words.split(b" ")[3 if base else 2] for words in about}
    asked = b"\n".join([*blobs, b""])
    sizes = repository.run("cannot tell sizes", "cat-file", "--batch-check=%(objectsize:disk)", stdin=asked).output
    return sum(int(size) for size in sizes.split() if size.isdigit())


def delta(repository: Repository, base: str | None, commit: str) -> bytes:
    """Return a thin pack from a release commit, or from nothing, to another, with that.

    It leaves out what lies between the two: each stands where history ends (gitrepository-layout(5), shallow).
    """
    wanted = f"--shallow {commit}\n{commit}\n" + (f"--shallow {base}\n^{base}\n" if base else "")
    words = ("pack-objects", "-q", "--revs", "--thin", "--shallow", "--stdout")
    return repository.run(f"cannot make a delta to {commit}", *words, stdin=wanted.encode()).output


def rest(repository: Repository, commit: str, tag: str, before: Sequence[str], most: int) -> bytes | None:
    """Return a pack of what a tag leads to and neither a release commit nor the tags ``before`` it do.

    None where that takes more than ``most`` bytes as it is stored.
    """
    without = "".join(f"^{oid}\n" for oid in (commit, *before))
    words = ("rev-list", "--objects-edge-aggressive", "--no-object-names", "--stdin")  # leaves out all of their trees
    what = f"cannot pack {tag}"
    listed = repository.run(what, *words, stdin=f"{tag}\n{without}".encode()).output.splitlines(keepends=True)
    wanted = b"".join(line for line in listed if not line.startswith(b"-"))
    sizes = repository.run(what, "cat-file", "--batch-check=%(objectsize:disk)", stdin=wanted).output.split()
    if sum(map(int, sizes)) > most:
        return None
    return repository.run(what, "pack-objects", "-q", "--stdout", stdin=wanted).output
