"""When a session beats: a stand-in for the channel is enough to see what would be sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.core.errors import UnreachableError
from tasks.core.requests import Request
from tasks.remote import session as sessions
from tasks.remote.session import Session


class Channel:
    """Keeps what is sent and answers as an agent that must be sent its sources."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers = [b"need\n", b'{"id":1,"ok":{}}\n', b'{"id":2,"ok":{}}\n']

    def settimeout(self, seconds: float) -> None:
        """Take any deadline."""

    def exec_command(self, command: str) -> None:
        """Take any command."""

    def close(self) -> None:
        """Only a deadline that passed would."""

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def send_ready(self) -> bool:
        return True

    def recv(self, size: int) -> bytes:
        return self.answers.pop(0)


class Transport:
    def __init__(self) -> None:
        self.channel = Channel()
        self.sock, self.other = socket.socketpair()

    def close(self) -> None:
        self.sock.close()
        self.other.close()

    def open_session(self, timeout: float) -> Channel:
        return self.channel


@pytest.fixture
def transport() -> Iterator[Any]:
    made = Transport()
    yield made
    made.close()


@pytest.mark.parametrize("restricted", [False, True])
def test_a_payload_is_cut_in_pieces_and_a_restricted_session_gets_none(transport: Any, restricted: bool) -> None:
    transport.channel.answers[1] = b'{"id":1,"ok":{"restricted":%s}}\n' % (b"true" if restricted else b"false")
    session = Session("web-1", transport, "/srv/app", None)
    session.start({})
    before = len(transport.channel.sent)
    session.ask(Request("fetch", {}, 5.0, b"x" * 600_000))
    header, *pieces = transport.channel.sent[before:]
    assert (b'"payload"' in header) != restricted
    assert [len(piece) for piece in pieces] == ([] if restricted else [1 << 15] * 18 + [600_000 - 18 * (1 << 15)])


def test_no_beat_is_sent_before_the_agent_has_its_sources(transport: Any) -> None:
    session = Session("web-1", transport, "/srv/app", None)
    session.beat()
    assert len(transport.channel.sent) == 1  # the bootstrap alone: a beat now would be taken for the sources' length
    session.start({})
    session.beat()
    assert transport.channel.sent[-1] == b'{"beat":1}\n'


def test_a_beat_waits_for_no_host_whose_buffers_are_full(transport: Any) -> None:
    session = Session("web-1", transport, "/srv/app", None)
    session.start({})
    transport.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            transport.sock.send(b"x" * 65536)
    before = len(transport.channel.sent)
    session.beat()
    assert len(transport.channel.sent) == before


def test_a_host_that_takes_nothing_of_a_request_for_a_lease_is_given_up(
    transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("web-1", transport, "/srv/app", None)
    session.start({})
    stuck, ended = threading.Event(), threading.Event()

    def sendall(data: bytes) -> None:
        stuck.set()
        assert ended.wait(20)
        raise EOFError

    monkeypatch.setattr(transport.channel, "sendall", sendall)
    monkeypatch.setattr(transport, "close", ended.set)
    found: list[UnreachableError] = []

    def ask() -> None:
        try:
            session.ask(Request("fetch", {}, 5.0, b"x"))
        except UnreachableError as error:
            found.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert stuck.wait(20)
    session.beat()
    assert not ended.is_set()
    monkeypatch.setattr(sessions, "LEASE_S", -1.0)
    session.beat()
    asking.join(20)
    assert [error.code for error in found] == ["silent"]
