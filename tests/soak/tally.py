"""What a long run counts: how often each thing was looked at, how often it was wrong, and what was measured."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

TOLD_MOST = 20


class Tally:
    """Counts by name; ``troubles`` say what was wrong, in the order in which it was found."""

    def __init__(self) -> None:
        self.looked: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.figures: dict[str, str] = {}
        self.troubles: list[str] = []

    def check(self, what: str, good: bool, told: object = "") -> bool:
        """Count one look, and where it is not good keep what is told; return ``good``."""
        self.looked[what] += 1
        if not good:
            self.wrong[what] += 1
            self.troubles.append(f"{what}: {told}")
        return good

    def add(self, what: str, looked: int, wrongs: list[str]) -> None:
        """Count many looks at once, and each of the wrong ones."""
        self.looked[what] += looked
        self.wrong[what] += len(wrongs)
        self.troubles += [f"{what}: {told}" for told in wrongs]

    def note(self, what: str, figure: object) -> None:
        """Keep a figure for the table."""
        self.figures[what] = str(figure)

    @property
    def exit_code(self) -> int:
        """6 where something was wrong, or nothing was looked at, else 0."""
        return 6 if self.troubles or not self.looked else 0

    def __str__(self) -> str:
        rows = [(what, str(count), str(self.wrong[what])) for what, count in self.looked.items()]
        parts = [tabulate(rows, ("checked", "times", "wrong"), disable_numparse=True)]
        if self.figures:
            parts.append(tabulate(self.figures.items(), ("seen", ""), disable_numparse=True))
        more = len(self.troubles) - TOLD_MOST
        told = [f"wrong: {one}" for one in self.troubles[:TOLD_MOST]] + [f"and {more} more"] * (more > 0)
        return "\n\n".join([*parts, *(["\n".join(told)] if told else [])])
