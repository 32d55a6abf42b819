"""Running other programs: argument lists, own process group, a deadline, no child that outlives us."""

from __future__ import annotations

import os
import select
import time

from .lean import suppress
from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    import signal
    from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

    from .wire import Wire

    Streams = Dict[int, Tuple[bytearray, int]]
else:
    import _signal as signal

TAIL = 4096
LOOK_S = 0.25
BRIEF_S = 60.0  # what may take no longer than that ends soon enough by itself when we are killed
SETPRIV = "/usr/bin/setpriv"
GROUP_GONE_S = 1.0
LOCK_AT = 9  # the descriptor that children have of the host's lock
_lock_descriptor: Optional[int] = None
_guard: Optional[List[str]] = None


def inherit(descriptor: int) -> None:
    """Let children hold the host's lock too: nobody takes it while a child of a killed agent still writes."""
    global _lock_descriptor
    _lock_descriptor = descriptor


def run(
    wire: Wire,
    arguments: Sequence[str],
    directory: Optional[str] = None,
    environment: Optional[Dict[str, str]] = None,
    timeout_s: float = BRIEF_S,
    stall_s: Optional[float] = None,
    foreign: bool = False,
    watch: Optional[Callable[[int, bytes], None]] = None,
    stdin: Union[bytes, str] = b"",
) -> Tuple[int, bytes, str]:
    """Run a program and return (exit status, standard output, tail of standard error).

    ``stall_s`` is how long it may print nothing at all. Past a deadline its whole process group is killed and Problem
    "timeout" or "stalled" raised. A ``foreign`` program is an operator's: only the end of its output is kept, and the
    lock is not handed to it, for it may leave a daemon behind. ``watch`` is shown the process and the end of its
    standard error every now and then, and may give the program up by raising. ``stdin`` is what it reads, or the path
    of a file that it reads. Raises FileNotFoundError where there is no such program.
    """
    wire.check()
    variables = os.environ if environment is None else environment
    words = [*(guard() if timeout_s > BRIEF_S else ()), *arguments]
    find(arguments[0], directory, variables.get("PATH", os.defpath))
    if directory:
        words = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', directory, *words]
    child = Child(words, variables, stdin, hold=not foreign)
    try:
        output, errors = _collect(wire, child, arguments[0], timeout_s, stall_s, TAIL if foreign else 0, watch)
        return child.wait(), output, errors.decode("utf-8", "replace").strip()
    finally:
        child.end()


