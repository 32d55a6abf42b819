"""Growth kept in check: room before staging, repacking off the hot path, old releases retired on mirrors."""

from __future__ import annotations

import os

from .failpoints import failpoint
from .lean import Pattern
from .names import is_object_id
from .problem import Problem
from .repo import Repo

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Iterable, Iterator, List, Sequence, Tuple

    from .problem import Json
    from .wire import Wire

ROOM_BYTES, ROOM_INODES = 64 << 20, 1000
ROOM_SHARE = 16  # of a disk under 1 GB, a sixteenth is enough
PACKS_MOST, LOOSE_MOST = 20, 5000
GROWTH_LEAST = 16 << 10  # KB: a repository smaller than this may double as often as it likes
PACKED = "skein-packed"  # the size after the last repack, in KB
REPACK_S = 200.0
GRACE = "2.weeks.ago"  # a running fetch may still need what nothing refers to any more
RETIRABLE = Pattern(r"refs/(?:tags/release|skein/releases/[a-z0-9-]+)/[0-9]{8}T[0-9]{6}Z-[0-9]{4,9}-[0-9a-f]{7}\Z")


def sizes_of(repo: Repo, blobs: Sequence[bytes]) -> List[int]:
    """Return the bytes of these contents."""
    words = ("cat-file", "--batch-check=%(objectsize)")
    told = repo.must(*words, stdin=b"\n".join([*blobs, b""]), timeout_s=60).split() if blobs else []
    return [int(size) for size in told if size.isdigit()]


def need_room(repo: Repo, sizes: Sequence[int]) -> None:
    """Raise Problem "disk-full", with the numbers, where the disk has too little for files of these sizes.

    What must stay free is 64 MB and 1000 inodes, or a sixteenth of a disk that is small.
    """
    disk = os.statvfs(os.path.dirname(repo.path))
    block = disk.f_frsize
    wanted = sum(-(-size // block) * block for size in sizes)
    wanted += min(ROOM_BYTES, disk.f_blocks * block // ROOM_SHARE)
    free = disk.f_bavail * block
    if free < wanted:
        short = "%d MB are free on the disk of %s and the release needs %d MB with what must stay free: free some"
        raise Problem("disk-full", short % (free >> 20, os.path.dirname(repo.path), -(-wanted // (1 << 20))))
    inodes = len(sizes) + min(ROOM_INODES, disk.f_files // ROOM_SHARE)
    if disk.f_files and disk.f_favail < inodes:
        short = "%d inodes are free on the disk of %s and the release needs %d with what must stay free: free some"
        raise Problem("disk-full", short % (disk.f_favail, os.path.dirname(repo.path), inodes))


def tidy(repo: Repo, refs: Iterable[str]) -> None:
    """Drop every release ref of a target but ``refs``, and repack once the repository has grown.

    The caller holds the host's lock. A kill at any moment leaves at worst a pack too many and files that the next run
    sweeps: git repack deletes the old packs only when the new one is whole and synced.
    """
    kept = set(refs)
    dropped = [ref for ref in _loose_refs(repo) if ref not in kept]
    repo.forget(dropped)
    failpoint("agent.tidy.before")
    if has_grown(repo):
        repo.must("repack", "-a", "-d", "-q", gently=True, timeout_s=REPACK_S)
        repo.must("prune", "--expire=now", gently=True, timeout_s=60)
        _remember(repo, _packs(repo)[1])
    failpoint("agent.tidy.after")


def _loose_refs(repo: Repo) -> Iterator[str]:
    """Yield the release refs; nothing of ours ever packs them (git-pack-refs(1))."""
    root = os.path.join(repo.path, "refs", "skein", "releases")
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), repo.path)


def has_grown(repo: Repo) -> bool:
    """Tell whether there are many packs or loose objects, or twice the bytes that the last repack left.

    How many are loose is told from one of the 256 directories, as git itself does (git-gc(1), gc.auto).
    """
    packs, size = _packs(repo)
    try:
        with open(os.path.join(repo.path, PACKED), encoding="ascii") as file:
            packed = int(file.read(20))
    except (OSError, ValueError):
        packed = size  # the first release came as one pack
        _remember(repo, packed)
    loose = os.path.join(repo.path, "objects", "17")
    count = len(os.listdir(loose)) * 256 if os.path.isdir(loose) else 0
    return packs > PACKS_MOST or count > LOOSE_MOST or size > 2 * max(packed, GROWTH_LEAST)


def retain(wire: Wire, request: Json) -> Json:
    """Drop the release refs ``request["refs"]``, {ref: object id}, from the mirror at ``request["path"]``, and repack.

    A ref that is not there is passed over; one that stands for another object stays: Problem "moved". Objects go only
    after two weeks without a ref, so that no fetch that is running loses any. Return {"removed": [ref, …]}.
    """
    from .mirror import held, refuse_foreign

    repo = Repo(wire, os.path.expanduser(request["path"]))
    for ref, oid in request["refs"].items():
        if not RETIRABLE.match(ref) or not is_object_id(oid):
            raise Problem("bad-request", "%r is no ref of a release" % (ref,))
    with held(repo.path):
        refuse_foreign(repo, request["app"])
        listed = repo.must("for-each-ref", "--format=%(refname) %(objectname)", "refs/tags/release/", "refs/skein/")
        there = dict(line.split(" ") for line in listed.decode("utf-8", "backslashreplace").splitlines())
        removed = [ref for ref in request["refs"] if ref in there]
        for ref in removed:
            if there[ref] != request["refs"][ref]:
                raise Problem("moved", "%s stands for another object there: look with mirrors.check" % ref)
        for ref in removed:
            wire.check()
            repo.must("update-ref", "--no-deref", "-d", ref, request["refs"][ref])
        repo.must("gc", "--quiet", "--prune=" + GRACE, gently=True, timeout_s=request["timeout_s"])
    return {"removed": removed}


def _remember(repo: Repo, size: int) -> None:
    with open(os.path.join(repo.path, PACKED), "w", encoding="ascii") as file:
        file.write("%d\n" % size)


def _packs(repo: Repo) -> Tuple[int, int]:
    """Return how many packs there are, and their size in KB."""
    with os.scandir(os.path.join(repo.path, "objects", "pack")) as listing:
        sizes = [item.stat().st_size for item in listing if item.name.endswith(".pack")]
    return len(sizes), sum(sizes) >> 10
