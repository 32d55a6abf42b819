"""The bare repository of a target: one shallow chain of release commits, nothing of the site's history."""

import os
import re

from .children import run
from .failpoints import failpoint
from .problem import Problem, os_text

OLDEST_GIT = (2, 25)
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
OBJECT_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
REF = re.compile(r"refs/skein/releases/[a-z0-9-]+/[0-9A-Za-z-]+\Z")
URL = re.compile(r"(?:/|file://|git://|ssh://|https://)[^\x00-\x20\x7f]+\Z")
SSH = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=10 -oServerAliveInterval=10"
SETTINGS = ("core.hooksPath=/dev/null", "core.attributesFile=/dev/null", "core.autocrlf=false", "core.fsmonitor=false",
            "core.fileMode=true", "core.symlinks=true", "protocol.version=2", "gc.auto=0", "maintenance.auto=false",
            "checkout.workers=0", "core.protectNTFS=false")  # fmt: skip


def environment(home):
    """Return the only variables that git gets: nobody's configuration, no prompt, no replaced objects."""
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": home,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "file:git:ssh:https",
        "GIT_SSH_COMMAND": SSH,
    }


class Repo:
    """Git commands on one bare repository."""

    def __init__(self, wire, path):
        self.wire, self.path = wire, path

    def git(self, *arguments, **options):
        """Run git and return (status, output, error text); options are those of ``children.run``, and ``index``."""
        variables = environment(os.path.dirname(self.path))
        index = options.pop("index", None)
        if index:
            variables["GIT_INDEX_FILE"] = index
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        try:
            return run(self.wire, ["git", *settings, "--git-dir=" + self.path, *arguments], environment=variables, **options)
        except FileNotFoundError:
            raise Problem("no-git", "git is not installed on this host: install git 2.25 or newer")

    def must(self, *arguments, **options):
        """Run git and return its output; raise Problem where it fails."""
        status, output, errors = self.git(*arguments, **options)
        if status:
            full = "No space left on device" in errors
            raise Problem("disk-full" if full else "git", "git %s: %s" % (arguments[-1 if full else 0], last_line(errors)))
        return output

    def make(self):
        """Make the repository where there is none; a half-made one is made whole."""
        if not os.path.isfile(os.path.join(self.path, "skein-ready")):
            self.must("init", "--quiet", "--bare", self.path)
            os.makedirs(os.path.join(self.path, "info"), exist_ok=True)
            for name, text in (("info/attributes", ATTRIBUTES), ("skein-ready", "")):
                with open(os.path.join(self.path, name), "w") as file:
                    file.write(text)

    def has(self, commit, ref):
        """Tell whether the release commit is here, complete: its ref is written only after git checked that."""
        if not os.path.isdir(self.path):
            return False
        status, output, _ = self.git("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        return status == 0 and output.strip() == commit.encode()

    def entries(self, tree):
        """Return what a tree must hold: {path as bytes: (mode, object id)}, both bytes."""
        listing = self.must("ls-tree", "-r", "-z", "--full-tree", tree, timeout_s=300)
        entries = {}
        for line in listing.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, identity = about.split(b" ")
            if mode not in (b"100644", b"100755", b"120000"):
                raise Problem("bad-tree", "%s is neither a file nor a link: submodules are not supported" % os_text(path))
            entries[path] = (mode, identity)
        return entries


def fetch(wire, place, request):
    """Bring one release commit, shallow, from the first mirror of the list that can give it.

    ``request["mirrors"]`` lists ``{"name", "url", "rank"}``; within a rank the nearest by measured connect time goes first.
    Returns {"from": name or None where it was here already, "skipped": [{"mirror", "reason"}, …]}.
    """
    commit, ref = request["commit"], request["ref"]
    if not OBJECT_ID.match(commit) or not REF.match(ref):
        raise Problem("bad-request", "malformed commit or ref")
    repo = Repo(wire, place.repo)
    repo.make()
    if repo.has(commit, ref):
        return {"from": None, "skipped": []}
    skipped = []
    for mirror in nearest(request["mirrors"]):
        failpoint("agent.fetch.before")
        reason = _fetch_from(repo, mirror["url"], commit, ref, request["timeout_s"])
        failpoint("agent.fetch.after")
        if reason is None:
            return {"from": mirror["name"], "skipped": skipped}
        skipped.append({"mirror": mirror["name"], "reason": reason})
        if reason.startswith("disk-full"):
            break
    told = "; ".join("%s: %s" % (each["mirror"], each["reason"]) for each in skipped)
    code = "disk-full" if "disk-full" in told else "no-mirror"
    raise Problem(code, "no mirror gave the release (%s)" % (told or "none is configured"))


def _fetch_from(repo, url, commit, ref, timeout_s):
    """Fetch from one mirror; return None, or why it failed."""
    if not URL.match(url):
        return "malformed url"
    words = ("fetch", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, "%s:%s" % (commit, ref))
    try:
        status, _, errors = repo.git(*words, timeout_s=timeout_s, stall_s=30)
    except Problem as problem:
        return "%s: %s" % (problem.code, problem)
    if status:
        return ("disk-full: " if "No space left" in errors else "") + last_line(errors)
    return None if repo.has(commit, ref) else "it gave another commit than was asked for"


def nearest(mirrors):
    """Order mirrors by rank, and within a rank by the time that a connection takes; unreachable ones last in theirs."""
    ranks = [mirror["rank"] for mirror in mirrors]
    timed = [
        (mirror["rank"], connect_time(mirror["url"]) if ranks.count(mirror["rank"]) > 1 else 0.0, place)
        for place, mirror in enumerate(mirrors)
    ]
    return [mirrors[place] for _, _, place in sorted(timed)]


def connect_time(url, timeout_s=3.0):
    """Return the seconds that a TCP connection to a url's host takes; 0 for a path, infinity where there is no answer."""
    match = re.match(r"(ssh|git|https)://(?:[^@/]*@)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?", url)
    if not match:
        return 0.0
    import socket
    import time

    port = int(match.group(3) or {"ssh": 22, "git": 9418, "https": 443}[match.group(1)])
    started = time.monotonic()
    try:
        socket.create_connection((match.group(2).strip("[]"), port), timeout_s).close()
    except OSError:
        return float("inf")
    return time.monotonic() - started


def last_line(errors):
    """Return what git said last that tells something."""
    lines = [line.strip() for line in re.split("[\r\n]", errors) if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (telling or lines or ["it said nothing"])[-1 if not telling else 0][:400]


def git_version(wire):
    """Return git's version as text, or None where there is no git."""
    try:
        _, output, _ = run(wire, ["git", "--version"], timeout_s=10)
    except OSError:
        return None
    return output.decode("ascii", "replace").replace("git version", "").strip()


def too_old(version):
    """Tell whether a version of git lacks what Skein needs."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST_GIT
