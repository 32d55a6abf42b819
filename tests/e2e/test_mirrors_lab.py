"""Mirrors that are cut off, slow, stale or not ours at all, while a deploy runs; and how they are made level again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_operator import Operator, Run, small_site
from real_site import Site

from tasks.remote.lab import Lab, wait_until

HUB, CUT, SLOW, OTHER = "mirror-1", "mirror-2", "mirror-3", "mirror-4"
PAUSED = {"SKEIN_FAILPOINT": "deploy.released:1:pause"}
SHAPE = ["rate", "64kbit", "burst", "4kb", "latency", "3s"]
MIRROR = '[[mirrors]]\nhost = "{}"\npath = "/srv/git/www.git"\nzone = "{}"\n'
CONFIG = """[app]
name = "www"
[source]
path = "/srv/www"
{mirrors}
[ssh]
user = "deploy"
connect_timeout = 5
[targets]
deploy_to = "/srv/app"
{limit}
[targets.groups.us]
hosts = ["web-[01-04]"]
zone = "us"
"""


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Four targets whose zone has three mirrors; the hub is in another."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=4, mirrors=4) as machines:
        yield machines


def configure(operator: Operator, limit: str = "") -> None:
    zones = {HUB: "eu", CUT: "us", SLOW: "us", OTHER: "us"}
    mirrors = "".join(MIRROR.format(name, zone) for name, zone in zones.items())
    operator.write(CONFIG.format(mirrors=mirrors, limit=limit))


class AnyZone(Operator):
    """The operator with a configuration of this module's own."""

    def configure(self, **tables: object) -> None:
        configure(self)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return small_site(lab, "/srv/www")


@pytest.fixture(scope="module")
def operator(lab: Lab, site: Site) -> Operator:
    """Return an operator whose fleet serves the first release, from four good mirrors."""
    found = AnyZone(lab)
    assert found.fab("setup", "--json").json["exit_code"] == 0
    found.deploy()
    return found


def stand_still(lab: Lab) -> list[int]:
    """Wait until the deployer stands still at its failpoint, between release and stage; return its pids."""
    stopped: list[int] = []

    def stands() -> bool:
        pids = [pid for pid, argv in lab.processes("server-1") if "python" in os.path.basename(argv[0])]
        stopped[:] = [pid for pid in pids if "State:\tT" in Path(f"/proc/{pid}/status").read_text()]
        return bool(stopped)

    wait_until(stands, "the deployer is paused", 60)
    return stopped


def checked(operator: Operator, code: int) -> dict[str, dict[str, str]]:
    """Run mirrors.check; return what is wrong by mirror and word."""
    rows = operator.fab("mirrors.check", "--json", code=code).json["mirrors"]
    return {
        row["mirror"]: {each["what"]: each["message"] for each in row["findings"] if not each["ok"]} for row in rows
    }


def serve_another_repository(lab: Lab) -> None:
    """Put another project's repository, which would give whatever it is asked for, in a mirror's place."""
    path = "/srv/git/www.git"
    script = (
        f"mv {path} {path}.kept && git init -q --bare {path} && cd {path} && "
        "git config uploadpack.allowAnySHA1InWant true && "
        "git -c user.name=x -c user.email=x commit-tree -m other $(git hash-object -t tree -w /dev/null) >head && "
        "git update-ref refs/heads/main $(cat head) && git update-ref refs/skein/releases/prod/other $(cat head)"
    )
    lab.run(OTHER, ["sh", "-ec", script], user="deploy")


def restore(lab: Lab) -> None:
    place = lab.path(OTHER, "/srv/git/www.git")
    shutil.rmtree(place)
    place.with_name("www.git.kept").rename(place)


def notes(run: Run, mirror: str) -> str:
    return " ".join(note for note in run.json["notes"] if f"mirror {mirror} " in note)


