"""The operator's own log: what a line says, what it leaves out, how large it grows, and that it stops nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.core.errors import UnreachableError
from tasks.core.facts import Done
from tasks.core.requests import Request
from tasks.core.run_log import asked, harmless
from tasks.remote import run_log
from tasks.remote.run_log import RunLog

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("fetch https://ann:hunter2@mirror-1/www.git failed", "fetch https://ann:***@mirror-1/www.git failed"),
        ("ssh://deploy@mirror-1/srv", "ssh://deploy@mirror-1/srv"),
        (f"cannot read {KEY} here", "cannot read *** here"),
        ("cut off: -----BEGIN RSA PRIVATE KEY-----\nMIIE", "cut off: ***"),
        ("DB_PASSWORD=hunter2 PATH='/usr/bin:/bin' ./reload", "DB_PASSWORD=*** PATH=*** ./reload"),
        ('{"api_key": "hunter2"}', '{"api_key": ***'),
        ("password: hunter2 was refused", "password: *** was refused"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
        ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
        ("release 20261122T101500Z-0042-1a2b3c4 on web-[1-3]", "release 20261122T101500Z-0042-1a2b3c4 on web-[1-3]"),
    ],
)
def test_secrets_and_control_bytes_are_left_out_wherever_they_stand(text: str, kept: str) -> None:
    assert harmless(text) == kept
    assert harmless({"a": [{"b": text}, 7, None, True]}) == {"a": [{"b": kept}, 7, None, True]}


def test_a_long_text_is_cut() -> None:
    assert len(str(harmless("x" * 10_000))) == 1000


def test_what_was_asked_is_told_folded_and_without_what_was_sent() -> None:
    order = (Request("fetch", {"reason": "hunter2"}, payload=b"hunter2"), Request("stage"))
    gone = UnreachableError("lost", "the session was lost")
    answers = {"web-1": Done(), "web-2": Done(), "web-3": gone}
    assert asked(dict.fromkeys(["web-1", "web-2", "web-3", "web-4"], order), answers, 0.25) == {
        "verbs": ["fetch", "stage"],
        "seconds": 0.25,
        "outcomes": [
            {"outcome": "ok", "hosts": "web-[1-2]"},
            {"outcome": "lost", "hosts": "web-3", "reason": "the session was lost"},
            {"outcome": "no answer yet", "hosts": "web-4"},
        ],
    }


def test_who_only_looks_leaves_no_trace(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "prod" / "log.jsonl", "1", pytest.fail)
    log.asked({"web-1": (Request("probe"),)}, {}, 0.0)
    log.end(0)
    assert list(tmp_path.iterdir()) == []


def test_a_log_is_private_and_each_line_has_its_format_time_and_run(tmp_path: Path) -> None:
    path = tmp_path / "prod" / "log.jsonl"
    log = RunLog(path, "1f", pytest.fail)
    log.begin("deploy", ref="main")
    log.begin("setup")
    log.end(5, error="x")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    told = lines(path)
    assert [(each["event"], each["format"], each["run"]) for each in told] == [("began", 1, "1f"), ("ended", 1, "1f")]
    assert [told[0]["command"], told[0]["ref"], told[1]["exit_code"]] == ["deploy", "main", 5]
    assert all(str(each["at"]).endswith("+00:00") for each in told)


def test_a_log_that_is_full_makes_way_and_only_so_many_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "LARGEST", 200)
    path = tmp_path / "log.jsonl"
    log = RunLog(path, "1", pytest.fail)
    log.begin("deploy")
    for number in range(60):
        log.write("step", number=number)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["log.jsonl", *(f"log.jsonl.{number}" for number in range(1, 5)), "log.lock"]
    kept = [each["number"] for name in reversed(names[:-1]) for each in lines(tmp_path / name)]
    assert kept == list(range(60 - len(kept), 60))
    assert all((tmp_path / name).stat().st_size < 400 for name in names)


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "prod").touch()
    told: list[str] = []
    log = RunLog(tmp_path / "prod" / "log.jsonl", "1", told.append)
    log.begin("deploy")
    log.end(0)
    assert len(told) == 1
    assert told[0].startswith("this run is not logged any more: ")
