"""What the agent says instead of a traceback."""

from __future__ import annotations

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Dict, Union

    Json = Dict[str, Any]


class Problem(Exception):  # noqa: N818 - it is no error of ours, it is what stands in the way
    """A request that cannot be met. ``code`` is a stable word for programs, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        Exception.__init__(self, message)
        self.code = code


def explain(error: OSError) -> Problem:
    """Turn an OSError into a Problem whose message names the path and says what the error means."""
    import errno

    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    where = " (%s)" % os_text(name) if name else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem("disk-full", "no space or no inode left on the disk%s: free some, then run again" % where)
    if error.errno in (errno.EACCES, errno.EPERM):
        told = "permission denied%s: run fab setup --user root, or set targets.become"
        return Problem("permission", told % where)
    if error.errno == errno.EROFS:
        return Problem("read-only", "the file system is mounted read-only%s" % where)
    return Problem("os-error", "%s%s" % (error.strerror or error, where))


def os_text(path: Union[str, bytes, int]) -> str:
    """Return a path as text that survives JSON, whatever bytes it has."""
    if isinstance(path, int):
        return "descriptor %d" % path
    if isinstance(path, str):
        path = path.encode("utf-8", "surrogateescape")
    return path.decode("utf-8", "backslashreplace")
