"""The source: the git repository, or plain folder, that holds the files; and the releases that are made of it.

The user's repository gets the annotated tag ``release/<id>`` and nothing else. Release commits live in a private bare
repository of the operator, which borrows the source's objects (gitrepository-layout(5), alternates): nothing is copied,
and one that is lost or broken is made anew.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ..core.errors import RepositoryError, UsageError
from ..core.facts import Difference
from ..core.plan import Commits
from ..core.release import ID, Release, check_ref, release_id, release_ref
from ..core.text import printable
from . import chain, comparing
from .repository import Repository, reason, some
from .store import Store
from .worktree import discover, entries, uncommitted

REST_MOST = 1 << 20
"""Bytes; more is pushed."""


class Source:
    """The files to deploy. A resource: the private repository is ready, and shared with others, while it is open."""

    def __init__(
        self, path: Path, cache: Path, *, operator: str, branch: str, subdir: str | None, signing_key: str | None
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self.where = str(self.path)  # as messages name it
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        self.git_dir = cache.absolute() / f"{name}.git"
        self.private = Repository(self.git_dir)
        self._operator, self._branch, self._signing_key = operator, branch, signing_key
        self._subdir = _inner_path(subdir)
        self._origin: Repository | None = None
        self._store: Store | None = None

    def __enter__(self) -> Self:
        if not self.path.is_dir():
            raise RepositoryError(f"no folder {self.path}: set `path` under [source] to where the files are")
        if "\n" in str(self.path):
            raise RepositoryError(f"{printable(str(self.path))}: a path with a line break in it cannot be a source")
        self._origin, objects, object_format = discover(self.path)
        self._store = Store(self.git_dir, objects, object_format).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._store:
            self._store.__exit__(kind, error, at)

    def resolve(self, ref: str | None) -> str:
        """Return the object id of the commit that ``ref`` names, or the configured branch where it is None.

        Raise UsageError for what is no ref, and RepositoryError for one that is not there, or that a work tree
        on another, detached commit makes doubtful.
        """
        name = check_ref(self._branch if ref is None else ref)
        origin = self._git()
        as_branch, as_tag = (origin.commit(f"refs/{kind}/{name}") for kind in ("heads", "tags"))
        if ref is not None and as_branch and as_tag and as_branch != as_tag:
            raise RepositoryError(
                f"{name} is a branch and a tag in {self.where}: say --ref heads/{name} or tags/{name}"
            )
        commit = as_branch if ref is None else origin.commit(name)
        if not commit:
            raise self._unknown(origin, name)
        head = origin.commit("HEAD")
        if ref is None and origin.work_tree and head != commit and not origin.branch():
            raise RepositoryError(
                f"{self.where} has {head} checked out, detached, and {name} is at {commit}: "
                f"check out {name}, or say which with --ref HEAD or --ref {name}"
            )
        return commit

    def refuse_dirty(self, ref: str | None) -> None:
        """Raise RepositoryError, with the files, where what ``ref`` names is checked out with uncommitted changes."""
        origin = self._origin
        if not origin or not origin.work_tree or not self._is_checked_out(origin, ref):
            return
        files = uncommitted(origin, self._subdir)
        if files:
            raise RepositoryError(
                f"{self.where} has files that are not committed:\n{some(files)}\n"
                "commit them, or release the folder as it is on disk with --snapshot"
            )

    def snapshot(self, when: datetime) -> str:
        """Return a new commit whose tree is what is on disk under the source's path, byte for byte.

        Its parent is what is checked out there, if anything. Nothing of the content or its configuration is run;
        folders without a file are not carried. Raise RepositoryError for what no tree can hold.
        """
        if self._origin and not self._origin.work_tree:
            raise RepositoryError(f"{self.where} is a bare repository: there is no work tree to take a snapshot of")
        paths = entries(self.path)
        disk = Repository(self.git_dir, self.path)
        with tempfile.TemporaryDirectory(dir=self.git_dir, prefix="tmp-") as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            batch = {"core.fsyncMethod": "batch"}
            what = f"cannot take a snapshot of {self.where}"
            add = ("update-index", "--add", "--remove", "-z", "--stdin")
            disk.run(what, *add, stdin=paths, environment=index, settings=batch)
            tree = disk.run(what, "write-tree", environment=index).text
        head = self._origin.commit("HEAD") if self._origin else None
        return self._commit_tree(tree, head, f"Snapshot of {printable(self.where)}\n", when)

    def tree_of(self, commit: str) -> str:
        """Return the tree to deploy of ``commit``: all of it, or the configured subdirectory.

        Raise RepositoryError where that is missing, empty or holds submodules.
        """
        name = f"{commit}:{self._subdir}" if self._subdir else f"{commit}^{{tree}}"
        found = self.private.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        if found.status or self.private.attempt("cat-file", "-t", found.text).text != "tree":
            place = f"no folder {printable(self._subdir)}" if self._subdir else "no files"
            advice = "set `subdir` under [source] to a folder that is there, or leave it out"
            raise RepositoryError(f"{place} in commit {commit[:12]} of {self.where}: {advice}")
        tree = found.text
        listed = os.fsdecode(self.private.run(f"cannot read {commit}", "ls-tree", "-r", "-d", "-z", tree).output)
        modules = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith("160000 ")]
        if modules:
            raise RepositoryError(f"submodules are not supported yet; {commit[:12]} has:\n{some(modules)}")
        nothing = self.private.run("cannot name the empty tree", "hash-object", "-t", "tree", "--stdin", stdin=b"").text
        if self.private.attempt("diff-tree", "-r", "--quiet", nothing, tree).status == 0:
            raise RepositoryError(f"nothing to release: {commit[:12]} has no files in {self._subdir or self.where}")
        return tree

    def make_release(
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release:
        """Make the release commit, its ref and the tag on ``commit``; raise RepositoryError where one is there already.

        ``parent`` is the environment's release commit before, None for the first. The tag comes before the ref, so
        a number that was used by halves is seen in ``tags`` and not used again.
        """
        release = self.draft_release(environment, number, commit, tree, parent, when)
        self._tag(release, when)
        made, zeros = release.commit, "0" * len(release.commit)
        self.private.run(f"cannot make {release.ref}", "update-ref", "--end-of-options", release.ref, made, zeros)
        return release

    def draft_release(
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release:
        """Make the release commit alone: an object of the private repository, without tag or ref."""
        identity = release_id(when, number, commit)
        message = chain.MESSAGE.format(id=identity, commit=commit, number=number)
        made = self._commit_tree(tree, parent, message, when)
        return Release(identity, number, chain.check_environment(environment), commit, made, tree)

    def releases(self, environment: str) -> dict[str, str]:
        """Return the releases that the private repository knows, id to release commit, oldest first."""
        prefix = release_ref(chain.check_environment(environment), "")
        known = {ref.removeprefix(prefix): oid for ref, oid in self.private.refs(prefix).items()}
        return {identity: known[identity] for identity in sorted(known) if ID.fullmatch(identity)}

    def tags(self) -> tuple[str, ...]:
        """Return the ids of all releases, of whatever environment, that are tagged in the source, oldest first."""
        names = (ref.removeprefix("refs/tags/release/") for ref in self._tagged.refs("refs/tags/release/"))
        return tuple(sorted(name for name in names if ID.fullmatch(name)))

    def read_release(self, environment: str, identity: str, commit: str) -> Release:
        """Return the release that a release commit says it is; raise RepositoryError unless all it says agrees."""
        return chain.read_release(self.private, environment, identity, commit)

    def refspecs(self, release: Release) -> tuple[str, str]:
        """Return what brings ``release`` to a mirror: its release commit and its tag, by object id."""
        tag = self._tagged.refs(f"refs/tags/{release.tag}").get(f"refs/tags/{release.tag}")
        if not tag:
            raise RepositoryError(f"no tag {release.tag} in {self.where}")
        return f"{release.commit}:{release.ref}", f"{tag}:refs/tags/{release.tag}"

    def has(self, oid: str) -> bool:
        """Say whether the object is in the private repository or the source."""
        return self.private.has(oid)

    def changes(self, old: str | None, new: str, most: int = 0) -> Difference:
        """Count the files that differ from ``old`` to ``new``, trees or commits, and name ``most``; to None, all do."""
        return comparing.changes(self.private, old, new, most)

    def commits(self, old: str, new: str, most: int) -> Commits | None:
        """Return the commits between two, with the first lines of ``most``; None where one of the two is not here."""
        return comparing.commits(self.private, old, new, most)

    def weight(self, base: str | None, commit: str) -> int:
        """Return the bytes that what a release commit adds to ``base``, or to nothing, takes as it is stored."""
        return comparing.weight(self.private, base, commit)

    def delta(self, base: str | None, release: Release, most: int) -> bytes | None:
        """Return a thin pack from a release commit, or from nothing, to ``release``, with its commit.

        None where the base is not here, or where what changed takes more than ``most`` bytes as it is stored.
        """
        if (base and not self.has(base)) or self.weight(base, release.commit) > most:
            return None
        return comparing.delta(self.private, base, release.commit)

    def rest(self, release: Release) -> bytes | None:
        """Return a pack of what the release's tag needs besides the release and what was tagged before.

        None where that is much, as with a site's whole history.
        """
        tags = self._tagged.refs("refs/tags/release")
        before = [oid for name, oid in tags.items() if name != f"refs/tags/{release.tag}"]
        return comparing.rest(self.private, release.commit, tags[f"refs/tags/{release.tag}"], before, REST_MOST)

    @property
    def _tagged(self) -> Repository:
        """Where tags are: in the source, or in the private repository where the source is a plain folder."""
        return self._origin or self.private

    def _git(self) -> Repository:
        if not self._origin:
            advice = "run `git init` there and commit, or release the folder as it is with --snapshot"
            raise RepositoryError(f"no git repository at {self.where}: {advice}")
        return self._origin

    def _is_checked_out(self, origin: Repository, ref: str | None) -> bool:
        if ref == "HEAD":
            return True
        name = (self._branch if ref is None else ref).removeprefix("refs/").removeprefix("heads/")
        if head := origin.branch():
            return name == head
        return ref is None and origin.commit("HEAD") == origin.commit(f"refs/heads/{name}")

    def _unknown(self, origin: Repository, name: str) -> RepositoryError:
        refs = [*origin.refs("refs/heads"), *origin.refs("refs/tags"), *origin.refs("refs/remotes")]
        if not refs:
            return RepositoryError(f"{self.where} has no commit yet: commit its files, or release them with --snapshot")
        names = sorted({ref.split("/", 2)[2] for ref in refs})
        close = difflib.get_close_matches(name, names, 3, 0.5)
        advice = f"did you mean {', '.join(close)}?" if close else f"it has, for instance, {', '.join(names[:5])}"
        return RepositoryError(f"no branch, tag or commit {name} in {self.where}: {printable(advice)}")

    def _commit_tree(self, tree: str, parent: str | None, message: str, when: datetime) -> str:
        return chain.commit_tree(self.private, tree, parent, message, operator=self._operator, when=when)

    def _tag(self, release: Release, when: datetime) -> None:
        where = self._tagged
        if where.refs(f"refs/tags/{release.tag}"):
            raise RepositoryError(f"{release.tag} is tagged already in {self.where}: deploy again for a new number")
        if not where.has(release.source_commit):
            self._bring(release.source_commit, where)
        settings, sign = {}, "--no-sign"
        if self._signing_key:
            settings = {"gpg.format": "ssh", "gpg.ssh.program": "ssh-keygen", "user.signingKey": self._signing_key}
            sign = "--sign"
        message = f"Release {release.number} of {release.environment}"
        what = f"cannot tag {release.tag} in {self.where}"
        made = where.run(
            what,
            *("tag", "-a", sign, "-m", message, "--end-of-options", release.tag, release.source_commit),
            settings=settings,
            environment=chain.signature(self._operator, when),
        )
        tag = f"refs/tags/{release.tag}"
        if self._signing_key and not where.run(what, "for-each-ref", "--format=%(contents:signature)", "--", tag).text:
            # git 2.39 says that ssh-keygen failed, makes the tag without a signature and succeeds
            where.run(what, "update-ref", "-d", "--end-of-options", tag)
            raise RepositoryError(f"{what}: it could not be signed: {reason(made.errors)}")

    def _bring(self, commit: str, where: Repository) -> None:
        """Copy a snapshot's own objects into the source, so that developers can look at what was deployed."""
        head = where.commit("HEAD")
        wanted = f"{commit}\n" + (f"^{head}\n" if head else "")
        with tempfile.TemporaryDirectory(dir=self.git_dir, prefix="tmp-") as folder:
            what = f"cannot bring {commit} into {self.where}"
            pack = self.private.run(what, "pack-objects", "-q", "--revs", f"{folder}/pack", stdin=wanted.encode()).text
            with Path(f"{folder}/pack-{pack}.pack").open("rb") as file:
                where.run(what, "index-pack", "--stdin", "--fix-thin", stdin=file)


def _inner_path(subdir: str | None) -> str:
    path = PurePosixPath(subdir or ".")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"subdir {subdir!r} must be a path inside the source")
    return "" if path == PurePosixPath(".") else str(path)
