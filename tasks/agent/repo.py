"""The bare repository of a target: one shallow chain of release commits, nothing of the site's history."""

from __future__ import annotations

import os

from .children import run
from .lean import suppress
from .names import is_object_id, is_odd
from .place import replace, sync
from .problem import Problem, os_text

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Tuple

    from .trees import Entries
    from .wire import Wire

OLDEST_GIT = (2, 25)
NO_GIT = "git is not installed on this host: install git 2.25 or newer"
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
READY, VOUCHED = "skein-ready", "skein-git"
VAGUE = "fatal: Could not read from remote repository."
SSH = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=10 -oServerAliveInterval=10"
OWN_KEY, OWN_KNOWN_HOSTS = "ssh/id_ed25519", "ssh/known_hosts"  # in .skein; made by set-up
OWN_SSH = " ".join(  # relative paths: ssh would expand, split or unquote some of what a path may hold
    (
        SSH + " -oIdentitiesOnly=yes -oGlobalKnownHostsFile=/dev/null -oCheckHostIP=no -oUpdateHostKeys=no",
        "-oUserKnownHostsFile=" + OWN_KNOWN_HOSTS,
        "-i " + OWN_KEY,
    )
)
SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "core.fsync=committed",  # the next delta builds on these objects, and few files are synced one by one
    "core.fsyncMethod=batch",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.protectNTFS=false",
    "protocol.version=2",
    "gc.auto=0",
    "maintenance.auto=false",
    "checkout.workers=0",
)


def environment(home: str) -> Dict[str, str]:
    """Return the only variables that git gets: nobody's configuration, no prompt, no replaced objects."""
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": home,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_DEFAULT_REF_FORMAT": "files",  # whose refs can be read and written without git
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "file:git:ssh:https",
        "GIT_SSH_COMMAND": SSH,
    }


