"""Run git, and nothing that a configuration, an attribute, a hook or the environment would have it run besides.

Git reads its orders from many places: three configuration files, ``.gitattributes``, hooks, ``GIT_*`` variables,
``refs/replace`` and grafts. A release must be the same bytes on every machine, so every command here starts from
settings of ours, which stand above all files (git-config(1), GIT_CONFIG_COUNT), and from a cleaned environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack, cast

from git import Git

from ..core.errors import RepositoryError
from ..core.release import OBJECT_ID
from ..core.text import printable

SETTINGS: Mapping[str, str] = {
    "advice.graftFileDeprecated": "false",
    "advice.pushUpdateRejected": "false",
    "core.alternateRefsCommand": ":",
    "core.fsmonitor": "false",
    "core.fsync": "committed",
    "core.hooksPath": "/dev/null",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "push.gpgSign": "false",
}
ENVIRONMENT: Mapping[str, str] = {
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone's missing objects are an error, not a reason to call out
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
ISOLATED: Mapping[str, str] = {"GIT_ATTR_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
KEPT = ("GIT_EXEC_PATH", "GIT_TEST_", "GIT_TRACE", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")


class Options(TypedDict, total=False):
    """What may go with a command; ``Repository.attempt`` says what each means."""

    settings: Mapping[str, str]
    environment: Mapping[str, str]
    isolated: bool
    stdin: bytes | BinaryIO
    deadline_s: float
    cancelled: threading.Event
    pass_fds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a git command left: its exit status, its output and what it wrote for people."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """The output without the end of line; bytes that are not UTF-8 stay distinguishable."""
        return os.fsdecode(self.output).rstrip("\n")


class Repository:
    """One git directory, or none, and the one way in which commands are run there. Holds nothing open."""

    def __init__(self, git_dir: Path | None, work_tree: Path | None = None, *, at: Path | None = None) -> None:
        self.git_dir, self.work_tree = git_dir, work_tree
        self._git = Git(at or work_tree or git_dir or Path("/"))
        self._where = [f"--git-dir={git_dir}"] if git_dir else []
        self._where += [f"--work-tree={work_tree}"] if work_tree else []

    def attempt(
        self,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        isolated: bool = True,
        stdin: bytes | BinaryIO | None = None,
        deadline_s: float | None = None,
        cancelled: threading.Event | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Outcome:
        """Run ``git <arguments>`` and return its outcome, whatever it is.

        ``isolated`` leaves out the configuration of user and machine. After ``deadline_s`` seconds, or when
        ``cancelled`` is set, git and all its children are killed and TimeoutError is raised.
        """
        given = {**ENVIRONMENT, **(ISOLATED if isolated else {}), **(environment or {})}
        given |= _as_environment({**SETTINGS, **(settings or {})})
        return self._execute(arguments, given, stdin, deadline_s, cancelled, pass_fds)

    def run(self, what: str, *arguments: str, **options: Unpack[Options]) -> Outcome:
        """Run as ``attempt`` does; raise RepositoryError, ``what`` and git's reason, unless git succeeds."""
        outcome = self.attempt(*arguments, **options)
        if outcome.status:
            raise RepositoryError(f"{what}: {reason(outcome.errors) or f'git ended with status {outcome.status}'}")
        return outcome

    def has(self, oid: str) -> bool:
        """Say whether the object is here or in the store behind."""
        return bool(OBJECT_ID.fullmatch(oid)) and self.attempt("cat-file", "-e", oid).status == 0

    def commit(self, name: str) -> str | None:
        """Return the object id of the commit that ``name`` leads to, None where it leads to none."""
        options = ("--verify", "--quiet", "--end-of-options")
        found = self.attempt("rev-parse", *options, f"{name}^{{commit}}")
        return found.text if found.status == 0 and OBJECT_ID.fullmatch(found.text) else None

    def branch(self) -> str:
        """Return the branch that is checked out, or an empty name where HEAD is detached."""
        return self.attempt("symbolic-ref", "--quiet", "HEAD").text.removeprefix("refs/heads/")

    def refs(self, prefix: str) -> dict[str, str]:
        """Return the refs under ``prefix``, a full path such as ``refs/tags``, with their object ids."""
        listed = self.run("cannot list refs", "for-each-ref", "--format=%(objectname) %(refname)", "--", prefix).text
        return {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}

    def _execute(
        self,
        arguments: tuple[str, ...],
        given: Mapping[str, str],
        stdin: bytes | BinaryIO | None,
        deadline_s: float | None,
        cancelled: threading.Event | None,
        pass_fds: tuple[int, ...],
    ) -> Outcome:
        """Run git with ``given`` in its environment."""
        interrupted = self._git.execute(
            [*_without_leaks(os.environ, given), "git", *self._where, *arguments],
            istream=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
            as_process=True,
            env=dict(given),
            pass_fds=pass_fds,
            start_new_session=True,  # a terminal's Ctrl-C is ours to answer
        )
        process = cast("subprocess.Popen[bytes]", interrupted.proc)  # killed as soon as ``interrupted`` is let go of
        with _ended(process):
            data = stdin if isinstance(stdin, bytes) else None
            output, errors = _communicate(process, data, deadline_s, cancelled)
        return Outcome(process.returncode, output, errors.decode(errors="backslashreplace"))


def reason(errors: str) -> str:
    """Return what git said, fit for one line of a message: errors first, no hints, no progress."""
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip() and not line.startswith("hint:")]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return printable("; ".join(fatal or lines))


def some(names: Iterable[str], most: int = 20) -> str:
    """List names for a message, one per line, at most ``most`` of them."""
    listed = [f"  {printable(name)}" for name in names]
    more = [f"  and {len(listed) - most} more"] if len(listed) > most else []
    return "\n".join([*listed[:most], *more])


def _as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    pairs = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        pairs |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return pairs


def _without_leaks(inherited: Iterable[str], given: Iterable[str]) -> list[str]:
    """Return the command before git that takes away what a hook or a script left: GIT_DIR, GIT_INDEX_FILE, ..."""
    leaks = [name for name in inherited if name.startswith("GIT_") and not name.startswith(KEPT) and name not in given]
    return ["env", *(part for name in leaks for part in ("-u", name))] if leaks else []


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that the process and its group are gone at the end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _communicate(
    process: subprocess.Popen[bytes], data: bytes | None, deadline_s: float | None, cancelled: threading.Event | None
) -> tuple[bytes, bytes]:
    if deadline_s is None:
        return process.communicate(data)
    end = time.monotonic() + deadline_s
    while True:
        left_s = end - time.monotonic()
        try:
            return process.communicate(data, timeout=max(0.0, min(0.2, left_s)))
        except subprocess.TimeoutExpired:
            data = None
            if left_s <= 0 or (cancelled and cancelled.is_set()):
                raise TimeoutError(f"not done after {deadline_s:g} s") from None
