"""Ctrl-C around the stretch that must not stop in the middle: none is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tasks.remote.interrupts import Shield, listen


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    listen()
    yield
    signal.signal(signal.SIGINT, before)
    listen()
    signal.signal(signal.SIGINT, before)


class Careless:
    """Python prints what is raised while an object is let go of, and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))


def test_before_the_stretch_it_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_dropped_is_known_when_the_stretch_begins() -> None:
    careless = Careless()
    del careless
    with Shield() as shield:
        assert shield.interrupted


def test_within_it_the_first_is_noted_and_the_second_ends_the_run_and_says_where_it_is() -> None:
    said: list[str] = []
    with Shield(said.append) as shield:
        assert not shield.interrupted
        os.kill(os.getpid(), signal.SIGINT)
        assert shield.interrupted
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt, match="nothing visible was changed"):
            os.kill(os.getpid(), signal.SIGINT)
