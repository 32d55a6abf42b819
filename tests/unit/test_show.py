"""What an operator sees: equal targets folded, the few that matter first, and nothing that a host could play with."""

from __future__ import annotations

import json
import re
import sys

import pytest

from tasks import _show
from tasks.core.facts import Finding
from tasks.core.report import Outcome, Report, State
from tasks.flows.check import CheckReport
from tasks.flows.status import FleetStatus, HostStatus

OLD, NEW = "20260101T000000Z-0001-aaaaaaa", "20260102T000000Z-0002-bbbbbbb"
EVIL = "\x1b[2Jcleared\nweb-9  live\u202e"


def report(*outcomes: Outcome, **more: object) -> Report:
    return Report("deploy", "prod", 0, "the headline", NEW, outcomes, **more)  # type: ignore[arg-type]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on standard output; each is fit for a terminal."""
    text = capsys.readouterr().out
    assert text.endswith("\n")
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    return lines


def test_equal_targets_share_one_line_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_report(report(*(Outcome(f"web-{number:03}", State.LIVE, NEW) for number in range(1, 97))))
    rows = [line for line in shown(capsys) if line.startswith("web")]
    assert [row.split() for row in rows] == [["web-[001-096]", "96", "live", NEW]]


def test_targets_in_trouble_come_first_and_each_reason_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome(f"web-{number}", State.LIVE, NEW) for number in (1, 2, 3)]
    outcomes += [
        Outcome("web-4", State.FAILED, OLD, "disk-full", "no space left"),
        Outcome("web-5", State.UNREACHABLE, None, "timeout", "no answer within 10 s"),
        Outcome("web-6", State.FAILED, OLD, "disk-full", "no space left"),
    ]
    _show.show_report(report(*outcomes))
    rows = [line for line in shown(capsys) if line.startswith("web")]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == ["web-[4,6]", "web-5", "web-[1-3]"]
    assert "no space left" in rows[0]


def test_a_column_that_says_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_report(report(Outcome("web-1", State.LIVE, NEW)))
    assert "reason" not in shown(capsys)[0]


def test_the_end_says_files_times_headline_and_what_is_next(capsys: pytest.CaptureFixture[str]) -> None:
    more = {"notes": ("mind the gap",), "files": {"added": 1, "removed": 0}, "timings_s": {"probe": 0.25, "flip": 1.0}}
    _show.show_report(report(skew_s=0.0125, next_step="go home", **more))
    assert shown(capsys) == [
        "note: mind the gap",
        "files: 1 added, 0 removed",
        "times: probe 0.2 s, flip 1.0 s; flip skew 12 ms",
        "the headline",
        "next: go home",
    ]


def test_words_of_a_host_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_report(report(Outcome("web-1", State.FAILED, OLD, "x", EVIL), notes=(EVIL,)))
    _show.show_status(FleetStatus("prod", OLD, (HostStatus("web-1", OLD, 0.0, 0, EVIL),)))
    bad = Finding(what="x", ok=False, message=EVIL)
    _show.show_check(CheckReport("prod", (bad,), (("web-1", (bad,)),)))
    assert not [line for line in shown(capsys) if line.startswith("web-9")]


def test_a_very_long_reason_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_report(report(Outcome("web-1", State.FAILED, None, "x", "word " * 10_000)))
    assert sum(map(len, shown(capsys))) < 3000


def test_ids_are_never_taken_for_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_report(report(Outcome("1234e56", State.LIVE, "1.10")))
    assert any(line.split() == ["1234e56", "1", "live", "1.10"] for line in shown(capsys))


def test_status_shows_trouble_first_and_folds_targets_that_flipped_in_one_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hosts = [HostStatus(f"web-{number}", NEW, 1_790_000_000.0 + number, 52_345_000_000) for number in (1, 2, 3)]
    hosts.append(HostStatus("web-4", OLD, None, 1_234_000_000, f"behind: {NEW} is wanted"))
    _show.show_status(FleetStatus("prod", NEW, tuple(hosts)))
    lines = shown(capsys)
    assert lines[0] == "environment prod"
    rows = [re.split(r"\s{2,}", line) for line in lines if line.startswith("web")]
    assert rows[0][:5] == ["web-4", "1", OLD, "-", "1.2 GB"]
    assert rows[1] == ["web-[1-3]", "3", NEW, "2026-09-21 14:13 UTC", "52 GB"]
    assert lines[-1] == "1 of 4 targets are not as they should be: web-4"


def test_check_shows_what_is_wrong_and_counts_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Finding(what="clock", ok=True, message=""), Finding(what="link", ok=False, message="cannot be written")
    _show.show_check(CheckReport("prod", (good,), (("web-1", (good, bad)), ("web-2", (good, bad)))))
    lines = shown(capsys)
    assert any(re.split(r"\s{2,}", line) == ["web-[1-2]", "2", "link", "cannot be written"] for line in lines)
    assert lines[-1] == "3 checks passed on 2 targets and this machine; 2 wrong"


def test_check_of_a_fleet_that_is_ready_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    good = Finding(what="clock", ok=True, message="")
    _show.show_check(CheckReport("prod", (good,), (("web-1", (good,)),)))
    assert shown(capsys) == ["2 checks passed on 1 targets and this machine; ready to deploy"]


def test_json_is_one_document_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    _show.show_json(report(Outcome("web-1", State.FAILED, OLD, "x", EVIL)).as_json())
    document = json.loads(capsys.readouterr().out)
    assert document["targets"][0]["reason"] == EVIL


def test_progress_without_a_terminal_is_one_plain_line_per_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with _show.TerminalProgress().stage("stage", 3) as seen:
        seen("web-1")
        seen("web-2")
    found = capsys.readouterr()
    assert re.fullmatch(r"stage: 2/3 in \d+\.\d s\n", found.err)
    assert found.out == ""


def test_progress_is_silent_when_asked_and_for_a_stage_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with _show.TerminalProgress(quiet=True).stage("stage", 3) as seen:
        seen("web-1")
    _show.TerminalProgress(quiet=True).say("a line")
    with _show.TerminalProgress().stage("stage", 0):
        pass
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_live_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _show.TerminalProgress().stage("stage", 3) as seen:
        for number in range(3):
            seen(f"web-{number}")
    assert "3/3" in capsys.readouterr().err
