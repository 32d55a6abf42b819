"""Text that came from elsewhere, made fit for a terminal and a log."""

from __future__ import annotations


def printable(text: str, limit: int = 300) -> str:
    """Return ``text`` on one line with control bytes escaped, cut to ``limit`` characters: hosts' output is data."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text.strip()[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
