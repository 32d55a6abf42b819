"""Which release a deploy makes: its number, its parent, and when it makes none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_fleet import refused
from world import World, made

from tasks.core.release import Release, number_of


def in_source(world: World, release: Release) -> None:
    world.source.own[release.id] = release.commit
    world.source.stored[release.commit] = release


def on_hub(world: World, release: Release) -> None:
    world.mirrors.hub[release.ref] = release.commit
    world.mirrors.elsewhere[release.commit] = release


def as_tag(world: World, release: Release) -> None:
    world.source.tag_names = (release.id,)


def on_one_target(world: World, release: Release) -> None:
    world.targets[1].staged[release.id] = release


@pytest.mark.parametrize("known", [in_source, on_hub, as_tag, on_one_target])
def test_the_number_is_the_highest_known_anywhere_plus_one(known: Callable[[World, Release], None]) -> None:
    world = World(live=2)
    known(world, made(41))
    assert number_of(world.deploy().release or "") == 42


def test_the_first_number_is_one() -> None:
    assert number_of(World(live=0).deploy().release or "") == 1


def test_the_parent_is_the_newest_release_of_the_environment() -> None:
    world = World(live=2)
    world.deploy()
    assert world.source.parents == [made(2).commit]


def test_a_release_that_another_machine_made_is_fetched_from_the_hub_to_be_the_parent() -> None:
    world = World(live=2)
    on_hub(world, made(9))
    world.deploy()
    assert (world.mirrors.brought, world.source.parents) == ([made(9).ref], [made(9).commit])


def test_what_is_no_release_on_the_hub_is_passed_over() -> None:
    world = World(live=2)
    world.mirrors.hub["refs/skein/releases/prod/../../x"] = made(7).commit
    world.mirrors.hub["refs/skein/releases/staging/" + made(8).id] = made(8).commit
    assert number_of(world.deploy().release or "") == 3


def test_the_newest_release_of_the_same_commit_is_used_again() -> None:
    world = World(live=2)
    world.targets[0].faults["stage"] = refused("disk-full")
    failed = world.deploy()
    assert failed.exit_code == 5
    world.new_run()
    again = world.deploy()
    assert (again.exit_code, again.release) == (0, failed.release)
    assert len(world.source.parents) == 1


def test_an_older_release_of_the_same_commit_is_not_used_again() -> None:
    world = World(live=2)
    world.commit(1)
    report = world.deploy()
    assert number_of(report.release or "") == 3
    assert report.exit_code == 0


def test_a_snapshot_uses_the_newest_release_again_where_the_bytes_are_the_same() -> None:
    world = World(live=2)
    world.rollback()
    world.new_run()
    world.source.refs["on disk"] = made(3).source_commit
    world.source.trees[made(3).source_commit] = made(2).tree
    assert world.deploy(snapshot=True).release == made(2).id


def test_what_is_pushed_is_the_release_and_its_tag_before_any_target_is_asked_to_fetch() -> None:
    world = World(live=2)
    asked_at_push: list[list[str]] = []
    push = world.mirrors.push
    world.mirrors.push = lambda refspecs: asked_at_push.append(list(world.fleet.verbs)) or push(refspecs)  # type: ignore[method-assign,func-returns-value]
    release = world.deploy().release
    ((branch, tag),) = world.mirrors.pushed
    assert branch.endswith(f":refs/skein/releases/prod/{release}")
    assert tag == f"refs/tags/release/{release}"
    assert asked_at_push == [["probe"]]


def test_bytes_that_went_over_this_machine_s_line_are_told() -> None:
    world = World(live=2)
    world.mirrors.detoured = ["the source's machine cannot log in at mirror mirror-2"]
    assert "the source's machine cannot log in at mirror mirror-2" in world.deploy().notes
