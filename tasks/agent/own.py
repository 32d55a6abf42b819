"""Another user's directories, made as root: then the agent becomes that user for good, and does the rest as it."""

from __future__ import annotations

import os
import stat

from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    import pwd
    from typing import List

    from .problem import Json
    from .wire import Wire

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
LINKS_MOST = 40  # as Linux has it: path_resolution(7)


def own(wire: Wire, request: Json) -> Json:
    """Give directories to ``request["owner"]`` and go on as that user; return {"owned": [what was done, …]}.

    ``directories`` are made where they are missing, ``trees`` are given with all that is in them where they are there,
    ``parents`` are only ever made. Asked again, as the owner, it does nothing. It takes no lock, for the directory of
    the lock may not be there yet. A link that somebody plants meanwhile must not lead root astray: in a directory that
    is not root's alone nothing is made, and what is given there is named by an open descriptor.
    """
    import pwd

    try:
        user = pwd.getpwnam(request["owner"])
    except KeyError as error:
        told = "there is no user %s on this host: make it, or correct ssh.user"
        raise Problem("no-user", told % request["owner"]) from error
    if os.geteuid() == user.pw_uid:
        return {"owned": []}
    if os.geteuid() != 0:
        raise Problem("not-root", "this user is neither root nor %s: give --user one that is root here" % user.pw_name)
    owned = []
    for path in request.get("parents", ()):
        owned += _give(_expanded(path, user), user, made_only=True)
    for path in request.get("directories", ()):
        owned += _give(_expanded(path, user), user)
    for path in request.get("trees", ()):
        owned += _give_tree(_expanded(path, user), user)
    _become(user)
    for path in (*request.get("parents", ()), *request.get("directories", ())):
        _refuse_unmade(_expanded(path, user), user)
    return {"owned": owned}


def _expanded(path: str, user: pwd.struct_passwd) -> str:
    return user.pw_dir + path[1:] if path.startswith("~/") else path


def _give(path: str, user: pwd.struct_passwd, made_only: bool = False) -> List[str]:
    """Make a directory and give it to a user; say what was changed."""
    made = not os.path.lexists(path)
    if made and _is_roots(os.path.dirname(path)):
        os.makedirs(path, 0o755)
    elif made or made_only or os.path.islink(path) or not _is_fixed(path):
        return []  # it is somebody's own affair: that user makes it, or cannot
    descriptor = os.open(path, OPEN_DIRECTORY)
    try:
        given = _change(descriptor, user)
    finally:
        os.close(descriptor)
    return ["made %s for %s" % (path, user.pw_name)] if made else ["gave %s to %s" % (path, user.pw_name)] * given


def _refuse_unmade(path: str, user: pwd.struct_passwd) -> None:
    """Raise Problem where root did not make a directory and its owner cannot; the process is that owner's by now."""
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.lexists(path) and not os.access(folder, os.W_OK | os.X_OK):
        told = "root makes nothing in %s, for others may write there or above: make %s for %s, or close it (chmod go-w)"
        raise Problem("open-directory", told % (folder, path, user.pw_name))


def _give_tree(path: str, user: pwd.struct_passwd) -> List[str]:
    """Give what is in a directory that a user has, files with other names elsewhere left out; say how much it was."""
    count = 0
    if os.path.islink(path) or not os.path.isdir(path) or not _is_fixed(path):
        return []
    for _, _, files, parent in os.fwalk(path):
        count += _change(parent, user)
        for name in files:
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
            except OSError:
                continue  # a link, or gone
            try:
                about = os.fstat(descriptor)
                if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
                    count += _change(descriptor, user)
            finally:
                os.close(descriptor)
    return ["gave %d files and directories in %s to %s" % (count, path, user.pw_name)] if count else []


def _change(descriptor: int, user: pwd.struct_passwd) -> bool:
    about = os.fstat(descriptor)
    if about.st_uid == user.pw_uid:
        return False
    os.fchown(descriptor, user.pw_uid, user.pw_gid)
    return True


def _is_fixed(path: str) -> bool:
    """Tell whether a path leads where it says, whatever the owner of the directory that it lies in does meanwhile."""
    folder = os.path.dirname(path)
    return _is_roots(folder) or (_is_roots(os.path.dirname(folder)) and not os.path.islink(folder))


def _is_roots(path: str) -> bool:
    """Tell whether nobody but root can put something else in a path's place, wherever links on the way lead.

    Every directory on the way must be root's and closed to all others; one with the sticky bit, such as /tmp, may be
    passed where root's own entry stands in it: nobody else can take that away.
    """
    here, ahead, links = "/", path.split("/"), 0
    while ahead and links < LINKS_MOST:
        name = ahead.pop(0)
        here = os.path.dirname(here) if name == ".." else here
        if name in ("", ".", ".."):
            continue
        entry = os.path.join(here, name)
        if not os.path.lexists(entry):
            return _is_closed(here)
        about = os.lstat(entry)
        if about.st_uid != 0 or not (_is_closed(here) or os.stat(here).st_mode & stat.S_ISVTX):
            return False
        if stat.S_ISLNK(about.st_mode):
            links += 1
            text = os.readlink(entry)
            here, ahead = "/" if text.startswith("/") else here, text.split("/") + ahead
        else:
            here = entry
    return not ahead and _is_closed(here)


def _is_closed(folder: str) -> bool:
    """Tell whether a directory is root's and nobody else may write there."""
    about = os.stat(folder)
    return about.st_uid == 0 and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _become(user: pwd.struct_passwd) -> None:
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ.update({"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name})
    os.chdir("/")
