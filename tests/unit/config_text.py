"""A small configuration that is right, and the means to make it wrong."""

from __future__ import annotations

import re

import pytest

from tasks.core.config import Settings, parse
from tasks.core.errors import ConfigError

SMALL = """
[app]
name = "www"
[source]
path = "/srv/www"
[[mirrors]]
host = "mirror-1"
path = "/srv/git/www.git"
zone = "eu"
[ssh]
[targets]
deploy_to = "/srv/app"
[targets.groups.web]
hosts = ["web-[1-3]"]
[transport]
"""


def with_line(table: str, line: str, text: str = SMALL) -> str:
    """Put ``line`` into a table; a key that stands there already is replaced."""
    head, body = text.split(f"{table}\n", 1)
    rest, *others = re.split(r"(?m)^(?=\[)", body)
    key = line.split("=", maxsplit=1)[0]
    kept = [old for old in rest.splitlines() if old.split("=", maxsplit=1)[0] != key]
    return "\n".join([f"{head}{table}", line, *kept, *others])


def read(text: str) -> Settings:
    return parse(text, "prod", "config/prod.toml")


def problems(text: str) -> tuple[str, ...]:
    """Return what is wrong with ``text``; a text that is right fails the test."""
    with pytest.raises(ConfigError) as refusal:
        read(text)
    return refusal.value.problems
