"""The forced command of a restricted deploy key: it runs an installed agent, within a policy, and nothing else.

A copy of this one file stands in ``.skein``, and a line of authorized_keys starts it as ``gate HOME BECOME COMMAND``:
``deploy_to`` as the configuration writes it, the user that the agent runs as (``-``: the one who logged in), and what
the client asked for. Only the text that starts an agent of ours passes, character by character; the program that would
follow on standard input is thrown away, for the one agent that set-up approved runs instead, if it is still what was
approved. Whoever can write as the agent's user could change gate and agent together: the key's holder cannot.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Optional, Tuple

GATE, POLICY = "gate", "gate.json"
FORMAT = 1  # of the policy
ANEW = "run fab setup with a key that is not restricted"
PYTHON = "/usr/bin/python3"
TAKE = (
    "import os,sys,_signal;_signal.alarm(60);n=int(sys.argv[1]);b=b'';"
    'exec("while len(b)<n:\\n d=os.read(0,n-len(b)) or sys.exit(3)\\n b+=d");exec(b)'
)
"""What the host's Python is given as ``-c``: read, within a minute, as many bytes as its argument says; run them."""

START_S = 60
LENGTH_MOST = 1 << 20


def start_command(length: int, home: str, digest: str, become: Optional[str]) -> str:
    """Return the shell command that starts the agent for the app at ``home`` (``-``: no app, as on mirrors)."""
    import shlex

    words = [shlex.quote(word) for word in ("-I", "-S", "-X", "utf8", "-c", TAKE, str(length), home, digest)]
    arguments = " ".join(words)
    python = "if test -x %s; then exec %s %s; else exec python3 %s; fi" % (PYTHON, PYTHON, arguments, arguments)
    shell = ["sh", "-c", python]
    words = ["sudo", "-n", "-H", "-u", become, "--", *shell] if become else shell
    return " ".join(shlex.quote(word) for word in words)


def understood(asked: str, home: str, become: Optional[str]) -> Optional[Tuple[int, str]]:
    """Return the length of the text to come and the agent's hash where ``asked`` starts our agent, else None."""
    import re

    digests = set(re.findall(r"(?<= )[0-9a-f]{64}\b", asked))
    lengths = set(re.findall(r"(?<= )[0-9]{1,7}(?= )", asked))
    for digest in digests:
        for length in lengths:
            if int(length) <= LENGTH_MOST and asked == start_command(int(length), home, digest, become):
                return int(length), digest
    return None


def seal(folder: str) -> str:
    """Return a hash of all that would run of the agent in ``folder``: names and bytes, compiled files too."""
    import hashlib

    total = hashlib.sha256()
    for place, folders, names in os.walk(os.path.join(folder, "agent")):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                content = file.read()
            total.update(b"%s\0%d\0" % (os.fsencode(os.path.relpath(path, folder)), len(content)) + content)
    return total.hexdigest()


def doubt(policy: Any, digest: str, folder: str) -> Optional[str]:
    """Return why the agent in ``folder`` may not run, or None."""
    if not isinstance(policy, dict) or policy.get("format") != FORMAT:
        return "what set-up wrote down here is of another format than this gate's: " + ANEW
    if policy.get("agent") != digest:
        return "set-up has not approved this Skein's agent here: " + ANEW
    if policy.get("seal") != seal(folder):
        return "the agent that set-up approved here is gone or was changed: " + ANEW
    return None


def refuse(why: str) -> None:
    """End with a plain line."""
    sys.stderr.write("skein: %s\n" % why)
    sys.exit(1)


def main(home: str, become: str, asked: str) -> None:
    """Serve one session of the restricted key."""
    import importlib
    import json
    import signal

    own = os.path.dirname(os.path.abspath(__file__))
    found = understood(asked, home, None if become == "-" else become)
    if found is None:
        return refuse("this key may only run installed agents of Skein; nothing was run")
    length, digest = found
    folder = os.path.join(own, "agent", digest)
    try:
        with open(os.path.join(own, POLICY), encoding="utf-8") as file:
            policy = json.load(file)
        why = doubt(policy, digest, folder)
    except (OSError, ValueError) as error:
        why = "what set-up wrote down here cannot be read (%s): %s" % (error, ANEW)
    if why:
        return refuse(why)
    signal.alarm(START_S)
    while length:
        data = os.read(0, length)
        length = length - len(data) if data else sys.exit(3)
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    agent = importlib.import_module("agent.main")
    os.write(1, b"ready\n")
    agent.serve(digest, None, policy)
    return None


if __name__ == "__main__":
    if len(sys.argv) != 4:
        refuse("the gate is started by a line of authorized_keys, with three words")
    main(*sys.argv[1:])
