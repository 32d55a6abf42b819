"""What the agent foresees is what then happens, and looking ahead leaves nothing on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from agent_host import Agent, Host, Made, Refused, git, tree_of


def ahead(agent: Agent, made: Made, *, base: Made | None = None, keep: int = 1, **more: Any) -> dict[str, Any]:
    """Ask as a deployer does for a release that it has a delta of, with a mirror to fall back on."""
    fields = {
        "commit": made.commit,
        "ref": made.ref,
        "mirrors": [{"name": "mirror-1", "url": f"file://{agent.host.mirror}", "rank": 1}],
        "timeout_s": 60,
        "id": made.id,
        "kind": "deploy",
        "carries": base is not None,
        "linked_dirs": [],
        "linked_files": [],
        "keep": keep,
        **({"base": base.ref, "base_commit": base.commit} if base else {}),
    }
    found: dict[str, Any] = agent.ask("foresee", **{**fields, **more})
    return found


def releases(host: Host) -> set[str]:
    return {path.name for path in (host.app / "releases").iterdir()}


def seen(host: Host, made: Made, **more: Any) -> dict[str, Any]:
    """Look ahead in a session of its own, and hold the host's disk against what it was before."""
    before = tree_of(host.root)
    with host.session() as agent:
        found = ahead(agent, made, **more)
        agent.leave()
    assert tree_of(host.root) == before
    return found


def test_a_host_that_knows_nothing_would_ask_the_mirrors(host: Host) -> None:
    made = host.release({b"a": b"1"})
    found = {"here": False, "inline": False, "restricted": False, "mirrors": ["mirror-1"], "pruned": []}
    assert seen(host, made) == found
    assert not host.app.exists()


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_prune_then_removes_what_was_foreseen(host: Host, keep: int) -> None:
    for turn in range(1, 6):
        host.deploy(host.release({b"a": b"%d" % turn}), turn)
    made, before = host.release({b"a": b"new"}), releases(host)
    pruned = seen(host, made, keep=keep)["pruned"]
    host.deploy(made, 9, keep=keep)
    assert set(pruned) == before - releases(host)
    assert len(pruned) == max(0, 5 - max(1, keep - 1))


def test_a_delta_is_foreseen_to_serve_only_where_its_base_stands_in_the_repository(host: Host) -> None:
    old, new = host.release({b"a": b"1"}), host.release({b"a": b"2"})
    host.deploy(old, 1)
    assert seen(host, new, base=old)["inline"] is True
    git("update-ref", "-d", old.ref, cwd=host.own / "repo.git")
    found = seen(host, new, base=old)
    assert (found["inline"], found["mirrors"]) == (False, ["mirror-1"])


def test_a_release_that_is_here_needs_nothing(host: Host) -> None:
    made = host.release({b"a": b"1"})
    with host.session() as agent:
        agent.stage(made)
        agent.leave()
    assert (seen(host, made, base=made)["here"], seen(host, made)["mirrors"]) == (True, [])


def test_a_flip_that_nobody_confirmed_counts_as_it_will_when_it_is_settled(host: Host) -> None:
    made = [host.release({b"a": b"%d" % turn}) for turn in range(1, 5)]
    for turn, each in enumerate(made[:2], 1):
        host.deploy(each, turn)
    with host.session() as agent:
        agent.stage(made[2])
        agent.ask("arm", id=made[2].id)
        agent.flip(made[2], 3)
    pruned = seen(host, made[3])["pruned"]
    before = releases(host)
    host.deploy(made[3], 9, keep=1)
    assert set(pruned) == before - releases(host) == {made[0].id, made[1].id}


def linked(files: Sequence[str]) -> dict[str, Any]:
    return {"linked_dirs": ["storage"], "linked_files": list(files)}


def test_a_missing_shared_file_is_refused_as_staging_would_and_no_directory_is_made(host: Host) -> None:
    made = host.release({b"a": b"1"})
    with host.session() as agent:
        with pytest.raises(Refused, match="missing-shared-file"):
            ahead(agent, made, **linked([".env"]))
        ahead(agent, made, **linked([]))
        agent.leave()
    assert not host.app.exists()


def test_what_was_adopted_elsewhere_is_refused_as_staging_would(host: Host) -> None:
    with host.session() as agent:
        with pytest.raises(Refused, match="not-adopted"):
            agent.ask("foresee", id="20261122T101500Z-0000-1a2b3c4", kind="rollback", keep=1, carries=False)
        agent.leave()
