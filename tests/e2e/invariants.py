"""What must hold on every host after whatever happened; knows the layout on disk and nothing of Skein's code.

A manifest tells a tree's every file: path → (mode, SHA-256 in hex), and for a symbolic link (LINK_MODE, b"-> target").
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.remote.lab import Lab

Manifest = dict[bytes, tuple[int, bytes]]

LINK_MODE = 0o777
RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-\d{4,}-[0-9a-f]{7}")
OURS = re.compile(r"python[0-9.]*|git(-.*)?")


def check_host(
    deploy_to: Path,
    link: Path,
    allowed: Mapping[str, Manifest],
    shared: Collection[bytes] = (),
    inside: str = "/srv/app",
) -> str:
    """Assert that the link leads to a release with exactly the files of one allowed manifest; return that one's name.

    ``deploy_to`` and ``link`` are paths from outside; ``inside`` is what the host itself calls ``deploy_to``, for links
    with an absolute target. ``shared`` are the linked directories and files: each must be a link to its namesake in
    ``shared/``, whatever the manifest has there.
    """
    release = _live(deploy_to, link, inside)
    found = read_tree(release)
    for path in shared:
        target = found.pop(path, (0, b"nothing"))[1]
        wanted = f"{inside}/shared/{os.fsdecode(path)}"
        place = f"{inside}/releases/{release.name}/{os.path.dirname(os.fsdecode(path))}"
        leads = os.path.normpath(os.path.join(place, os.fsdecode(target.removeprefix(b"-> "))))
        assert target.startswith(b"-> "), f"{release}: shared {path!r} is {target!r}, not a link"
        assert leads == wanted, f"{release}: shared {path!r} leads to {leads}, not {wanted}"
    folders = _folders([*found, *shared])
    differences = {}
    for name, manifest in allowed.items():
        wanted_files = {path: entry for path, entry in manifest.items() if not _is_under(path, shared)}
        differences[name] = _differences(found, wanted_files)
        if not differences[name]:
            _check_folders(release, folders)
            return name
    nearest = min(differences, key=lambda name: len(differences[name]), default="none is allowed")
    told = "\n  ".join(differences.get(nearest, [])[:20])
    raise AssertionError(f"{release} is none of {list(allowed)}; nearest is {nearest}, but:\n  {told}")


def read_tree(root: Path) -> Manifest:
    """Read a tree from disk, every byte of it; empty directories and other kinds of files fail."""
    manifest: Manifest = {}
    for path, relative in _walk(os.fsencode(root)):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            manifest[relative] = (LINK_MODE, b"-> " + os.readlink(path))
        else:
            assert stat.S_ISREG(status.st_mode), f"{path!r} is neither file nor link"
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            manifest[relative] = (stat.S_IMODE(status.st_mode), digest.encode())
    return manifest


def assert_no_leftovers(deploy_to: Path, link: Path | None = None) -> None:
    """Assert that after a completed run nothing temporary stands on the host, and that releases and manifests pair."""
    link = link or deploy_to / "current"
    private = deploy_to / ".skein"
    left = [*(private / "tmp").glob("*")]
    repository = private / "repo.git"
    left += [path for pattern in ("*.lock", "tmp_*") for path in repository.rglob(pattern)]
    left += [path for path in link.parent.iterdir() if path.name.startswith(f".{link.name}.skein")]
    assert not left, f"left over: {', '.join(map(str, left))}"
    releases = _names(deploy_to / "releases")
    odd = sorted(name for name in releases if not RELEASE_ID.fullmatch(name))
    assert not odd, f"{deploy_to}/releases holds what is no release: {odd}"
    manifests = _names(private / "releases")
    assert manifests == {f"{name}.json" for name in releases}, (
        f"{deploy_to}: releases {sorted(releases)} but manifests {sorted(manifests)}"
    )


def assert_no_orphans(lab: Lab, machines: Sequence[str], seconds: float = 20) -> None:
    """Assert that no python or git process lives on the machines, or that the last of them goes within the deadline."""
    deadline = time.monotonic() + seconds
    while orphans := [
        f"{machine}: {pid} {' '.join(argv)[:200]}"
        for machine in machines
        for pid, argv in lab.processes(machine)
        if OURS.fullmatch(os.path.basename(argv[0]))
    ]:
        assert time.monotonic() < deadline, f"alive after {seconds:g} s: {'; '.join(orphans)}"
        time.sleep(0.1)


def check_tree(root: Path, manifest: Manifest) -> None:
    """Assert that a folder, which another tool may have filled, has exactly the files of a manifest."""
    differences = _differences(read_tree(root), manifest)
    assert not differences, f"{root}: {'; '.join(differences[:20])}"


def main(wanted: str, shared: str, *hosts: str) -> int:
    """Print as JSON {place: why} of places that hold anything but exactly the files of the folder ``wanted``.

    A place is a host's ``deploy_to`` with the linked paths ``shared``, commas between; or, where that is "-", a plain
    folder. Git tells two modes apart, so others count as the nearer one.
    """
    found = read_tree(Path(wanted))
    manifest = {
        path: (mode if mode == LINK_MODE else 0o755 if mode & 0o100 else 0o644, content)
        for path, (mode, content) in found.items()
    }
    wrong = {}
    for host in map(Path, hosts):
        try:
            if shared == "-":
                check_tree(host, manifest)
            else:
                check_host(host, host / "current", {"it": manifest}, os.fsencode(shared).split(b","))
        except (AssertionError, OSError) as error:
            wrong[str(host)] = str(error)
    sys.stdout.write(json.dumps(wrong) + "\n")
    return 0


def _live(deploy_to: Path, link: Path, inside: str) -> Path:
    """Return the live release's directory from outside, having asserted that the link's own text names it."""
    assert link.is_symlink(), f"{link} is no symbolic link"
    text = os.readlink(link)
    if text.startswith("/"):
        assert text.startswith(f"{inside}/"), f"{link} leads to {text}, outside {inside}"
        text = str(deploy_to / text.removeprefix(f"{inside}/"))
    release = Path(os.path.normpath(link.parent / text))
    assert release.parent == deploy_to / "releases", f"{link} leads to {release}, not into {deploy_to}/releases"
    assert RELEASE_ID.fullmatch(release.name), f"{link} leads to {release.name}, which is no release id"
    assert release.is_dir(), f"{link} leads to {release}, which is no directory"
    assert not release.is_symlink(), f"{link} leads to {release}, itself a link"
    return release


def _walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    for folder, folders, files in os.walk(root, onerror=_refuse):
        assert folders or files or folder == root, f"{folder!r} is an empty directory"
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, root)


def _refuse(error: OSError) -> None:
    raise error


def _folders(paths: Collection[bytes]) -> set[bytes]:
    folders = {b""}
    for path in paths:
        while path := os.path.dirname(path):
            folders.add(path)
    return folders


def _check_folders(release: Path, folders: set[bytes]) -> None:
    modes = {folder: stat.S_IMODE(os.lstat(os.path.join(os.fsencode(release), folder)).st_mode) for folder in folders}
    wrong = {folder: oct(mode) for folder, mode in modes.items() if mode != 0o755}
    assert not wrong, f"{release}: directories that are not 0755: {wrong}"


def _is_under(path: bytes, shared: Collection[bytes]) -> bool:
    return any(path == each or path.startswith(each + b"/") for each in shared)


def _differences(found: Manifest, wanted: Manifest) -> list[str]:
    """Say what differs; a manifest's modes are git's two, so they are compared as they stand."""
    if found == wanted:
        return []
    lines = [f"missing {path!r}" for path in sorted(wanted.keys() - found.keys())]
    lines += [f"extra {path!r}" for path in sorted(found.keys() - wanted.keys())]
    for path in sorted(found.keys() & wanted.keys()):
        (mode, content), (right_mode, right) = found[path], wanted[path]
        lines += [f"mode of {path!r} is {mode:04o}, not {right_mode:04o}"] if mode != right_mode else []
        lines += [f"content of {path!r} is {content!r}, not {right!r}"] if content != right else []
    return lines


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
