"""Named places where a test may make a program die, fail or stop; off unless one is armed.

``SKEIN_FAILPOINT=name[@host][:occurrence[:action]]`` arms one: at the n-th passage (default 1) the program is killed
with SIGKILL (``kill``, the default), raises OSError (``error``), or stops until it gets SIGCONT (``pause``). Names of
the deployer begin with ``deploy.``, those of the program on the hosts with ``agent.``.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Optional, Tuple

_name, _action, _left = "", "", 0


def parse(text: str) -> Tuple[str, Optional[str], int, str]:
    """Split a specification into (name, host or None, occurrence, action); raise ValueError where it is malformed."""
    name, _, rest = text.partition(":")
    occurrence, _, action = (rest or "1").partition(":")
    name, _, host = name.partition("@")
    action = action or "kill"
    if not name or action not in ("kill", "error", "pause"):
        raise ValueError("malformed failpoint %r: name[@host][:occurrence[:kill|error|pause]]" % text)
    return name, host or None, int(occurrence), action


def arm(text: str) -> None:
    """Arm the failpoint that ``text`` specifies; with an empty text, none."""
    global _name, _action, _left
    _name, _, _left, _action = parse(text) if text else ("", None, 0, "")


def failpoint(name: str) -> None:
    """Pass the place called ``name``."""
    global _left
    if _name != name:
        return
    _left -= 1
    if _left == 0:
        if _action == "error":
            raise OSError("failpoint " + name)
        import signal

        os.kill(os.getpid(), signal.SIGKILL if _action == "kill" else signal.SIGSTOP)
