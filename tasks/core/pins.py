"""Host keys that hosts showed, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FORMAT = 1


@dataclass(frozen=True)
class Shown:
    """A key that a host showed at an address; ``names`` is what known_hosts calls the host."""

    host: str
    address: str
    names: tuple[str, ...]
    kind: str
    fingerprint: str
    text: str  # in base64

    @property
    def line(self) -> str:
        """The line of known_hosts that pins it."""
        return f"{','.join(self.names)} {self.kind} {self.text}"


@dataclass(frozen=True)
class ScanReport:
    """What was found at hosts whose key is not pinned; ``troubles`` are by host, ``added`` says what was pinned."""

    environment: str
    shown: Sequence[Shown]
    troubles: Sequence[tuple[str, str]]
    added: Sequence[Shown]
    file: str

    @property
    def exit_code(self) -> int:
        """6 where a host's key is not pinned, else 0."""
        pinned = {each.host for each in self.added}
        return 6 if self.troubles or any(each.host not in pinned for each in self.shown) else 0

    def lines(self) -> list[str]:
        """Say it for people."""
        said = [f"{each.host}: pinned {each.kind} {each.fingerprint} in {self.file}" for each in self.added]
        pinned = {each.host for each in self.added}
        rows = [each for each in self.shown if each.host not in pinned]
        said += [f"{each.host} {each.address} {each.kind} {each.fingerprint}" for each in rows]
        said += [f"{name}: {told}" for name, told in self.troubles]
        if rows:
            said.append(
                f"these are not in {self.file}: compare them with `ssh-keygen -lf` on the hosts themselves, or take "
                "the list of whoever made them; write the good ones into a file as `host SHA256:…`, "
                "then run fab setup --trust FILE"
            )
        return said or [f"every host's key is pinned in {self.file}"]

    def as_json(self) -> dict[str, object]:
        """Return the versioned form for programs."""
        pinned = {each.host for each in self.added}
        return {
            "format": FORMAT,
            "command": "setup",
            "environment": self.environment,
            "exit_code": self.exit_code,
            "keys": [
                {
                    "host": each.host,
                    "address": each.address,
                    "type": each.kind,
                    "fingerprint": each.fingerprint,
                    "pinned": each in self.added,
                }
                for each in self.shown
                if each in self.added or each.host not in pinned
            ],
            "troubles": [{"host": name, "said": told} for name, told in self.troubles],
        }
