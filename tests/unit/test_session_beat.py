"""When a session beats: a stand-in for the channel is enough to see what would be sent."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.requests import Request
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

    def recv(self, size: int) -> bytes:
        return self.answers.pop(0)


class Transport:
    def __init__(self) -> None:
        self.channel = Channel()

    def open_session(self, timeout: float) -> Channel:
        return self.channel


@pytest.mark.parametrize("restricted", [False, True])
def test_a_payload_is_cut_in_pieces_and_a_restricted_session_gets_none(restricted: bool) -> None:
    transport: Any = Transport()
    transport.channel.answers[1] = b'{"id":1,"ok":{"restricted":%s}}\n' % (b"true" if restricted else b"false")
    session = Session("web-1", transport, "/srv/app", None)
    session.start({})
    before = len(transport.channel.sent)
    session.ask(Request("fetch", {}, 5.0, b"x" * 600_000))
    header, *pieces = transport.channel.sent[before:]
    assert (b'"payload"' in header) != restricted
    assert [len(piece) for piece in pieces] == ([] if restricted else [1 << 18, 1 << 18, 600_000 - (1 << 19)])


def test_no_beat_is_sent_before_the_agent_has_its_sources() -> None:
    transport: Any = Transport()
    session = Session("web-1", transport, "/srv/app", None)
    session.beat()
    assert len(transport.channel.sent) == 1  # the bootstrap alone: a beat now would be taken for the sources' length
    session.start({})
    session.beat()
    assert transport.channel.sent[-1] == b'{"beat":1}\n'
