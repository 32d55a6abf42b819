"""What this machine says: who is at work, where caches are, which environment its configuration means."""

from __future__ import annotations

import getpass
import os
import platform
from pathlib import Path

from .core.config import Settings, choose_environment, parse
from .core.errors import UsageError
from .core.text import printable

CONFIG = Path(__file__).resolve().parent.parent / "config"
CI_VARIABLES = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER")


def read_settings(asked: str | None) -> Settings:
    """Return the configuration of the environment that is meant; raise UsageError where that cannot be told or read."""
    folder = Path(os.environ.get("SKEIN_CONFIG") or CONFIG)
    available = sorted(path.stem for path in folder.glob("*.toml"))
    name = choose_environment(available, asked, os.environ.get("SKEIN_ENV"))
    path = folder / f"{name}.toml"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return parse(text, name, str(path))


def operator() -> str:
    """Return who is at work: SKEIN_OPERATOR, SUDO_USER, what CI says, or the login; and the machine."""
    known = (os.environ.get(name) for name in ("SKEIN_OPERATOR", "SUDO_USER", *CI_VARIABLES))
    who = next(filter(None, known), None) or _login()
    return printable(f"{who}@{platform.node()}", 100)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no entry in passwd
        return f"uid-{os.getuid()}"


def cache_folder() -> Path:
    """Return the folder of what can be had again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skein"
