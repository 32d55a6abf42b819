"""What a restricted deploy key may ask, as a table of requests that must not pass."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.agent.policy import permit
from tasks.agent.problem import Problem

POLICY = {
    "deploy_to": "/srv/app",
    "link": None,
    "environment": "prod",
    "after_flip": ["true"],
    "mirrors": ["ssh://mirror-1/srv/git/www.git"],
    "linked_dirs": ["storage"],
    "linked_files": [".env"],
    "keep": 5,
}
OPEN = {"deploy_to": "/srv/app", "link": None, "environment": "prod"}
VERBS = ("adoption", "fetch", "stage", "prune", "after_flip")


def test_what_set_up_wrote_down_passes() -> None:
    permit(POLICY, "open", OPEN, VERBS)
    permit(POLICY, "stage", {"linked_dirs": ["storage"], "linked_files": [".env"]}, VERBS)
    permit(POLICY, "prune", {"keep": 5}, VERBS)


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("open", {**OPEN, "deploy_to": "/etc"}),
        ("open", {**OPEN, "failpoint": "agent.flip.before:1:pause"}),
        ("stage", {"linked_dirs": [".ssh"], "linked_files": [".env"]}),
        ("stage", {"linked_dirs": ["storage"], "linked_files": ["id_ed25519"]}),
        ("prune", {"keep": 0}),
        ("after_flip", {"command": ["sh"]}),
        ("fetch", {"mirrors": [{"url": "/tmp/mine.git"}]}),
        ("fetch", {"mirrors": [], "payload": b"files of my own"}),
        ("share", {}),
        ("adoption", {"linked_dirs": ["storage"], "linked_files": ["/etc/shadow"]}),
        ("adopt", {}),
        ("give_back", {}),
    ],
)
def test_anything_else_is_refused(verb: str, request_: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        permit(POLICY, verb, request_, VERBS)
    assert caught.value.code == "restricted"