def test_all_targets_arrive_though_one_mirror_is_cut_one_slow_and_one_another_s(
    lab: Lab, operator: Operator, site: Site
) -> None:
    assert checked(operator, 0) == {HUB: {}, CUT: {}, SLOW: {}, OTHER: {}}
    site.change({"big.bin": os.urandom(3 << 20), "index.html": b"second\n"}, "second")
    running = operator.start("deploy", "--json", env=PAUSED)
    paused = stand_still(lab)
    lab.cut(CUT)
    lab.run(SLOW, ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *SHAPE])
    serve_another_repository(lab)
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    run = operator.finish(running, 280)
    assert run.code == 0, run.said
    assert set(run.states.values()) == {"live"}
    operator.assert_serves(site.files_at(site.commits[1]))
    assert "under 16 KB/s" in notes(run, SLOW)
    assert "not our ref" in notes(run, OTHER)
    assert "timed out" in notes(run, CUT) or "No route to host" in notes(run, CUT)

    wrong = checked(operator, 6)
    assert "out of reach" in wrong[CUT]["reachable"]
    assert "another project" in wrong[OTHER]["inside"]
    assert wrong[HUB] == {}
    remembered = lab.path("web-01", "/srv/app/.skein/route.json").read_text()
    assert SLOW in remembered

    lab.mend(CUT)
    lab.run(SLOW, ["tc", "qdisc", "del", "dev", "eth0", "root"])
    restore(lab)
    assert "refs/skein/ledger/prod" in checked(operator, 6)[CUT]["complete"]
    operator.fab("mirrors.sync")
    assert checked(operator, 0) == {HUB: {}, CUT: {}, SLOW: {}, OTHER: {}}


def test_a_mirror_that_was_down_has_all_releases_after_the_next_deploy(
    lab: Lab, operator: Operator, site: Site
) -> None:
    lab.power_off(CUT)
    for number in range(2):
        site.change({"index.html": b"%d\n" % number})
        run = operator.deploy()
        assert "out of reach" in notes(run, CUT)
    configure(operator, "mirror_fail_limit = 0")
    refused = operator.deploy("--ref", site.commits[0], code=3)
    assert "mirror_fail_limit" in refused.said
    configure(operator)
    lab.power_on(CUT)
    behind = checked(operator, 6)[CUT]
    assert "releases behind" in behind["complete"]
    site.change({"index.html": b"healed\n"})
    assert operator.deploy().json["notes"] == []
    assert checked(operator, 0)[CUT] == {}
    assert operator.refs(CUT) == operator.refs(HUB)
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_a_lost_hub_is_made_again_from_another_mirror(lab: Lab, operator: Operator, site: Site) -> None:
    before = operator.refs(HUB)
    shutil.rmtree(lab.path(HUB, "/srv/git/www.git"))
    assert "no bare repository at" in checked(operator, 6)[HUB]["inside"]
    operator.fab("setup")
    assert operator.refs(HUB) == set()
    operator.fab("mirrors.sync", "--from", CUT)
    assert operator.refs(HUB) == before
    assert checked(operator, 0)[HUB] == {}
    said = operator.fab("mirrors.sync", "--json").json["mirrors"]
    assert {each["message"] for row in said for each in row["findings"]} == {"nothing to bring"}
    site.change({"index.html": b"after\n"})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_retention_leaves_what_targets_need_and_every_later_deploy_works(
    lab: Lab, operator: Operator, site: Site
) -> None:
    live = operator.rollback().release
    operator.fab("mirrors.sync", "--keep", "1")
    for mirror in operator.lab.mirrors:
        left = {ref.rpartition("/")[2] for ref in operator.refs(mirror) if "/releases/" in ref}
        assert len(left) == 3  # the newest; what is live; what a rollback goes to
        assert live in left
        assert {ref.rpartition("/")[2] for ref in operator.refs(mirror) if "/tags/" in ref} == left
    assert checked(operator, 0)[HUB] == {}
    site.change({"index.html": b"later\n"})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[-1]))


def test_nothing_is_retired_while_a_target_cannot_say_what_is_live(lab: Lab, operator: Operator) -> None:
    before = operator.refs(HUB)
    lab.power_off("web-04")
    try:
        refused = operator.fab("mirrors.sync", "--keep", "1", code=5)
    finally:
        lab.power_on("web-04")
    assert "web-04" in refused.said
    assert operator.refs(HUB) == before


def test_log_ins_that_a_busy_sshd_turns_away_are_tried_again(lab: Lab, operator: Operator, site: Site) -> None:
    operator.write(CONFIG.format(mirrors=MIRROR.format(HUB, "us"), limit=""))  # one mirror, so nothing to fail over to
    with lab.path(HUB, "/etc/ssh/sshd_config").open("a") as file:
        file.write("MaxStartups 1\n")
    lab.power_off(HUB)
    lab.power_on(HUB)
    site.change({"index.html": b"through the door one by one\n"})
    run = operator.deploy("--transport", "git")
    assert run.json["notes"] == []
    operator.assert_serves(site.files_at(site.commits[-1]))
    assert "beginning MaxStartups throttling" in (lab.root / HUB / "sshd.log").read_text(errors="replace")
