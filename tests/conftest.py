"""What many tests need: the tools of real hosts, and the lab; where they cannot be had, tests count as not run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import settings

from tasks.remote.lab import Lab, missing
from tasks.remote.lab.provision import unserved

settings.register_profile("untimed", deadline=None)  # a slow machine proves nothing against a property
settings.load_profile("untimed")

NEEDS = "e2e needs "
SERVING = ("haproxy", "nginx")
PACKAGES = ("openssh-server", "openssh-client", "iproute2", "git", "util-linux", "python3")

_notes: list[str] = []


@pytest.fixture(scope="session")
def able() -> None:
    """Skip, with the reason, where no lab can be had; root on a Debian fetches the tools first, and is told so."""
    _need(missing, PACKAGES)


@pytest.fixture(scope="session")
def serving(able: None) -> None:
    """Skip likewise where the lab's machines cannot serve pages."""
    _need(unserved, SERVING)


def _need(ask: Callable[[], Sequence[str]], packages: Sequence[str]) -> None:
    lacks = ask()
    if lacks and os.geteuid() == 0 and shutil.which("apt-get"):
        _notes.append(f"e2e: had apt-get install {' '.join(packages)}, for want of {', '.join(lacks)}")
        _apt_get("update")
        _apt_get("install", "-y", "--no-install-recommends", *packages)
        lacks = ask()
    if lacks:
        pytest.skip(NEEDS + ", ".join(lacks))


def _apt_get(*argv: str) -> None:
    """Run apt-get; its failure is not looked at, for what is still missing then tells."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *argv]
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Twelve targets, two mirrors and server-1, new for each module; a test that breaks a machine mends it."""
    with Lab(tmp_path_factory.mktemp("lab")) as machines:
        yield machines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what was not run; under xdist the skip reasons of `-ra` say it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, "")
        if NEEDS in reason:
            what = reason.partition(NEEDS)[2]
            reasons[what] = reasons.get(what, 0) + 1
    for note in _notes:
        terminalreporter.write_line(note, yellow=True)
    for what, count in reasons.items():
        terminalreporter.write_line(f"e2e: {count} tests not run: needs {what}", yellow=True)
