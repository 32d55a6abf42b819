"""The source with real git repositories: what a release is made of, byte for byte, and what git must not run."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import RepositoryError, UsageError
from tasks.core.plan import Commits
from tasks.core.release import Release
from tasks.remote.source import Source
from tasks.remote.worktree import entries

WHEN = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
OPERATOR = "ann@laptop"


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run git as a developer on this machine would, and return what it says."""
    who = ["-c", "user.name=dev", "-c", "user.email=dev@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, input=stdin, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


def commit(folder: Path, message: str = "work") -> str:
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a repository on branch main with one commit."""
    folder = tmp_path / "www"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "index.php").write_bytes(b"<?php\n")
    commit(folder)
    return folder


@pytest.fixture
def closed(tmp_path: Path) -> Callable[..., Source]:
    def make(path: Path, **options: str | None) -> Source:
        given = {"branch": "main", "subdir": None, "signing_key": None} | options
        return Source(path, tmp_path / "cache", operator=OPERATOR, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def opened(closed: Callable[..., Source]) -> Iterator[Callable[..., Source]]:
    with contextlib.ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(closed(path, **options))


Open = Callable[..., Source]


def files(source: Source, tree: str) -> dict[str, bytes]:
    """Return path and content of every file in a tree."""
    listed = source.private.attempt("ls-tree", "-r", "-z", tree).output.split(b"\0")[:-1]
    pairs = [entry.split(b"\t", 1) for entry in listed]
    blob = {os.fsdecode(name): meta.split()[2].decode() for meta, name in pairs}
    return {name: source.private.attempt("cat-file", "blob", oid).output for name, oid in blob.items()}


# --- which commit


def test_without_a_ref_the_branch_is_meant(site: Path, opened: Open) -> None:
    assert opened(site).resolve(None) == git(site, "rev-parse", "main")


def test_a_tag_a_short_id_and_an_ancestor_are_refs(site: Path, opened: Open) -> None:
    first = git(site, "rev-parse", "HEAD")
    git(site, "tag", "-a", "-m", "one", "v1")
    commit(site, "two")
    source = opened(site)
    assert {source.resolve(ref) for ref in ("v1", first[:8], first, "main~1", "refs/tags/v1")} == {first}


def test_an_option_is_no_ref(site: Path, opened: Open) -> None:
    for ref in ("--upload-pack=x", "-n", "HEAD:index.php", "a..b", ""):
        with pytest.raises(UsageError):
            opened(site).resolve(ref)


def test_an_unknown_ref_names_its_neighbours(site: Path, opened: Open) -> None:
    with pytest.raises(RepositoryError, match=r"no branch, tag or commit mian .*did you mean main"):
        opened(site).resolve("mian")
    with pytest.raises(RepositoryError, match="no branch, tag or commit " + "1" * 40):
        opened(site).resolve("1" * 40)


def test_a_name_that_is_branch_and_tag_must_be_said_in_full(site: Path, opened: Open) -> None:
    git(site, "tag", "both")
    git(site, "checkout", "-q", "-b", "both")
    newest = commit(site, "two")
    with pytest.raises(RepositoryError, match="heads/both or tags/both"):
        opened(site).resolve("both")
    assert opened(site).resolve("heads/both") == newest


def test_an_empty_repository_says_what_to_do(tmp_path: Path, opened: Open) -> None:
    git(tmp_path, "init", "-q", "new")
    with pytest.raises(RepositoryError, match="no commit yet: commit"):
        opened(tmp_path / "new").resolve(None)


def test_a_missing_folder_and_a_plain_one_are_told_apart(tmp_path: Path, opened: Open) -> None:
    with pytest.raises(RepositoryError, match="no folder"):
        opened(tmp_path / "nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(RepositoryError, match=r"no git repository.*--snapshot"):
        opened(tmp_path / "plain").resolve(None)


def test_a_folder_inside_a_repository_is_not_that_repository(site: Path, opened: Open) -> None:
    (site / "public").mkdir()
    with pytest.raises(RepositoryError, match="no git repository"):
        opened(site / "public").resolve(None)


def test_a_repository_of_another_user_names_the_command(
    site: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RepositoryError, match=rf"git config --global --add safe.directory {site}"):
        opened(site)
    (Path(os.environ["HOME"]) / ".gitconfig").write_text(f"[safe]\n\tdirectory = {site}\n")
    assert opened(site).resolve(None)


def test_a_detached_work_tree_elsewhere_is_doubtful(site: Path, opened: Open) -> None:
    first = git(site, "rev-parse", "HEAD")
    second = commit(site, "two")
    git(site, "checkout", "-q", "--detach", first)
    source = opened(site)
    with pytest.raises(RepositoryError, match=rf"{first}.*detached.*{second}.*--ref HEAD or --ref main"):
        source.resolve(None)
    assert (source.resolve("HEAD"), source.resolve("main")) == (first, second)
    git(site, "checkout", "-q", "--detach", second)
    assert source.resolve(None) == second


def test_a_linked_work_tree_and_a_bare_repository_are_sources(site: Path, tmp_path: Path, opened: Open) -> None:
    git(site, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    git(tmp_path, "clone", "-q", "--bare", str(site), "bare.git")
    expected = git(site, "rev-parse", "main^{tree}")
    for path in (tmp_path / "linked", tmp_path / "bare.git"):
        source = opened(path)
        source.refuse_dirty(None)
        assert source.tree_of(source.resolve("main")) == expected
    with pytest.raises(RepositoryError, match="bare repository"):
        opened(tmp_path / "bare.git").snapshot(WHEN)


def test_variables_of_a_hook_do_not_lead_elsewhere(
    site: Path, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    for name, value in {"GIT_DIR": "other/.git", "GIT_INDEX_FILE": "/nonexistent/i", "GIT_WORK_TREE": "other"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare'='broken")
    source = opened(site)
    assert source.resolve(None)
    source.refuse_dirty(None)
    assert files(source, source.snapshot(WHEN)) == {"index.php": b"<?php\n"}


# --- what is not committed


def test_uncommitted_files_are_listed(site: Path, opened: Open) -> None:
    source = opened(site)
    source.refuse_dirty(None)
    (site / "index.php").write_text("changed")
    for number in range(24):
        (site / f"new {number:02}\n\x1b[31m").write_text("")
    with pytest.raises(RepositoryError) as caught:
        source.refuse_dirty("main")
    text = str(caught.value)
    assert "index.php" in text
    assert "and 5 more" in text
    assert "--snapshot" in text
    assert "\x1b" not in text
    source.refuse_dirty("main~0")


def test_only_the_subdirectory_that_is_released_must_be_clean(site: Path, opened: Open) -> None:
    (site / "pub*").mkdir()
    (site / "pub*/a").write_text("a")
    commit(site)
    (site / "README").write_text("draft")
    opened(site, subdir="pub*").refuse_dirty(None)
    (site / "pub*/b").write_text("b")
    with pytest.raises(RepositoryError, match="b"):
        opened(site, subdir="pub*").refuse_dirty(None)


def test_the_work_tree_of_another_branch_does_not_matter(site: Path, opened: Open) -> None:
    git(site, "checkout", "-q", "-b", "draft")
    (site / "index.php").write_text("changed")
    opened(site).refuse_dirty(None)
    for ref in ("draft", "heads/draft", "HEAD"):
        with pytest.raises(RepositoryError):
            opened(site).refuse_dirty(ref)


# --- nothing is run, no byte is changed


def booby_trap(site: Path, flag: Path) -> None:
    """Have every door that git knows write ``flag`` and change content."""
    script = site.parent / "trap"
    script.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{flag}'\ntr a-z A-Z\n")
    script.chmod(0o755)
    (site / ".gitattributes").write_text("* text eol=crlf ident filter=trap working-tree-encoding=UTF-16\n")
    (site / "a.txt").write_bytes(b"one\r\ntwo\n$Id$\n\xff")
    for key in ("filter.trap.clean", "filter.trap.smudge", "filter.a=b.process", "core.fsmonitor", "gpg.program"):
        git(site, "config", key, str(script))
    git(site, "config", "filter.trap.required", "true")
    git(site, "config", "tag.gpgSign", "true")
    git(site, "config", "core.autocrlf", "true")
    for hook in ("reference-transaction", "post-index-change", "pre-push", "pre-auto-gc", "post-commit"):
        shutil.copy(script, site / ".git/hooks" / hook)


def test_attributes_filters_and_hooks_change_and_run_nothing(site: Path, tmp_path: Path, closed: Open) -> None:
    flag = tmp_path / "trapped"
    booby_trap(site, flag)
    home = Path(os.environ["HOME"])
    (home / ".gitconfig").write_text(f'[core]\n\tautocrlf = true\n[filter "trap"]\n\tprocess = {tmp_path}/trap\n')
    with closed(site) as source:
        with pytest.raises(RepositoryError, match=r"a\.txt"):
            source.refuse_dirty(None)
        snapshot = source.snapshot(WHEN)
        tree = source.tree_of(snapshot)
        assert files(source, tree) == {
            ".gitattributes": (site / ".gitattributes").read_bytes(),
            "a.txt": b"one\r\ntwo\n$Id$\n\xff",
            "index.php": b"<?php\n",
        }
        release = source.make_release("prod", 1, snapshot, tree, None, WHEN)
    assert not flag.exists(), flag.read_text()
    assert git(site, "cat-file", "-t", f"refs/tags/{release.tag}") == "tag"


@pytest.mark.parametrize("lie", ["replace", "graft"])
def test_replace_refs_and_grafts_are_not_seen(site: Path, opened: Open, lie: str) -> None:
    first = git(site, "rev-parse", "HEAD")
    (site / "index.php").write_text("evil")
    commit(site, "before")
    evil = commit(site, "evil")
    git(site, "reset", "-q", "--hard", first)
    (site / "index.php").write_text("two")
    second = commit(site, "two")
    if lie == "replace":
        git(site, "replace", second, evil)
    else:
        (site / ".git/info").mkdir(exist_ok=True)
        (site / ".git/info/grafts").write_text(f"{second} {evil}\n")
    assert git(site, "rev-parse", "main~1") != first, "developers see the lie"
    source = opened(site)
    assert source.resolve("main~1") == first
    assert files(source, source.tree_of(source.resolve(None))) == {"index.php": b"two"}


# --- the folder as it is on disk


def test_a_snapshot_is_what_is_on_disk(site: Path, opened: Open) -> None:
    (site / ".gitignore").write_text("*.cache\n")
    for name in (b"x.cache", b"a b\nc\"d'e", b"\xff\xfe", b"-n", b":(top)q", "ü".encode()):
        (site / os.fsdecode(name)).write_bytes(b"\0" + name)
    (site / "run").write_text("#!")
    (site / "run").chmod(0o700)
    (site / "link").symlink_to("/etc/passwd")
    (site / "empty").mkdir()
    (site / "deep/er").mkdir(parents=True)
    (site / "deep/er/f").write_text("f")
    source = opened(site)
    commit_id = source.snapshot(WHEN)
    found = files(source, source.tree_of(commit_id))
    on_disk = {str(p.relative_to(site)) for p in site.rglob("*") if not p.is_dir() and ".git" not in p.parts}
    assert set(found) == on_disk
    assert found["link"] == b"/etc/passwd"
    assert found["\udcff\udcfe"] == b"\0\xff\xfe"
    assert "100755" in source.private.attempt("ls-tree", commit_id, "run").text
    assert source.private.attempt("rev-parse", f"{commit_id}^").text == git(site, "rev-parse", "HEAD")
    assert git(site, "status", "--porcelain", "--", "index.php") == ""


def test_the_same_disk_gives_the_same_tree(site: Path, opened: Open) -> None:
    source = opened(site)
    assert source.tree_of(source.snapshot(WHEN)) == source.tree_of(source.snapshot(WHEN.replace(hour=11)))
    stat = (site / "index.php").stat()
    (site / "index.php").write_bytes(b"<?PHP\n")
    os.utime(site / "index.php", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert files(source, source.snapshot(WHEN)) == {"index.php": b"<?PHP\n"}


def test_a_folder_without_git_is_released_too(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "plain/sub").mkdir(parents=True)
    (tmp_path / "plain/sub/a").write_text("a")
    source = opened(tmp_path / "plain", subdir="sub")
    source.refuse_dirty(None)
    snapshot = source.snapshot(WHEN)
    tree = source.tree_of(snapshot)
    release = source.make_release("prod", 1, snapshot, tree, None, WHEN)
    assert files(source, release.commit) == {"a": b"a"}
    assert source.tags() == (release.id,)
    assert [*(tmp_path / "plain").iterdir()] == [tmp_path / "plain/sub"]


def test_what_a_tree_cannot_hold_is_named(site: Path, opened: Open) -> None:
    git(site, "init", "-q", "vendor/lib")
    os.mkfifo(site / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(site / "sock"))
    with pytest.raises(RepositoryError, match=r"(?s)pipe: a named pipe.*sock: a socket.*vendor/lib/.git: another git"):
        opened(site).snapshot(WHEN)


def test_an_unreadable_file_is_named(site: Path) -> None:
    (site / "secret").write_text("s")
    (site / "secret").chmod(0o000)
    (site / "closed").mkdir(mode=0o000)
    with (
        as_somebody_else(site),
        pytest.raises(RepositoryError, match=r"(?s)closed/: Permission.*secret: cannot be read"),
    ):
        entries(site)
    (site / "closed").chmod(0o700)


@contextlib.contextmanager
def as_somebody_else(folder: Path) -> Iterator[None]:
    """Give up root's right to read everything, where the tests run as root."""
    if os.geteuid():
        yield
        return
    user = 65534
    opened = [path for path in [folder, *folder.parents][:-1] if not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode for path in opened}
    for path in opened:
        path.chmod(modes[path] | 0o011)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


# --- trees


def test_a_subdirectory_is_released_as_its_own_tree(site: Path, opened: Open) -> None:
    (site / "a/b").mkdir(parents=True)
    (site / "a/b/f").write_text("f")
    (site / "l").symlink_to("a")
    newest = commit(site)
    assert files(opened(site), opened(site, subdir="./a/b/").tree_of(newest)) == {"f": b"f"}
    for subdir in ("missing", "index.php", "l", "a/b/f"):
        with pytest.raises(RepositoryError, match=f"no folder {subdir}"):
            opened(site, subdir=subdir).tree_of(newest)
    for subdir in ("../x", "/etc"):
        with pytest.raises(UsageError):
            opened(site, subdir=subdir)


def test_submodules_and_empty_trees_are_refused(site: Path, opened: Open) -> None:
    git(site, "update-index", "--add", "--cacheinfo", f"160000,{git(site, 'rev-parse', 'HEAD')},vendor/lib")
    git(site, "commit", "-q", "-m", "module")
    source = opened(site)
    with pytest.raises(RepositoryError, match=r"(?s)not supported yet.*vendor/lib"):
        source.tree_of(source.resolve(None))
    git(site, "rm", "-q", "-r", "--cached", ".")
    git(site, "commit", "-q", "-m", "empty")
    with pytest.raises(RepositoryError, match="nothing to release"):
        source.tree_of(source.resolve(None))


def test_changes_are_counted_by_file(site: Path, opened: Open) -> None:
    (site / "gone").write_text("same content, not a rename")
    (site / "kind").write_text("file")
    old = commit(site)
    (site / "gone").rename(site / "moved")
    (site / "kind").unlink()
    (site / "kind").symlink_to("index.php")
    (site / "new\nline").write_text("n")
    (site / "index.php").chmod(0o755)
    new = commit(site)
    source = opened(site)
    found = source.changes(old, new, 1)
    assert found.counts == {"added": 2, "changed": 2, "removed": 1}
    assert found.names == {"added": ("moved",), "changed": ("index.php",), "removed": ("gone",)}
    assert source.changes(None, new).counts == {"added": 4, "changed": 0, "removed": 0}
    assert source.changes(None, new, 9).names["added"] == ("index.php", "kind", "moved", "new\nline")
    assert source.changes(new, f"{new}").counts == {"added": 0, "changed": 0, "removed": 0}


def test_commits_between_two_are_counted_on_both_sides_with_their_first_lines(site: Path, opened: Open) -> None:
    old = commit(site)
    git(site, "commit", "-q", "--allow-empty", "-m", "one \x1b[2J\n\nbody")
    git(site, "commit", "-q", "--allow-empty", "-m", "two")
    source, new = opened(site), git(site, "rev-parse", "HEAD")
    assert source.commits(old, new, 1) == Commits(2, 0, ("two",))
    assert source.commits(old, new, 9) == Commits(2, 0, ("two", "one \x1b[2J"))
    assert source.commits(new, old, 9) == Commits(0, 2)
    assert source.commits("a" * 40, new, 9) is None


def test_a_draft_of_a_release_is_an_object_alone(site: Path, opened: Open) -> None:
    source = opened(site)
    wanted = source.resolve(None)
    before = git(site, "for-each-ref")
    draft = source.draft_release("prod", 1, wanted, source.tree_of(wanted), None, WHEN)
    assert git(site, "for-each-ref") == before
    assert (source.releases("prod"), source.tags()) == ({}, ())
    assert len(source.delta(None, draft, 1 << 20) or b"") > 0
    assert source.make_release("prod", 1, wanted, draft.tree, None, WHEN) == draft


# --- releases


def test_a_release_is_a_tag_for_people_and_a_chain_for_machines(site: Path, opened: Open) -> None:
    source = opened(site)
    first = git(site, "rev-parse", "HEAD")
    before = git(site, "for-each-ref")
    one = source.make_release("prod", 1, first, source.tree_of(first), None, WHEN)
    second = commit(site, "two")
    two = source.make_release("prod", 2, second, source.tree_of(second), one.commit, WHEN.replace(minute=16))
    assert one.id == f"20261122T101500Z-0001-{first[:7]}"
    assert git(site, "rev-parse", f"{one.tag}^{{commit}}") == first
    assert git(site, "describe", second) == two.tag
    assert [line.split("\t")[1] for line in git(site, "for-each-ref").splitlines() if line not in before] == [
        "refs/heads/main", f"refs/tags/{one.tag}", f"refs/tags/{two.tag}",
    ]  # fmt: skip
    assert source.private.attempt("rev-list", two.commit).text.split() == [two.commit, one.commit]
    assert source.releases("prod") == {one.id: one.commit, two.id: two.commit}
    assert source.releases("staging") == {}
    assert source.tags() == (one.id, two.id)
    assert source.read_release("prod", two.id, two.commit) == two
    people = "%(taggername) %(taggeremail) %(taggerdate:iso)"
    assert git(site, "for-each-ref", f"--format={people}", f"refs/tags/{one.tag}").startswith(
        "ann@laptop <ann@laptop> 2026-11-22 10:15"
    )
    assert source.has(one.commit)
    assert not source.has("0" * 40)


def test_no_identity_and_no_home_are_needed(site: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("USER", raising=False)
    git(site, "config", "user.useConfigOnly", "true")
    source = opened(site)
    head = source.resolve(None)
    assert source.make_release("prod", 1, head, source.tree_of(head), None, WHEN).number == 1


def test_a_tag_that_exists_is_never_moved(site: Path, opened: Open) -> None:
    source = opened(site)
    head = source.resolve(None)
    release = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    tag = git(site, "rev-parse", release.tag)
    with pytest.raises(RepositoryError, match="tagged already"):
        source.make_release("staging", 1, head, source.tree_of(head), None, WHEN)
    assert git(site, "rev-parse", release.tag) == tag
    assert source.releases("staging") == {}


def test_a_key_signs_the_tag(site: Path, tmp_path: Path, opened: Open) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (tmp_path / "signers").write_text(f"ann@laptop {(tmp_path / 'key.pub').read_text()}")
    git(site, "config", "gpg.ssh.program", "/bin/false")
    source = opened(site, signing_key=str(tmp_path / "key"))
    head = source.resolve(None)
    release = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    options = ("-c", f"gpg.ssh.allowedSignersFile={tmp_path}/signers", "-c", "gpg.ssh.program=ssh-keygen")
    git(site, *options, "tag", "-v", release.tag)
    with pytest.raises(RepositoryError, match=r"could not be signed: .*none"):
        opened(site, signing_key=str(tmp_path / "none")).make_release("prod", 2, head, release.tree, None, WHEN)
    assert source.tags() == (release.id,)


def test_a_released_snapshot_can_be_compared_in_the_source(site: Path, tmp_path: Path, opened: Open) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", site.as_uri(), "shallow")
    for path in (site, tmp_path / "shallow"):
        (path / "local.php").write_text("only on disk")
        source = opened(path)
        snapshot = source.snapshot(WHEN)
        release = source.make_release("prod", 1, snapshot, source.tree_of(snapshot), None, WHEN)
        assert git(path, "diff", "--name-only", "HEAD", release.tag) == "local.php"
        git(path, "fsck", "--strict")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Skein-Number: 1\n", "Skein-Number: 2\n"),
        ("Skein-Number: 1\n", "Skein-Number: 1\nSkein-Number: 1\n"),
        ("Skein-Tag: release/", "Skein-Tag: release/x"),
        ("Skein-Source-Commit: ", "Skein-Source-Commit: 0"),
        ("Skein-Source-Commit: ", "Skein-Source-Commit: ../"),
        ("author", "gpgsig x\nauthor"),
        ("Release ", "\x1b[31m" + "x" * 5000),
    ],
)
def test_a_release_commit_that_disagrees_with_itself_is_refused(site: Path, opened: Open, old: str, new: str) -> None:
    source = opened(site)
    head = source.resolve(None)
    release = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    raw = source.private.attempt("cat-file", "commit", release.commit).output
    forged = raw.replace(old.encode(), new.encode())
    assert forged != raw
    oid = source.private.run("forge", "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=forged).text
    with pytest.raises(RepositoryError, match="is not the release commit"):
        source.read_release("prod", release.id, oid)
    for other in (head, release.tree, "0" * 40, "main"):
        with pytest.raises(RepositoryError, match="is not the release commit"):
            source.read_release("prod", release.id, other)


def test_an_environment_must_be_a_name(site: Path, opened: Open) -> None:
    source = opened(site)
    for name in ("../heads", "Prod", "", "a/b"):
        with pytest.raises(UsageError):
            source.releases(name)


# --- the private repository is a cache


def lose(private: Path) -> None:
    shutil.rmtree(private)


def empty(private: Path) -> None:
    shutil.rmtree(private)
    private.mkdir()


def blank_refs(private: Path) -> None:
    for ref in private.glob("refs/skein/**/*-*-*"):
        ref.write_bytes(b"")


def drop_objects(private: Path) -> None:
    for folder in private.glob("objects/??"):
        shutil.rmtree(folder)


def blank_objects(private: Path) -> None:
    for file in private.glob("objects/??/*"):
        file.chmod(0o600)
        file.write_bytes(b"")


def change_attributes(private: Path) -> None:
    (private / "info/attributes").write_text("* text\n")


@pytest.mark.parametrize("damage", [lose, empty, blank_refs, drop_objects, blank_objects, change_attributes])
def test_a_damaged_private_repository_is_made_anew(site: Path, closed: Open, damage: Callable[[Path], None]) -> None:
    with closed(site) as source:
        head = source.resolve(None)
        source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    damage(source.git_dir)
    with closed(site) as again:
        assert again.releases("prod") == {}
        assert again.make_release("prod", 2, head, again.tree_of(head), None, WHEN).number == 2
        assert len(again.tags()) == 2


def test_what_a_killed_deploy_left_is_cleared_away(site: Path, closed: Open) -> None:
    with closed(site) as source:
        head = source.resolve(None)
        release = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    left = [source.git_dir / "packed-refs.lock", source.git_dir / f"{release.ref}.lock", source.git_dir / "tmp-x/index"]
    (source.git_dir / "tmp-x").mkdir()
    for path in left:
        path.write_text("")
    with closed(site) as again:
        assert again.releases("prod") == {release.id: release.commit}
        assert not any(path.exists() for path in left)


def test_two_deploys_share_the_private_repository(site: Path, opened: Open) -> None:
    one, two = opened(site), opened(site)
    head = one.resolve(None)
    release = one.make_release("prod", 1, head, one.tree_of(head), None, WHEN)
    assert two.releases("prod") == {release.id: release.commit}


def test_the_objects_of_the_source_are_not_copied(site: Path, opened: Open) -> None:
    (site / "big").write_bytes(os.urandom(1_000_000))
    head = commit(site)
    source = opened(site)
    source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    assert sum(path.stat().st_size for path in source.git_dir.rglob("*") if path.is_file()) < 20_000


def test_other_object_formats_work(tmp_path: Path, opened: Open) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", "long")
    (tmp_path / "long/a").write_text("a")
    head = commit(tmp_path / "long")
    source = opened(tmp_path / "long")
    release = source.make_release("prod", 1, head, source.tree_of(head), None, WHEN)
    assert len(release.commit) == 64
    assert source.read_release("prod", release.id, release.commit) == release


def test_a_delta_carries_what_changed_and_the_commit_alone(site: Path, opened: Open) -> None:
    (site / "same").write_bytes(os.urandom(200_000))
    commit(site)
    source = opened(site)
    one, two, three = (release_after(source, site, number) for number in (1, 2, 3))
    delta = source.delta(one.commit, three, 1 << 20)
    assert delta is not None
    assert len(delta) < 1000
    assert int.from_bytes(delta[8:12], "big") == 3, "a commit, a tree, a file; nothing of the release between them"
    whole = source.delta(None, three, 1 << 20)
    assert whole is not None
    assert len(whole) > 200_000
    assert source.delta(None, three, 100_000) is None, "more than that it must not take"
    assert source.delta("0" * 40, three, 1 << 20) is None
    assert source.delta(two.commit, two, 1 << 20) is not None


def test_a_delta_is_made_and_measured_whatever_files_are_called(site: Path, opened: Open) -> None:
    names = ["202401 report.pdf", ":100644 a b c d", "100644 blob", "tab\t100644 x", "line\n100644 x"]
    for name in names:
        (site / name).write_bytes(os.urandom(50_000))
    source = opened(site)
    one = release_after(source, site, 1)
    assert source.delta(None, one, 1 << 20) is not None
    for name in names:
        (site / name).write_bytes(os.urandom(50_000))
    two = release_after(source, site, 2)
    assert source.delta(one.commit, two, 1 << 20) is not None
    assert source.delta(one.commit, two, 240_000) is None


def release_after(source: Source, site: Path, number: int) -> Release:
    """Change one file, commit, and make that a release on top of the one before."""
    (site / "index.php").write_text(f"<?php {number}\n")
    head = commit(site)
    parent = list(source.releases("prod").values())[-1:]
    return source.make_release("prod", number, head, source.tree_of(head), *(parent or [None]), WHEN)
