"""A mirror on this machine: a bare repository that targets fetch from, closed to whatever is not Skein's."""

from __future__ import annotations

import contextlib
import fcntl
import os

from . import hooks
from .problem import Problem
from .repo import Repo, git_lacking, git_version, last_line

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Tuple

    from .problem import Json
    from .wire import Wire

FORMAT = 1
OURS = ("refs/skein/", "refs/tags/release/")
MAKING = "skein-making"  # stands in the repository while it is being made
SPACE_LEAST, INODES_LEAST = 64 << 20, 1000
SETTINGS = (
    ("core.hooksPath", "hooks"),  # whatever the user's own configuration says
    ("core.logAllRefUpdates", "always"),
    ("core.fsync", "committed"),
    ("receive.fsckObjects", "true"),
    ("receive.autogc", "false"),
    ("receive.denyDeletes", "true"),
    ("receive.denyNonFastForwards", "true"),
    ("receive.updateServerInfo", "false"),
    ("http.getanyfile", "false"),
    ("http.receivepack", "false"),
    ("daemon.receivepack", "false"),
    ("uploadpack.allowAnySHA1InWant", "true"),  # targets ask for the one object id that they were told
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("repack.writeBitmaps", "false"),  # a bitmap defeats thin packs
)
HIDDEN = ("refs/replace/", "refs/heads/", "refs/notes/")
HARMLESS = (
    *("zeroPaddedFilemode", "zeroPaddedDate", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "badTimezone"),
    *("missingNameBeforeEmail", "missingEmail", "badEmail", "badDate", "badDateOverflow", "nulInCommit"),
    *("nullSha1", "duplicateEntries", "multipleAuthors"),
)
"""What old histories hold and no harm comes of (git-fsck(1), fsck message ids): reported, not refused."""

NOEXEC = "%s is mounted noexec, so the hook that guards it cannot run: mount it with exec, or choose another path"


def make_mirror(wire: Wire, request: Json) -> Json:
    """Make sure that a mirror of ``request["app"]`` stands at ``request["path"]``; return {"changed": [what, …]}.

    Something else at that path is left as it is: Problem "not-a-mirror".
    """
    path, app = os.path.expanduser(request["path"]), request.get("app", "")
    repo, changed = Repo(wire, path), []
    lack = git_lacking(git_version(wire))
    if lack:
        raise Problem(*lack)
    os.makedirs(path, exist_ok=True)
    with held(path):
        is_new = _is_free(path)
        if is_new:
            _make(repo)
        refuse_foreign(repo, app)
        if hooks.set_aright(path):
            changed.append("wrote the hooks")
        if not hooks.can_run(path):
            raise Problem("noexec", NOEXEC % path)  # before it is marked as a mirror, so that nobody pushes to it
        changed += ["set %s" % name for name in _adjust(repo, app)]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, MAKING))
    return {"changed": ["made the bare repository %s" % path] if is_new else changed}


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Hold a mirror's directory, so that two set-ups, or a set-up and a retention, wait for each other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def refuse_unmade(repo: Repo, app: str) -> None:
    """Raise Problem unless a mirror of ``app`` stands there: "no-mirror" where set-up would make one."""
    if _is_free(repo.path):
        raise Problem("no-mirror", "no bare repository at %s: run fab setup" % repo.path)
    refuse_foreign(repo, app)


def refuse_foreign(repo: Repo, app: str) -> None:
    """Raise Problem unless the repository is a mirror of ``app``, or an empty one that can become it."""
    status, output, _ = repo.git("rev-parse", "--is-bare-repository")
    if status or output.strip() != b"true":
        told = "%s is there and is no bare repository: choose another path for the mirror"
        raise Problem("not-a-mirror", told % repo.path)
    marks = settings(repo)
    if "skein.format" in marks:
        if marks["skein.format"][-1] != str(FORMAT):
            told = "%s is a mirror of format %s, not %d: use the Skein that made it"
            raise Problem("newer-mirror", told % (repo.path, marks["skein.format"][-1], FORMAT))
        owner = marks.get("skein.app", [""])[-1]
        if app and owner and owner != app:
            told = "%s is the mirror of another app, %s: choose another path for the mirror"
            raise Problem("not-a-mirror", told % (repo.path, owner))
        return
    refs = repo.must("for-each-ref", "--format=%(refname)").decode("utf-8", "backslashreplace").split("\n")[:-1]
    foreign = [ref for ref in refs if not ref.startswith(OURS)]
    if foreign or (not refs and _has_objects(repo)):
        told = "%s holds another project's repository (%s): choose another path for the mirror"
        raise Problem("not-a-mirror", told % (repo.path, foreign[0] if foreign else "objects without a ref"))


