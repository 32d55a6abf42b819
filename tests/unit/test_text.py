"""What came from elsewhere is shown on one line, without a single control byte, and never at length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text import printable, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("  around  ", "around"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x00b\x7fc", "a\\x00b\\x7fc"),
        ("tab\there", "tab\\there"),
        ("right \u202e to left", "right \\u202e to left"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("not UTF-8: \udcff", "not UTF-8: \\udcff"),
        ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
        ("", ""),
    ],
)
def test_control_bytes_are_escaped_and_words_are_left_alone(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 300) == "x" * 300
    assert printable("x" * 301) == "x" * 299 + "…"
    assert printable("x" * 10**7, 10) == "x" * 9 + "…"


@given(st.text(st.characters(exclude_categories=())), st.integers(2, 400))
def test_whatever_it_was_it_is_one_printable_line_of_limited_length(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown.encode().decode() == shown


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 bytes"), (9_999, "9,999 bytes"), (10_000, "10.0 kB"), (5_340_000, "5.3 MB"), (27 * 10**9, "27.0 GB")],
)
def test_a_size_is_exact_where_it_is_small(count: int, told: str) -> None:
    assert size(count) == told
