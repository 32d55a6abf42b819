"""The private repository in which releases are made: a bare cache that borrows the source's objects and copies none.

It stands on the machine of the source, and is lent to whoever deploys from there or, over a session, from elsewhere.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil

from .children import run
from .problem import Problem
from .repo import ATTRIBUTES, NO_GIT, Repo, git_lacking, git_version

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import IO, Dict, List, Optional, Tuple

    from .problem import Json
    from .wire import Wire

MARK, FORMAT = "skein-cache", 1
QUESTION = ("rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository", "--show-object-format")
CONFIG = "[core]\n\tfsync = committed\n\tfilemode = true\n\tsymlinks = true\n[gc]\n\tauto = 0\n"

_lent: Dict[str, IO[bytes]] = {}
"""The locks of this process; they go with it."""


def lend(wire: Wire, request: Json) -> Json:
    """Look at the git repository at ``path`` and make ready what releases of it are made in, until the session ends.

    Return {"git_dir", "work_tree": path or None, "private"}. The repository at ``path`` itself is only read.
    """
    path = os.path.abspath(os.path.expanduser(request["path"]))
    lack = git_lacking(git_version(wire))
    if lack:
        raise Problem(*lack)
    if not os.path.isdir(path):
        raise Problem("no-source", "no folder %s: set `path` under [source] to where the files are" % path)
    git_dir, objects, bare, kind = _look(wire, path)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    private = os.path.join(cache, "skein", "repositories", name + ".git")
    if private not in _lent:
        _lent[private] = share(wire, private, objects, kind)
    return {"git_dir": git_dir, "work_tree": None if bare else path, "private": private}


def share(wire: Wire, path: str, objects: Optional[str], kind: str) -> IO[bytes]:
    """Make the private repository ready and return its lock, which is shared by all who use it while it is open.

    ``objects`` is the store that it borrows from, if any; ``kind`` the object format. What a killed one left (locks,
    temporary files, refs without their objects) is cleared away, for all of it is a cache.
    """
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    lock = open(os.path.splitext(path)[0] + ".lock", "ab")  # noqa: SIM115 - kept
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _make_ready(Repo(wire, path), objects, kind)
    except BlockingIOError:
        pass  # another process has it open, and saw to it that it is sound
    except BaseException:
        lock.close()
        raise
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _look(wire: Wire, path: str) -> Tuple[str, str, bool, str]:
    """Return git directory, object store, whether it is bare, and object format of the repository at ``path``."""
    lines = _ask(wire, path, *QUESTION)
    if lines is None and _ask(wire, path, *QUESTION, safe="*") is not None:
        advice = "if you do, run there `git config --global --add safe.directory %s`" % path
        raise Problem("foreign-source", "%s belongs to another user, so git does not trust it: %s" % (path, advice))
    if lines is None or len(lines) != 4 or _ask(wire, path, "rev-parse", "--show-prefix") != [""]:
        raise Problem("no-source", "no git repository at %s: run `git init` there and commit" % path)
    objects = os.path.realpath(os.path.join(path, lines[1], "objects"))
    kind = lines[3] if lines[3] == "sha256" else "sha1"  # git before 2.28 knows no other and repeats the question
    return lines[0], objects, lines[2] == "true", kind


def _ask(wire: Wire, path: str, *question: str, safe: str = "") -> Optional[List[str]]:
    """Ask git about a repository that is found at ``path``; the user's own configuration says whom git trusts."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = ["-c", "safe.directory=" + safe] if safe else []
    try:
        status, output, _ = run(wire, ["git", *settings, "-C", path, *question], environment=told)
    except FileNotFoundError as error:
        raise Problem("no-git", NO_GIT) from error
    return None if status else os.fsdecode(output)[:-1].split("\n")


def _make_ready(repo: Repo, objects: Optional[str], kind: str) -> None:
    mark = "%d %s\n" % (FORMAT, kind)
    _refuse_newer(repo.path)
    if _is_sound(repo, mark, objects):
        return
    shutil.rmtree(repo.path, ignore_errors=True)
    os.makedirs(repo.path, 0o700)
    options = [] if kind == "sha1" else ["--object-format=" + kind]
    repo.must("init", "--quiet", "--bare", "--template=", *options, repo.path)
    with open(os.path.join(repo.path, "config"), "a", encoding="ascii") as config:
        config.write(CONFIG)
    os.makedirs(os.path.join(repo.path, "info"), exist_ok=True)
    _write(os.path.join(repo.path, "info", "attributes"), ATTRIBUTES.encode("ascii"))
    _borrow(repo.path, objects)
    _write(os.path.join(repo.path, MARK), mark.encode("ascii"))


def _refuse_newer(path: str) -> None:
    """Raise Problem for one that a newer Skein made: the two would make it anew in turns."""
    number = (_read(os.path.join(path, MARK)).split() or [b""])[0]
    if number.isdigit() and int(number) > FORMAT:
        told = "%s is of format %d, and this Skein knows %d: use the Skein that made it, or remove that folder"
        raise Problem("newer", told % (path, int(number), FORMAT) + ", which is a cache")


def _is_sound(repo: Repo, mark: str, objects: Optional[str]) -> bool:
    attributes = _read(os.path.join(repo.path, "info", "attributes"))
    if _read(os.path.join(repo.path, MARK)) != mark.encode("ascii") or attributes != ATTRIBUTES.encode("ascii"):
        return False
    folder = glob.escape(repo.path)
    try:
        for left in glob.glob(folder + "/*.lock") + glob.glob(folder + "/refs/**/*.lock", recursive=True):
            os.unlink(left)
        for left in glob.glob(os.path.join(folder, "tmp-*")):
            shutil.rmtree(left)
        _borrow(repo.path, objects)
    except OSError:
        return False
    status, listed, _ = repo.git("for-each-ref", "--format=%(objectname)%0a%(tree)")
    wanted = b"".join(line + b"\n" for line in listed.split() if line)
    missing, found, _ = repo.git("cat-file", "--batch-check", stdin=wanted)
    return status == missing == 0 and b" missing\n" not in found


def _borrow(path: str, objects: Optional[str]) -> None:
    """Name the store to borrow from, and take over where a shallow source's history ends."""
    alternates, shallow = os.path.join(path, "objects", "info", "alternates"), os.path.join(path, "shallow")
    ends = os.path.join(os.path.dirname(objects), "shallow") if objects else ""
    contents = {alternates: os.fsencode(objects) + b"\n" if objects else None}
    contents[shallow] = _read(ends) if ends and os.path.isfile(ends) else None
    for file, data in contents.items():
        if data is not None:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            _write(file, data)
        elif os.path.lexists(file):
            os.unlink(file)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
