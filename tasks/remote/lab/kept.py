"""A lab that a keeper holds, as seen from other commands: start it, work on its machines, end it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ...core.errors import LabError
from . import keeper, links, sample, spaces
from .files import wait_until
from .machines import CHECKOUT
from .state import LOCK, LOG, MACHINES, STATE, Order, State

BEGIN = "invoke lab.up --hosts 3 makes one"
USERS = ("root", "deploy")


def up(folder: Path, order: Order) -> tuple[State, bool]:
    """Start a lab, or find the one that is up where it is what is asked for; return it and whether it is new."""
    spaces.need()
    order.lab(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as lock:
        if not _take(lock):
            return _same(folder, order), False
        lock.truncate(0)
        _clean(folder)
        _start(folder, order, lock)
    return read(folder), True


def down(folder: Path) -> bool:
    """End the lab and remove its files; return whether one was up. What a crash left is swept up as well."""
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("r+") as lock:
        was_up = not _take(lock)
        if was_up:
            _stop(lock)
        _clean(folder)
    return was_up


def read(folder: Path) -> State:
    """Return the lab that is up; raise LabError where none is."""
    if os.geteuid() != 0:
        raise LabError("a lab is root's: run this as root")
    try:
        state = State.model_validate_json((folder / STATE).read_text("utf-8"))
    except FileNotFoundError:
        raise LabError(f"no lab is up: {BEGIN}") from None
    except ValidationError as error:
        raise LabError(f"{folder / STATE} is another version's: end that lab with invoke lab.down") from error
    if spaces.is_dead(state.owner):
        raise LabError(f"the lab that was up has crashed: {BEGIN}, and sweeps up what is left of the old one")
    return state


def run(state: State, machine: str, argv: Sequence[str], user: str = "root") -> int:
    """Run a command on a machine, on this terminal; return its exit code, or 128 and the number of what killed it.

    On server-1 and laptop it starts in the checkout and the lab's environment is the default one. Ctrl-C is the
    command's own affair.
    """
    first, cwd = state.first(machine), None
    if user not in USERS:
        raise LabError(f"--user {user}: the users are {' and '.join(USERS)}")
    env = {"TERM": os.environ.get("TERM", "dumb")}
    if machine in state.operators:
        cwd = str(CHECKOUT)
        env |= sample.variables()
    try:
        with spaces.children_in(first):
            process = subprocess.Popen(spaces.entering(first, argv, user, env, cwd), env={"PATH": spaces.PATH})
    except OSError as error:
        raise LabError(f"{machine} is off, its sshd has ended: invoke lab.down, then {BEGIN}") from error
    with _deaf():
        code = process.wait()
    return code if code >= 0 else 128 - code


def link(state: State, machine: str, *, rate: str | None, cut: bool, mend: bool) -> None:
    """Change a machine's link: ``rate`` is what it carries each way, "full" takes the limit away."""
    first = state.first(machine)
    if cut + mend + (rate is not None) != 1:
        raise LabError("say one of --rate, --cut and --mend")
    if rate is not None:
        links.shape(state.hub, machine, first, None if rate == links.FULL else rate)
    else:
        (links.cut if cut else links.mend)(state.hub, machine)


def _start(folder: Path, order: Order, lock: IO[str]) -> None:
    argv = [sys.executable, "-m", keeper.__name__, str(folder.resolve()), order.model_dump_json()]
    with (folder / LOG).open("w") as log:
        process = subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
            text=True,
        )
    lock.write(spaces.identity(process.pid))
    lock.flush()
    try:
        line = process.stdout.readline().strip() if process.stdout else ""
    except BaseException:
        process.terminate()
        process.communicate(timeout=60)
        raise
    if line != keeper.UP:
        process.communicate(timeout=60)
        raise LabError(line or f"the lab's keeper ended without a word; see {folder / LOG}")
    if process.stdout:
        process.stdout.close()
    process.returncode = 0  # it lives on; this process does not wait for it


def _same(folder: Path, order: Order) -> State:
    try:
        state = read(folder)
    except LabError as error:
        raise LabError("another lab.up or lab.down is at work: wait for its end, then look again") from error
    if state.order != order:
        raise LabError(f"another lab is up, with {state}: end it with invoke lab.down first")
    return state


def _take(lock: IO[str]) -> bool:
    """Take the folder's lock, which the descriptor holds from now on; tell whether it was free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stop(lock: IO[str]) -> None:
    """End the keeper, by force if it does not go by itself, and take its lock."""
    name = lock.read()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if name and not spaces.is_dead(name):
            os.kill(int(name.split("-")[2]), number)
        with contextlib.suppress(LabError):
            wait_until(lambda: _take(lock), "the lab's keeper ends", 60)
            return
    raise LabError(f"the lab's keeper, {name}, does not end: look what it waits for")


def _clean(folder: Path) -> None:
    """Remove what the last lab left; the lock is held, so none is up."""

    def is_gone() -> bool:  # dying machines may write a last word meanwhile
        shutil.rmtree(folder / MACHINES, ignore_errors=True)
        return not (folder / MACHINES).exists()

    spaces.sweep()
    (folder / STATE).unlink(missing_ok=True)
    wait_until(is_gone, f"{folder / MACHINES} can be removed", 10)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Leave Ctrl-C to the command on the terminal while it runs."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
