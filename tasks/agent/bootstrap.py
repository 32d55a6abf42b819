"""The first text that a host runs: find the installed agent, or ask for its sources and run them from memory.

Sent over standard input and executed by ``python3 -I -S -c``; arguments are its length, ``deploy_to`` (or a dash) and
the agent's hash. Read-only requests thus leave nothing on the host.
"""

import os
import sys

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    import signal
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Dict, Optional
else:
    import _signal as signal  # without the enums of signal: they take longer than starting the agent may

START_S = 60


def take(count: int) -> bytes:
    """Read exactly ``count`` bytes from standard input."""
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit(3)
        data += more
    return data


def take_line() -> bytes:
    """Read one line from standard input, byte by byte: what follows it belongs to somebody else."""
    line = b""
    while not line.endswith(b"\n"):
        line += take(1)
    return line


class Finder:
    """Imports the agent's modules from texts in memory."""

    def __init__(self, texts: "Dict[str, str]") -> None:
        from importlib.machinery import ModuleSpec  # before this finder is asked for it

        self.texts, self.spec = texts, ModuleSpec

    def find_spec(self, name: str, path: object = None, target: object = None) -> "Optional[ModuleSpec]":
        """Return the module's spec, or None where it is not the agent's."""
        if name == "agent":
            return self.spec(name, self, is_package=True)  # type: ignore[arg-type]  # as below
        if not name.startswith("agent.") or name[6:] not in self.texts:
            return None
        return self.spec(name, self)  # type: ignore[arg-type]  # a loader by what it does: typeshed wants a base class

    def create_module(self, spec: "ModuleSpec") -> None:
        """Let Python make the module."""

    def get_source(self, name: str) -> str:
        """Return a module's text."""
        return self.texts.get(name[6:] or "__init__", "")

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's text."""
        text = self.get_source(module.__name__)
        exec(compile(text, "<skein %s>" % module.__name__, "exec"), module.__dict__)  # noqa: S102 - that is what it is for


def is_installed(folder: str) -> bool:
    """Tell whether the agent can be imported from ``folder``; one that is damaged is sent and installed anew."""
    if not os.path.isdir(folder):
        return False
    sys.path.insert(0, folder)
    try:
        __import__("agent.main")
    except Exception:  # noqa: BLE001 - a damaged file can raise anything
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.split(".")[0] == "agent"]:
            del sys.modules[name]
        return False
    return True


def start(home: str, digest: str) -> None:
    """Import the agent and serve."""
    sys.dont_write_bytecode = True  # a request that only looks leaves nothing behind, not even this
    if home != "-" and is_installed(os.path.join(os.path.expanduser(home), ".skein", "agent", digest)):
        texts = None
        os.write(1, b"ready\n")
    else:
        import hashlib
        import json

        os.write(1, b"need\n")
        data = take(int(take_line()))
        if hashlib.sha256(data).hexdigest() != digest:
            sys.exit("the agent's sources arrived damaged")
        texts = json.loads(data)
        sys.meta_path.insert(0, Finder(texts))
    __import__("agent.main")
    sys.modules["agent.main"].serve(digest, texts)


if __name__ == "__main__":
    if sys.version_info < (3, 8):
        sys.exit("skein needs python 3.8 or newer on this host, and found " + sys.version.split()[0])
    signal.alarm(START_S)  # nobody must wait for ever for a deployer that is gone; the session's lease follows
    start(sys.argv[2], sys.argv[3])
