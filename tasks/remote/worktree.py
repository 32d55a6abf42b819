"""What is on disk at the source's path: a repository or not, files that are not committed, files as they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..core.errors import RepositoryError
from .repository import Repository, some

DRIVERS = r"^filter\..*\.(clean|smudge|process|required)$"


def discover(path: Path) -> tuple[Repository | None, Path | None, str]:
    """Return the repository at ``path``, its object store and object format; (None, None, "sha1") for a plain folder.

    A repository that merely contains ``path`` is not it. Raise RepositoryError for one that is broken or that git
    does not trust, for its files are another user's.
    """
    if not os.path.lexists(path / ".git") and not ((path / "HEAD").is_file() and (path / "objects").is_dir()):
        return None, None, "sha1"
    question = ("rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository", "--show-object-format")
    here = Repository(None, at=path)
    answer = here.attempt(*question, isolated=False)
    if answer.status and here.attempt(*question, isolated=False, settings={"safe.directory": "*"}).status == 0:
        raise RepositoryError(
            f"{path} belongs to another user, so git does not trust it: if you do, run "
            f"`git config --global --add safe.directory {path}`"
        )
    lines = answer.text.split("\n")
    if answer.status or len(lines) != 4 or here.attempt("rev-parse", "--show-prefix", isolated=False).text:
        raise RepositoryError(f"{path} has a .git that is no repository: mend or remove it, or release with --snapshot")
    bare = lines[2] == "true"
    git_dir, common = Path(lines[0]), path / lines[1]
    return Repository(git_dir, None if bare else path), (common / "objects").resolve(), lines[3]


def uncommitted(origin: Repository, subdir: str) -> list[str]:
    """Return the files of the work tree that differ from what is committed, untracked ones included.

    Git would run the content filters that the configuration names to find out; each of them is taken away first.
    """
    named = origin.attempt("config", "--null", "--name-only", "--get-regexp", DRIVERS, isolated=False)
    filters = {name: "false" if name.endswith(".required") else "" for name in named.text.split("\0") if name}
    options = ("--porcelain", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")
    where = ("--", f":(top,literal){subdir}") if subdir else ()
    listed = origin.run(
        f"cannot look for uncommitted files in {origin.work_tree}",
        *("status", *options, *where),
        isolated=False,
        settings=filters,
    )
    return [entry[3:] for entry in os.fsdecode(listed.output).split("\0") if entry]


def entries(root: Path) -> bytes:
    """Return the files and symbolic links under ``root``, ignored ones too, each path followed by NUL; never ``.git``.

    Raise RepositoryError with the names of what a tree cannot hold: other repositories, sockets, pipes, devices, and
    files that cannot be read.
    """
    found: list[bytes] = []
    refused: list[str] = []
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            inside = sorted(os.scandir(os.path.join(os.fsencode(root), folder)), key=lambda entry: entry.name)
        except OSError as error:
            refused.append(f"{os.fsdecode(folder)}/: {error.strerror}")
            continue
        for entry in inside:
            name = os.path.join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False) and entry.name != b".git":
                folders.append(name)
            elif trouble := _trouble(entry, folder):
                refused.append(f"{os.fsdecode(name)}: {trouble}")
            elif entry.name != b".git":
                found.append(name)
    if refused:
        raise RepositoryError(
            f"{root} holds what no release can carry; remove it, or release a commit instead of --snapshot:\n"
            + some(sorted(refused))
        )
    return b"".join(name + b"\0" for name in sorted(found))


def _trouble(entry: os.DirEntry[bytes], folder: bytes) -> str:
    if entry.name == b".git":
        return "another git repository inside the source" if folder else ""
    if entry.is_symlink():
        return ""
    if not entry.is_file(follow_symlinks=False):
        return _kind(entry.stat(follow_symlinks=False).st_mode)
    return "" if os.access(entry.path, os.R_OK, effective_ids=True) else "cannot be read"


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a named pipe"))
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "a device")
