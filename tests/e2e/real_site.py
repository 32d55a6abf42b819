"""A real site in git: three successive patch releases of Django, 3,668 files of which few change each time.

Not called `site`: a module of that name cannot be imported, Python's own stands in its place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from invariants import LINK_MODE, Manifest

WHEELS = {
    "5.2.1": "a9b680e84f9a0e71da83e399f1e922e1ab37b2173ced046b541c72e1589a5961",
    "5.2.2": "997ef2162d04ead6869551b22cde4e06da1f94cf595f4af3f3d3afeae1f3f6fe",
    "5.2.3": "c517a6334e0fd940066aa9467b29401b93c37cec2e61365d663b80922542069d",
}
IDENTITY = ("-c", "user.name=Site", "-c", "user.email=site@example.org", "-c", "commit.gpgsign=false")


class Site:
    """A git work tree with a history; ``commits`` are the real releases, oldest first, and the last is checked out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[str] = []
        self._manifests: dict[str, Manifest] = {}

    def files_at(self, commit: str) -> Manifest:
        """Return every file of a commit, as the invariant checker wants it; computed once for each commit."""
        if commit not in self._manifests:
            self._manifests[commit] = self._read(commit)
        return self._manifests[commit]

    def change(self, files: Mapping[str, bytes | None], message: str = "hotfix") -> str:
        """Write files, or remove those that are None, commit that and return the commit, added to ``commits``."""
        for name, content in files.items():
            path = self.folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return self.commit(message)

    def commit(self, message: str) -> str:
        """Commit the work tree as it is, without regard to ignore files or the operator's own git settings."""
        self.git("add", "--all", "--force")
        self.git(*IDENTITY, "commit", "--quiet", "--no-verify", "-m", message)
        self.commits.append(self.git("rev-parse", "HEAD").decode().strip())
        return self.commits[-1]

    def git(self, *argv: str, data: bytes = b"") -> bytes:
        """Run git in the work tree; an error is raised with what git said."""
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
        argv = ("git", "-C", str(self.folder), *argv)
        done = subprocess.run(argv, input=data, env=env, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _read(self, commit: str) -> Manifest:
        entries = [
            (path, *head.split())
            for head, _, path in (
                line.partition(b"\t") for line in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")
            )
            if path
        ]
        contents = self.git("cat-file", "--batch", data=b"".join(each[3] + b"\n" for each in entries))
        manifest: Manifest = {}
        at = 0
        for path, mode, _, _ in entries:
            end = contents.index(b"\n", at)
            size = int(contents[at:end].split()[2])
            content = contents[end + 1 : end + 1 + size]
            at = end + size + 2
            if mode == b"120000":
                manifest[path] = (LINK_MODE, b"-> " + content)
            else:
                manifest[path] = (int(mode, 8) & 0o777, hashlib.sha256(content).hexdigest().encode())
        return manifest


def build_site(folder: Path) -> Site:
    """Make the site at ``folder``, one commit on main for each release; downloads are kept in the cache folder.

    Without the wheels, or with others than the pinned ones, the test errs: it is never skipped for that.
    """
    site = Site(folder)
    folder.mkdir(parents=True, exist_ok=True)
    site.git("init", "--quiet", "--initial-branch=main")
    for version, digest in WHEELS.items():
        for old in folder.iterdir():
            if old.name != ".git":
                shutil.rmtree(old)
        with zipfile.ZipFile(_wheel(version, digest)) as wheel:
            for item in wheel.infolist():
                path = Path(wheel.extract(item, folder))
                if not item.is_dir():
                    path.chmod(0o755 if item.external_attr >> 16 & 0o100 else 0o644)
        site.commit(f"Django {version}")
    return site


def _wheel(version: str, digest: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir(), f"skein-tests-{os.getuid()}")
    cache = Path(base, "skein", "wheels")
    wheel = cache / f"django-{version}-py3-none-any.whl"
    if not wheel.exists():
        _download(version, cache, wheel.name)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
        pytest.fail(f"{wheel} is not the published Django {version}; remove it and run again", pytrace=False)
    return wheel


def _download(version: str, cache: Path, name: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        what = ("--no-deps", "--only-binary=:all:", "--dest", fresh, f"Django=={version}")
        argv = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *what)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(f"the site's releases cannot be had: {' '.join(argv)}: {done.stderr.strip()}", pytrace=False)
        Path(fresh, name).replace(cache / name)
