"""As root on one host: nothing is made, given or entered through a path that another user can swap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.agent import own

USER = 65533  # nobody's

pytestmark = pytest.mark.usefixtures("root")


class Entry:
    """Who the directories are for; as in passwd."""

    pw_name, pw_uid, pw_gid, pw_dir = "deploy", USER, USER, "/nonexistent"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Give a directory that is root's alone, on a way that is."""
    folder = tmp_path / "srv"
    folder.mkdir(mode=0o755)
    return folder


def place(base: Path, mode: int, owner: int = 0) -> Path:
    """Make a directory on the way and say what stands in it."""
    folder = base / "way"
    folder.mkdir()
    os.chown(folder, owner, owner)
    os.chmod(folder, mode)
    return folder / "app"


def give(path: Path) -> list[str]:
    return own._give(str(path), Entry)  # type: ignore[arg-type]


def test_what_root_alone_can_write_to_is_made_and_given(base: Path) -> None:
    path = place(base, 0o755)
    assert give(path) == [f"made {path} for deploy"]
    assert path.stat().st_uid == USER


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o1777, 0), (0o2775, 0), (0o755, USER)])
def test_nothing_is_made_where_others_may_put_a_link_first(base: Path, mode: int, owner: int) -> None:
    path = place(base, mode, owner)
    assert give(path) == []
    assert not path.exists()


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o755, USER)])
def test_nothing_is_given_below_a_directory_that_others_can_swap(base: Path, mode: int, owner: int) -> None:
    path = place(base, mode, owner) / "releases" / "deep"
    path.mkdir(parents=True)
    assert give(path) == []
    assert own._give_tree(str(path), Entry) == []  # type: ignore[arg-type]
    assert path.stat().st_uid == 0


def test_a_sticky_directory_is_passed_where_the_entry_is_roots_own(base: Path) -> None:
    path = place(base, 0o1777)
    path.mkdir()
    assert give(path / "app") == [f"made {path / 'app'} for deploy"]
    os.chown(path, USER, USER)
    assert give(path / "other") == []


def test_a_link_on_the_way_counts_by_where_it_leads(base: Path) -> None:
    path = place(base, 0o777)
    path.mkdir()
    (base / "short").symlink_to("way/app")
    assert give(base / "short" / "new") == []
    assert list(path.iterdir()) == []
    (base / "way").chmod(0o755)
    assert give(base / "short" / "new") == [f"made {base / 'short' / 'new'} for deploy"]


def test_links_in_a_circle_lead_nowhere(base: Path) -> None:
    (base / "one").symlink_to("two")
    (base / "two").symlink_to("one")
    assert not own._is_roots(str(base / "one" / "app"))
