"""Mirrors: bare repositories on this machine or behind a connection, and what is pushed to and fetched from them."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from ..agent.mirror import FORMAT
from ..agent.repo import last_line
from ..core.errors import RepositoryError
from ..core.release import OBJECT_ID
from ..core.text import printable
from .far import FarRepository
from .repository import Outcome, Repository, reason
from .wire import Wire

PUSH = re.compile(r"(?P<object>[0-9a-f]{40}|[0-9a-f]{64}):(?P<ref>refs/[A-Za-z0-9._/-]+)")
FETCH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64}|refs/[A-Za-z0-9._/-]+):refs/skein/[A-Za-z0-9._/-]+")
IMMUTABLE = ("refs/skein/releases/", "refs/tags/")
SERVICES = {"push": "git-receive-pack {}", "fetch": "env GIT_PROTOCOL=version=2 git-upload-pack {}"}
LIST_DEADLINE_S = 30.0
NOTHING = "refs/skein/none/"
SSH = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oForwardAgent=no -oConnectTimeout=10 -oServerAliveInterval=10"
PAST_US = {"GIT_ALLOW_PROTOCOL": "ssh", "GIT_SSH_COMMAND": SSH, "GIT_SSH_VARIANT": "ssh"}
NOT_FOUND = 127
"""The exit status of a shell for a command that does not exist (POSIX)."""
FOREIGN = 78
"""What we have the shell end with where another repository stands; EX_CONFIG of sysexits.h."""
FREE, TAKEN = 1, 2
STANDING = 'test -f {0}/HEAD && exit 0; test -n "$(ls -A {0} 2>/dev/null)" && exit 2; exit 1'
"""Ends with 0 where a repository stands, else with one of the two above."""
GUARDED = "{}; case $? in 0) exec {} ;; 127) exit 127 ;; *) exit 78 ;; esac"


class Operators(Protocol):
    """What has the operator's own repository, between which and mirrors everything travels."""

    private: Repository


