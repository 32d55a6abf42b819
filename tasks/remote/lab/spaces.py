"""The kernel's side of the lab: process namespaces, links, and what a crashed lab leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...core.errors import LabError
from .files import UID

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "openssh-server iproute2 git util-linux python3"
TOOLS = ("bash", "git", "ip", "nsenter", "setpriv", "ssh", "ssh-keygen", "sshd", "tc", "unshare", "python3")
CLONE_NEWPID = 0x20000000
PROBE = "ip link add name br0 type bridge && ip link add name veth0 type veth peer name veth1"


def missing() -> list[str]:
    """Return what this machine lacks for a lab, as words for a plain message; empty when a lab can be had."""
    lacks = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if os.geteuid() != 0:
        return ["root", *lacks]
    if not {"unshare", "ip"} & set(lacks):
        argv = ["unshare", "-n", "-m", "-u", "-p", "-f", "sh", "-c", PROBE]
        if subprocess.run(argv, env={"PATH": PATH}, capture_output=True, check=False).returncode != 0:
            lacks.append("a kernel that lets root make namespaces, bridges and veth pairs")
    return lacks


def need() -> None:
    """Raise LabError where no lab can be had, with what would help."""
    if lacks := missing():
        told = f"run as root, on Debian after apt-get install {PACKAGES}"
        raise LabError(f"no lab for want of {', '.join(lacks)}: {told}")


class Spawner:
    """Starts processes inside process namespaces, all from one thread, which lives until `close`.

    One thread, because the namespace for children is a thread's own setting; and because the first process of a
    namespace is told to die with the thread that started it, and all others of that namespace die with it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="skein-lab")

    def first(self, argv: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
        """Start a command as process 1 of a new process namespace."""
        return self._start(["setpriv", "--pdeathsig", "KILL", *argv], 0, streams)

    def inside(self, pid: int, argv: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
        """Start a command in the namespace whose process 1 is `pid` here; the handle's pid is the command."""
        return self._start(argv, pid, streams)

    def close(self) -> None:
        """End the thread, and with it what it started first."""
        self._thread.shutdown()

    def _start(self, argv: Sequence[str], pid: int, streams: dict[str, Any]) -> subprocess.Popen[str]:
        wanted = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "errors": "surrogateescape", **streams}

        def start() -> subprocess.Popen[str]:
            with children_in(pid):
                return subprocess.Popen(argv, env={"PATH": PATH}, start_new_session=True, encoding="utf-8", **wanted)

        return self._thread.submit(start).result()


@contextlib.contextmanager
def children_in(pid: int) -> Iterator[None]:
    """Let children of this thread be born in the process namespace of `pid`, or in a new one when it is 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        if pid == 0:
            failed = libc.unshare(CLONE_NEWPID)
        else:
            other = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
            failed = libc.setns(other, CLONE_NEWPID)
            os.close(other)
        if failed:
            raise LabError(f"no process namespace: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        libc.setns(own, CLONE_NEWPID)
        os.close(own)


def entering(
    pid: int, argv: Sequence[str], user: str = "root", env: Mapping[str, str] | None = None, cwd: str | None = None
) -> list[str]:
    """Return what runs a command on the machine whose process 1 is ``pid``, in a clean environment, at the user's home.

    Every step on the way there is an exec, so the process that is started is the command. Its process namespace is not
    entered here, for that takes a child: start it in `children_in`.
    """
    variables = {"PATH": PATH, "HOME": home(user), "USER": user, "LOGNAME": user, "LANG": "C.UTF-8", **(env or {})}
    become = [] if user == "root" else ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    clean = ["env", "-i", "-C", cwd or home(user), *(f"{name}={value}" for name, value in variables.items())]
    return ["nsenter", "-t", str(pid), "-m", "-n", "-u", *become, *clean, *argv]


def home(user: str) -> str:
    """Return where a user of the lab's machines is at home."""
    return "/root" if user == "root" else f"/home/{user}"


def ip(pid: int, *commands: str) -> None:
    """Run commands of iproute2, without the leading `ip`, in the network namespace of a process."""
    call("nsenter", "-t", str(pid), "-n", "ip", "-batch", "-", text="\n".join(commands) + "\n")


def call(*argv: str, text: str = "") -> None:
    """Run a command of the real machine; raise LabError with what it said when it fails."""
    done = subprocess.run(argv, input=text, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip()}; it was given {text!r}")


def processes(first: int) -> list[tuple[int, list[str]]]:
    """List the processes in the network namespace of `first`, zombies left out, as (pid as seen from here, argv)."""
    here = Path(f"/proc/{first}/ns/net").stat().st_ino
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/ns/net").stat().st_ino == here:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                found += [(pid, argv.split("\0"))] if argv else []
    return found


def identity(pid: int) -> str:
    """Name a process by its pid and start time, which together never come again; a zombie has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        fields = ["X"]
    return f"skein-lab-{pid}-{'gone' if fields[0] in 'XZ' else fields[19]}"


def owner() -> str:
    """Name this process, as the owner of the lab that it makes."""
    return identity(os.getpid())


def is_dead(name: str) -> bool:
    """Tell whether the process of that name, given by `identity`, is no more."""
    return name != identity(int(name.split("-")[2]))


def sweep() -> None:
    """Remove what a crashed lab left: processes and small disks whose owner is no more."""
    for pid in _pids():
        with contextlib.suppress(OSError):
            if is_dead(Path(f"/proc/{pid}/root/run/skein-lab").read_text().strip()):
                os.kill(pid, signal.SIGKILL)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, source = line.split()[4], line.partition(" - ")[2].split()[1]
        if source.startswith("skein-lab-") and is_dead(source):
            subprocess.run(["umount", "-l", point.encode().decode("unicode_escape")], check=False)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _streams(process: subprocess.Popen[str]) -> list[Any]:
    return [stream for stream in (process.stdin, process.stdout, process.stderr) if stream is not None]


def is_done(process: subprocess.Popen[str]) -> bool:
    """Tell whether a process has ended and all that it said has been read."""
    return process.returncode is not None and all(stream.closed for stream in _streams(process))


def close_streams(process: subprocess.Popen[str]) -> None:
    """Close what leads to and from a process."""
    for stream in _streams(process):
        with contextlib.suppress(OSError):
            stream.close()
