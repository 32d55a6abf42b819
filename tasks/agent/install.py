"""Keeping the agent on this host, compiled, under its hash, so that the next session need not send it."""

from __future__ import annotations

import os

from .failpoints import failpoint
from .gate import POLICY
from .lean import suppress
from .place import Place, read_json, sync
from .problem import Problem
from .trees import remove, walk

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Dict, Optional

KEPT = 3


def install(place: Place, digest: str, texts: Optional[Dict[str, str]]) -> None:
    """Install the agent whose sources were sent. ``texts`` is None where the installed one is at work.

    Best effort: it comes again with the next session, and a full disk must not stop a rollback.
    """
    if texts is None:
        return
    final, draft = os.path.join(place.agents, digest), place.private("agent")
    try:
        _write(draft, texts)
        failpoint("agent.install.before")
        if os.path.lexists(final):
            os.rename(final, place.private("damaged-agent"))  # or it would not have been sent
        os.rename(draft, final)
        sync(place.agents)
    except OSError:
        with suppress(OSError):
            remove(draft)


def drop_agents(place: Place) -> None:
    """Remove all but the newest agents, never one that a gate runs; what the gate says must be readable for that."""
    with suppress(Problem):
        pinned = (read_json(os.path.join(place.own, POLICY), "policy") or {}).get("agent")
        agents = [os.path.join(place.agents, name) for name in os.listdir(place.agents) if name != pinned]
        for agent in sorted(agents, key=os.path.getmtime)[:-KEPT]:
            remove(agent)


def is_whole(place: Place, digest: str, texts: Dict[str, str]) -> bool:
    """Tell whether the agent stands here installed, with these very texts."""
    folder = os.path.join(place.agents, digest, "agent")
    try:
        for name, text in texts.items():
            with open(os.path.join(folder, name + ".py"), encoding="utf-8") as file:
                if file.read() != text:
                    return False
    except (OSError, ValueError):
        return False
    return True


def _write(draft: str, texts: Dict[str, str]) -> None:
    import compileall

    os.makedirs(os.path.join(draft, "agent"))
    for name, text in texts.items():
        with open(os.path.join(draft, "agent", name + ".py"), "w", encoding="utf-8") as file:
            file.write(text)
    compileall.compile_dir(draft, quiet=2)
    root = os.fsencode(draft)
    for path, _ in walk(root):
        sync(os.path.join(root, path))
