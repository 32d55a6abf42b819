"""The report: one value, two forms, and a JSON form that programs can rely on."""

from __future__ import annotations

import json

import pytest

from tasks.core.errors import HostError, RefusedError, UnreachableError
from tasks.core.pricing import Carried
from tasks.core.report import Outcome, Report, State

FULL = Report(
    command="deploy",
    environment="prod",
    exit_code=12,
    headline="live on 1 of 2 targets",
    release="20260101T000000Z-0001-aaaaaaa",
    outcomes=(
        Outcome("web-1", State.LIVE, "20260101T000000Z-0001-aaaaaaa"),
        Outcome("web-2", State.UNREACHABLE, None, "timeout", "no answer within 10 s"),
    ),
    notes=("mirror mirror-2 did not take the release",),
    next_step="mend web-2",
    skew_s=0.004,
    timings_s={"probe": 0.5},
    files={"added": 1},
    carried=(Carried(by="inline", hosts=1, bytes=1200, seconds=0.25), Carried(by="git", hosts=1, bytes=10, seconds=1)),
    predicted_s={"inline": 0.5},
)


def test_the_json_form_is_a_contract() -> None:
    assert json.loads(json.dumps(FULL.as_json(), allow_nan=False)) == {
        "format": 1,
        "command": "deploy",
        "environment": "prod",
        "exit_code": 12,
        "headline": "live on 1 of 2 targets",
        "release": "20260101T000000Z-0001-aaaaaaa",
        "targets": [
            {
                "host": "web-1",
                "state": "live",
                "release": "20260101T000000Z-0001-aaaaaaa",
                "code": "",
                "reason": "",
            },
            {
                "host": "web-2",
                "state": "unreachable",
                "release": None,
                "code": "timeout",
                "reason": "no answer within 10 s",
            },
        ],
        "notes": ["mirror mirror-2 did not take the release"],
        "next": "mend web-2",
        "skew_s": 0.004,
        "timings_s": {"probe": 0.5},
        "files": {"added": 1},
        "carried": [
            {"by": "inline", "hosts": 1, "bytes": 1200, "seconds": 0.25, "predicted_s": 0.5},
            {"by": "git", "hosts": 1, "bytes": 10, "seconds": 1.0, "predicted_s": None},
        ],
    }


def test_a_small_report_has_the_same_keys_as_a_full_one() -> None:
    assert Report("deploy", "prod", 0, "nothing to do").as_json().keys() == FULL.as_json().keys()


def test_the_words_for_states_are_a_contract() -> None:
    words = {"live", "already live", "untouched", "reverted", "unreachable", "failed", "unknown"}
    assert {state.value for state in State} == words


@pytest.mark.parametrize(
    ("error", "state"),
    [(UnreachableError("lost", "gone"), State.UNREACHABLE), (RefusedError("lost", "gone"), State.FAILED)],
)
def test_an_outcome_keeps_the_code_and_the_words_of_an_error(error: HostError, state: State) -> None:
    assert Outcome.of("web-1", error, "r") == Outcome("web-1", state, "r", "lost", "gone")
