"""What a command tells that is no run: a table, sentences below it, and the same for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FORMAT = 1


@dataclass(frozen=True)
class Told:
    """The end of a command; ``document`` is what its JSON says besides what all say."""

    command: str
    environment: str
    lines: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    document: Mapping[str, object] = field(default_factory=dict)
    exit_code: int = 0

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        said = {"command": self.command, "environment": self.environment, "exit_code": self.exit_code}
        return {"format": FORMAT, **said, **self.document}
