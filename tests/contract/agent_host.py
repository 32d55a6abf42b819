"""One host without ssh: the real agent over pipes, a mirror on disk, and releases made with git."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_session import DEADLINE_S, ENVIRONMENT, Agent, Refused, alive, elapse, until

__all__ = ["DEADLINE_S", "Agent", "Content", "Host", "Made", "Refused", "alive", "elapse", "git", "tree_of", "until"]

GIT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}

Link = tuple[str]
Content = bytes | Link
"""What a path of a release holds; a link is its text in a tuple."""


POLICY: dict[str, Any] = {
    "deploy_to": "/srv/app",
    "link": None,
    "environment": "prod",
    "after_flip": ["reload", "it"],
    "mirrors": ["ssh://deploy@mirror-1/srv/git/www.git"],
}
"""What set-up writes down that a restricted key may do."""


def git(*words: str, data: bytes = b"", cwd: Path | None = None) -> str:
    """Run git and return what it prints."""
    done = subprocess.run(["git", *words], input=data, cwd=cwd, env=GIT, check=True, capture_output=True)
    return done.stdout.decode("utf-8", "surrogateescape").strip()


@dataclass(frozen=True)
class Made:
    """A release on the mirror."""

    id: str
    number: int
    commit: str
    tree: str
    files: Mapping[bytes, Content]

    @property
    def ref(self) -> str:
        return f"refs/skein/releases/{ENVIRONMENT}/{self.id}"


class Host:
    """``deploy_to`` and a mirror below one temporary directory."""

    def __init__(self, root: Path, link: Path | None = None) -> None:
        self.root, self.link = root, link or root / "app" / "current"
        self.app, self.mirror = root / "app", root / "mirror.git"
        self.own = self.app / ".skein"
        self._parent: str | None = None
        self._number = 0
        git("init", "-q", "--bare", str(self.mirror))
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=self.mirror)

    def release(self, files: Mapping[bytes, Content], *, identity: str | None = None) -> Made:
        """Make a release commit on the chain and put it on the mirror."""
        return self._made(self._tree(files), files, identity)

    def odd_release(self, name: bytes) -> Made:
        """Make a release of one file whose name no git would check out."""
        entry = b"100644 " + name + b"\0" + bytes.fromhex(git("hash-object", "-w", "--stdin", cwd=self.mirror))
        words = ("hash-object", "-t", "tree", "-w", "--literally", "--stdin")
        return self._made(git(*words, data=entry, cwd=self.mirror), {name: b""}, None)

    def _made(self, tree: str, files: Mapping[bytes, Content], identity: str | None) -> Made:
        self._number += 1
        parents = ["-p", self._parent] if self._parent else []
        commit = git("commit-tree", tree, *parents, "-m", f"release {self._number}", cwd=self.mirror)
        name = identity or f"20261122T1015{self._number:02d}Z-{self._number:04d}-{commit[:7]}"
        made = Made(name, self._number, commit, tree, dict(files))
        git("update-ref", made.ref, commit, cwd=self.mirror)
        self._parent = commit
        return made

    def _tree(self, files: Mapping[bytes, Content]) -> str:
        here: list[tuple[bytes, str]] = []
        below: dict[bytes, dict[bytes, Content]] = {}
        for path, content in files.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = content
                continue
            data = os.fsencode(content[0]) if isinstance(content, tuple) else content
            mode = b"120000" if isinstance(content, tuple) else b"100755" if data.startswith(b"#!") else b"100644"
            here.append((mode + b" blob", git("hash-object", "-w", "--stdin", data=data, cwd=self.mirror) + "\t"))
            here[-1] = (here[-1][0] + b" " + here[-1][1].encode() + name, "")
        lines = [line for line, _ in here]
        lines += [b"040000 tree " + self._tree(rest).encode() + b"\t" + name for name, rest in below.items()]
        return git("mktree", "-z", data=b"".join(line + b"\0" for line in lines), cwd=self.mirror)

    @contextlib.contextmanager
    def session(self, words: Sequence[str] = (), **opening: object) -> Iterator[Agent]:
        """Start an agent for this host, opened; ``words`` start it in another way than a deployer does."""
        agent = Agent(self, opening, words)
        try:
            yield agent
        finally:
            agent.kill()

    def deploy(self, made: Made, turn: int, *, keep: int | None = None, **fields: Any) -> None:
        """Carry a release through one whole session of its own."""
        with self.session() as agent:
            agent.stage(made, **fields)
            agent.ask("arm", id=made.id)
            agent.flip(made, turn)
            agent.ask("confirm", decision=f"d{turn}")
            if keep is not None:
                agent.ask("prune", keep=keep, spare=True)
            agent.leave()

    def current(self) -> str | None:
        """Return the name that the link leads to, or None."""
        return os.path.basename(os.readlink(self.link)) if self.link.is_symlink() else None

    def files(self, made: Made) -> dict[bytes, Content]:
        """Read a release's directory."""
        root = os.fsencode(self.app / "releases" / made.id)
        found: dict[bytes, Content] = {}
        for folder, folders, names in os.walk(root):
            for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
                path = os.path.join(folder, name)
                text: Content = (
                    (os.fsdecode(os.readlink(path)),) if os.path.islink(path) else Path(os.fsdecode(path)).read_bytes()
                )
                found[os.path.relpath(path, root)] = text
        return found

    def state(self) -> dict[str, Any]:
        """Read the host's own record."""
        value = json.loads((self.own / "state.json").read_text())
        assert isinstance(value, dict)
        return value

    def leftovers(self) -> list[str]:
        """Return what is private to a session and still there."""
        found = [*(self.own / "tmp").glob("*"), *self.link.parent.glob(".*.skein-*")]
        found += [*(self.own / "repo.git").rglob("*.lock"), *(self.own / "repo.git").rglob("tmp_*")]
        return [str(path) for path in [*found, *self.own.rglob("*.new")]]


def tree_of(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return everything below a directory: kind and mode, time of change, and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        entry = path.lstat()
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (entry.st_mode, entry.st_mtime_ns, content)
    return found
