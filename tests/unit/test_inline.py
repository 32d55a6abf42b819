"""Which targets get a delta over their session, on what base, and which ask the mirrors."""

from __future__ import annotations

from typing import Any, cast

import pytest
from config_text import SMALL, read, with_line

from tasks._choices import choose
from tasks.core.errors import RepositoryError
from tasks.core.facts import Present, Probe
from tasks.core.hosts import Host
from tasks.core.release import Release, release_ref
from tasks.core.requests import Request
from tasks.remote.source import Source
from tasks.transports.git import GitTransport
from tasks.transports.inline import LARGE, InlineTransport
from tasks.transports.inline import SMALL as SMALL_DELTA

RELEASE = Release("20260101T000000Z-0009-aaaaaaa", 9, "prod", "a" * 40, "b" * 40, "c" * 40)
HOST = Host("web-1")


def identity(number: int) -> str:
    return f"20260101T00000{number}Z-000{number}-aaaaaaa"


def probe(*numbers: int, live: int | None = None) -> Probe:
    """Say that releases stand on a host; the commit of each is its number, forty times."""
    present = {
        identity(number): Present(commit=str(number) * 40, source_commit="a" * 40, tree="a" * 40, number=number)
        for number in numbers
    }
    facts: dict[str, Any] = {"turn": 1, "free_bytes": 1, "free_inodes": 1, "clock": 1.0, "python": "3", "git": "2"}
    return Probe(current=live and identity(live), current_since=None, stack=(), problems=(), releases=present, **facts)


def brought(packs: dict[str | None, bytes], seen: Probe, *, most: int = 100, is_whole: bool = False) -> Request:
    """Return the request that brings the release where ``packs`` are what deltas can be made of."""
    git = GitTransport(read(SMALL).mirrors, "deploy", 900.0)
    inline = InlineTransport(git, lambda base, release: packs.get(base), most, is_whole)
    (request,) = inline.bring(RELEASE, HOST, seen)
    assert request.verb == "fetch"
    assert request.fields["mirrors"], "the mirrors are named in any case"
    return request


def test_the_delta_builds_on_what_is_live() -> None:
    request = brought({"1" * 40: b"one", "2" * 40: b"two"}, probe(1, 2, live=1))
    assert request.payload == b"one"
    assert request.fields["base"] == release_ref("prod", identity(1))
    assert request.fields["base_commit"] == "1" * 40


def test_a_target_that_has_the_release_is_sent_no_delta() -> None:
    seen = probe(1, live=1)
    there = seen.model_copy(update={"releases": {**seen.releases, RELEASE.id: seen.releases[identity(1)]}})
    assert brought({"1" * 40: b"one"}, there).payload == b""


def test_where_that_is_not_known_here_it_builds_on_the_newest_that_is() -> None:
    assert brought({"1" * 40: b"one", "2" * 40: b"two"}, probe(1, 2, 3, live=3)).payload == b"two"


def test_a_target_that_has_the_release_is_sent_nothing_and_the_source_is_not_needed() -> None:
    seen = probe(1, live=1)
    there = seen.model_copy(update={"releases": {**seen.releases, RELEASE.id: seen.releases[identity(1)]}})
    assert brought({"1" * 40: b"one", None: b"whole"}, there, is_whole=True).payload == b""


def test_a_target_without_any_base_asks_the_mirrors_unless_the_whole_release_is_wanted_inline() -> None:
    assert brought({None: b"whole"}, probe()).payload == b""
    assert "base" not in brought({None: b"whole"}, probe()).fields
    request = brought({None: b"whole"}, probe(5), is_whole=True)
    assert (request.payload, request.fields["base"]) == (b"whole", "")


def test_a_delta_that_is_too_large_for_a_session_is_left_to_the_mirrors() -> None:
    assert brought({"1" * 40: b"x" * 101}, probe(1, live=1)).payload == b""
    assert brought({None: b"x" * 101}, probe(), is_whole=True).payload == b""
    assert brought({"1" * 40: b"x" * 100}, probe(1, live=1)).payload == b"x" * 100


class Caps:
    """A source that remembers with which cap it was asked for deltas."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def delta(self, base: str | None, release: Release, most: int) -> bytes | None:
        self.asked.append(most)
        return None


@pytest.mark.parametrize(
    ("kind", "is_far", "most"),
    [("auto", True, SMALL_DELTA), ("inline", True, LARGE), ("auto", False, LARGE)],
)
def test_what_another_machine_makes_is_capped_before_it_crosses_the_line(kind: str, is_far: bool, most: int) -> None:
    settings = read(with_line("[source]", 'host = "server-1"') if is_far else SMALL)
    source = Caps()
    choose(kind, settings, [HOST], lambda: cast(Source, source)).bring(RELEASE, HOST, probe(1, live=1))
    assert set(source.asked) == {most}


def test_a_source_out_of_reach_is_tried_once_and_the_mirrors_are_asked() -> None:
    tried: list[int] = []

    def away() -> Source:
        tried.append(1)
        raise RepositoryError("source server-1 is out of reach")

    transport = choose("auto", read(SMALL), [HOST], away)
    for numbers in ((1,), (2, 3)):
        (request,) = transport.bring(RELEASE, HOST, probe(*numbers, live=numbers[0]))
        assert request.payload == b""
    assert len(tried) == 1
