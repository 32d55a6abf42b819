"""A plan as one value: equal hosts folded, sums that say whether they are exact, a document, and lines for people."""

from __future__ import annotations

import json

import pytest
from test_inline import probe

from tasks._show_plan import lines, show_plan
from tasks.core.facts import Difference
from tasks.core.hosts import Host
from tasks.core.plan import INLINE, MIRROR, THERE, Commits, Plan, Way, grouped
from tasks.core.policy import Bound, FailPolicy
from tasks.core.release import Adopted, Release
from tasks.core.report import Outcome, State

OLD, NEW = "20260101T000001Z-0001-aaaaaaa", "20260101T000002Z-0002-aaaaaaa"
RELEASE = Release("20260101T000000Z-0009-aaaaaaa", 9, "prod", "a" * 40, "b" * 40, "c" * 40)
FILES = Difference(
    counts={"added": 25, "changed": 1, "removed": 0}, names={"added": ("a\x1b[2J",), "changed": ("c",), "removed": ()}
)
CARRIED = Way(INLINE, 1182, NEW, (), "auto: it is small")
FETCHED = Way(MIRROR, 5_300_000, None, ("mirror-1", "mirror-2"), "git: asked for")
UNTOLD = Way(MIRROR, None, None, ("mirror-1",), "git: asked for")


def plan(*ways: Way, **more: object) -> Plan:
    """Make a plan for hosts web-1, web-2, … that go these ways; the first serves an older release than the others."""
    names = [f"web-{number}" for number in range(1, len(ways) + 1)]
    probes = {name: probe(1, 2, live=1 if name == "web-1" else 2) for name in names}
    groups = grouped(
        probes,
        dict(zip(names, ways, strict=True)),
        dict.fromkeys(names, ()) | {"web-3": (OLD,)},
        {OLD: (None, None), NEW: (Commits(12, 1, ("mend\nit",)), FILES)},
    )
    fields = {"release": RELEASE, "is_new": True, "turn": 7, "groups": groups, **more}
    return Plan("deploy", "prod", 0, "release 9 would go live", **fields)  # type: ignore[arg-type]


def test_hosts_that_serve_the_same_are_one_group_the_newest_first() -> None:
    newer, older = plan(CARRIED, CARRIED, CARRIED, FETCHED).groups
    assert (newer.live, newer.hosts) == (NEW, ("web-2", "web-3", "web-4"))
    assert (older.live, older.hosts) == (OLD, ("web-1",))
    assert newer.ways == ((CARRIED, ("web-2", "web-3")), (FETCHED, ("web-4",)))
    assert newer.pruned == (((OLD,), ("web-3",)),)


@pytest.mark.parametrize(
    ("ways", "total", "is_estimate"),
    [
        ((CARRIED, CARRIED), 2364, False),
        ((CARRIED, FETCHED), 5_301_182, True),
        ((UNTOLD,), 0, True),
        ((Way(THERE, 0, None, (), ""),), 0, False),
    ],
)
def test_the_sum_of_bytes_says_whether_it_is_exact(ways: tuple[Way, ...], total: int, is_estimate: bool) -> None:
    assert (plan(*ways).bytes, plan(*ways).is_estimate) == (total, is_estimate)


def test_the_document_has_a_version_and_no_id_for_what_is_not_made_yet() -> None:
    document = json.loads(json.dumps(plan(CARRIED, FETCHED).as_json()))
    assert (document["format"], document["command"], document["plan"], document["turn"]) == (1, "deploy", True, 7)
    release = document["release"]
    assert (release["id"], release["commit"], release["number"], release["is_new"]) == (None, None, 9, True)
    assert plan(CARRIED, is_new=False).as_json()["release"]["id"] == RELEASE.id  # type: ignore[index]
    assert plan(release=Adopted(OLD)).as_json()["release"] == {"id": OLD, "is_new": False}
    assert plan(release=None).as_json()["release"] is None
    way = document["groups"][0]["ways"][0]
    assert (way["by"], way["bytes"], way["is_estimate"], way["hosts"]) == ("mirror", 5_300_000, True, ["web-2"])
    assert document["groups"][0]["files"]["counts"]["added"] == 25


def test_a_person_reads_what_moves_where_and_what_to_type() -> None:
    bound = Bound("web", "2%", 1, 50)
    shown = plan(
        UNTOLD,
        CARRIED,
        CARRIED,
        FETCHED,
        already=("web-7", "web-8"),
        failed=(Outcome("web-9", State.UNREACHABLE, None, "timeout", "no\nanswer"),),
        bounds=(bound,),
        notes=("a\x1bb",),
        next_step="fab deploy",
    )
    assert list(lines(shown)) == [
        "web-9: unreachable: no\\nanswer",
        f"release 9, made by the deploy, whose time its id will have, of commit {'a' * 40}",
        f"web-[2-4] (3): now {NEW}",
        "  commits: 12 to come, 1 to go",
        "    mend\\nit",
        "    and 11 more",
        "  files: 25 added, 1 changed, 0 removed",
        "    + a\\x1b[2J",
        "    and 24 more added",
        "    ~ c",
        "  bytes: 1,182 bytes each over the open session (auto: it is small) on web-[2-3]",
        "  bytes: an estimated 5.3 MB each from mirror-1, else mirror-2 (git: asked for) on web-4",
        f"  prune: {OLD} on web-3",
        f"web-1: now {OLD}",
        "  commits: not known here",
        "  files: not known here",
        "  bytes: an unknown number each from mirror-1 (git: asked for)",
        "web-[7-8] (2): served already, left alone",
        "limit: group web: fail_limit = 2% lets 1 of 50 targets fail",
        "note: a\\x1bb",
        "turn 7; about 5.3 MB to move to targets",
        "release 9 would go live; nothing was changed",
        "next: fab deploy",
    ]


def test_a_plan_without_targets_is_its_headline(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(Plan("deploy", "prod", 0, "nothing to do"))
    assert capsys.readouterr().out == "nothing to do\n"


def test_limits_in_force_are_those_that_count_for_who_is_selected() -> None:
    selected = [Host("web-1", "web"), Host("web-2", "web"), Host("db-1", "db")]
    policy = FailPolicy("70%", {"web": 1, "cache": 0})
    assert policy.bounds(selected) == (Bound(None, "70%", 2, 3), Bound("web", 1, 1, 2))
