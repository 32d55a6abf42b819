"""How a session ends: silence, frozen machines, signals, noise, the end of input; and who holds the host."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from agent_host import Content, Host, Refused, elapse, until

ONE: dict[bytes, Content] = {b"index.html": b"one", b"bin/run": b"#!/bin/sh\n", b"to": ("index.html",)}
LEASE_S = 0.8


@pytest.mark.parametrize("noise", [b"hello\n", b"\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_noise_on_the_wire_ends_the_session_at_once(host: Host, noise: bytes) -> None:
    with host.session() as agent:
        agent.send(noise)
        assert agent.wait() == 0


def test_a_second_session_is_told_who_holds_the_host(host: Host) -> None:
    with host.session(who="anna@laptop") as first, host.session(lease_s=LEASE_S) as second:
        first.ask("settle")
        number = second.order("settle")
        elapse(1.5 * LEASE_S, lambda: second.send(b'{"beat":1}\n'))
        with pytest.raises(Refused, match=r"locked: another deploy .*anna@laptop since 20"):
            second.answer(number)


def test_a_second_session_goes_on_as_soon_as_the_first_has_left(host: Host) -> None:
    with host.session() as first, host.session() as second:
        first.ask("settle")
        number = second.order("settle")
        first.leave()
        assert second.answer(number)["current"] is None


def test_beats_keep_a_quiet_session_alive_and_silence_ends_it(host: Host) -> None:
    with host.session(lease_s=LEASE_S) as agent:
        agent.ask("settle")
        elapse(2 * LEASE_S, lambda: agent.send(b'{"beat":1}\n'))
        assert agent.ask("probe")["turn"] == 0
        agent.wait()
        assert agent.process.stderr
        assert b"lapsed" in agent.process.stderr.read()
    with host.session() as agent:
        agent.ask("settle")  # the lock went with the session


def test_an_agent_that_was_frozen_does_nothing_with_a_flip_that_waited_for_it(host: Host) -> None:
    with host.session(lease_s=LEASE_S) as agent:
        one = agent.armed(ONE)
        agent.stop()
        agent.go(one, 1)
        elapse(2 * LEASE_S, lambda: agent.send(b'{"beat":1}\n'))
        agent.wake()
        with pytest.raises(EOFError):
            agent.answer(-1)
        agent.wait()
    assert host.current() is None
    assert not (host.own / "state.json").exists()
    assert not host.leftovers()


def test_an_agent_frozen_inside_the_flip_does_not_finish_it_after_its_lease(host: Host) -> None:
    with host.session(lease_s=LEASE_S, failpoint="agent.flip.before:1:pause") as agent:
        one = agent.armed(ONE)
        agent.go(one, 1)
        until(lambda: (host.own / "state.json").exists())
        elapse(2 * LEASE_S, lambda: agent.send(b'{"beat":1}\n'))
        agent.wake()
        agent.wait()
    assert host.current() is None
    with host.session() as agent:
        assert agent.ask("settle")["stack"] == []
        assert host.state()["pending"] is None


def test_the_end_of_input_sweeps_and_lets_go(host: Host) -> None:
    with host.session() as agent:
        agent.armed(ONE)
        (host.own / "tmp" / "private").mkdir()
        assert host.leftovers()
        assert agent.leave() == 0
    assert not host.leftovers()
    assert len(os.listdir(host.app / "releases")) == 1  # what is complete stays


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_the_session_tidily_however_many_come(host: Host, number: int) -> None:
    with host.session() as agent:
        agent.armed(ONE)
        for _ in range(5):
            os.kill(agent.pid, number)
        assert agent.wait() == 0
    assert not host.leftovers()


def test_a_deployer_that_never_reads_does_not_keep_the_host(host: Host) -> None:
    with host.session(lease_s=LEASE_S) as agent:
        agent.ask("settle")
        agent.send(b'{"id":9,"verb":"%s","with":{}}\n' % (b"x" * 200) * 2000)  # the answers fill the pipe
        assert agent.wait() == 0
    assert not host.leftovers()


def test_an_agent_that_hangs_is_ended_by_the_kernel(host: Host) -> None:
    host.own.mkdir(parents=True)
    os.mkfifo(host.own / "state.json")  # who opens it waits for a writer
    with host.session() as agent:
        agent.order("settle")
        opened: list[int] = []
        until(lambda: _open_if_read(host.own / "state.json", opened))
        assert agent.leave() in (-signal.SIGALRM, 128 + signal.SIGALRM)
        os.close(opened[0])


def _open_if_read(pipe: Path, opened: list[int]) -> bool:
    """Open a pipe once somebody waits at it: he then waits for what never comes."""
    with contextlib.suppress(OSError):
        opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    return bool(opened)