class Mirror:
    """One bare repository: behind ``connection``, a fabric.Connection, or on this machine where that is None.

    With ``app``, only a repository that is marked as that app's mirror, of the format that this Skein knows, is spoken
    to at all: see ``agent.mirror``. ``url`` is where another machine, whose repository is to be pushed, logs in itself.
    """

    def __init__(self, name: str, path: str, connection: Any | None, app: str | None = None, url: str = "") -> None:
        self.name, self.path, self._connection, self._app, self._url = name, path, connection, app, url
        self._cancelled = threading.Event()
        self.detour: str | None = None
        """Why another machine, whose repository was pushed, could not log in itself; "" if it could."""

    @property
    def where(self) -> str:
        """The mirror as messages name it."""
        return f"{self.name}:{self.path}"

    @property
    def is_connected(self) -> bool:
        """Whether its connection, if it needs one, still stands, as far as this end knows."""
        return self._connection is None or bool(self._connection.is_connected)

    def refs(self, prefix: str, deadline_s: float = LIST_DEADLINE_S) -> dict[str, str]:
        """Return the refs that begin with ``prefix``, with their object ids; raise RepositoryError."""
        wanted = prefix.rstrip("*")
        listed = self._talk(Repository(None), ("ls-remote", "--refs"), (f"{wanted}*",), deadline_s)
        found = {}
        for line in listed.text.splitlines():
            oid, _, ref = line.partition("\t")
            if not OBJECT_ID.fullmatch(oid):
                raise RepositoryError(f"{self.where} gave a list of refs that is none: {printable(line, 80)}")
            if ref.startswith(wanted):
                found[ref] = oid
        return found

    def push(self, source: Operators, refspecs: Sequence[str], deadline_s: float) -> None:
        """Bring objects and refs, all refs or none, and look afterwards that they are there.

        Each refspec is ``<object id>:<full ref>``. Nothing is ever forced; a release or a tag that stands there with
        another object is refused even where git would call the change a fast-forward. Raise RepositoryError.
        """
        end = time.monotonic() + deadline_s
        wanted = {match["ref"]: match["object"] for match in (_checked(PUSH, spec) for spec in refspecs)}
        leases = [f"--force-with-lease={ref}:" for ref in wanted if ref.startswith(IMMUTABLE)]
        options = ("--atomic", "--no-verify", "--porcelain", "--no-follow-tags", "--recurse-submodules=no")
        self._talk(source.private, ("push", *options, *leases), tuple(refspecs), deadline_s)
        for prefix in sorted({ref.rpartition("/")[0] + "/" for ref in wanted}):
            there = self.refs(prefix, max(1.0, end - time.monotonic()))
            lacking = [ref for ref, oid in wanted.items() if ref.startswith(prefix) and there.get(ref) != oid]
            if lacking:
                raise RepositoryError(f"{self.where} took the push and has not {', '.join(lacking)}: look at its hooks")

    def fetch(self, source: Operators, refspecs: Sequence[str], deadline_s: float) -> None:
        """Bring what the mirror has into the source's private repository, never over another ref's object.

        Each refspec is ``<object id or full ref>:<full ref under refs/skein/>``. Raise RepositoryError.
        """
        for spec in refspecs:
            _checked(FETCH, spec)
        options = ("--atomic", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
        self._talk(source.private, ("fetch", "--quiet", *options), tuple(refspecs), deadline_s)

    def extend(self, source: Operators, ref: str, commit: str, deadline_s: float) -> None:
        """Move a ref forward to a commit that descends from where it stands; raise RepositoryError where it does not.

        Of several who extend one state of a ref, one succeeds: the mirror compares and swaps (git-receive-pack(1)).
        """
        _checked(PUSH, f"{commit}:{ref}")
        options = ("--no-verify", "--porcelain", "--no-follow-tags", "--recurse-submodules=no")
        self._talk(source.private, ("push", *options), (f"{commit}:{ref}",), deadline_s)

    def cancel(self) -> None:
        """End what is under way in other threads, now, with a RepositoryError there; the mirror is of no use after."""
        self._cancelled.set()

    def _talk(
        self, repository: Repository, command: tuple[str, ...], operands: tuple[str, ...], deadline_s: float
    ) -> Outcome:
        talk = self._talk_here if self._connection is None else self._talk_there
        talk = self._talk_past_us if isinstance(repository, FarRepository) else talk
        try:
            return talk(repository, command, operands, deadline_s)
        except TimeoutError:
            ended = "was cancelled" if self._cancelled.is_set() else f"was not done after {deadline_s:g} s"
            message = f"{command[0]} with {self.where} {ended}: is it reachable, and its disk in order?"
            raise RepositoryError(message) from None

    def _talk_here(
        self, repository: Repository, command: tuple[str, ...], operands: tuple[str, ...], deadline_s: float
    ) -> Outcome:
        if not (Path(self.path) / "HEAD").is_file():
            raise self._missing(is_taken=_is_taken(Path(self.path)))
        config = ("config", "--file", f"{self.path}/config", "--get")
        if any(Repository(None).attempt(*config, *mark).status for mark in self._marks()):
            raise self._foreign()
        outcome = repository.attempt(
            *(*command, "--end-of-options", self.path, *operands),
            environment={"GIT_ALLOW_PROTOCOL": "file"},
            isolated=False,  # the user's safe.directory says whose repositories git may work in
            deadline_s=deadline_s,
            cancelled=self._cancelled,
        )
        if outcome.status:
            raise self._failed(command[0], outcome, "")
        return outcome

    def _talk_there(
        self, repository: Repository, command: tuple[str, ...], operands: tuple[str, ...], deadline_s: float
    ) -> Outcome:
        end = time.monotonic() + deadline_s
        service = SERVICES["push" if command[0] == "push" else "fetch"].format(shlex.quote(self.path))
        with Wire(self._connection, self._guarded(service), deadline_s) as wire:
            outcome = repository.attempt(
                *(*command, "--end-of-options", f"fd::{wire.fileno()}", *operands),
                environment={"GIT_ALLOW_PROTOCOL": "fd"},
                deadline_s=deadline_s,
                cancelled=self._cancelled,
                pass_fds=(wire.fileno(),),
            )
            if outcome.status == 0:
                return outcome
            status = None if wire.trouble else wire.status(min(2.0, max(0.0, end - time.monotonic())))
        if wire.trouble:
            raise RepositoryError(f"no channel to {self.name} for git: {printable(wire.trouble)}")
        if status == NOT_FOUND:
            raise RepositoryError(f"no git on {self.name}: install it there, on the PATH of a non-interactive shell")
        standing = self._standing(max(1.0, end - time.monotonic())) if status else None
        if standing in (FREE, TAKEN):
            raise self._missing(is_taken=standing == TAKEN)
        if status == FOREIGN:
            raise self._foreign()
        raise self._failed(command[0], outcome, wire.errors)

    def _talk_past_us(
        self, repository: Repository, command: tuple[str, ...], operands: tuple[str, ...], deadline_s: float
    ) -> Outcome:
        """Have the repository's machine speak to the mirror itself, as its user logs in there; else carry it all."""
        self.refs(NOTHING)  # that it is a mirror of ours is seen from here, and again after a push
        if self.detour_of(repository):
            return self._talk_there(repository, command, operands, deadline_s)
        outcome = repository.attempt(
            *(*command, "--end-of-options", self._url, *operands),
            environment=PAST_US,
            deadline_s=deadline_s,
            cancelled=self._cancelled,
        )
        if outcome.status:
            raise self._failed(command[0], outcome, "")
        return outcome

    def detour_of(self, repository: Repository) -> str:
        """Try once whether the repository's machine can log in at the mirror; return why not."""
        if self.detour is None:
            tried = repository.attempt(
                *("ls-remote", "--refs", "--end-of-options", self._url, f"{NOTHING}*"),
                environment=PAST_US,
                deadline_s=LIST_DEADLINE_S,
                cancelled=self._cancelled,
            )
            self.detour = printable(last_line(tried.errors)) if tried.status else ""
        return self.detour

    def _marks(self) -> tuple[tuple[str, str], ...]:
        """Return what the repository's configuration must say, {key: expression}, as ``git config --get`` takes it."""
        if self._app is None:
            return ()
        return ("skein.format", f"^{FORMAT}$"), ("skein.app", f"^{self._app.replace('.', '[.]')}$")

    def _guarded(self, service: str) -> str:
        """Return the command that looks at the marks and becomes the service; whatever the login shell is."""
        looks = [
            f"git config --file {_for_sh(self.path)}/config --get {shlex.join(mark)} >/dev/null"
            for mark in self._marks()
        ]
        return shlex.join(["sh", "-c", GUARDED.format(" && ".join(looks), service)]) if looks else service

    def _foreign(self) -> RepositoryError:
        told = f"{self.where} is no mirror of {self._app} that this Skein knows; nothing was written there"
        advice = "choose another path for the mirror, or use the Skein that made it; fab setup says what it is"
        return RepositoryError(f"{told}: {advice}")

    def _standing(self, deadline_s: float) -> int | None:
        """Ask the host what stands at the path, by exit status: git's own words for it differ between versions."""
        command = shlex.join(["sh", "-c", STANDING.format(_for_sh(self.path))])
        with Wire(self._connection, command, deadline_s) as probe:
            return probe.status(min(2.0, deadline_s))

    def _missing(self, *, is_taken: bool) -> RepositoryError:
        if is_taken:
            told = "is there and is no bare repository: choose another path for the mirror"
            return RepositoryError(f"{self.where} {told}")
        return RepositoryError(f"no bare repository at {self.where}: run `fab setup --env ENV`")

    def _failed(self, verb: str, outcome: Outcome, remote: str) -> RepositoryError:
        """Say why, from the lines that are made for programs (git-push(1), --porcelain) and what hooks said."""
        rejected = [line.split("\t", 2) for line in outcome.text.splitlines() if line.startswith("!\t")]
        parts = [f"{fields[1].partition(':')[2]} {fields[2]}" for fields in rejected if len(fields) == 3]
        parts = [part for part in parts if not part.endswith("(atomic push failed)")] or parts
        said = [line for line in outcome.errors.splitlines() if line.startswith("remote:")] if parts else []
        why = "; ".join([*parts, *said]) or f"{reason(remote)} {reason(outcome.errors)}"
        why = why.replace("(stale info)", "(it stands there already, for another object)")
        return RepositoryError(f"{verb} with {self.where} failed: {printable(why, 600)}")


def push_all(
    mirrors: Sequence[Mirror],
    source: Operators,
    refspecs: Sequence[str],
    deadline_s: float,
    more: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, RepositoryError | None]:
    """Push to all mirrors side by side; return for each its trouble, None where all is well.

    ``more`` names refspecs for single mirrors, which go with the others, all or none.
    """

    def push(mirror: Mirror) -> RepositoryError | None:
        try:
            own = (more or {}).get(mirror.name, ())
            mirror.push(source, list(dict.fromkeys([*refspecs, *own])), deadline_s)
        except RepositoryError as error:
            return error
        return None

    with ThreadPoolExecutor(max_workers=max(1, len(mirrors)), thread_name_prefix="skein-push") as pool:
        try:
            return dict(zip([mirror.name for mirror in mirrors], pool.map(push, mirrors), strict=True))
        except BaseException:
            for mirror in mirrors:
                mirror.cancel()
            raise


def _is_taken(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _for_sh(path: str) -> str:
    """Quote a path for a shell that is to expand a home in it; git itself does that for its own operands."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _checked(grammar: re.Pattern[str], spec: str) -> re.Match[str]:
    match = grammar.fullmatch(spec)
    if not match:
        raise ValueError(f"{spec!r} is no refspec for a mirror: nothing may be forced, deleted or left to a default")
    return match
