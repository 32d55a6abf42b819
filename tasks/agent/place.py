"""Where things are on this host, and the durable writing of small files.

::

    <deploy_to>/current -> releases/<id>    (or ``link`` elsewhere)
    <deploy_to>/releases/<id>/              exactly the release's files
    <deploy_to>/shared/                     linked directories and files
    <deploy_to>/.skein/                     repo.git, agent/<hash>/, releases/<id>.json, index/<id>, state.json, lock, log.jsonl, tmp/
"""

import errno
import json
import os
import re

from .problem import Problem

ID = re.compile(r"\d{8}T\d{6}Z-\d{4,9}-[0-9a-f]{7}\Z")
FORMAT = 1
BALLAST = 64 * 1024


class Place:
    """The paths of one deployed app on this host."""

    def __init__(self, deploy_to, link, environment):
        self.root = os.path.abspath(os.path.expanduser(deploy_to))
        self.link = os.path.abspath(os.path.expanduser(link)) if link else os.path.join(self.root, "current")
        self.environment = environment
        self.releases = os.path.join(self.root, "releases")
        self.shared = os.path.join(self.root, "shared")
        self.own = os.path.join(self.root, ".skein")
        self.repo = os.path.join(self.own, "repo.git")
        self.tmp = os.path.join(self.own, "tmp")
        self.manifests = os.path.join(self.own, "releases")
        self.indexes = os.path.join(self.own, "index")
        self.agents = os.path.join(self.own, "agent")
        self.state = os.path.join(self.own, "state.json")
        self.log = os.path.join(self.own, "log.jsonl")
        self.ballast = os.path.join(self.own, "ballast")

    def release(self, identity):
        """Return the directory of a release; the id is checked, for it becomes part of a path."""
        if not isinstance(identity, str) or not ID.match(identity):
            raise Problem("bad-request", "%r is no release id" % (identity,))
        return os.path.join(self.releases, identity)

    def manifest(self, identity):
        """Return the path of a release's manifest."""
        self.release(identity)
        return os.path.join(self.manifests, identity + ".json")

    def link_text(self, identity):
        """Return what the link must read to point at a release: relative where it stands in ``deploy_to``."""
        target = self.release(identity)
        return os.path.relpath(target, self.root) if os.path.dirname(self.link) == self.root else target

    def link_reads(self):
        """Return what the link reads, or None where there is nothing; raise Problem where something else stands there."""
        try:
            return os.readlink(self.link)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            kind = "directory" if os.path.isdir(self.link) else "file"
            raise Problem(
                "not-a-link",
                "%s is a %s, not a link, and Skein never deletes what it did not make: move it away, for example "
                "mv %s %s.before-skein, then run again" % (self.link, kind, self.link, self.link),
            )

    def current(self):
        """Return the id of the live release, or None; raise Problem where the link points at nothing of ours."""
        text = self.link_reads()
        if text is None:
            return None
        identity = os.path.basename(text)
        if not ID.match(identity) or text not in (self.link_text(identity), self.release(identity)):
            raise Problem(
                "foreign-link",
                "%s points at %s, which is no release of Skein's: remove that link or set targets.link" % (self.link, text),
            )
        return identity

    def make(self):
        """Make the directories that are ours, durable enough: they hold nothing yet."""
        for path in (self.root, self.releases, self.shared, self.own, self.tmp, self.manifests, self.indexes, self.agents):
            os.makedirs(path, exist_ok=True)
        if not os.path.exists(self.ballast):
            try:
                with open(self.ballast, "wb") as file:
                    file.write(b"\0" * BALLAST)
            except OSError:
                self.drop_ballast()  # a full disk now must not keep a rollback from trying

    def drop_ballast(self):
        """Give back the space and the inode held for a rollback on a full disk; the next ``make`` lays them in again."""
        try:
            os.unlink(self.ballast)
        except FileNotFoundError:
            pass

    def spared(self, work):
        """Run ``work`` and, where the disk is full, run it once more with the ballast given up."""
        try:
            return work()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.drop_ballast()
            return work()


def sync_directory(path):
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path, value):
    """Replace a file by ``value``, durably: the old content or the new, whatever happens."""
    draft = "%s.%d.new" % (path, os.getpid())
    try:
        with open(draft, "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        try:
            os.unlink(draft)
        except OSError:
            pass
        raise
    sync_directory(os.path.dirname(path))


def read_json(path, what):
    """Return the object in a file of ours, or None where there is no file; raise Problem where it is not of this format."""
    try:
        with open(path) as file:
            value = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        raise Problem("damaged-" + what, "%s is damaged: move it away and deploy again" % path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Problem("newer-" + what, "%s is of another format than %d: use the Skein that wrote it" % (path, FORMAT))
    return value
