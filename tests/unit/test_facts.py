"""What agents answer is checked: a host may be broken or hostile, and its words go no further than its own row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.facts import Changed, Checked, Fact, Flipped, Present, Probe, Pruned, Staged

ID = "20260101T000000Z-0001-aaaaaaa"
PRESENT = {"commit": "b" * 40, "source_commit": "a" * 40, "tree": "c" * 40, "number": 1}
PROBE: dict[str, Any] = {
    "current": ID,
    "current_since": 1767225600.5,
    "stack": [ID],
    "turn": 1,
    "releases": {ID: PRESENT},
    "free_bytes": 10**12,
    "free_inodes": 10**6,
    "clock": 1767225700.0,
    "python": "3.11.2",
    "git": "2.39.2",
    "problems": [],
}


def test_a_probe_is_read_as_it_comes_from_the_wire() -> None:
    probe = Probe.model_validate(json.loads(json.dumps(PROBE)))
    assert (probe.current, probe.stack, probe.offset_s, probe.drift) == (ID, (ID,), 0.0, ())
    assert probe.live == Present(**PRESENT)
    assert Present(**PRESENT).release("prod", ID).ref == f"refs/skein/releases/prod/{ID}"


def test_a_host_on_which_nothing_is_live_has_no_live_release() -> None:
    assert Probe.model_validate(PROBE | {"current": None, "current_since": None, "stack": []}).live is None


def test_a_live_release_whose_manifest_is_gone_is_live_without_particulars() -> None:
    probe = Probe.model_validate(PROBE | {"releases": {}})
    assert (probe.current, probe.live) == (ID, None)


def test_what_a_newer_agent_adds_is_ignored() -> None:
    assert not hasattr(Probe.model_validate(PROBE | {"moon_phase": 3}), "moon_phase")


HOSTILE: list[tuple[type[Fact], dict[str, Any]]] = [
    *((Probe, PROBE | {"current": text}) for text in ("../../etc", ID + "\n", ID + "/x", "-x", "", 7, ["x"])),
    (Probe, PROBE | {"stack": [ID, "../.."]}),
    (Probe, PROBE | {"stack": ID}),
    (Probe, PROBE | {"releases": {"../..": PRESENT}}),
    (Probe, PROBE | {"releases": {ID: PRESENT | {"commit": "--upload-pack=x"}}}),
    (Probe, PROBE | {"releases": {ID: PRESENT | {"tree": "c" * 39}}}),
    (Probe, PROBE | {"releases": {ID: PRESENT | {"commit": "b" * 40 + "\n"}}}),
    (Probe, PROBE | {"turn": -1}),
    (Probe, PROBE | {"turn": 1 << 80}),
    (Probe, PROBE | {"turn": "many"}),
    (Probe, PROBE | {"free_bytes": -5}),
    (Probe, PROBE | {"problems": [{"code": "x"}]}),
    (Probe, PROBE | {"problems": [{"code": "x", "message": "x" * 4001}]}),
    (Probe, PROBE | {"git": "x" * 4001}),
    (Probe, {}),
    (Staged, {"made": True}),
    (Flipped, {"at": "soon"}),
    (Flipped, {}),
    (Pruned, {"removed": ["../.."]}),
    (Changed, {"changed": "everything"}),
    (Checked, {"findings": []}),
]


@pytest.mark.parametrize(("kind", "answer"), HOSTILE)
def test_an_answer_that_is_not_as_agreed_is_refused(kind: type[Fact], answer: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(answer)


@pytest.mark.parametrize("moment", ["Infinity", "-Infinity", "NaN", "1e300", "-1e12"])
@pytest.mark.parametrize("key", ["clock", "current_since"])
def test_a_time_that_is_none_is_refused(key: str, moment: str) -> None:
    with pytest.raises(ValidationError):
        Probe.model_validate(PROBE | {key: json.loads(moment)})
    with pytest.raises(ValidationError):
        Flipped.model_validate({"at": json.loads(moment)})


def test_what_is_staged_says_where_it_came_from() -> None:
    staged = Staged.model_validate({"from": "mirror-1", "made": True, "files": 3})
    assert (staged.source, staged.skipped) == ("mirror-1", ())
    skipped = [{"mirror": "mirror-1", "reason": "timed out"}]
    assert Staged.model_validate({"from": None, "made": False, "files": 3, "skipped": skipped}).source is None


def test_facts_cannot_be_changed() -> None:
    probe = Probe.model_validate(PROBE)
    with pytest.raises(ValidationError):
        probe.turn = 9  # type: ignore[misc]
