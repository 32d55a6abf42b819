"""Which mirror the agent asks first, what it takes for a url, and what it repeats of git's words."""

from __future__ import annotations

import socket

import pytest

from tasks.agent.fetch import URL
from tasks.agent.names import is_release_ref
from tasks.agent.repo import git_lacking, is_disk_full, last_line
from tasks.agent.route import NEVER, connect_time, nearest

TIMES = {"slow": 0.3, "quick": 0.1, "down": NEVER, "same": 0.1}


@pytest.mark.parametrize(
    ("ranked", "order"),
    [
        ([("slow", 0), ("quick", 1)], ["slow", "quick"]),  # the zone comes before the round trip
        ([("slow", 0), ("quick", 0)], ["quick", "slow"]),
        ([("down", 0), ("slow", 0), ("quick", 1)], ["slow", "down", "quick"]),
        ([("quick", 2), ("slow", 1), ("down", 0)], ["down", "slow", "quick"]),
        ([("quick", 0), ("same", 0)], ["quick", "same"]),  # as configured where nothing else decides
        ([], []),
    ],
)
def test_mirrors_are_asked_by_rank_and_within_one_by_round_trip(
    ranked: list[tuple[str, int]], order: list[str]
) -> None:
    mirrors = [{"name": name, "url": name, "rank": rank} for name, rank in ranked]
    assert [mirror["name"] for mirror in nearest(mirrors, TIMES.__getitem__)] == order


def test_a_mirror_alone_in_its_rank_is_not_measured() -> None:
    measured: list[str] = []

    def measure(url: str) -> float:
        measured.append(url)
        return 0.0

    nearest([{"url": url, "rank": rank} for url, rank in (("a", 0), ("b", 1), ("c", 1))], measure)
    assert measured == ["b", "c"]


def test_a_server_that_answers_is_nearer_than_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connect_time(f"ssh://deploy@127.0.0.1:{port}/srv/x.git") < 3
    assert connect_time(f"git://127.0.0.1:{port}/srv/x.git") == NEVER


@pytest.mark.parametrize("url", ["ssh://h:99999/x", "https://" + "a" * 70 + ".invalid/x", "git://[::1%]:1/x"])
def test_a_url_that_cannot_be_reached_is_far_and_no_traceback(url: str) -> None:
    assert connect_time(url, 0.2) == NEVER


def test_a_path_is_near() -> None:
    assert connect_time("/srv/git/www.git") == connect_time("file:///srv/git/www.git") == 0.0


@pytest.mark.parametrize("url", ["/srv/x.git", "file:///x", "git://h/x", "ssh://u@h:22/x", "https://h/x"])
def test_urls_of_mirrors_are_these(url: str) -> None:
    assert URL.match(url)


@pytest.mark.parametrize(
    "url", ["x", "-x", "ext::sh", "http://h/x", "ftp://h/x", "/a b", "/a\n", "ssh://h/\x7f", "--upload-pack=/x", ""]
)
def test_urls_of_mirrors_are_nothing_else(url: str) -> None:
    assert not URL.match(url)


@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/skein/releases/a/b/c", "refs/skein/releases/a/b\n", "refs/skein/releases/../b"]
)
def test_refs_of_releases_are_nothing_else(ref: str) -> None:
    assert not is_release_ref(ref)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", "it said nothing"),
        ("\n \r\n", "it said nothing"),
        ("Receiving 1%\rReceiving 2%\rfatal: early EOF\nfatal: index-pack failed", "fatal: early EOF"),
        ("warning: a\nerror: b\nhint: c", "error: b"),
        ("one\ntwo\n", "two"),
        ("fatal: " + "x" * 999, "fatal: " + "x" * 393),
    ],
)
def test_the_line_of_git_that_tells_most_is_repeated(said: str, line: str) -> None:
    assert last_line(said) == line


def test_a_full_disk_and_a_full_quota_are_the_same() -> None:
    assert is_disk_full("fatal: write error: No space left on device")
    assert is_disk_full("error: Disk quota exceeded")
    assert not is_disk_full("fatal: early EOF")


@pytest.mark.parametrize(
    ("version", "old"), [("2.39.5", False), ("2.25.1", False), ("2.24.9", True), ("1.99", True), ("", True)]
)
def test_git_before_2_25_is_too_old(version: str, old: bool) -> None:
    assert (git_lacking(version) is not None) is old
