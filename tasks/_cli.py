"""What all commands share on the command line: options, errors to exit codes, and the desk where a story is told.

Light on purpose: fabric, git and pydantic are imported only once a command runs, so that listing tasks stays quick.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from .core.errors import SkeinError

if TYPE_CHECKING:
    from ._desk import Desk

INTERRUPTED = 130
LOOKING = {
    "env": "environment, config/ENV.toml (default: $SKEIN_ENV, else the only one)",
    "only": "groups, hosts or ranges, such as 'web-eu,!web-007' (default: all targets)",
    "json": "print one JSON document instead of a table",
}
HELP = {
    **LOOKING,
    "reason": "why, for the ledger and the record on every target",
    "fail-limit": "how many targets may fail, 3 or 2% (default: targets.fail_limit)",
}


CHANGING = {
    **HELP,
    "plan": "say what would be done where, and change nothing anywhere",
    "wait": "seconds to wait for the environment's lock (default: 0)",
    "new-hosts": "go on though the ledger's last record has other hosts than the configuration",
    "lost-records": "go on though the ledger lost what was seen of it here or on a target",
}


@dataclass(frozen=True)
class Options:
    """What every command takes."""

    env: str | None = None
    only: str | None = None
    reason: str = ""
    fail_limit: str | None = None
    as_json: bool = False
    transport: str | None = None
    wait: int = 0
    new_hosts: bool = False
    lost_records: bool = False

    def words(self) -> tuple[str, ...]:
        """Return the words that ask for the same on the command line, but for the environment and the format."""
        texts = {"only": self.only, "reason": self.reason, "fail-limit": self.fail_limit, "transport": self.transport}
        given = {**texts, "wait": str(self.wait or "")}
        flags = {"new-hosts": self.new_hosts, "lost-records": self.lost_records}
        said = [word for name, text in given.items() if text for word in (f"--{name}", text)]
        return (*said, *(f"--{name}" for name, on in flags.items() if on))


@dataclass(frozen=True)
class Asked:
    """What `setup` takes beyond that; see its help."""

    user: str | None = None
    restrict: str | None = None
    shared: tuple[str, ...] = ()
    dry: bool = False
    prune: bool = False
    overwrite: bool = False
    wheels: str | None = None


@contextmanager
def desk(c: Context, options: Options) -> Iterator[Desk]:
    """Give a task its desk; turn whatever ends it into a message and its exit code."""
    with messages(c, options):
        from ._desk import Desk

        with Desk(options) as ready:
            yield ready


@contextmanager
def messages(c: Context, options: Options) -> Iterator[None]:
    """Turn whatever ends a task into a message and its exit code, and refuse -H."""
    try:
        refuse_host(c)
        yield
    except SkeinError as error:
        raise _exit(options, error.exit_code, str(error)) from error
    except KeyboardInterrupt as error:
        told = str(error) or "backed out, nothing visible was changed"
        raise _exit(options, INTERRUPTED, f"interrupted: {told}; then run the same command again") from error


def exit_code_of(error: BaseException | None) -> int:
    """Return the code that a command ends with which ``error`` ended."""
    match error:
        case None:
            return 0
        case KeyboardInterrupt():
            return INTERRUPTED
        case Exit():
            return int(error.code)
        case SkeinError():
            return error.exit_code
    return 1


def state_folder() -> Path:
    """Return the folder of this operator's state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "skein"


def refuse_host(c: Context) -> None:
    """End with 2 where fab was given -H: it would run a task once per host, and there on its own terms."""
    if hasattr(c, "host"):
        raise Exit("skein: -H would run the whole story once per host: name targets with --only instead", code=2)


def _exit(options: Options, code: int, message: str) -> Exit:
    if options.as_json:
        sys.stdout.write(json.dumps({"format": 1, "exit_code": code, "error": message}) + "\n")
    return Exit(f"skein: {message}", code=code)
