"""What the deployer asks of an agent: every request can be sent, and gives the agent the time that it was promised."""

from __future__ import annotations

import json

import pytest

from tasks.core import requests
from tasks.core.config_models import TargetsConfig
from tasks.core.release import Release
from tasks.core.requests import QUICK_S, Decision, MirrorUrl, Request

RELEASE = Release("20260101T000000Z-0001-aaaaaaa", 1, "prod", "a" * 40, "b" * 40, "c" * 40)
MIRRORS = (MirrorUrl("mirror-1", "ssh://mirror-1/srv/git/www.git", 0), MirrorUrl("mirror-2", "/srv/git/www.git", 2))
DECISION = Decision(7, "7-x-n0", "deploy", "ann@laptop", "because")

TARGETS = TargetsConfig.model_validate(
    {
        "deploy_to": "/srv/app",
        "linked_dirs": ("storage",),
        "linked_files": (".env",),
        "groups": {"web": {"hosts": ("web-1",)}},
    }
)
EVERY = [
    requests.fetch(RELEASE, MIRRORS, 900.0),
    requests.stage(RELEASE, TARGETS),
    requests.arm(RELEASE.id),
    requests.flip(RELEASE.id, None, DECISION),
    requests.confirm(DECISION),
    requests.revert(DECISION),
    requests.after_flip(("systemctl", "reload", "x"), 60.0),
]


@pytest.mark.parametrize("request_", EVERY, ids=lambda request_: request_.verb)
def test_every_request_survives_the_wire(request_: Request) -> None:
    assert json.loads(json.dumps(request_.fields)) == request_.fields


def test_fetch_names_one_object_its_ref_and_the_mirrors_nearest_first() -> None:
    fields = requests.fetch(RELEASE, MIRRORS, 900.0).fields
    assert fields == {
        "commit": "b" * 40,
        "ref": "refs/skein/releases/prod/20260101T000000Z-0001-aaaaaaa",
        "mirrors": [
            {"name": "mirror-1", "url": "ssh://mirror-1/srv/git/www.git", "rank": 0},
            {"name": "mirror-2", "url": "/srv/git/www.git", "rank": 2},
        ],
        "timeout_s": 900.0,
    }


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_fetch_may_take_its_time_at_every_mirror(count: int) -> None:
    assert requests.fetch(RELEASE, MIRRORS[:count], 100.0).timeout_s == 100.0 * max(1, count) + QUICK_S


def test_stage_says_what_the_release_is_and_what_is_shared() -> None:
    assert requests.stage(RELEASE, TARGETS).fields == {
        "id": RELEASE.id,
        "number": 1,
        "commit": "b" * 40,
        "source_commit": "a" * 40,
        "tree": "c" * 40,
        "linked_dirs": ["storage"],
        "linked_files": [".env"],
        "reuse_after": 3600,
        "full": False,
        "timeout_s": 900,
    }


def test_flip_confirm_and_revert_speak_of_one_decision() -> None:
    flip, confirm, revert = EVERY[3:6]
    assert flip.fields["decision"] == confirm.fields["decision"] == revert.fields["decision"] == "7-x-n0"
    assert (flip.fields["turn"], flip.fields["expect"], flip.fields["kind"]) == (7, None, "deploy")


@pytest.mark.parametrize("request_", EVERY, ids=lambda request_: request_.verb)
def test_the_deployer_waits_longer_than_the_agent_may_take(request_: Request) -> None:
    own = request_.fields.get("timeout_s", 0.0)
    assert isinstance(own, (int, float))
    assert request_.timeout_s >= own + QUICK_S
