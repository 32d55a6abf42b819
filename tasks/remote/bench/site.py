"""The site that is deployed: its versions, what a change weighs, and which machines hold a version whole."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...core.errors import LabError
from ..lab import sample, spaces
from ..lab.machines import CHECKOUT, Lab

CHECKER = "tests/e2e/invariants.py"  # shares no code with Skein, so it runs by itself
CHECKERS = 2
ORIGIN = "git://server-1/www"
DELTA = 'printf "%s\\n" "$2" ${3:+"^$3"} | git -C "$1" pack-objects --revs --thin --stdout --quiet | wc -c'


class Site:
    """The site on a lab's server-1, with a copy of every version below ``folder``."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._source = lab.path(lab.server, sample.SITE)
        self._random = random.Random(7)  # noqa: S311  the same site every time
        self.version = 0

    def commit(self, numbers: Iterable[int], file_bytes: int, *, text: bool = True) -> int:
        """Write files of these numbers anew, commit them, and return the version's number."""
        for number in numbers:
            path = self._source / f"pages/{number // 100:03d}/{number % 100:02d}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                self._random.randbytes(file_bytes // 2).hex().encode() if text else self._random.randbytes(file_bytes)
            )
        self.version += 1
        self._lab.run(
            self._lab.server, ["sh", "-c", sample.COMMIT, "sh", sample.SITE, f"bench {self.version}"], timeout=600
        )
        self._git("tag", f"bench-{self.version}")
        before = self.tree(self.version - 1)
        self.tree(self.version).parent.mkdir(exist_ok=True)
        alike = [f"--link-dest={before}"] if before.exists() else []
        spaces.call("rsync", "-a", "--exclude=/.git", *alike, f"{self._source}/", f"{self.tree(self.version)}/")
        return self.version

    def tree(self, version: int) -> Path:
        """Return where a copy of a version's files is, on no machine of the lab."""
        return self._folder / "versions" / str(version)

    def changed(self, before: int | None) -> list[str]:
        """List the files that the newest version has anew since another one; all of them since none."""
        if before is None:
            return self._git("ls-files").splitlines()
        return self._git("diff", "--name-only", f"bench-{before}", f"bench-{self.version}").splitlines()

    def payload(self, before: int | None) -> int:
        """Return the size of one thin pack of the newest version, made by git alone: the least that must travel."""
        base = f"bench-{before}" if before else ""
        done = self._lab.run(
            self._lab.server, ["sh", "-c", DELTA, "sh", sample.SITE, f"bench-{self.version}", base], timeout=600
        )
        return int(done.stdout)

    def clone(self, version: int | None) -> Path:
        """Return a bare clone that ends with a version, or is empty, made at the first call."""
        clone = self._folder / "clones" / str(version)
        if not clone.exists():
            clone.mkdir(parents=True)
            git = ("git", "-C", str(clone))
            spaces.call(*git, "init", "--quiet", "--bare")
            spaces.call(*git, "remote", "add", "origin", ORIGIN)
            if version:
                refs = f"+bench-{version}:refs/heads/main"
                spaces.call(*git, "fetch", "--quiet", "--no-tags", str(self._source), refs)
        return clone

    def wrong(self, version: int, places: Mapping[str, Path], shared: str = "-") -> dict[str, str]:
        """Return the machines whose places do not hold exactly the files of a version, by every file's hash, and why.

        ``shared`` are linked paths where places are ``deploy_to`` of Skein's, and "-" where they are plain folders.
        """
        names = {str(place): name for name, place in places.items()}
        with ThreadPoolExecutor(CHECKERS) as pool:
            parts = [list(names)[at::CHECKERS] for at in range(CHECKERS)]
            found = pool.map(lambda part: self._check(version, shared, part), parts)
            return {names[place]: why for each in found for place, why in each.items()}

    def _check(self, version: int, shared: str, places: list[str]) -> dict[str, str]:
        argv = [sys.executable, CHECKER, str(self.tree(version)), shared, *places]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{CHECKER} failed: {done.stderr.strip()[-500:]}")
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    def _git(self, *argv: str) -> str:
        return self._lab.run(self._lab.server, ["git", "-C", sample.SITE, *argv], timeout=600).stdout
