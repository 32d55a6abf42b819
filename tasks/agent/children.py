"""Running other programs: argument lists, own process group, bounded output, a deadline, no child that outlives us."""

import os
import selectors
import signal
import subprocess
import time

from .problem import Problem

TAIL = 4096
LOOK_S = 0.25
_lock_descriptor = None


def inherit(descriptor):
    """Let children hold the host's lock too: nobody takes it while a child of a killed agent still writes."""
    global _lock_descriptor
    _lock_descriptor = descriptor


def run(wire, arguments, directory=None, environment=None, timeout_s=60.0, stall_s=None, feed=None):
    """Run a program and return (exit status, standard output, tail of its standard error) as (int, bytes, str).

    ``stall_s`` is how long it may print nothing at all. Past a deadline its whole process group is killed and Problem
    "timeout" or "stalled" raised. ``feed`` becomes its standard input.
    """
    guard = ["/usr/bin/setpriv", "--pdeathsig", "KILL"] if os.path.exists("/usr/bin/setpriv") else []
    child = subprocess.Popen(
        guard + list(arguments),
        stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
        start_new_session=True,
        pass_fds=() if _lock_descriptor is None else (_lock_descriptor,),
    )
    wire.children.add(child.pid)
    try:
        if feed is not None:
            child.stdin.write(feed)  # small: a few paths or a specification, below the size of a pipe
            child.stdin.close()
        output, errors = _collect(child, arguments[0], timeout_s, stall_s)
        return child.wait(), output, errors.decode("utf-8", "replace").strip()
    finally:
        _end(child)
        wire.children.discard(child.pid)


def _collect(child, name, timeout_s, stall_s):
    output, errors = [], b""
    heard = time.monotonic()
    ends_at = heard + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stderr, selectors.EVENT_READ)
        while selector.get_map():
            gone = child.poll() is not None  # asked before looking: what it wrote last is then still collected
            ready = selector.select(0 if gone else LOOK_S)
            now = time.monotonic()
            if gone and not ready:
                break  # a daemon that it started may hold the pipes for ever
            if now >= ends_at:
                raise Problem("timeout", "%s had not ended after %d seconds and was killed" % (name, timeout_s))
            if ready:
                heard = now
            elif stall_s is not None and now - heard > stall_s:
                raise Problem("stalled", "%s had done nothing for %d seconds and was killed" % (name, stall_s))
            for key, _ in ready:
                data = os.read(key.fileobj.fileno(), 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    output.append(data)
                else:
                    errors = (errors + data)[-TAIL:]
    return b"".join(output), errors


def _end(child):
    """Kill the whole group of a child that has not ended by itself, and close its pipes."""
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream:
            stream.close()
