"""Where things are on this host, and the durable writing of small files.

::

    <deploy_to>/current -> releases/<id>    (or ``link`` elsewhere)
    <deploy_to>/releases/<id>/              exactly the release's files
    <deploy_to>/shared/                     linked directories and files
    <deploy_to>/.skein/                     all that is ours: repo.git, agent/<hash>/, releases/<id>.json (manifests),
                                            records/<id>.json, spare/, state.json, lock, log.jsonl, ballast/, tmp/
"""

from __future__ import annotations

import errno
import os
import stat

from .lean import dumps, loads, suppress
from .names import is_id
from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional, Sequence, Tuple, TypeVar, Union

    from .problem import Json

    T = TypeVar("T")

BEFORE = "-0000-"  # in the id of what was adopted, and in no other: releases are numbered from 1
FORMAT = 1
BALLAST = (256 << 10, 256 << 10, 256 << 10, 256 << 10)  # a rollback needs a link, a draft of the state and its log


class Place:
    """The paths of one deployed app on this host."""

    def __init__(self, deploy_to: str, link: Optional[str], environment: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(deploy_to))
        self.link = os.path.abspath(os.path.expanduser(link)) if link else os.path.join(self.root, "current")
        self.environment = environment
        name = ".%s.skein-" % os.path.basename(self.link)
        self.laid = name  # and a number: links next to the real one, to take its place
        self.detour = name + "0"  # the one of them that the real one leads over for a moment: see ``adopt``
        self.releases = os.path.join(self.root, "releases")
        self.shared = os.path.join(self.root, "shared")
        self.own = os.path.join(self.root, ".skein")
        self.repo = os.path.join(self.own, "repo.git")
        self.tmp = os.path.join(self.own, "tmp")
        self.manifests = os.path.join(self.own, "releases")
        self.records = os.path.join(self.own, "records")
        self.spare = os.path.join(self.own, "spare")
        self.agents = os.path.join(self.own, "agent")
        self.state = os.path.join(self.own, "state.json")
        self.log = os.path.join(self.own, "log.jsonl")
        self.ballast = os.path.join(self.own, "ballast")

    def release(self, identity: object) -> str:
        """Return the directory of a release; the id is checked, for it becomes part of a path."""
        if not isinstance(identity, str) or not is_id(identity):
            raise Problem("bad-request", "%r is no release id" % (identity,))
        return os.path.join(self.releases, identity)

    def stands(self, identity: str) -> bool:
        """Tell whether a release's directory is here, a real one."""
        path = self.where(identity)
        return os.path.isdir(path) and not os.path.islink(path)

    def where(self, identity: str) -> str:
        """Return the directory of a release: in ``releases`` by its id, or where the tool before Skein made it."""
        record = self.adopted(identity)
        return str(record["adopted"]) if record else self.release(identity)

    def manifest(self, identity: str) -> str:
        """Return the path of a release's manifest."""
        self.release(identity)
        return os.path.join(self.manifests, identity + ".json")

    def record(self, identity: str) -> str:
        """Return the path of the record of a release's files."""
        self.release(identity)
        return os.path.join(self.records, identity + ".json")

    def adopted(self, identity: str) -> Optional[Json]:
        """Return the record of a release that was here before Skein was, None for any other: see ``adopt``."""
        try:
            record = read_json(self.manifest(identity), "manifest")
        except Problem as problem:
            if problem.code != "damaged-manifest":
                raise
            return None
        return record if record and isinstance(record.get("adopted"), str) else None

    def adoptions(self) -> Dict[str, Json]:
        """Return the records of all releases that were adopted here, by id."""
        try:
            names = [name[:-5] for name in os.listdir(self.manifests) if name.endswith(".json")]
        except FileNotFoundError:
            return {}
        records = {name: self.adopted(name) for name in filter(is_id, names)}
        return {name: record for name, record in records.items() if record}

    def private(self, name: str) -> str:
        """Return a path in ``tmp`` that nothing stands at: what could not be removed there must not be in the way."""
        path, count = os.path.join(self.tmp, name), 0
        while os.path.lexists(path):
            count += 1
            path = os.path.join(self.tmp, "%s.%d" % (name, count))
        return path

    def link_text(self, identity: str) -> str:
        """Return what the link must read to point at a release: relative where it stands in ``deploy_to``.

        For a release of another tool, what that tool wrote, as long as it leads there.
        """
        record = self.adopted(identity)
        target = str(record["adopted"]) if record else self.release(identity)
        if record and record["link"] and self.leads(record["link"]) == target:
            return str(record["link"])
        return os.path.relpath(target, self.root) if os.path.dirname(self.link) == self.root else target

    def leads(self, text: str) -> str:
        """Return the path that a link with this text, in the place of ours, would lead to."""
        return os.path.normpath(os.path.join(os.path.dirname(self.link), text))

    def beside(self) -> str:
        """Return where a link is laid before it takes the real one's place; the sweep knows it by this name."""
        folder, name = os.path.split(self.link)
        return os.path.join(folder, ".%s.skein-%d" % (name, os.getpid()))

    def is_directory(self) -> bool:
        """Tell whether a real directory stands where the link must be."""
        return os.path.isdir(self.link) and not os.path.islink(self.link)

    def link_reads(self) -> Optional[str]:
        """Return what the link reads, None where there is nothing; raise Problem where something else stands there."""
        try:
            text = os.readlink(self.link)
            return os.readlink(os.path.join(os.path.dirname(self.link), text)) if text == self.detour else text
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            kind = "directory" if os.path.isdir(self.link) else "file"
            way = "fab adopt makes it the first release; or " if kind == "directory" else ""
            raise Problem(
                "not-a-link",
                "%s is a %s, not a link, and Skein never deletes what it did not make: %smove it away, for example "
                "mv %s %s.before-skein, then run again" % (self.link, kind, way, self.link, self.link),
            ) from error

    def current(self) -> Optional[str]:
        """Return the id of the live release, or None; raise Problem where the link points at nothing of ours."""
        text = self.link_reads()
        if text is None:
            return None
        identity = self.named(text)
        if identity is None:
            told = "%s points at %s, which is no release of Skein's: fab adopt takes over what another tool made; "
            raise Problem("foreign-link", (told + "or remove that link, or set targets.link") % (self.link, text))
        return identity

    def named(self, text: str) -> Optional[str]:
        """Return the id of the release that a link with this text stands for, None where it is no release's."""
        identity = os.path.basename(text)
        if is_id(identity) and text in (self.link_text(identity), self.release(identity)):
            return identity
        return next((each for each in self.adoptions() if self.link_text(each) == text), None)

    def make(self) -> None:
        """Make the directories that are ours, durable enough: they hold nothing yet.

        Each must be a real directory on one file system: a release is moved into place by renaming it.
        """
        ours = (self.releases, self.own, self.tmp, self.manifests, self.records, self.agents)
        for path in (self.root, self.shared, *ours):
            if not os.path.isdir(path):
                self.spared(lambda: os.makedirs(path, exist_ok=True))  # noqa: B023 - called at once
        for path in ours:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Problem(
                    "not-a-directory", "%s must be a directory of its own, and is a link: move it away" % path
                )
        if os.stat(self.releases).st_dev != os.stat(self.tmp).st_dev:
            told = "%s and %s must be on one file system: a release is renamed from one to the other"
            raise Problem("two-disks", told % (self.releases, self.tmp))
        self.lay_ballast()

    def lay_ballast(self) -> None:
        """Hold space and inodes for a rollback on a full disk; where it is full already, hold none."""
        try:
            os.makedirs(self.ballast, exist_ok=True)
            for number, size in enumerate(BALLAST):
                path = os.path.join(self.ballast, str(number))
                if not os.path.exists(path) or os.path.getsize(path) != size:
                    with open(path, "wb") as file:
                        file.write(os.urandom(size))  # a file system may store zeros without taking space
        except OSError:
            self.drop_ballast()  # a full disk now must not keep a rollback from trying

    def drop_ballast(self) -> None:
        """Give back what was held for a rollback on a full disk; the next ``make`` lays it in again."""
        for number in range(len(BALLAST)):
            with suppress(OSError):
                os.unlink(os.path.join(self.ballast, str(number)))

    def spared(self, work: Callable[[], T]) -> T:
        """Run ``work`` and, where the disk is full, run it once more with the ballast given up."""
        try:
            return work()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.drop_ballast()
            return work()