class Child:
    """A program that runs in a process group of its own; ``hold`` hands it the host's lock.

    It reads ``stdin``, or where that is None what is written to ``input``.

    Started with posix_spawn(3): to import subprocess takes a host longer than most of what it is asked for.
    """

    def __init__(
        self, words: Sequence[str], variables: Mapping[str, str], stdin: Union[bytes, str, None], hold: bool
    ) -> None:
        self.status: Optional[int] = None
        source, self.input = os.pipe() if stdin is None else (_readable(stdin), -1)
        self.output, out = os.pipe()
        self.errors, err = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate((source, out, err))]
        if hold and _lock_descriptor is not None:
            actions.append((os.POSIX_SPAWN_DUP2, _lock_descriptor, LOCK_AT))
        path = _path_of(words[0], variables.get("PATH", os.defpath))
        reset = (signal.SIGPIPE, signal.SIGXFSZ)
        try:
            self.pid = os.posix_spawn(path, list(words), variables, file_actions=actions, setsid=True, setsigdef=reset)
        except BaseException:
            self.pid = self.status = 0
            self.end()
            raise
        finally:
            for each in (source, out, err):
                os.close(each)

    def is_gone(self) -> bool:
        """Tell whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.status is not None

    def wait(self, most_s: float = 1e9) -> int:
        """Return its exit status, or the negative number of the signal that killed it; at most ``most_s`` later -1."""
        ends_at, pause_s = time.monotonic() + most_s, 0.0005
        while not self.is_gone() and time.monotonic() < ends_at:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
        return -1 if self.status is None else self.status

    def end(self) -> None:
        """Kill the whole group of a child that has not ended by itself, wait until it is gone, and close its pipes."""
        with suppress(OSError):
            if not self.is_gone():
                os.killpg(self.pid, signal.SIGKILL)
                self.wait()
                ends_at = time.monotonic() + GROUP_GONE_S
                while time.monotonic() < ends_at:
                    os.killpg(self.pid, 0)  # until nobody is left who could still write
                    time.sleep(0.01)
        for each in (self.output, self.errors, *([self.input] if self.input >= 0 else [])):
            os.close(each)


def _readable(data: Union[bytes, str]) -> int:
    """Return a descriptor that reads ``data``: the file of that path, or one in memory, for a pipe could block."""
    if isinstance(data, str):
        return os.open(data, os.O_RDONLY)
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.memfd_create("skein")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
        file.seek(0)
    return descriptor


def _path_of(program: str, path: str) -> str:
    """Return where a program is that ``path`` leads to."""
    folders = [] if "/" in program else path.split(os.pathsep)
    found = (os.path.join(folder, program) for folder in folders)
    return next((each for each in found if os.access(each, os.X_OK)), program)


def find(program: str, directory: Optional[str], path: str) -> None:
    """Raise OSError where no folder of ``path`` has a program that can run: setpriv would only say that it failed."""
    folders = [directory or ""] if "/" in program else path.split(os.pathsep)
    if not any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders):
        import errno

        if "/" in program and os.path.isfile(os.path.join(folders[0], program)):
            told = "it may not be executed: see its mode, and whether its disk is mounted noexec"
            raise PermissionError(errno.EACCES, told, program)
        raise FileNotFoundError(errno.ENOENT, "there is no such program on this host", program)


def guard() -> List[str]:
    """Return the words that make the kernel kill a child with us, where this host has a setpriv that can (2.33)."""
    global _guard
    if _guard is None:
        _guard = []
        words = [SETPRIV, "--pdeathsig", "KILL"]
        if os.path.exists(SETPRIV):
            child = Child([*words, "true"], os.environ, b"", hold=False)
            _guard = words if child.wait(BRIEF_S) == 0 else []
            child.end()
    return _guard


def _collect(
    wire: Wire,
    child: Child,
    name: str,
    timeout_s: float,
    stall_s: Optional[float],
    most: int,
    watch: Optional[Callable[[int, bytes], None]],
) -> Tuple[bytes, bytes]:
    """Return what a child prints until it ends; ``most`` bounds its standard output, zero does not."""
    output, errors = bytearray(), bytearray()
    streams = {child.output: (output, most), child.errors: (errors, TAIL)}
    heard = time.monotonic()
    ends_at = heard + timeout_s
    poll = select.poll()
    for each in streams:
        poll.register(each, select.POLLIN)
    while True:
        gone, ready = _look(child, poll, streams)
        wire.check()
        if gone and not ready:
            return bytes(output), bytes(errors)  # a daemon that it started may hold the pipes for ever
        now = time.monotonic()
        heard = now if ready else heard
        if watch:
            watch(child.pid, bytes(errors))
        if now >= ends_at:
            raise Problem("timeout", "%s had not ended after %d seconds and was killed" % (name, timeout_s))
        if stall_s is not None and now - heard > stall_s:
            raise Problem("stalled", "%s had done nothing for %d seconds and was killed" % (name, stall_s))
        for each in ready:
            _take(poll, each, streams)


def _look(child: Child, poll: select.poll, streams: Streams) -> Tuple[bool, List[int]]:
    """Wait a moment for output or the end; tell whether the child had ended before the look at its pipes."""
    if not streams:
        child.wait(LOOK_S)
        return child.is_gone(), []
    gone = child.is_gone()
    return gone, [each for each, _ in poll.poll(0 if gone else LOOK_S * 1000)]


def _take(poll: select.poll, descriptor: int, streams: Streams) -> None:
    buffer, most = streams[descriptor]
    data = os.read(descriptor, 65536)
    if not data:
        poll.unregister(descriptor)
        del streams[descriptor]
    buffer += data
    if most:
        del buffer[:-most]
