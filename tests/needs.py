"""What tests need that not every machine has: root fetches it where a package brings it, else the test is not run.

A test that is not run is no pass: the last lines of the run count those, by what they lack. There is no other way to
leave one out.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

NEEDS = "needs "
notes: list[str] = []
"""What was changed on this machine, to be told at the end."""


def lack(what: str) -> NoReturn:
    """Count this test as not run for want of ``what``."""
    pytest.skip(NEEDS + what)


def need(lacking: Callable[[], Sequence[str]], packages: Sequence[str]) -> None:
    """Have what ``lacking`` names; root on a Debian fetches packages for it first, and is told so."""
    if not lacking():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "skein-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # xdist's workers come at once, and a second apt-get would fail
            if lacks := lacking():
                notes.append(f"had apt-get install {' '.join(packages)}, for want of {', '.join(lacks)}")
                _apt_get("update")
                _apt_get("install", "-y", "--no-install-recommends", *packages)
    if lacks := lacking():
        lack(", ".join(lacks))


def need_program(name: str, package: str) -> None:
    """Have a program, also one for root alone."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    need(lambda: [] if shutil.which(name, path=path) else [name], [package])


def need_root() -> None:
    """Have a test run as root alone."""
    if os.geteuid() != 0:
        lack("root")


def mount(path: Path, *options: str) -> None:
    """Mount a file system at a path, by default an empty one."""
    need_root()
    words = ["mount", *(options or ("-t", "tmpfs", "tmpfs")), str(path)]
    if subprocess.run(words, capture_output=True, timeout=60, check=False).returncode:
        lack("a kernel that lets root mount")


def _apt_get(*argv: str) -> None:
    """Run apt-get; its failure is not looked at, for what is still missing then tells."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *argv]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=False)
