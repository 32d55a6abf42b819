"""The agent as it travels: its sources as one text named by its hash, and the command line that starts it."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from ..agent.gate import start_command

AGENT = Path(__file__).resolve().parent.parent / "agent"


@cache
def sources() -> bytes:
    """Return the agent's modules as JSON, {name: text}; the same bytes on every machine."""
    texts = {path.stem: path.read_text("utf-8") for path in AGENT.glob("*.py") if path.stem != "bootstrap"}
    return json.dumps(texts, sort_keys=True).encode("ascii")


@cache
def digest() -> str:
    """Return the SHA-256 of ``sources``, which names the agent on every host."""
    return hashlib.sha256(sources()).hexdigest()


@cache
def bootstrap() -> bytes:
    """Return the text that the host's Python runs first."""
    return (AGENT / "bootstrap.py").read_bytes()


def command(home: str, become: str | None) -> str:
    """Return the shell command that starts the agent for the app at ``home`` (``-``: no app, as on mirrors)."""
    return start_command(len(bootstrap()), home, digest(), become)
