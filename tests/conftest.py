"""What many tests need: the tools of real hosts, and the lab; where they cannot be had, tests count as not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import needs
import pytest
from hypothesis import settings

from tasks.remote.lab import Lab, missing
from tasks.remote.lab.provision import unserved
from tasks.remote.lab.spaces import PACKAGES

settings.register_profile("untimed", deadline=None)  # a slow machine proves nothing against a property
settings.load_profile("untimed")

SERVING = ("haproxy", "nginx")


@pytest.fixture(scope="session")
def able() -> None:
    """Have a lab."""
    needs.need(missing, PACKAGES.split())


@pytest.fixture(scope="session")
def serving(able: None) -> None:
    """Have a lab whose machines serve pages."""
    needs.need(unserved, SERVING)


@pytest.fixture(scope="session")
def root() -> None:
    """Be root."""
    needs.need_root()


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Twelve targets, two mirrors and server-1, new for each module; a test that breaks a machine mends it."""
    with Lab(tmp_path_factory.mktemp("lab")) as machines:
        yield machines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what was not run, by what it lacks; and, but for xdist's workers, what was installed."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    reasons = [longrepr[2] if isinstance(longrepr, tuple) else str(longrepr) for longrepr in skipped]
    for note in needs.notes:
        terminalreporter.write_line(note, yellow=True)
    for reason, count in sorted(Counter(reason.removeprefix("Skipped: ") for reason in reasons).items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"{tests} not run: {reason}", yellow=True)