def sync(path: Union[str, bytes]) -> None:
    """Make a file's content, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: str, draft: str, content: bytes, mode: int) -> None:
    """Replace a file durably, by way of ``draft``: the old content or the new, whatever happens."""
    _put([(path, draft, content)], mode)
    sync(os.path.dirname(path))


def put(files: Dict[str, bytes], mode: int) -> None:
    """Replace files as ``replace`` does, all their contents synced at once; the caller syncs their directories."""
    _put([(path, "%s.%d.new" % (path, os.getpid()), content) for path, content in files.items()], mode)


def _put(files: Sequence[Tuple[str, str, bytes]], mode: int) -> None:
    try:
        for _, draft, content in files:
            with suppress(FileNotFoundError):
                os.unlink(draft)  # of a run that was killed; others are kept out by a lock
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
        for _, draft, _ in files:
            sync(draft)
        for path, draft, _ in files:
            os.rename(draft, path)
    except BaseException:
        for _, draft, _ in files:
            with suppress(OSError):
                os.unlink(draft)
        raise


def write_json(path: str, value: Json) -> None:
    """Replace a file by ``value``, durably."""
    replace(path, "%s.%d.new" % (path, os.getpid()), dumps(value).encode("ascii"), 0o644)


def read_json(path: str, what: str) -> Optional[Json]:
    """Return the object in a file of ours, None where there is none; raise Problem where it is not of this format."""
    try:
        with open(path, encoding="utf-8") as file:
            value = loads(file.read())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise Problem("damaged-" + what, "%s is damaged: move it away and deploy again" % path) from error
    if not isinstance(value, dict) or "format" not in value:
        raise Problem("damaged-" + what, "%s is damaged: move it away and deploy again" % path)
    if value["format"] != FORMAT:
        raise Problem("newer-" + what, "%s is of another format than %d: use the Skein that wrote it" % (path, FORMAT))
    return value
