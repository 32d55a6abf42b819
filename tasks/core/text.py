"""Text that came from elsewhere, made fit for a terminal and a log."""

from __future__ import annotations


def size(count: int) -> str:
    """Write a number of bytes for people: exact below 10,000."""
    if count < 10_000:
        return f"{count:,} bytes"
    unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= unit)
    return f"{count / unit:.1f} {name}"


def printable(text: str, limit: int = 300) -> str:
    """Return ``text`` on one line with control bytes escaped, cut to ``limit`` characters: hosts' output is data."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text.strip()[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
