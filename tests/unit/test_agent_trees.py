"""The agent's look at directories: shared links planned, differences found, trees removed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.agent.place import Place
from tasks.agent.problem import Problem, explain, os_text
from tasks.agent.record import TICK_NS, Record
from tasks.agent.stage import plan_links
from tasks.agent.trees import blob_id, differences, remove

Entries = dict[bytes, tuple[bytes, bytes]]
FILE, PROGRAM, LINK = b"100644", b"100755", b"120000"


def blob(content: bytes, algorithm: str = "sha1") -> bytes:
    return hashlib.new(algorithm, b"blob %d\0" % len(content) + content).hexdigest().encode()


def entries(*paths: bytes) -> Entries:
    return {path: (FILE, blob(b"")) for path in paths}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(str(tmp_path), None, "prod")
    made.make()
    return made


@pytest.fixture
def tree(tmp_path: Path) -> tuple[bytes, Entries, dict[bytes, bytes]]:
    """Make a small release and what it must hold."""
    root = tmp_path / "release"
    (root / "a").mkdir(parents=True)
    for folder in (root, root / "a"):
        folder.chmod(0o755)
    for name, content, mode in (("index", b"hello", 0o644), ("a/run", b"#!", 0o755)):
        (root / name).write_bytes(content)
        (root / name).chmod(mode)
    (root / "to").symlink_to("index")
    (root / "storage").symlink_to("../../shared/storage")
    wanted = {b"index": (FILE, blob(b"hello")), b"a/run": (PROGRAM, blob(b"#!")), b"to": (LINK, blob(b"index"))}
    return os.fsencode(root), wanted, {b"storage": b"../../shared/storage"}


Damage = Callable[[Path], object]


def _swap(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o755)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "content": (lambda root: (root / "index").write_bytes(b"HELLO"), "index: its content is not that of the release"),
    "size": (lambda root: (root / "index").write_bytes(b""), "index: its content is not that of the release"),
    "mode": (lambda root: (root / "index").chmod(0o666), "index: mode 666, not 644"),
    "not executable": (lambda root: (root / "a/run").chmod(0o644), "a/run: mode 644, not 755"),
    "directory mode": (lambda root: (root / "a").chmod(0o777), "a: mode 777, not 755"),
    "missing": (lambda root: (root / "index").unlink(), "index: missing"),
    "extra": (lambda root: (root / "b").touch(), "b: a file that is not of the release"),
    "extra directory": (lambda root: (root / "b").mkdir(), "b: a directory that is not of the release"),
    "link elsewhere": (lambda root: _relink(root / "to", "/etc"), "to: its content is not that of the release"),
    "link to shared": (lambda root: _relink(root / "storage", "/etc"), "storage: not the link to the shared directory"),
    "file for link": (lambda root: _refile(root / "to", b"index"), "to: not a symbolic link"),
    "link for file": (lambda root: _relink(root / "index", "a"), "index: not a regular file"),
    "pipe for file": (lambda root: _repipe(root / "index"), "index: not a regular file"),
    "directory for file": (lambda root: _swap(root / "index"), "index: a directory that is not of the release"),
    "directory for shared": (lambda root: _swap(root / "storage"), "storage: a directory that is not of the release"),
    "odd name": (lambda root: Path(os.fsdecode(os.fsencode(root) + b"/\xff\n")).touch(), "\\xff\n: a file that is not"),
}


def _relink(path: Path, text: str) -> None:
    path.unlink()
    path.symlink_to(text)


def _refile(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _repipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o644)


def test_a_tree_as_it_must_be_has_no_differences(tree: tuple[bytes, Entries, dict[bytes, bytes]]) -> None:
    assert differences(*tree) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_kind_of_damage_is_found(tree: tuple[bytes, Entries, dict[bytes, bytes]], damage: str) -> None:
    work, told = DAMAGES[damage]
    work(Path(os.fsdecode(tree[0])))
    assert any(line.startswith(told) for line in differences(*tree))


def test_differences_stop_at_the_number_asked_for(tree: tuple[bytes, Entries, dict[bytes, bytes]]) -> None:
    for number in range(30):
        Path(os.fsdecode(tree[0]), str(number)).touch()
    assert len(differences(*tree, most=7)) == 7
    assert len(differences(tree[0], {**tree[1], **entries(*(b"m%d" % n for n in range(30)))}, tree[2], most=40)) == 40


def test_differences_ask_between_files_whether_to_go_on(tree: tuple[bytes, Entries, dict[bytes, bytes]]) -> None:
    def stop() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        differences(*tree, check=stop)


def test_what_a_record_knows_is_not_hashed_again_and_anything_else_is(
    tree: tuple[bytes, Entries, dict[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counting(path: bytes, entry: os.stat_result, length: int) -> bytes:
        hashed.append(os.path.basename(os.fsdecode(path)))
        return blob_id(path, entry, length)

    monkeypatch.setattr("tasks.agent.trees.blob_id", counting)
    root, wanted, links = tree
    newest = max(os.lstat(os.path.join(root, path)).st_ctime_ns for path in wanted)
    while time.time_ns() < newest + 2 * TICK_NS:
        time.sleep(0.005)
    record = Record("", {path: b"%s %s" % entry for path, entry in wanted.items()}, links)
    assert differences(root, wanted, links, record=record) == []
    assert sorted(hashed) == ["index", "run", "to"]
    hashed.clear()
    assert differences(root, wanted, links, record=record) == []
    assert hashed == []
    index = os.path.join(root, b"index")
    seen = os.stat(index)
    Path(os.fsdecode(index)).write_bytes(b"HELLO")
    os.utime(index, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert differences(root, wanted, links, record=record) == ["index: its content is not that of the release"]
    assert hashed == ["index"]


def test_sha256_repositories_are_hashed_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    tmp_path.chmod(0o755)
    (tmp_path / "a").chmod(0o644)
    assert differences(os.fsencode(tmp_path), {b"a": (FILE, blob(b"x", "sha256"))}, {}) == []


def test_links_are_relative_and_climb_as_far_as_they_lie_deep(place: Place) -> None:
    links = plan_links(place, entries(b"index", b"a/file"), ["storage", "a/b/c"], [])
    assert links == {b"storage": b"../../shared/storage", b"a/b/c": b"../../../../shared/a/b/c"}
    assert os.path.isdir(os.path.join(place.shared, "a/b/c"))


@pytest.mark.parametrize(
    ("paths", "name", "told"),
    [
        ([b"storage"], "storage", "the release itself holds"),
        ([b"storage/a"], "storage", "the release itself holds"),
        ([b"storage/a/b"], "storage/a", "the release itself holds"),
        ([b"storage"], "storage/a", "is a file of the release and cannot hold"),
        ([b"a"], "a/b/c", "is a file of the release and cannot hold"),
        ([], "../a", "no relative path"),
        ([], "a/../b", "no relative path"),
        ([], "./a", "no relative path"),
        ([], "a/", "no relative path"),
        ([], "/a", "no relative path"),
        ([], "", "no relative path"),
        ([], "a\0b", "no relative path"),
    ],
)
def test_a_linked_path_that_cannot_be_is_refused(place: Place, paths: list[bytes], name: str, told: str) -> None:
    with pytest.raises(Problem, match=told):
        plan_links(place, entries(*paths), [name], [])
    assert os.listdir(place.shared) == []


def test_a_linked_path_next_to_a_file_of_a_similar_name_is_fine(place: Place) -> None:
    assert list(plan_links(place, entries(b"storage.txt", b"storages/a"), ["storage"], [])) == [b"storage"]


@pytest.mark.parametrize("order", [["a", "a/b"], ["a/b", "a"]])
def test_linked_paths_inside_each_other_are_refused(place: Place, order: list[str]) -> None:
    with pytest.raises(Problem, match="lies inside the linked path"):
        plan_links(place, {}, order, [])


def test_a_tree_nobody_may_read_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    doomed = tmp_path / "doomed"
    (doomed / "shut" / "deeper").mkdir(parents=True)
    (doomed / "shut" / "deeper" / "file").touch()
    (doomed / "out").symlink_to(tmp_path / "precious")
    (doomed / "shut" / "deeper").chmod(0)
    (doomed / "shut").chmod(0)
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    for path in (doomed, tmp_path / "link"):
        remove(str(path))
    assert sorted(os.listdir(tmp_path)) == ["precious"]
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(28, "No space left", "/x"), "disk-full", r"\(/x\)"),
        (OSError(122, "Quota", None), "disk-full", "free some"),
        (PermissionError(13, "denied", b"/\xff"), "permission", r"\(/\\xff\)"),
        (OSError(30, "ro", "/x"), "read-only", "read-only"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "os-error", r"cross-device link \(/b\)"),
        (OSError("failpoint x"), "os-error", "failpoint x"),
        (OSError(5, "Input/output error", 7), "os-error", "descriptor 7"),
    ],
)
def test_errors_of_the_system_are_explained(error: OSError, code: str, told: str) -> None:
    problem = explain(error)
    assert problem.code == code
    with pytest.raises(Problem, match=told):
        raise problem


def test_any_path_can_be_said_in_json() -> None:
    assert os_text("a\udcffb") == os_text(b"a\xffb") == "a\\xffb"
