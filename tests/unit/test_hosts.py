"""Hosts by name: ranges, folding, and what --only selects."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UsageError
from tasks.core.hosts import DIGITS, LONGEST, MOST, NAME, Host, expand, fold, select, terms

HOSTS = (
    *(Host(f"web-{n}", "eu", zone="eu") for n in range(1, 4)),
    *(Host(f"web-{n}", "us", zone="us") for n in range(4, 7)),
    Host("db", "db"),
)

names = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 60)
stems = st.from_regex(r"[a-z]{1,4}(?:[.-][a-z]{1,3})?", fullmatch=True)


@st.composite
def numbered(draw: st.DrawFn) -> str:
    """Draw a name like those of real fleets: up to two numbers, with and without leading zeros."""
    number = st.sampled_from(["1", "2", "3", "01", "002", "9", "10", "099", "100"])
    parts = draw(st.lists(st.tuples(stems, number), max_size=2))
    return "".join(f"{stem}{number}" for stem, number in parts) + draw(st.sampled_from(["", ".example", "x"])) or "web"


@given(st.sets(names | numbered().filter(NAME.fullmatch), max_size=40))
def test_what_is_folded_expands_to_the_same_names(some: set[str]) -> None:
    assert not some or set(expand(fold(some))) == some


@given(st.integers(0, 999), st.integers(0, 300), st.integers(0, 4))
def test_a_range_names_every_number_between_its_ends_and_folds_back(first: int, more: int, width: int) -> None:
    low, high = f"{first:0{width}}", f"{first + more:0{width}}"
    if len(low) != len(high) and low.startswith("0") and len(low) > 1:
        return
    wanted = tuple(f"web-{number:0{len(low)}}" for number in range(first, first + more + 1))
    assert expand(f"web-[{low}-{high}]") == wanted
    assert fold(reversed(wanted)) == (f"web-[{low}-{high}]" if more else wanted[0])


@given(st.text(max_size=60) | st.text("[]-,.0123456789ab", max_size=40))
def test_any_text_expands_to_well_formed_names_or_is_refused(text: str) -> None:
    try:
        found = expand(text)
    except UsageError:
        return
    assert found
    assert len(set(found)) == len(found)
    assert all(NAME.fullmatch(name) for name in found)


@pytest.mark.parametrize(
    "bad",
    [
        "", " ", "-oProxyCommand=x", "-l", "web 1", "web-1\n", "web;id", "web/1", "user@web", "web:22", "*",
        "@all", "a&b", "a!b",
        "web-", ".web", "a..b", "web-[1-3", "web-1]", "web-[]", "web-[a-b]", "web-[3-1]",
        "web-[01-1]", "web[-1]", "web[-1-2-3]", "web[1--2]", "web-[1-3]-",
        "web-1,,web-2",
        ",web-1", "web-1,", "-[1-3]", "wéb", "web-[1-٣]", "x" * 254,
    ],
)  # fmt: skip
def test_a_malformed_host_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        expand(bad)


def test_names_come_in_the_order_that_was_written_and_each_once() -> None:
    assert expand("web-[2-3],db,web-[1-2]") == ("web-2", "web-3", "db", "web-1")


def test_several_ranges_in_one_name_multiply() -> None:
    assert expand("r[1-2]-n[01-02]") == ("r1-n01", "r1-n02", "r2-n01", "r2-n02")


@pytest.mark.parametrize("count", [MOST - 1, MOST])
def test_a_range_up_to_the_limit_is_taken(count: int) -> None:
    assert len(expand(f"web-[1-{count}]")) == count


@pytest.mark.parametrize(
    "huge",
    [
        f"web-[1-{MOST + 1}]",
        "web-[1-999999999]",
        "web-[1-101]-[1-100]",
        "web[-1-999999999]",
        "web-[1-5001],db-[1-5000]",
        f"web-[1-{'9' * (DIGITS + 1)}]",
        f"web-[1-{'9' * 5000}]",
        "a" * (LONGEST + 1),
    ],
)
def test_a_range_beyond_the_limit_is_refused_before_it_is_made(huge: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError) as refusal:
        expand(huge)
    assert time.process_time() - start < 0.5
    assert len(str(refusal.value)) < 300


def test_a_refusal_shows_no_control_characters() -> None:
    with pytest.raises(UsageError) as refusal:
        expand("web\x1b[31m")
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("some", "folded"),
    [
        ([], ""),
        (["db"], "db"),
        ([f"web-{n:03}" for n in range(1, 97)] + ["db-1"], "db-1,web-[001-096]"),
        ([f"web-{n}.dc2.example" for n in (1, 2, 3, 7)], "web-[1-3,7].dc2.example"),
        (["10.0.0.9", "10.0.0.10", "10.0.1.1"], "10.0.0.[9-10],10.0.1.1"),
        (["web-1", "web-1"], "web-1"),
    ],
)
def test_names_fold_to_ranges(some: list[str], folded: str) -> None:
    assert fold(some) == folded


def test_folding_thousands_of_addresses_takes_no_square_of_time() -> None:
    addresses = {f"10.{n % 7}.{n * 37 % 251}.{n * 101 % 241}" for n in range(5000)}
    start = time.process_time()
    folded = fold(addresses)
    assert time.process_time() - start < 2
    assert {name for term in terms(folded) for name in expand(term)} == addresses


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ("eu", "web-[1-3]"),
        ("web-2", "web-2"),
        ("web-[2-5]", "web-[2-5]"),
        ("eu,db", "db,web-[1-3]"),
        (" eu , !web-2 ", "web-[1,3]"),
        ("!eu", "db,web-[4-6]"),
        ("!eu,!db", "web-[4-6]"),
        ("eu&web-[2-5]", "web-[2-3]"),
        ("!eu,web-1", "db,web-[1,4-6]"),
        ("web-[1,3-4],db", "db,web-[1,3-4]"),
        ("!eu&web-[2-5]", "db,web-[1,4-6]"),
    ],
)
def test_only_adds_takes_away_and_intersects_from_left_to_right(only: str, chosen: str) -> None:
    assert fold(host.name for host in select(HOSTS, only)) == chosen


def test_a_selection_keeps_the_order_of_the_hosts() -> None:
    assert [host.name for host in select(HOSTS, "db,web-5,web-1")] == ["web-1", "web-5", "db"]


@pytest.mark.parametrize("only", ["", ",", " ", "!", "&", "eu&", "eu&us", "eu,!eu", "web-7", "web-[6-7]", "EU", "eu,q"])
def test_a_selection_that_is_empty_or_unknown_is_an_error(only: str) -> None:
    with pytest.raises(UsageError, match=r"only|malformed"):
        select(HOSTS, only)
