"""The demo: source, mirrors and targets of its own on loopback, inside this process; only their files stay."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..core.config import Settings
from .embedded import EmbeddedFleet
from .repository import Repository

FIRST = "main~1"
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Skein demo</title><link rel="stylesheet" href="style.css"></head>
<body><h1>Version {version}</h1><p>Edit this page, commit, and run <code>fab deploy --env demo</code>.</p></body>
</html>
"""
VERSIONS: tuple[Mapping[str, str], ...] = (
    {
        "index.html": PAGE.format(version=1),
        "style.css": "body { font-family: sans-serif; color: navy }\n",
        "robots.txt": "User-agent: *\n",
        "news/first.html": "<p>We are open.</p>\n",
    },
    {
        "index.html": PAGE.format(version=2),
        "style.css": "body { font-family: sans-serif; color: darkgreen }\n",
        "news/second.html": "<p>Now twice as good.</p>\n",
    },
)
IDENTITY = {
    f"GIT_{role}_{key}": f"demo{at}"
    for role in ("AUTHOR", "COMMITTER")
    for key, at in (("NAME", ""), ("EMAIL", "@localhost"))
}


class DemoFleet:
    """The demo while it is up. ``settings`` are those of ``config/demo.toml`` with the places and ports of this run."""

    first_version = FIRST

    def __init__(self, settings: Settings, root: Path) -> None:
        self.root = root
        names = [mirror.name for mirror in settings.mirrors] + [host.name for host in settings.hosts]
        self._fleet = EmbeddedFleet(root / "fleet", names)
        self._configured = settings

    def __enter__(self) -> Self:
        make_site(self.root / "site")
        self._fleet.start()
        self.settings = self._rewritten()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._fleet.stop()

    def _rewritten(self) -> Settings:
        table: dict[str, Any] = self._configured.model_dump()
        table["source"]["path"] = str(self.root / "site")
        table["ssh"] |= {"known_hosts": str(self._fleet.known_hosts), "identity_file": str(self._fleet.identity_file)}
        table["ssh"] |= {"config_file": "/dev/null", "user": getpass.getuser()}
        for mirror in table["mirrors"]:
            name = mirror["host"]["name"]
            path = str(self.root / "fleet" / "hosts" / name / "www.git")
            mirror |= {"host": self._entry(name), "path": path, "url": path}
        for name, group in table["targets"]["groups"].items():
            members = [host.name for host in self._configured.hosts if host.group == name]
            group["hosts"] = tuple(self._entry(member) for member in members)
        return Settings.model_validate(table)

    def _entry(self, name: str) -> dict[str, object]:
        return {"name": name, "address": "127.0.0.1", "port": self._fleet.ports[name]}


def make_site(path: Path) -> None:
    """Make a small site of two commits, unless there is one; one that was left half-made is continued."""
    path.mkdir(parents=True, exist_ok=True)
    repository = Repository(path / ".git", path)
    if not (path / ".git").is_dir():
        Repository(None).run("cannot make the demo's site", "init", "--quiet", "--initial-branch=main", "--", str(path))
    made = len(repository.attempt("rev-list", "HEAD", "--").output.splitlines())
    for number, files in list(enumerate(VERSIONS, 1))[made:]:
        for name, text in files.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(text)
        repository.run("cannot fill the demo's site", "add", "--all", "--", ".")
        repository.run("cannot commit", "commit", "--quiet", "-m", f"version {number}", environment=IDENTITY)
