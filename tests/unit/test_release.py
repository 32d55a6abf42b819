"""Release ids, refs, and what an operator may call a ref."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UsageError
from tasks.core.release import ENVIRONMENT, ID, Release, check_id, check_ref, number_of, release_id, release_ref

COMMIT = "1a2b3c4d" * 5
IDENTITY = "20261122T101500Z-0042-1a2b3c4"

moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
numbers = st.integers(1, 999_999_999)


def test_an_id_is_time_number_and_short_commit() -> None:
    assert release_id(datetime(2026, 11, 22, 10, 15, tzinfo=UTC), 42, COMMIT) == IDENTITY


def test_an_id_is_in_utc_whatever_the_zone_of_the_clock() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert release_id(datetime(2026, 11, 22, 15, 45, tzinfo=east), 42, COMMIT) == IDENTITY


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        release_id(datetime(2026, 11, 22, 10, 15), 42, COMMIT)


@given(moments, numbers)
def test_every_id_that_is_made_is_an_id_and_carries_its_number(at: datetime, number: int) -> None:
    identity = release_id(at, number, COMMIT)
    assert check_id(identity) == check_id(f"release/{identity}") == identity
    assert number_of(identity) == number


@given(st.lists(moments, min_size=2, max_size=6, unique_by=lambda at: at.replace(microsecond=0)), numbers)
def test_ids_sort_as_text_in_the_order_of_time(times: list[datetime], number: int) -> None:
    identities = [release_id(at, number, COMMIT) for at in sorted(times)]
    assert sorted(identities) == identities


def test_a_release_says_its_tag_and_its_ref() -> None:
    release = Release(IDENTITY, 42, "prod", COMMIT, COMMIT, COMMIT)
    assert release.tag == f"release/{IDENTITY}"
    assert release.ref == release_ref("prod", IDENTITY) == f"refs/skein/releases/prod/{IDENTITY}"


@pytest.mark.parametrize(
    "bad",
    [
        "", "main", "release/", f"release/release/{IDENTITY}", f"{IDENTITY}\n", f" {IDENTITY}",
        IDENTITY.upper(), IDENTITY[:-1], f"{IDENTITY}0", f"../{IDENTITY}", "20261122T101500Z-42-1a2b3c4",
        "٢026112٢T101500Z-0042-1a2b3c4", "20261122T101500Z-004٢-1a2b3c4",
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="is no release id"):
        check_id(bad)
    with pytest.raises(UsageError, match="is no release id"):
        number_of(bad)


@pytest.mark.parametrize(
    "good",
    ["main", "v1.2", "HEAD", "HEAD~1", "main~2^2", "feature/x_1", COMMIT, COMMIT[:7], f"release/{IDENTITY}", "v1+2"],
)
def test_a_branch_a_tag_and_a_commit_are_refs(good: str) -> None:
    assert check_ref(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "", "-x", "--upload-pack=x", "a..b", "a...b", "main@{1}", "@{-1}", "a b", "main\n", "main:path",
        "main^{commit}", ":/fix", "^main", "a//b", "/a", "x.lock", "x.lock/y", "x.lock~1", "*", "a?b", "a[b", "a\\b",
        "a\0b", "mäin", "~1", "HEAD~" + "9" * 7, "HEAD" + "~" * 9,
    ],
)  # fmt: skip
def test_an_option_a_range_and_a_path_are_no_refs(bad: str) -> None:
    with pytest.raises(UsageError, match="is no ref"):
        check_ref(bad)


@given(st.text(max_size=40))
def test_no_ref_can_be_taken_for_an_option_or_hold_a_control_character(text: str) -> None:
    try:
        taken = check_ref(text)
    except UsageError:
        return
    assert taken == text
    assert not text.startswith("-")
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


@pytest.mark.parametrize("name", ["prod", "eu-1", "a", "a" * 32])
def test_an_environment_is_up_to_32_lower_case_letters_digits_and_dashes(name: str) -> None:
    assert ENVIRONMENT.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "Prod", "a/b", "..", "prod\n", "a" * 33, "٢"])
def test_anything_else_is_no_environment(name: str) -> None:
    assert not ENVIRONMENT.fullmatch(name)


def test_the_pattern_of_ids_takes_ascii_digits_alone() -> None:
    assert ID.fullmatch(IDENTITY)
    assert not ID.fullmatch(IDENTITY.replace("2", "٢"))
