"""The agent as it travels: its sources as one text named by its hash, and the command line that starts it."""

from __future__ import annotations

import hashlib
import json
import shlex
from functools import cache
from pathlib import Path

AGENT = Path(__file__).resolve().parent.parent / "agent"
PYTHON = "/usr/bin/python3"
TAKE = (
    "import os,sys;n=int(sys.argv[1]);b=b'';"
    'exec("while len(b)<n:\\n d=os.read(0,n-len(b)) or sys.exit(3)\\n b+=d");exec(b)'
)
"""What the host's Python is given as ``-c``: read as many bytes as the first argument says, and run them."""


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
    words = ["-I", "-S", "-c", TAKE, str(len(bootstrap())), home, digest()]
    python = f"if test -x {PYTHON}; then exec {PYTHON} {shlex.join(words)}; else exec python3 {shlex.join(words)}; fi"
    shell = ["sh", "-c", python]
    return shlex.join(["sudo", "-n", "-H", "-u", become, "--", *shell] if become else shell)
