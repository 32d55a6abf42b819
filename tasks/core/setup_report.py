"""What set-up did, as one frozen value: rendered for people or as versioned JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import SkeinError
from .hosts import fold

FORMAT = 1


@dataclass(frozen=True)
class SetupReport:
    """What was changed, and what could not be: lines by machine; ``printed`` is what others must write, by machine."""

    environment: str
    mirrors: Mapping[str, tuple[str, ...] | SkeinError]
    targets: Mapping[str, tuple[str, ...] | SkeinError]
    troubles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    printed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """3 where a mirror is not ready, 5 where a target is not, else 0."""
        for machines, code in ((self.mirrors, 3), (self.targets, 5)):
            if any(isinstance(found, SkeinError) or name in self.troubles for name, found in machines.items()):
                return code
        return 0

    def lines(self) -> list[str]:
        """Say it for people, equal hosts folded."""
        said = [f"mirror {name}: {self._told(name, found)}" for name, found in self.mirrors.items()]
        told_by: dict[str, list[str]] = {}
        for name, found in self.targets.items():
            told_by.setdefault(self._told(name, found), []).append(name)
        said += [f"{fold(names)}: {told}" for told, names in told_by.items()]
        said += [f"note: {note}" for note in self.notes]
        for name, lines in self.printed.items():
            said += [f"for authorized_keys on {name}:", *lines]
        return said

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        return {
            "format": FORMAT,
            "command": "setup",
            "environment": self.environment,
            "exit_code": self.exit_code,
            "mirrors": {name: self._document(name, found) for name, found in self.mirrors.items()},
            "targets": {name: self._document(name, found) for name, found in self.targets.items()},
            "notes": list(self.notes),
            "authorized_keys": {name: list(lines) for name, lines in self.printed.items()},
        }

    def _told(self, name: str, found: tuple[str, ...] | SkeinError) -> str:
        troubles = self.troubles.get(name, ())
        if isinstance(found, SkeinError):
            return "; ".join([str(found), *troubles])
        return "; ".join([*found, *troubles]) or "ready, nothing to change"

    def _document(self, name: str, found: tuple[str, ...] | SkeinError) -> dict[str, object]:
        changed, failed = ([], [str(found)]) if isinstance(found, SkeinError) else (list(found), [])
        troubles = [*failed, *self.troubles.get(name, ())]
        return {"ready": not troubles, "changed": changed, "troubles": troubles}
