"""Named places where a test may make a program die, fail or stop; off unless one is armed.

``SKEIN_FAILPOINT=name[@host][:occurrence[:action]]`` arms one: at the n-th passage (default 1) the program is killed with
SIGKILL (``kill``, the default), raises OSError (``error``), or stops until it gets SIGCONT (``pause``). Names of the
deployer begin with ``deploy.``, those of the program on the hosts with ``agent.``.
"""

import os
import signal

_armed = None  # [name, passages left, action]


def parse(text):
    """Split a specification into (name, host or None, occurrence, action); raise ValueError where it is malformed."""
    name, _, rest = text.partition(":")
    occurrence, _, action = (rest or "1").partition(":")
    name, _, host = name.partition("@")
    action = action or "kill"
    if not name or action not in ("kill", "error", "pause"):
        raise ValueError("malformed failpoint %r: name[@host][:occurrence[:kill|error|pause]]" % text)
    return name, host or None, int(occurrence), action


def arm(text):
    """Arm the failpoint that ``text`` specifies; with an empty text, none."""
    global _armed
    _armed = None
    if text:
        name, _, occurrence, action = parse(text)
        _armed = [name, occurrence, action]


def failpoint(name):
    """Pass the place called ``name``."""
    if _armed is None or _armed[0] != name:
        return
    _armed[1] -= 1
    if _armed[1] == 0:
        if _armed[2] == "error":
            raise OSError("failpoint " + name)
        os.kill(os.getpid(), signal.SIGKILL if _armed[2] == "kill" else signal.SIGSTOP)
