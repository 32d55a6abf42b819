"""Every error Skein raises on purpose, and the exit code that goes with it.

    SkeinError                 1   unforeseen
    ├── UsageError             2   configuration or command line
    │   ├── ConfigError        2   ... with all problems listed
    │   └── LabError           2   the lab cannot be had, or cannot do what was asked
    ├── RepositoryError        3   source, tag, hub or mirrors
    │   ├── LedgerError        3   the ledger is not as it must be
    │   └── OvertakenError     3   somebody else was quicker to append to the ledger: read it and decide again
    ├── LockedError            4   somebody else is deploying
    ├── TooManyFailedError     5   too many targets failed before the barrier: nothing changed
    ├── CheckFailedError       6   check, verify or status found something wrong
    └── HostError              -   one target's trouble; counted by the failure policy, never an exit code by itself
        ├── UnreachableError   -   no session could be opened, or it was lost
        └── RefusedError       -   the agent said no, with a code of its own

A message says what, where and what to do next, in lower case. Exit codes are a contract: people script against them.
"""

from __future__ import annotations


class SkeinError(Exception):
    """The root. ``exit_code`` is what the process ends with when this reaches the command line."""

    exit_code = 1


class UsageError(SkeinError, ValueError):
    """The command line or the configuration asks for what cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file has problems; all of them are in ``problems``, one sentence each, with the key's path."""

    def __init__(self, where: str, problems: tuple[str, ...]) -> None:
        self.where, self.problems = where, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{where}: {count}", *problems]))


class LabError(UsageError):
    """A lab cannot be had on this machine, or cannot do what was asked; the message says what is missing."""


class RepositoryError(SkeinError):
    """The source repository, a tag, the hub or a mirror is not as it must be."""

    exit_code = 3


class LedgerError(RepositoryError):
    """The ledger was edited, lost records, or is of a newer format; the message says where and what to do."""


class OvertakenError(RepositoryError):
    """The ledger grew since it was read: what was decided on its old end does not count."""


class LockedError(SkeinError):
    """Another deployer is at work; the message says who and since when."""

    exit_code = 4


class TooManyFailedError(SkeinError):
    """More targets failed before the barrier than the failure limit allows; nothing became visible anywhere."""

    exit_code = 5


class CheckFailedError(SkeinError):
    """A check ran and found something wrong."""

    exit_code = 6


class HostError(SkeinError):
    """Trouble of one host. ``code`` is a stable word for programs, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class UnreachableError(HostError):
    """No session with the host: refused, timed out, unknown or changed key, or lost on the way."""


class RefusedError(HostError):
    """The host's agent refused or failed a request."""
