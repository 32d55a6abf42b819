"""What the soaks look at from outside, by the disk and by git alone: none of it is Skein's own code."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from invariants import Manifest
from lab_operator import Operator

from tasks.remote.lab import Lab

RECORD = "record.json"
Trace = dict[str, tuple[int, int, int, str]]


def digest(manifest: Manifest) -> str:
    """Return one word for all files of a tree."""
    return hashlib.sha256(repr(sorted(manifest.items())).encode()).hexdigest()


def trace(folder: Path, without: Iterable[str] = ()) -> Trace:
    """Return all that lies below a folder: mode, inode, time of change and content, but for some names."""
    found: Trace = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name in without:
            continue
        about = path.lstat()
        content = b"" if path.is_dir() else os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        changed = 0 if path.is_dir() and without else about.st_mtime_ns  # a name left out changes its folder's time
        found[name] = (about.st_mode, about.st_ino, changed, hashlib.sha256(content).hexdigest())
    return found


def differences(old: Trace, new: Trace) -> list[str]:
    """Return the names that are not in both traces with the same."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def turn_of(operator: Operator, host: str) -> int:
    """Return the highest turn that a target says it has seen."""
    return int(json.loads(operator.path(host, ".skein/state.json").read_text())["turn"])


def records(operator: Operator) -> list[dict[str, object]]:
    """Return the records of the hub's ledger, newest first, as git has them."""
    hub, ref = operator.lab.mirrors[0], f"refs/skein/ledger/{operator.environment}"
    commits = operator.git(hub, "rev-list", "--first-parent", ref).split()
    return [json.loads(operator.git(hub, "cat-file", "blob", f"{commit}:{RECORD}")) for commit in commits]


def ledger_wrongs(operator: Operator) -> list[str]:
    """Say what is wrong with the ledger: one parent each, numbers without a gap, turns that rise, all mirrors alike."""
    hub, ref = operator.lab.mirrors[0], f"refs/skein/ledger/{operator.environment}"
    wrongs = []
    lines = [line.split() for line in operator.git(hub, "rev-list", "--parents", ref).splitlines()]
    parents = [line[1:] for line in lines]
    if parents != [[line[0]] for line in lines[1:]] + [[]]:
        wrongs.append("a record does not follow the one before it")
    found = records(operator)
    if [record["number"] for record in found] != list(range(len(found), 0, -1)):
        wrongs.append(f"numbers {[record['number'] for record in found]}")
    taking = [int(str(one["turn"])) for one in found if one["kind"] in ("deploy", "rollback", "broken-lock")]
    if taking != sorted(set(taking), reverse=True):
        wrongs.append(f"turns {taking}")
    heads = {mirror: operator.git(mirror, "rev-parse", ref) for mirror in operator.lab.mirrors}
    if len(set(heads.values())) != 1:
        wrongs.append(f"mirrors differ: {heads}")
    return wrongs


def seconds_until_free(operator: Operator, most_s: float) -> float | None:
    """Wait for the environment's lock to be free on the hub, by flock(1); return the seconds, None where it is not."""
    hub, began = operator.lab.mirrors[0], time.monotonic()
    path = f"{operator.mirror_path}/skein.{operator.environment}.lock"
    while operator.lab.run(hub, ["flock", "-n", path, "true"], user="deploy", check=False).returncode:
        if time.monotonic() - began > most_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - began


def stands_still(pid: int) -> bool:
    """Tell whether a process was stopped, by itself at a failpoint or by SIGSTOP."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def carried(lab: Lab, machine: str) -> int:
    """Return the bytes that came to a machine over its link so far (proc(5), /proc/net/dev)."""
    lines = Path(f"/proc/{lab.first(machine)}/net/dev").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.lstrip().startswith("eth0:"))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began