def amiss(repo: Repo, app: str) -> List[str]:
    """Return the settings of a mirror that are not as they must be, by name."""
    found = settings(repo)
    wrong = [key for key, value in wanted(app) if found.get(key.lower(), [""])[-1] != value]
    if set(HIDDEN) - set(found.get("transfer.hiderefs", [])):
        wrong.append("transfer.hideRefs")
    return wrong


def wanted(app: str) -> List[Tuple[str, str]]:
    """Return the settings that have one value each, with that value."""
    marks = [("skein.format", str(FORMAT)), *([("skein.app", app)] if app else [])]
    return [*marks, *SETTINGS, *(("receive.fsck." + name, "warn") for name in HARMLESS)]


def settings(repo: Repo) -> Dict[str, List[str]]:
    """Return what the repository's own configuration says: {key in small letters: [value, …]}."""
    found: Dict[str, List[str]] = {}
    listed = repo.must("config", "--file", os.path.join(repo.path, "config"), "--list", "-z")
    for line in listed.decode("utf-8", "replace").split("\0")[:-1]:
        key, _, value = line.partition("\n")
        found.setdefault(key.lower(), []).append(value)
    return found


def look_at_mirror(wire: Wire, request: Json) -> Json:
    """Look at the mirror at ``request["path"]`` and change nothing.

    Return {"findings": [{"what", "ok", "message"}, …], "free_bytes", "free_inodes"}; git may read it for
    ``request["timeout_s"]`` seconds.
    """
    path = os.path.expanduser(request["path"])
    repo = Repo(wire, path)
    refuse_unmade(repo, request["app"])
    disk = os.statvfs(path)
    free_bytes, free_inodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else 1 << 40
    lacks = free_bytes < SPACE_LEAST or free_inodes < INODES_LEAST
    wrong = amiss(repo, request["app"])
    troubles = (
        ("writable", _not_ours(path)),
        ("settings", "%s: run fab setup" % ", ".join(wrong) if wrong else ""),
        ("hook", _unguarded(path)),
        ("sound", _unsound(repo, request["timeout_s"])),
        ("space", "%d bytes and %d inodes are free: free some" % (free_bytes, free_inodes) if lacks else ""),
    )
    findings = [{"what": what, "ok": not trouble, "message": trouble} for what, trouble in troubles]
    return {"findings": findings, "free_bytes": free_bytes, "free_inodes": free_inodes}


def _is_free(path: str) -> bool:
    """Tell whether set-up may make a mirror at a path: nothing stands there, or what a killed one began."""
    if not os.path.isdir(path):
        return not os.path.lexists(path)
    return not os.listdir(path) or os.path.exists(os.path.join(path, MAKING))


def _make(repo: Repo) -> None:
    with open(os.path.join(repo.path, MAKING), "w", encoding="ascii"):
        repo.must("init", "--quiet", "--bare", "--template=", repo.path)


def _has_objects(repo: Repo) -> bool:
    counts = dict(line.split(b": ") for line in repo.must("count-objects", "-v").splitlines())
    return int(counts[b"count"]) + int(counts[b"in-pack"]) > 0


def _adjust(repo: Repo, app: str) -> List[str]:
    config = ("config", "--file", os.path.join(repo.path, "config"))
    wrong, values = amiss(repo, app), dict(wanted(app))
    for name in wrong:
        if name in values:
            repo.must(*config, "--replace-all", name, values[name])
    for hidden in HIDDEN if "transfer.hideRefs" in wrong else ():
        if hidden not in settings(repo).get("transfer.hiderefs", []):
            repo.must(*config, "--add", "transfer.hideRefs", hidden)
    return wrong


def _unguarded(path: str) -> str:
    """Return why pushes would pass by the update hook, or fetches fail."""
    if not hooks.are_ours(path):
        return "a hook is missing or changed: run fab setup"
    return "" if hooks.can_run(path) else NOEXEC % path


def _not_ours(path: str) -> str:
    """Return why this user cannot be the one who pushes; git takes no orders in another user's repository."""
    for name in (path, os.path.join(path, "objects"), os.path.join(path, "refs")):
        if os.path.exists(name) and os.statvfs(name).f_flag & os.ST_RDONLY:
            return "%s is mounted read-only: nothing can be pushed to it" % name
        if not os.access(name, os.W_OK | os.X_OK):
            return "%s cannot be written by this user: chown it" % name
    owner = os.stat(path).st_uid
    return "" if owner in (os.geteuid(), 0) else "%s belongs to user %d: chown it" % (path, owner)


def _unsound(repo: Repo, timeout_s: float) -> str:
    words = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    try:
        status, output, errors = repo.git(*words, timeout_s=timeout_s)
    except Problem as problem:
        return "it could not be read: %s" % problem
    if status == 0:
        return ""
    told = last_line(errors or output.decode("utf-8", "replace"))
    return "objects are missing or damaged (%s): move it away, then run fab setup and mirrors.sync" % told
