"""Keys: this host's own, the mirrors' pinned ones, and lines of authorized_keys that let a key do one thing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from .children import run
from .failpoints import failpoint
from .lean import Pattern
from .place import replace, sync
from .problem import Problem
from .repo import OWN_KEY, OWN_KNOWN_HOSTS

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Tuple

    from .place import Place
    from .problem import Json
    from .wire import Wire

PUBLIC = Pattern(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}\Z")
MARK = Pattern(r"skein(?:-gate)?:[A-Za-z0-9._-]+:[a-z0-9-]+:[A-Za-z0-9._-]+\Z")
DONE = ("added", "replaced", "removed", "left", "taken")
READ = "env GIT_PROTOCOL=version=2 git -c uploadpack.packObjectsHook=hooks/pack-objects upload-pack "
OURS = Pattern(rb'restrict,command="[^\n]* (skein(?:-gate)?:[^\s]+)\s*\Z')


def own_key(wire: Wire, place: Place, comment: str) -> Tuple[str, List[str]]:
    """Return the public half of this host's own key and what was changed; the key is made once and then kept."""
    key, changed = os.path.join(place.own, OWN_KEY), []
    if not os.path.lexists(key):
        _make_folder(os.path.dirname(key))
        draft = place.private("key")
        _keygen(wire, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", draft)
        sync(draft)
        failpoint("agent.setup.key")
        os.rename(draft, key)
        os.unlink(draft + ".pub")  # it can be told from the other half at any time
        sync(os.path.dirname(key))
        changed.append("made its own key")
    if stat.S_IMODE(os.stat(key).st_mode) != 0o600:
        os.chmod(key, 0o600)
        changed.append("took %s from other users' eyes" % key)
    words = _keygen(wire, "-y", "-P", "", "-f", key).split()
    if len(words) < 2:
        raise Problem("damaged-key", "%s is no private key: remove it, then run fab setup again" % key)
    return " ".join(words[:2]), changed


def pin(place: Place, lines: List[str]) -> List[str]:
    """Write the mirrors' host keys to where this host's fetches look for them; return what was changed."""
    path = os.path.join(place.own, OWN_KNOWN_HOSTS)
    text = "".join(line + "\n" for line in lines).encode("ascii")
    if content_of(path) == text:
        return []
    _make_folder(os.path.dirname(path))
    replace(path, place.private("known_hosts"), text, 0o600)
    return ["pinned %d host keys of mirrors" % len(lines)]


def authorize(wire: Wire, request: Json) -> Json:
    """Let keys of targets read one repository here, and nothing else, in this user's authorized_keys.

    ``path`` is the repository, ``keys`` are {mark: public key}. See ``admit`` for what else is asked and answered.
    """
    path = os.path.expanduser(request["path"])
    quoted = "'%s'" % path.replace("'", "'\"'\"'")
    return admit(request, READ + quoted)


def admit_gate(wire: Wire, request: Json) -> Json:
    """Let keys of deployers start the gate of one app here, and nothing else, in this user's authorized_keys.

    The words are those of ``gate.main``; the user's shell fills in what the client asked for, as one word.
    """
    import shlex

    words = ["sudo", "-n", "-H", "-u", request["become"], "--"] if request["become"] else []
    words += [
        request["interpreter"],
        "-I",
        "-S",
        "-X",
        "utf8",
        request["gate"],
        request["home"],
        request["become"] or "-",
    ]
    return admit(request, " ".join(map(shlex.quote, words)) + ' "$SSH_ORIGINAL_COMMAND"')


def admit(request: Json, command: str) -> Json:
    """Keep one line per mark in this user's authorized_keys, each for one key and one command.

    ``prefix`` says which marks are this environment's, ``known`` which of them still have a meaning: the others' lines
    go where ``prune`` says so. With ``dry`` nothing is read or written. Returns ``lines``, which are what is wanted,
    and marks: ``added``, ``replaced``, ``removed``; ``left`` without a meaning; ``taken``, whose key stands in another
    line, which goes before ours or would fall victim to it: it is left out. ``rivals`` has the mark of that line where
    it is Skein's too, for another app or environment. sshd(8) has the format.
    """
    lines = {mark: _line(command, public, mark) for mark, public in request["keys"].items()}
    answer: Json = {"lines": list(lines.values()), "rivals": {}, **{what: [] for what in DONE}}
    if request.get("dry"):
        return answer
    with _ssh_folder(bool(lines)) as folder:
        path = os.path.join(folder, "authorized_keys")
        if os.path.islink(path):
            told = "%s is a link, so somebody else looks after it: give them the lines of fab setup --print"
            raise Problem("foreign-keys", told % path)
        before = content_of(path)
        elsewhere = _elsewhere(before, request["prefix"], _start(command).encode("utf-8"))
        for mark, public in sorted(request["keys"].items()):
            rival = elsewhere.get(public.split()[1].encode())
            if rival is not None:
                del lines[mark]
                answer["taken"].append(mark)
                answer["rivals"].update({mark: rival} if rival else {})
        after = merged(before, lines, request, answer)
        if after != before:
            failpoint("agent.setup.authorize")
            replace(path, path + ".skein-new", after, 0o600)
            failpoint("agent.setup.authorized")
    return answer


def _elsewhere(before: bytes, prefix: str, start: bytes) -> Dict[bytes, str]:
    """Return the words of all lines that would let a key do something else: {word: the line's mark, if it has one}.

    Lines of this environment are not among them, nor those that allow the very same.
    """
    words: Dict[bytes, str] = {}
    for line in before.split(b"\n"):
        found = OURS.match(line)
        mark = found.group(1).decode("utf-8", "replace") if found else ""
        if not (mark.startswith(prefix) or (mark and line.startswith(start))):
            words.update(dict.fromkeys(line.split(), mark if MARK.match(mark) else ""))
    return words


def merged(before: bytes, lines: Dict[str, str], request: Json, answer: Json) -> bytes:
    """Return the file with our lines as they are wanted and all others byte for byte; ``answer`` gets what changed."""
    kept, wanted = [], {mark: line.encode("utf-8") for mark, line in lines.items()}
    *whole, rest = before.split(b"\n")
    for line in [*whole, *([rest] if rest else [])]:
        found = OURS.match(line)
        mark = found.group(1).decode("utf-8", "replace") if found else ""
        if not mark.startswith(request["prefix"]):
            kept.append(line)
        elif mark in wanted:
            kept.append(wanted.pop(mark))
            answer["replaced"] += [mark] * (kept[-1] != line)
        elif mark in lines or (request.get("prune") and mark not in request["known"]):
            answer["removed"].append(mark)
        else:
            kept.append(line)
            answer["left"] += [mark] * (mark not in request["known"])
    answer["added"] += wanted
    if not any(answer[what] for what in ("added", "replaced", "removed")):
        return before
    return b"".join(line + b"\n" for line in [*kept, *wanted.values()])


def content_of(path: str) -> bytes:
    """Return what a file holds, nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _line(command: str, public: str, mark: str) -> str:
    if not PUBLIC.match(public) or not MARK.match(mark) or not command.isprintable():
        raise Problem("bad-request", "malformed key, name or path for authorized_keys")
    return _start(command) + "%s %s" % (public, mark)


def _start(command: str) -> str:
    """Return how a line begins that lets a key run one command."""
    return 'restrict,command="%s" ' % command.replace('"', '\\"')


@contextlib.contextmanager
def _ssh_folder(make: bool) -> Iterator[str]:
    """Lock this user's ~/.ssh against other runs of ours, making it where that is wanted."""
    import pwd

    folder = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh")
    if make and not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
    if not os.path.isdir(folder):
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, 0o700)


def _keygen(wire: Wire, *words: str) -> str:
    try:
        status, output, errors = run(wire, ["ssh-keygen", *words], timeout_s=30)
    except FileNotFoundError as error:
        told = "ssh-keygen is not installed on this host: install openssh-client"
        raise Problem("no-ssh", told) from error
    if status:
        raise Problem("ssh-keygen", "ssh-keygen failed: %s; mend or remove %s" % (errors[-200:], words[-1]))
    return output.decode("utf-8", "replace")
