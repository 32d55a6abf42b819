"""How much may fail: limits as numbers and percentages, over all and by group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UsageError
from tasks.core.hosts import Host
from tasks.core.policy import FailPolicy, Limit, allowed, read_limit


@pytest.mark.parametrize(("text", "limit"), [("0", 0), ("3", 3), ("2%", "2%"), ("0%", "0%"), ("100%", "100%")])
def test_a_limit_is_a_number_or_a_percentage(text: str, limit: Limit) -> None:
    assert read_limit(text) == limit


@pytest.mark.parametrize("text", ["", "-1", "101%", "2.5%", "%", "3 ", "all", "1e3", "9999999", "2%%", "3\n"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="such as 3, or a percentage such as 2%"):
        read_limit(text)


@pytest.mark.parametrize(
    ("limit", "size", "many"), [(0, 9, 0), (12, 9, 12), ("2%", 49, 0), ("2%", 50, 1), ("2%", 149, 2), ("100%", 7, 7)]
)
def test_a_percentage_is_rounded_down(limit: Limit, size: int, many: int) -> None:
    assert allowed(limit, size) == many


@given(st.integers(0, 100), st.integers(0, 5000))
def test_a_percentage_never_allows_more_than_it_says(percent: int, size: int) -> None:
    many = allowed(f"{percent}%", size)
    assert many * 100 <= percent * size < (many + 1) * 100


HOSTS = [Host(f"eu-{number}", "eu") for number in range(4)] + [Host(f"us-{number}", "us") for number in range(6)]


@pytest.mark.parametrize(
    ("overall", "groups", "failed", "said"),
    [
        (0, {}, [], None),
        (0, {}, ["eu-0"], "1 of 10 targets failed, more than fail_limit = 0 allows"),
        (2, {}, ["eu-0", "us-0"], None),
        ("20%", {}, ["eu-0", "us-0", "us-1"], "3 of 10 targets failed, more than fail_limit = 20% allows"),
        (5, {"eu": 0}, ["us-0", "us-1"], None),
        (5, {"eu": 0}, ["eu-1"], "1 of 4 targets of eu failed, more than its fail_limit = 0 allows"),
        (0, {"eu": 4}, ["eu-1"], "1 of 10 targets failed, more than fail_limit = 0 allows"),
        (
            5,
            {"eu": "25%", "us": 0},
            ["eu-0", "us-0"],
            "1 of 6 targets of us failed, more than its fail_limit = 0 allows",
        ),
        ("100%", {}, [host.name for host in HOSTS], "all 10 targets failed"),
        (99, {"nobody": 0}, ["eu-0"], None),
    ],
)
def test_the_verdict(overall: Limit, groups: dict[str, Limit], failed: list[str], said: str | None) -> None:
    assert FailPolicy(overall, groups).verdict(HOSTS, failed) == said


def test_a_fleet_of_one_that_failed_has_failed_whatever_the_limit() -> None:
    assert FailPolicy("100%").verdict([Host("web-1")], ["web-1"]) == "all 1 targets failed"
