"""Running other programs: argument lists, own process group, a deadline, no child that outlives us."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import time

from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Sequence, Tuple

    from .wire import Wire

TAIL = 4096
LOOK_S = 0.25
BRIEF_S = 60.0  # what may take no longer than that ends soon enough by itself when we are killed
SETPRIV = "/usr/bin/setpriv"
GROUP_GONE_S = 1.0
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
    stdin: bytes = b"",
) -> Tuple[int, bytes, str]:
    """Run a program and return (exit status, standard output, tail of standard error).

    ``stall_s`` is how long it may print nothing at all. Past a deadline its whole process group is killed and Problem
    "timeout" or "stalled" raised. A ``foreign`` program is an operator's: only the end of its output is kept, and the
    lock is not handed to it, for it may leave a daemon behind. ``watch`` is shown the process and the end of its
    standard error every now and then, and may give the program up by raising. Raises FileNotFoundError where there is
    no such program.
    """
    wire.check()
    find(arguments[0], directory, (os.environ if environment is None else environment).get("PATH", os.defpath))
    source = _readable(stdin) if stdin else subprocess.DEVNULL
    child = subprocess.Popen(
        [*(guard() if timeout_s > BRIEF_S else ()), *arguments],
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
        start_new_session=True,
        pass_fds=() if _lock_descriptor is None or foreign else (_lock_descriptor,),
    )
    try:
        output, errors = _collect(wire, child, arguments[0], timeout_s, stall_s, TAIL if foreign else 0, watch)
        return child.wait(), output, errors.decode("utf-8", "replace").strip()
    finally:
        _end(child)
        if stdin:
            os.close(source)


def _readable(data: bytes) -> int:
    """Return a descriptor that reads ``data``: a file in memory, for a pipe could block."""
    descriptor = os.memfd_create("skein")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
        file.seek(0)
    return descriptor


def find(program: str, directory: Optional[str], path: str) -> None:
    """Raise OSError where no folder of ``path`` has a program that can run: setpriv would only say that it failed."""
    folders = [directory or ""] if "/" in program else path.split(os.pathsep)
    if not any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders):
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
        quiet = subprocess.DEVNULL
        able = os.path.exists(SETPRIV)
        if able and not subprocess.call([*words, "true"], stdin=quiet, stdout=quiet, stderr=quiet):
            _guard = words
    return _guard


def _collect(
    wire: Wire,
    child: subprocess.Popen[bytes],
    name: str,
    timeout_s: float,
    stall_s: Optional[float],
    most: int,
    watch: Optional[Callable[[int, bytes], None]],
) -> Tuple[bytes, bytes]:
    """Return what a child prints until it ends; ``most`` bounds its standard output, zero does not."""
    output, errors = bytearray(), bytearray()
    heard = time.monotonic()
    ends_at = heard + timeout_s
    with selectors.DefaultSelector() as selector:
        for stream, buffer, bound in ((child.stdout, output, most), (child.stderr, errors, TAIL)):
            if stream:
                selector.register(stream.fileno(), selectors.EVENT_READ, (buffer, bound))
        while True:
            gone, ready = _look(child, selector)
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
            for key in ready:
                _take(selector, key)


def _look(child: subprocess.Popen[bytes], selector: selectors.BaseSelector) -> Tuple[bool, List[selectors.SelectorKey]]:
    """Wait a moment for output or the end; tell whether the child had ended before the look at its pipes."""
    if not selector.get_map():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(LOOK_S)
        return child.poll() is not None, []
    gone = child.poll() is not None
    return gone, [key for key, _ in selector.select(0 if gone else LOOK_S)]


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    buffer, most = key.data
    data = os.read(key.fd, 65536)
    if not data:
        selector.unregister(key.fd)
    buffer += data
    if most:
        del buffer[:-most]


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the whole group of a child that has not ended by itself, wait until it is gone, and close its pipes."""
    with contextlib.suppress(OSError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            ends_at = time.monotonic() + GROUP_GONE_S
            while time.monotonic() < ends_at:
                os.killpg(child.pid, 0)  # until nobody is left who could still write
                time.sleep(0.01)
    for stream in (child.stdout, child.stderr):
        if stream:
            stream.close()
