"""Every failpoint of deployer and agent, killed once: every host shows one whole release, and a re-run converges."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from invariants import check_host
from lab_operator import Operator, Run, small_site

from tasks.dev import failpoint_names
from tasks.remote.lab import Lab

VICTIM = "web-02"
BROKEN = "/srv/broken"  # while this file is on a host, after_flip fails there
KILLED = -9
ELSEWHERE = ("agent.setup.", "agent.adopt.", "agent.swarm.", "agent.library.")
"""Not passed here: see e2e/test_setup.py and test_adopt.py, contract/test_agent_swarm.py and test_agent_library.py."""

DEPLOYING = [name for name in failpoint_names() if not name.startswith(ELSEWHERE)]


def noticed(run: Run) -> bool:
    """Tell whether the report shows that the victim's agent died: a failure, a note, or a second look."""
    looks = {"look again", "look once more"} & run.json["timings_s"].keys()
    return run.code != 0 or VICTIM in " ".join(run.json["notes"]) or bool(looks)


class Story:
    """A small fleet with a site that gets one more release per case."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.site = small_site(lab, "/srv/small", {"index.html": b"version 1\n", "new-1.txt": b"new\n"})
        self.operator = Operator(lab, folder="/srv/small")
        self.configure(0)
        self.operator.fab("setup")
        self.operator.deploy()
        self.count = 1
        for _ in range(3):  # until there is a spare for the next release to be made of
            self.next_release()
            self.operator.deploy()

    def configure(self, reuse_after: int | str) -> None:
        """Write the configuration; without a spare, prune deletes what it otherwise keeps as one."""
        after_flip = ["sh", "-c", f"test ! -e {BROKEN}"]
        targets = {"keep": 1, "reuse_after": reuse_after, "linked_dirs": ["uploads"], "after_flip": after_flip}
        self.operator.configure(targets=targets, groups={"web": {"hosts": ["web-[01-03]"]}})

    def next_release(self) -> str:
        """Commit a change that adds, changes, renames and removes."""
        self.count += 1
        kept = {"index.html": f"version {self.count}\n".encode(), f"new-{self.count}.txt": b"new\n"}
        return self.site.change({**kept, f"new-{self.count - 1}.txt": None}, f"version {self.count}")

    def serves(self, *commits: str) -> dict[str, str]:
        """Hash what every host shows; it must be one of these commits, whole."""
        manifests = {commit: self.site.files_at(commit) for commit in commits}
        return self.operator.assert_serves(manifests, shared=[b"uploads"])

    def looks(self, *commits: str) -> dict[str, str]:
        """Hash what every host shows right after a kill, when private files may still be there."""
        manifests = {commit: self.site.files_at(commit) for commit in commits}
        path, inside = self.operator.path, self.operator.deploy_to
        return {
            name: check_host(path(name), path(name, "current"), manifests, [b"uploads"], inside)
            for name in self.lab.targets
        }

    def spoil(self, name: str, spoiled: bool) -> None:
        """Make after_flip fail on every host where the case needs an undo."""
        for machine in self.lab.targets:
            marker = self.lab.path(machine, BROKEN)
            if spoiled and ".revert." in name:
                marker.touch()
            else:
                marker.unlink(missing_ok=True)

    def forget_agent(self) -> None:
        """Take the installed agent away, so that it is installed anew."""
        shutil.rmtree(Path(self.operator.path(VICTIM, ".skein/agent")))


def passing(story: Story, name: str) -> tuple[str, ...]:
    """Return the options, and write the configuration, with which a deploy passes a failpoint."""
    story.configure("never" if name in ("agent.prune.forgotten", "agent.stage.index") else 0)
    return ("--transport", "git") if name.startswith("agent.fetch.") else ()


@pytest.fixture(scope="module")
def story(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as lab:
        yield Story(lab)


@pytest.mark.parametrize("name", DEPLOYING)
def test_a_kill_leaves_one_whole_release_and_a_rerun_converges(story: Story, name: str) -> None:
    before = story.site.git("rev-parse", "HEAD").decode().strip()
    wanted = story.next_release()
    point = f"{name}@{VICTIM}" if name.startswith("agent.") else name
    if ".install." in name:
        story.forget_agent()
    story.spoil(name, True)
    run = story.operator.deploy(*passing(story, name), code=None, env={"SKEIN_FAILPOINT": f"{point}:1:kill"})
    assert run.code == KILLED or (name.startswith("agent.") and noticed(run)), f"{name} was not passed"
    story.looks(before, wanted)
    story.spoil(name, False)
    story.operator.deploy()
    assert set(story.serves(wanted).values()) == {wanted}
    assert story.operator.deploy().json["headline"].startswith("nothing to do")


@pytest.mark.parametrize("name", [name for name in DEPLOYING if name.startswith("agent.")])
def test_an_error_on_one_host_is_named_and_the_rest_go_on(story: Story, name: str) -> None:
    before = story.site.git("rev-parse", "HEAD").decode().strip()
    wanted = story.next_release()
    if ".install." in name:
        story.forget_agent()
    story.spoil(name, True)
    limit = "0" if ".revert." in name else "1"
    options = ("--fail-limit", limit, *passing(story, name))
    run = story.operator.deploy(*options, code=None, env={"SKEIN_FAILPOINT": f"{name}@{VICTIM}:1:error"})
    assert VICTIM in run.out
    story.looks(before, wanted)
    story.spoil(name, False)
    story.operator.deploy()
    assert set(story.serves(wanted).values()) == {wanted}
