"""Mirrors that are full or off while all else works: what is said, with which code, and that nothing is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_operator import THREE, Operator, small_fleet
from needs import need
from real_site import Site

from tasks.remote.lab import Lab

HUB, OTHER = "mirror-1", "mirror-2"
REASON = "line one\nline two\x1b[2J\x07"


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=3, small_disk={OTHER: "20M"}) as machines:
        yield machines


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> tuple[Operator, Site]:
    operator, site = small_fleet(lab, ssh={"connect_timeout": 3})
    operator.deploy()
    return operator, site


def serves_the_newest(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    operator.assert_serves(site.files_at(site.commits[-1]))


def records(operator: Operator, *argv: str) -> list[str]:
    """Return the kinds of the ledger's records, newest first."""
    found = operator.fab("log", "--json", *argv, program="invoke").json["records"]
    return [each["kind"] for each in found]


def test_a_reason_with_line_breaks_and_control_bytes_is_kept_harmless_everywhere(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    site.change({"index.html": b"reason\n"})
    operator.deploy("--reason", REASON)
    for command in ("log", "history"):
        run = operator.fab(command, *(["web-01"] if command == "history" else []), program="invoke")
        assert not {"\x1b", "\x07"} & set(run.out)
    kept = operator.fab("log", "--json", program="invoke").json["records"]
    assert {each["reason"] for each in kept[:2]} == {"line one\\nline two\\x1b[2J\\x07"}


def test_half_of_the_mirrors_off_is_a_note_or_exit_3_as_the_limit_says(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    before = operator.live()
    site.change({"index.html": b"half\n"})
    operator.lab.power_off(OTHER)
    try:
        operator.configure(groups=THREE, ssh={"connect_timeout": 3}, targets={"mirror_fail_limit": 0})
        told = operator.deploy(code=3).json["error"]
        assert OTHER in told
        assert "the targets were not touched" in told
        assert operator.live() == before
        operator.configure(groups=THREE, ssh={"connect_timeout": 3})
        notes = operator.deploy().json["notes"]
        assert any(OTHER in note and "did not take the release" in note for note in notes)
        assert any(OTHER in note and "did not take the ledger" in note for note in notes)
        serves_the_newest(fleet)
    finally:
        operator.lab.power_on(OTHER)
    site.change({"index.html": b"both again\n"})
    assert not any(OTHER in note for note in operator.deploy().json["notes"])
    assert operator.refs(OTHER) == operator.refs(HUB)  # releases and ledger that it missed came along


def test_a_mirror_without_space_is_named_and_the_deploy_goes_on(fleet: tuple[Operator, Site]) -> None:
    operator, site = fleet
    full = operator.lab.fill(OTHER, "/srv/full")
    try:
        site.change({"index.html": b"no space\n", "random.bin": os.urandom(1 << 20)})
        notes = operator.deploy().json["notes"]
        assert any(f"mirror {OTHER} did not take the release" in note for note in notes), notes
        serves_the_newest(fleet)
        assert records(operator)[:2] == ["outcome", "deploy"]
    finally:
        full.unlink()
    operator.fab("mirrors.sync")
    assert operator.refs(OTHER) == operator.refs(HUB)


def clock_shifter() -> str:
    """Return the library that makes programs see another time; the processes of the lab share the kernel's clock."""

    def found() -> list[Path]:
        return sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))

    need(lambda: [] if found() else ["libfaketime"], ["libfaketime"])
    return str(found()[0])


@pytest.mark.parametrize("days", [-1, 1])
def test_a_target_whose_clock_is_a_day_off_is_deployed_to_rolled_back_and_told_of(
    fleet: tuple[Operator, Site], days: int
) -> None:
    operator, site = fleet
    lab, name = operator.lab, "web-02"
    settings = lab.path(name, "/etc/ssh/sshd_config")
    stock = settings.read_text()
    wrong = f"LD_PRELOAD={clock_shifter()} FAKETIME={days:+d}d"
    settings.write_text(f"SetEnv {wrong}\n{stock}")
    lab.power_off(name)
    lab.power_on(name)
    try:
        site.change({"index.html": f"a day off {days}\n".encode()})
        ran = operator.deploy().json
        assert {each["state"] for each in ran["targets"]} == {"live"}
        assert abs(ran["skew_s"]) < 60, "what a clock is off is taken off the skew"
        serves_the_newest(fleet)
        told = operator.fab("check", "--json", program="invoke", code=None).json
        wrong_clocks = [
            each["host"]
            for each in told["targets"]
            if any(finding["what"] == "clock" and not finding["ok"] for finding in each["findings"])
        ]
        assert wrong_clocks == [name]
        live = operator.fab("status", "--live", "--json", program="invoke").json["targets"]
        (since,) = [each["since"] for each in live if each["host"] == name]
        assert abs(since - time.time()) > 80_000, "the host itself believes in its clock"
        operator.fab("rollback")
        operator.assert_serves(site.files_at(site.commits[-2]))
        operator.deploy()
        serves_the_newest(fleet)
    finally:
        settings.write_text(stock)
        lab.power_off(name)
        lab.power_on(name)
