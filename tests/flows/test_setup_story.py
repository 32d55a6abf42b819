"""`setup`: state in, what is changed, said and asked of others out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_fleet import FakeFleet, FakeHost, lost, refused
from ledger_records import frozen
from world import World

from tasks.core.errors import LockedError, RefusedError, RepositoryError, SkeinError, UsageError
from tasks.core.facts import Admitted
from tasks.core.pins import ScanReport, Shown
from tasks.core.preparation import Wishes, fingerprints, public_keys, shared_files, short_name
from tasks.core.setup_report import SetupReport
from tasks.flows.setup import SettingUp

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsVbtmdbsHlUWMZbgrBBZT3aNWEkeZIhSIoxKhOlEyL"
MARK = "skein:www:prod:"


class Preparing(FakeHost):
    """A host that can be prepared; ``changes`` is what that changes."""

    changes: tuple[str, ...] = ()
    public: str | None = PUBLIC

    def _do_prepare(self, comment: str | None, pins: list[str], policy: dict[str, Any] | None) -> dict[str, Any]:
        about = {"gate": "/srv/app/.skein/gate", "interpreter": "/usr/bin/python3"}
        return {**self._do_probe(), "changed": self.changes, "public": self.public if comment else None, **about}

    def _do_share(self, files: dict[str, str], replace: bool) -> dict[str, Any]:
        return {"shared": [f"placed shared/{name}" for name in files]}

    def _do_admit_gate(self, keys: dict[str, str], **_: Any) -> dict[str, Any]:
        return {"lines": [f"line of {mark}" for mark in keys], "added": list(keys)}


@dataclass
class Mirrors:
    """Mirrors that say what they are told to, and keys let in there."""

    made: Mapping[str, tuple[str, ...] | SkeinError] = field(default_factory=lambda: {"mirror-1": ()})
    answers: Mapping[str, Admitted | SkeinError] = field(default_factory=dict)
    needed: bool = True
    pinned: bool = True
    asked: list[tuple[Mapping[str, str], bool, bool]] = field(default_factory=list)

    def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]:
        return self.made

    def pins(self) -> tuple[str, ...]:
        if not self.pinned:
            raise RepositoryError("known_hosts has no host key of mirror-1")
        return ("mirror-1 ssh-ed25519 AAAA",)

    def authorize(self, keys: Mapping[str, str], *, prune: bool, dry: bool) -> Mapping[str, Admitted | SkeinError]:
        self.asked.append((keys, prune, dry))
        return self.answers


@pytest.fixture
def world() -> World:
    world = World()
    hosts = [Preparing(target.name) for target in world.targets]
    world.targets[:] = hosts
    world.fleet = FakeFleet(hosts)
    return world


def set_up(world: World, mirrors: Mirrors | None = None, wishes: Wishes | None = None) -> SetupReport:
    at = mirrors or Mirrors()
    return SettingUp(world.hands(), at, at, world.fleet, wishes or Wishes()).run()


def test_setup_says_what_it_changed_and_folds_equal_targets(world: World) -> None:
    for target in world.targets[:2]:
        target.changes = ("made /srv/app", "made its own key")  # type: ignore[attr-defined]
    admitted = Admitted(lines=(), added=(MARK + "web-1", MARK + "web-2"), replaced=(MARK + "web-3",))
    mirrors = Mirrors({"mirror-1": ("made the repository",), "mirror-2": ()}, {"mirror-1": admitted})
    report = set_up(world, mirrors)
    assert report.exit_code == 0
    assert report.lines() == [
        "mirror mirror-1: made the repository; let in web-[1-2]; let in with another key web-3",
        "mirror mirror-2: ready, nothing to change",
        "web-[1-2]: made /srv/app; made its own key",
        "web-3: ready, nothing to change",
    ]


def test_each_target_is_told_its_keys_name_and_the_mirrors_host_keys(world: World) -> None:
    mirrors = Mirrors()
    set_up(world, mirrors)
    names = [request.fields["comment"] for request in world.fleet.requests("prepare")]
    assert names == [f"{MARK}web-{number}" for number in (1, 2, 3)]
    assert world.fleet.requests("prepare")[0].fields["pins"] == ["mirror-1 ssh-ed25519 AAAA"]
    assert mirrors.asked == [({"web-1": PUBLIC, "web-2": PUBLIC, "web-3": PUBLIC}, False, False)]


def test_a_fleet_that_does_not_fetch_over_ssh_needs_no_keys(world: World) -> None:
    mirrors = Mirrors(needed=False, pinned=False)
    assert set_up(world, mirrors).exit_code == 0
    assert {request.fields["comment"] for request in world.fleet.requests("prepare")} == {None}
    assert mirrors.asked == []


def test_a_mirror_whose_host_key_is_not_pinned_stops_set_up_before_anything_is_touched(world: World) -> None:
    with pytest.raises(RepositoryError, match="no host key of mirror-1"):
        set_up(world, Mirrors(pinned=False))
    assert world.fleet.asked == []


def test_setup_with_a_mirror_that_cannot_be_made_is_exit_3_and_still_prepares_the_targets(world: World) -> None:
    disk = RepositoryError("its disk is full")
    report = set_up(world, Mirrors({"mirror-1": (), "mirror-2": disk}, {"mirror-2": RefusedError("x", "again")}))
    assert (report.exit_code, world.fleet.got("prepare")) == (3, ["web-1", "web-2", "web-3"])
    assert "mirror mirror-2: its disk is full" in report.lines()


def test_setup_with_a_mirror_that_lets_nobody_in_is_exit_3(world: World) -> None:
    report = set_up(world, Mirrors({"mirror-1": ("made it",)}, {"mirror-1": RefusedError("x", "it is a link")}))
    assert report.exit_code == 3
    assert report.lines()[0] == "mirror mirror-1: made it; it is a link"


def test_setup_with_a_target_that_is_not_ready_is_exit_5_and_lets_the_others_in(world: World) -> None:
    world.targets[0].faults["prepare"] = lost()
    world.targets[1].problems = [{"code": "no-git", "message": "git is not installed"}]
    mirrors = Mirrors()
    report = set_up(world, mirrors)
    assert report.exit_code == 5
    assert report.lines()[1:] == [
        "web-1: the session was lost",
        "web-2: git is not installed",
        "web-3: ready, nothing to change",
    ]
    assert sorted(mirrors.asked[0][0]) == ["web-2", "web-3"]


def test_two_names_of_one_place_are_named_and_not_prepared(world: World) -> None:
    for target in world.targets[1:]:
        target.place = "the same"
    report = set_up(world)
    assert (report.exit_code, world.fleet.got("prepare")) == (5, ["web-1"])
    assert report.lines()[-1] == "web-[2-3]: web-[2-3] are one and the same place: leave one of the names out"


def test_a_key_that_stands_in_somebody_elses_line_is_trouble(world: World) -> None:
    admitted = Admitted(lines=(), taken=(MARK + "web-2",), left=(MARK + "web-9",))
    report = set_up(world, Mirrors(answers={"mirror-1": admitted}))
    assert report.exit_code == 3
    assert "the key of web-2 stands in a line" in report.lines()[0]
    assert "note: mirror-1 still lets in web-9: --prune-keys ends that" in report.lines()


def test_a_key_that_leads_elsewhere_already_is_trouble_and_says_where(world: World) -> None:
    mark, other = MARK + "web-2", "skein-gate:shop:prod:0123456789abcdef"
    report = set_up(world, Mirrors(answers={"mirror-1": Admitted(lines=(), taken=(mark,), rivals={mark: other})}))
    assert report.exit_code == 3
    assert f"the key of web-2 is let in there as {other} already" in report.lines()[0]
    assert "not Skein's" not in report.lines()[0]


def test_lines_for_authorized_keys_are_printed_for_those_who_ask(world: World) -> None:
    mirrors = Mirrors(answers={"mirror-1": Admitted(lines=("restrict,command=x",))})
    assert set_up(world, mirrors).printed == {}
    report = set_up(world, mirrors, Wishes(dry=True))
    assert mirrors.asked[-1][2]
    assert report.lines()[-2:] == ["for authorized_keys on mirror-1:", "restrict,command=x"]
    assert report.as_json()["authorized_keys"] == {"mirror-1": ["restrict,command=x"]}


def test_linked_files_are_placed_and_said(world: World) -> None:
    world.targets[0].faults["share"] = refused("other-content")
    report = set_up(world, wishes=Wishes(shared={".env": b"x"}))
    assert report.exit_code == 5
    assert report.lines()[-1] == "web-[2-3]: placed shared/.env"
    assert world.fleet.requests("share")[0].fields == {"files": {".env": "eA=="}, "replace": False}


def test_a_restricted_key_gets_the_place_the_command_and_the_mirrors_and_no_more(world: World) -> None:
    report = set_up(world, wishes=Wishes(admit=(PUBLIC,)))
    policy = world.fleet.requests("prepare")[0].fields["policy"]
    settings = world.settings
    assert isinstance(policy, dict)
    assert policy["deploy_to"] == settings.targets.deploy_to
    assert policy["environment"] == "prod"
    assert len(policy["mirrors"]) == len(settings.mirrors)
    (first, *_) = world.fleet.requests("admit_gate")
    assert first.fields["keys"] == {f"skein-gate:www:prod:{short_name(PUBLIC)}": PUBLIC}
    assert first.fields["gate"] == "/srv/app/.skein/gate"
    assert report.lines()[-1] == f"web-[1-3]: let in {short_name(PUBLIC)}"


def test_setup_as_json_says_who_is_ready(world: World) -> None:
    world.targets[0].faults["prepare"] = lost()
    document = json.loads(json.dumps(set_up(world, Mirrors({"mirror-1": ("made it",)})).as_json()))
    assert (document["format"], document["command"], document["exit_code"]) == (1, "setup", 5)
    assert document["mirrors"] == {"mirror-1": {"ready": True, "changed": ["made it"], "troubles": []}}
    assert [target["ready"] for target in document["targets"].values()] == [False, True, True]


# What the command line and files say


def test_a_linked_file_is_found_by_its_own_path_its_name_or_the_one_given() -> None:
    specs = ("secrets/.env,conf/db.php=conf/db.php", "key.pem=storage/key.pem")
    assert shared_files(specs, (".env", "conf/db.php"), ("storage",)) == {
        ".env": "secrets/.env",
        "conf/db.php": "conf/db.php",
        "storage/key.pem": "key.pem",
    }


@pytest.mark.parametrize("spec", ["x", "x=y", ".env=../.env", "a=storage/../b", "a=storage", "=.other"])
def test_a_file_that_no_release_links_to_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"linked_files has: \.env"):
        shared_files((spec,), (".env",), ("storage",))


def test_one_linked_file_cannot_be_two() -> None:
    with pytest.raises(UsageError, match="twice"):
        shared_files(("a=.env", "b=.env"), (".env",), ())


def test_public_keys_are_read_without_what_people_call_them() -> None:
    assert public_keys(f"# ours\n{PUBLIC} ann@laptop with words\n\n{PUBLIC}\n", "f") == (PUBLIC,)


@pytest.mark.parametrize("text", ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", f"restrict {PUBLIC}", "ssh-rsa AAAA"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no public key"):
        public_keys(text, "f")


def test_fingerprints_and_lines_of_known_hosts_may_stand_side_by_side() -> None:
    line = f"web-2,192.0.2.2 {PUBLIC}"
    prints, rest = fingerprints(f"# list\nWeb-1 SHA256:{'a' * 43} (ED25519)\n{line}\n@revoked * {PUBLIC}\n", "f")
    assert prints == {"web-1": {"SHA256:" + "a" * 43}}
    assert rest.splitlines() == [line, f"@revoked * {PUBLIC}"]


def test_lines_that_trust_nothing_are_named_by_number() -> None:
    with pytest.raises(UsageError, match="line 1, 3;"):
        fingerprints(f"web-1\nweb-2 SHA256:{'b' * 43}\nweb-3 SHA256:short\n", "f")


def test_a_scan_is_6_as_long_as_a_hosts_key_is_not_pinned() -> None:
    keys = [Shown(name, "192.0.2.1", (name,), "ssh-ed25519", "SHA256:x", "AAAA") for name in ("a", "b")]
    assert ScanReport("prod", (), (), (), "f").lines() == ["every host's key is pinned in f"]
    assert ScanReport("prod", (), (), (), "f").exit_code == 0
    assert ScanReport("prod", keys, (), keys, "f").exit_code == 0
    half = ScanReport("prod", keys, (), keys[:1], "f")
    assert half.exit_code == 6
    assert half.lines()[:2] == ["a: pinned ssh-ed25519 SHA256:x in f", "b 192.0.2.1 ssh-ed25519 SHA256:x"]
    assert [each["pinned"] for each in half.as_json()["keys"]] == [True, False]  # type: ignore[attr-defined]
    assert ScanReport("prod", (), (("c", "is off"),), (), "f").exit_code == 6


def test_set_up_is_refused_next_to_another_run_and_touches_nothing(world: World) -> None:
    world.book.holder = "bob@desk"
    with pytest.raises(LockedError, match="bob@desk is at work since"):
        set_up(world)
    assert world.fleet.verbs == []


def test_a_frozen_fleet_can_be_set_up(world: World) -> None:
    world.book.records = [frozen(1, 0)]
    assert set_up(world).exit_code == 0


def test_the_first_set_up_takes_the_lock_once_the_hub_is_made(world: World) -> None:
    class First(Mirrors):
        def make(self) -> Mapping[str, tuple[str, ...] | SkeinError]:
            world.book.down = False
            return super().make()

    world.book.down = True
    report = set_up(world, First())
    assert (report.notes, world.book.holder) == ((), "ann@laptop")


def test_without_the_hub_targets_are_set_up_all_the_same_and_it_is_said(world: World) -> None:
    world.book.down = True
    (note,) = set_up(world).notes
    assert note.startswith("without the environment's lock, for the hub cannot be asked: ")
