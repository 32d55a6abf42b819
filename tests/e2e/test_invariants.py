"""The invariant checker catches what it must."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from invariants import Manifest, assert_no_leftovers, check_host

ID = "20261122T101500Z-0042-1a2b3c4"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Lay out a host's deploy_to after a good run: one release of two files and a shared directory."""
    app = tmp_path / "app"
    release = app / "releases" / ID
    (release / "sub").mkdir(parents=True)
    (release / "index.html").write_text("hello")
    (release / "sub/run").write_text("#!/bin/sh\n")
    (release / "sub/run").chmod(0o755)
    (release / "storage").symlink_to("/srv/app/shared/storage")
    (app / ".skein/releases").mkdir(parents=True)
    (app / ".skein/releases" / f"{ID}.json").write_text("{}")
    (app / ".skein/repo.git/objects").mkdir(parents=True)
    (app / ".skein/tmp").mkdir()
    (app / "current").symlink_to(f"releases/{ID}")
    for folder in (release, release / "sub"):
        folder.chmod(0o755)
    (release / "index.html").chmod(0o644)
    return app


def good() -> Manifest:
    def sha256(text: str) -> bytes:
        return hashlib.sha256(text.encode()).hexdigest().encode()

    return {
        b"index.html": (0o644, sha256("hello")),
        b"sub/run": (0o755, sha256("#!/bin/sh\n")),
        b"storage/.keep": (0o644, sha256("")),
    }


def check(app: Path, link: Path | None = None) -> str:
    old = {path: (mode, b"other") for path, (mode, _) in good().items()}
    return check_host(app, link or app / "current", {"old": old, "good": good()}, shared=[b"storage"])


def test_a_good_host_is_told_by_the_name_of_its_content(app: Path) -> None:
    assert check(app) == "good"
    assert_no_leftovers(app)


def test_a_link_elsewhere_with_the_hosts_own_absolute_target_is_followed(app: Path) -> None:
    link = app.parent / "www"
    link.symlink_to(f"/srv/app/releases/{ID}")
    assert check(app, link) == "good"
    assert_no_leftovers(app, link)


def relink(app: Path, target: str) -> None:
    (app / "current").unlink()
    (app / "current").symlink_to(target)


def fake_shared(app: Path) -> None:
    (app / "releases" / ID / "storage").unlink()
    (app / "releases" / ID / "storage").symlink_to("../../shared/other")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda app: (app / "current/index.html").write_text("hellO"), "content of b'index.html'"),
        (lambda app: (app / "current/sub/more").write_text(""), "extra b'sub/more'"),
        (lambda app: (app / "current/index.html").unlink(), "missing b'index.html'"),
        (lambda app: (app / "current/index.html").chmod(0o664), "mode of b'index.html' is 0664, not 0644"),
        (lambda app: (app / "current/sub").chmod(0o775), "not 0755"),
        (lambda app: (app / "current").resolve().chmod(0o700), "not 0755"),
        (lambda app: (app / "current/empty").mkdir(), "empty directory"),
        (lambda app: os.mkfifo(app / "current/pipe"), "neither file nor link"),
        (lambda app: (app / "current/sub/link").symlink_to("run"), "extra b'sub/link'"),
        (lambda app: (app / "current/storage").unlink(), "not a link"),
        (fake_shared, "leads to /srv/app/shared/other"),
        (lambda app: (app / "current").unlink(), "no symbolic link"),
        (lambda app: relink(app, f"releases/{ID[:-1]}5"), "no directory"),
        (lambda app: relink(app, "releases/new"), "no release id"),
        (lambda app: relink(app, f"releases/{ID}/sub"), "not into"),
        (lambda app: relink(app, "/srv/elsewhere"), "outside /srv/app"),
    ],
)
def test_the_checker_catches_a_wrong_release(app: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(app)
    with pytest.raises(AssertionError) as caught:
        check(app)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "leftover",
    [
        ".skein/tmp/pack",
        ".skein/repo.git/shallow.lock",
        ".skein/repo.git/refs/skein/x.lock",
        ".skein/repo.git/objects/tmp_objdir-incoming-a/b",
        ".skein/repo.git/objects/pack/tmp_pack_a",
        ".current.skein-next",
        "releases/.new/file",
        "releases/20261122T101500Z-0043-1a2b3c4/file",
        ".skein/releases/20261122T101500Z-0043-1a2b3c4.json",
    ],
)
def test_the_checker_catches_a_leftover(app: Path, leftover: str) -> None:
    (app / leftover).parent.mkdir(parents=True, exist_ok=True)
    (app / leftover).write_text("")
    with pytest.raises(AssertionError, match=r"left over|no release|manifests"):
        assert_no_leftovers(app)
