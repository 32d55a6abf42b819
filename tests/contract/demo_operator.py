"""Somebody who types real commands at the demo's fleet: everything is real but that all hosts are in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The document on standard output, which must be the only thing there."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(frozen=True)
class DemoOperator:
    """Commands with a home of their own; ``folder`` holds what they keep."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *argv: str, program: str = "fabric", **variables: str) -> Ran:
        """Run one command to its end."""
        process = self.start(*argv, program=program, **variables)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)

    def start(self, *argv: str, program: str = "fabric", **variables: str) -> subprocess.Popen[str]:
        """Start a command, which leads its own process group as at a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", program, *argv],
            cwd=CHECKOUT,
            env={**os.environ, **self._places, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def config(self, **more: str) -> None:
        """Write the demo's configuration anew; each of ``more`` is lines for the table of that name."""
        text = (CHECKOUT / "config/demo.toml").read_text()
        for table, lines in more.items():
            assert f"[{table}]\n" in text
            text = text.replace(f"[{table}]\n", f"[{table}]\n{lines}\n")
        (self.folder / "config").mkdir(parents=True, exist_ok=True)
        (self.folder / "config/demo.toml").write_text(text)

    def change(self) -> None:
        """Change a file of the site; nobody commits it."""
        with (self.state / "site/index.html").open("a") as page:
            page.write("more\n")

    @property
    def state(self) -> Path:
        """The demo's own state."""
        return self.folder / "state/skein/demo"

    @property
    def log(self) -> list[dict[str, Any]]:
        """All lines of the operator's log."""
        path = self.state / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def _places(self) -> dict[str, str]:
        places = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
        found = {name: str(self.folder / path) for name, path in places.items()}
        return {**found, "SKEIN_CONFIG": str(self.folder / "config"), "SKEIN_ENV": "demo", "NO_COLOR": "1"}
