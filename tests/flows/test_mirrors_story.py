"""What mirrors.check and mirrors.sync say and decide; and how many mirrors may miss a release."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from fake_fleet import lost
from world import World, made

from tasks.core.errors import RepositoryError, SkeinError, TooManyFailedError, UsageError
from tasks.core.facts import Finding, MirrorState, Retained, Synced
from tasks.core.release import Release
from tasks.flows.mirrors import MirrorsReport, check_mirrors, retired, sync_mirrors

HUB, OTHER = "mirror-1", "mirror-2"
WELL = MirrorState(findings=(Finding(what="hook", ok=True, message=""),), free_bytes=10**10, free_inodes=10**6)


def refs_of(*releases: Release) -> dict[str, str]:
    return {
        name: oid
        for release in releases
        for name, oid in ((release.ref, release.commit), (f"refs/tags/{release.tag}", release.source_commit))
    }


@dataclass
class Mirrors:
    """Two mirrors that are what a test says."""

    have: dict[str, dict[str, str] | SkeinError]
    states: dict[str, MirrorState | SkeinError] = field(default_factory=lambda: {HUB: WELL, OTHER: WELL})
    synced: dict[str, Synced | SkeinError] = field(default_factory=lambda: {OTHER: Synced(brought=("a", "b"))})
    asked: list[object] = field(default_factory=list)

    def refs(self) -> dict[str, dict[str, str] | SkeinError]:
        return self.have

    def look(self) -> dict[str, MirrorState | SkeinError]:
        return self.states

    def make(self) -> dict[str, tuple[str, ...] | SkeinError]:
        self.asked.append("make")
        return {HUB: ("made the repository",), OTHER: ()}

    def sync(self, origin: str | None) -> dict[str, Synced | SkeinError]:
        self.asked.append(origin)
        return self.synced

    def retire(self, refs: dict[str, str]) -> dict[str, Retained | SkeinError]:
        self.asked.append(refs)
        return {HUB: Retained(removed=tuple(refs)), OTHER: RepositoryError("it is out of reach")}


def wrong(report: MirrorsReport) -> dict[str, list[str]]:
    return {name: [each.message for each in found if not each.ok] for name, found in report.mirrors}


def check(mirrors: Mirrors) -> MirrorsReport:
    return check_mirrors(World().hands(), mirrors)


def test_mirrors_that_are_alike_are_well() -> None:
    report = check(Mirrors({HUB: refs_of(made(1), made(2)), OTHER: refs_of(made(1), made(2))}))
    assert report.exit_code == 0
    assert wrong(report) == {HUB: [], OTHER: []}
    assert "complete up to release 2" in report.lines()[1]
    assert report.as_json()["exit_code"] == 0


def test_a_mirror_that_lacks_releases_is_behind_and_told_which() -> None:
    report = check(Mirrors({HUB: refs_of(made(1), made(2), made(3)), OTHER: refs_of(made(1))}))
    (told,) = wrong(report)[OTHER]
    assert report.exit_code == 6
    assert "2 releases behind" in told
    assert made(2).ref in told
    assert "mirrors.sync" in told


def test_another_object_under_a_release_s_name_is_never_well() -> None:
    report = check(Mirrors({HUB: refs_of(made(1)), OTHER: {**refs_of(made(1)), made(1).ref: "f" * 40}}))
    (told,) = wrong(report)[OTHER]
    assert "other objects" in told


def test_a_hub_that_lost_releases_is_found_by_its_mirror() -> None:
    report = check(Mirrors({HUB: {}, OTHER: refs_of(made(1))}))
    assert wrong(report)[OTHER] == [f"it has release 1 and the hub only 0: run fab mirrors.sync --from {OTHER}"]


def test_without_the_hub_nobody_is_called_complete() -> None:
    report = check(Mirrors({HUB: RepositoryError("it is out of reach"), OTHER: refs_of(made(1))}))
    assert report.exit_code == 6
    assert wrong(report) == {
        HUB: ["it is out of reach"],
        OTHER: ["cannot be told: the hub, mirror-1, is out of reach"],
    }


def test_what_the_mirror_itself_found_is_part_of_it() -> None:
    bad = MirrorState(findings=(Finding(what="sound", ok=False, message="damaged"),), free_bytes=1, free_inodes=1)
    states: dict[str, MirrorState | SkeinError] = {HUB: bad, OTHER: RepositoryError("no python3")}
    report = check(Mirrors({HUB: {}, OTHER: {}}, states))
    assert wrong(report) == {HUB: ["damaged"], OTHER: ["no python3"]}


def test_a_sync_says_what_it_brought_and_what_it_left() -> None:
    mirrors = Mirrors({})
    report = sync_mirrors(World().hands(), mirrors, OTHER, 0)
    assert (report.exit_code, mirrors.asked) == (0, ["make", OTHER])  # what is to be filled must be there
    assert report.lines() == ["mirror mirror-2: brought 2 refs"]
    mirrors.synced = {HUB: Synced(brought=(), differs=("refs/x",), extra=("refs/y",)), OTHER: RepositoryError("no")}
    report = sync_mirrors(World().hands(), mirrors, None, 0)
    assert report.exit_code == 3
    assert wrong(report)[HUB] == [
        "nothing to bring; it has besides refs/y; other objects stand at refs/x: they were not touched"
    ]


def test_a_sync_from_a_mirror_makes_a_hub_that_is_gone() -> None:
    mirrors = Mirrors({}, synced={HUB: Synced(brought=("a", "b"))})
    assert sync_mirrors(World().hands(), mirrors, OTHER, 0).lines() == [
        "mirror mirror-1: made the repository; brought 2 refs"
    ]
    mirrors.asked.clear()
    sync_mirrors(World().hands(), mirrors, None, 0)
    assert mirrors.asked == [None]


def test_retention_keeps_the_newest_and_what_targets_need() -> None:
    world = World(live=3)
    known = refs_of(*(made(number) for number in range(1, 7)))
    mirrors = Mirrors({HUB: known, OTHER: refs_of(made(1))})
    report = sync_mirrors(world.hands(), mirrors, None, 2)
    assert mirrors.asked[1] == refs_of(made(1), made(4))  # 3 is live, 2 was before, 5 and 6 are the newest
    assert wrong(report)[OTHER] == ["it is out of reach"]


def test_retention_of_one_environment_touches_no_other() -> None:
    other = made(1).ref.replace("/prod/", "/staging/")
    assert retired({other: "a" * 40, **refs_of(made(2))}, "prod", 0, ()) == refs_of(made(2))


def test_nothing_is_done_where_a_target_cannot_say_what_is_live() -> None:
    world = World()
    world.targets[0].faults["probe"] = lost()
    mirrors = Mirrors({HUB: refs_of(made(1))})
    with pytest.raises(TooManyFailedError, match="web-1"):
        sync_mirrors(world.hands(), mirrors, None, 1)
    assert mirrors.asked == []


def test_a_number_below_nothing_is_no_number_to_keep() -> None:
    with pytest.raises(UsageError, match="--keep -1"):
        sync_mirrors(World().hands(), Mirrors({}), None, -1)


def limited(limit: int | str) -> World:
    world = World()
    targets = world.settings.targets.model_copy(update={"mirror_fail_limit": limit})
    world.settings = world.settings.model_copy(update={"targets": targets})
    world.mirrors.broken = {OTHER}
    return world


@pytest.mark.parametrize("limit", [1, "100%"])
def test_a_mirror_that_is_down_is_named_within_the_limit(limit: int | str) -> None:
    report = limited(limit).deploy()
    assert report.exit_code == 0
    assert any(OTHER in note for note in report.notes)


@pytest.mark.parametrize("limit", [0, "99%"])
def test_more_mirrors_down_than_allowed_end_a_deploy_before_any_target_is_touched(limit: int | str) -> None:
    world = limited(limit)
    before = world.shown
    with pytest.raises(RepositoryError, match=r"1 of 1 mirrors besides the hub .*mirror_fail_limit"):
        world.deploy()
    assert world.shown == before
    assert {verb for verb, *_ in world.fleet.asked} == {"probe"}


def test_a_mirror_whose_ledger_is_not_the_hubs_is_told_and_both_ways_out() -> None:
    ledger = {"refs/skein/ledger/prod": "a" * 40}
    for other in ({}, {"refs/skein/ledger/prod": "b" * 40}):
        report = check(Mirrors({HUB: ledger, OTHER: other}))
        (told,) = wrong(report)[OTHER]
        assert "refs/skein/ledger/prod" in told
        assert f"fab mirrors.sync --from {OTHER}" in told
    assert check(Mirrors({HUB: ledger, OTHER: ledger})).exit_code == 0