class Repo:
    """Git commands on one bare repository.

    ``own`` is the directory whose ``ssh`` may hold this host's own key for the mirrors: then that key is used alone.
    """

    def __init__(self, wire: Wire, path: str, own: str = "") -> None:
        self.wire, self.path, self.own = wire, path, own

    def git(self, *arguments: str, index: str = "", gently: bool = False, **options: Any) -> Tuple[int, bytes, str]:
        """Run git and return (status, output, error text); ``options`` are those of ``children.run``.

        What is done ``gently`` leaves the processor to everybody else.
        """
        variables = environment(os.path.dirname(self.path))
        if index:
            variables["GIT_INDEX_FILE"] = index
        if self.own and os.path.exists(os.path.join(self.own, OWN_KEY)):
            variables["GIT_SSH_COMMAND"] = OWN_SSH
            options.setdefault("directory", self.own)
        words = [*(["nice", "-n", "19"] if gently else []), *self.words(*arguments)]
        try:
            return run(self.wire, words, environment=variables, **options)
        except FileNotFoundError as error:
            raise Problem("no-git", NO_GIT) from error

    def words(self, *arguments: str) -> List[str]:
        """Return the command line that runs git here, as ours alone."""
        return [
            "git",
            *[word for setting in SETTINGS for word in ("-c", setting)],
            "--git-dir=" + self.path,
            *arguments,
        ]

    def must(self, *arguments: str, **options: Any) -> bytes:
        """Run git and return its output; raise Problem where it fails."""
        status, output, errors = self.git(*arguments, **options)
        if status:
            verb = next(word for word in arguments if not word.startswith("-"))
            told = last_line(errors) if status > 0 or errors else "it was killed by signal %d" % -status
            code = "disk-full" if is_disk_full(errors) else "git" if status > 0 else "killed"
            raise Problem(code, "git %s: %s" % (verb, told))
        return output

    def make(self) -> None:
        """Make the repository; nothing stands at its path."""
        self.must("init", "--quiet", "--bare", "--template=", self.path)
        os.makedirs(os.path.join(self.path, "info"), exist_ok=True)
        for name, text in (("info/attributes", ATTRIBUTES), (READY, "")):
            with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
                file.write(text)

    def is_ready(self) -> bool:
        """Tell whether the repository was made to the end, and not doubted since."""
        return all(os.path.exists(os.path.join(self.path, part)) for part in ("HEAD", "objects", "refs", READY))

    def is_vouched(self) -> bool:
        """Tell whether git need not be asked for its version: it is the very program that served here before."""
        try:
            with open(os.path.join(self.path, VOUCHED), encoding="utf-8", errors="surrogateescape") as file:
                return file.read() == _program()
        except OSError:
            return False

    def vouch(self) -> None:
        """Remember which program git is, best effort; raise Problem where it lacks what Skein needs."""
        if self.is_vouched():
            return
        lack = git_lacking(git_version(self.wire))
        if lack:
            raise Problem(*lack)
        path = os.path.join(self.path, VOUCHED)
        with suppress(OSError), open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(_program())

    def is_sound(self, timeout_s: float) -> bool:
        """Have git read every object and ref; tell whether all are whole."""
        try:
            status, _, _ = self.git("fsck", "--full", "--no-dangling", "--no-progress", timeout_s=timeout_s)
        except Problem:
            return True  # it could not look
        return status <= 0

    def doubt(self, timeout_s: float) -> None:
        """Where the repository is damaged, see to it that the next fetch makes it anew."""
        ready = os.path.join(self.path, READY)
        if os.path.exists(ready) and not self.is_sound(timeout_s):
            os.unlink(ready)

    def has(self, commit: str, ref: str) -> bool:
        """Tell whether a ref stands at the release commit: it is written only after git checked what came."""
        status, output, _ = self.git("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        return status == 0 and output.strip() == commit.encode()

    def standing(self, refs: Sequence[str]) -> Dict[str, str]:
        """Return the commits at which refs stand, {ref: object id}; git is asked only where it may have packed one."""
        found = {ref: self._loose(ref) for ref in refs}
        if not all(found.values()) and any(map(self._has, ("packed-refs", "reftable"))):
            listed = self.must("for-each-ref", "--format=%(refname) %(objectname)", "--", *refs).decode("ascii")
            return dict(line.split(" ") for line in listed.splitlines())
        return {ref: commit for ref, commit in found.items() if commit}

    def holds(self, identity: str) -> bool:
        """Tell whether an object is here."""
        loose = os.path.join(self.path, "objects", identity[:2], identity[2:])
        return os.path.exists(loose) or not self.git("cat-file", "-e", identity)[0]

    def enter(self, ref: str, commit: str) -> None:
        """Let a ref stand at a commit, durably, as git-update-ref(1) does; what it needs is here."""
        if self._has("reftable"):
            self.must("update-ref", "--no-deref", ref, commit)
            return
        path = os.path.join(self.path, ref)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
            sync(os.path.dirname(os.path.dirname(path)))
        replace(path, path + ".lock", (commit + "\n").encode("ascii"), 0o644)

    def forget(self, refs: Sequence[str]) -> None:
        """Delete refs that nobody packed."""
        for ref in refs if not self._has("packed-refs") else ():
            os.unlink(os.path.join(self.path, ref))
        if refs and self._has("packed-refs"):
            orders = "".join("delete %s\n" % ref for ref in refs).encode("utf-8", "surrogateescape")
            self.must("update-ref", "--no-deref", "--stdin", stdin=orders)

    def _loose(self, ref: str) -> str:
        """Return the commit at which a ref stands that has a file of its own, nothing where it has none."""
        try:
            with open(os.path.join(self.path, ref), encoding="ascii", errors="replace") as file:
                commit = file.read(100).strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if not is_object_id(commit):
            raise Problem("git", "%s is damaged" % ref)
        return commit

    def _has(self, name: str) -> bool:
        return os.path.lexists(os.path.join(self.path, name))

    def is_complete(self, commit: str, timeout_s: float) -> bool:
        """Tell whether every object of a release commit is here: a power cut can leave a ref and nothing behind it."""
        words = ("rev-list", "--objects", "--quiet", "--max-count=1", "--end-of-options", commit)
        status, _, _ = self.git(*words, timeout_s=timeout_s)
        return status == 0

    def entries(self, tree: str) -> Entries:
        """Return what a tree must hold: {path: (mode, object id)}."""
        if not is_object_id(tree):
            raise Problem("bad-request", "malformed tree")
        listing = self.must("ls-tree", "-r", "-z", "--full-tree", tree, timeout_s=300)
        entries = {}
        for line in listing.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, identity = about.split(b" ")
            entries[path] = (kind_of(mode, path), identity)
        return entries


def kind_of(mode: bytes, path: bytes) -> bytes:
    """Return the mode as it is checked out; raise Problem for what is no file, and for a path that leads elsewhere."""
    if is_odd(path):
        raise Problem("bad-tree", "%s is no path that a release may hold" % os_text(path))
    if mode == b"100664":
        return b"100644"  # git's early days; it checks out as the other
    if mode not in (b"100644", b"100755", b"120000"):
        raise Problem("bad-tree", "%s is neither a file nor a link: submodules are not supported" % os_text(path))
    return mode


def last_line(errors: str) -> str:
    """Return the line that tells most of what git said: its first error, else its last line."""
    lines = [line.strip() for line in errors.replace("\r", "\n").split("\n") if line.strip()]
    if VAGUE in lines[1:]:
        lines = lines[: lines.index(VAGUE)]  # ssh said before it what the matter is
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (telling[:1] or lines[-1:] or ["it said nothing"])[0][:400]


def is_disk_full(errors: str) -> bool:
    """Tell whether git failed for want of space; it runs under LC_ALL=C."""
    return "No space left on device" in errors or "Disk quota exceeded" in errors


def _program() -> str:
    """Return what tells one git from another that takes its place: path, inode, size and time."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, "git")
        if os.access(path, os.X_OK):
            seen = os.stat(path)
            return "%s %d %d %d" % (path, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return ""


def git_version(wire: Wire) -> Optional[str]:
    """Return git's version as text, or None where there is no git."""
    try:
        _, output, _ = run(wire, ["git", "--version"], timeout_s=10)
    except OSError:
        return None
    return output.decode("ascii", "replace").replace("git version", "").strip()


def git_lacking(version: Optional[str]) -> Optional[Tuple[str, str]]:
    """Return code and message where this host's git, by its version, lacks what Skein needs."""
    if version is None:
        return "no-git", NO_GIT
    import re

    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST_GIT:
        return "old-git", "git %s is too old: install git 2.25 or newer" % version
    return None
