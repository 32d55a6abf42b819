"""When a session beats: a stand-in for the channel is enough to see what would be sent."""

from __future__ import annotations

from typing import Any

from tasks.remote.session import Session


class Channel:
    """Keeps what is sent and answers as an agent that must be sent its sources."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers = [b"need\n", b'{"id":1,"ok":{}}\n']

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


def test_no_beat_is_sent_before_the_agent_has_its_sources() -> None:
    transport: Any = Transport()
    session = Session("web-1", transport, "/srv/app", None)
    session.beat()
    assert len(transport.channel.sent) == 1  # the bootstrap alone: a beat now would be taken for the sources' length
    session.start({})
    session.beat()
    assert transport.channel.sent[-1] == b'{"beat":1}\n'
