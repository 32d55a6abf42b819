"""The agent's lease and its way of running programs, in this process."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from tasks.agent import children, failpoints
from tasks.agent.problem import Problem
from tasks.agent.wire import Over, Wire


def test_a_lease_that_lapsed_never_holds_again() -> None:
    wire = Wire()
    wire._heard -= wire.lease_s + 1
    assert not wire._hear(wire._heard + wire.lease_s + 0.1)  # what is read late renews nothing
    wire._heard += 1000
    with pytest.raises(Over, match="lapsed"):
        wire.check_lease()
    with pytest.raises(Over, match="lapsed"):
        wire.check()


@pytest.fixture(autouse=True)
def _no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the timer from being set that would end this process with the session."""
    monkeypatch.setattr("tasks.agent.wire.signal.setitimer", lambda *_: None)


def test_input_within_the_lease_renews_it() -> None:
    wire = Wire()
    at = wire._heard + wire.lease_s - 0.1
    assert wire._hear(at)
    assert wire._heard == at
    wire.check()


def test_sending_to_nobody_ends_the_session() -> None:
    source, sink = os.pipe()
    os.close(source)
    wire = Wire(sink=sink)
    wire.send({"beat": 1})
    os.close(sink)
    assert wire.over == "the deployer is gone"
    assert list(wire.requests()) == []


def test_sending_to_one_who_does_not_read_ends_with_the_session() -> None:
    source, sink = os.pipe()
    wire = Wire(sink=sink)
    poll = select.poll()
    poll.register(sink, select.POLLOUT)
    while poll.poll(0):
        os.write(sink, b"x" * 4096)
    wire.over = "ended elsewhere"
    wire.send({"beat": 1})
    os.close(source)
    os.close(sink)


def test_a_program_answers_with_status_output_and_errors() -> None:
    assert children.run(Wire(), ["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, b"out\n", "err")


def test_a_program_that_is_not_there_is_a_missing_file_however_it_is_started(tmp_path: Path) -> None:
    for name in ("surely-not-there", str(tmp_path / "none"), "./none"):
        with pytest.raises(FileNotFoundError, match="no such program"):
            children.run(Wire(), [name], directory=str(tmp_path))


def test_a_program_that_may_not_be_executed_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    with pytest.raises(PermissionError, match="may not be executed"):
        children.run(Wire(), ["./script"], directory=str(tmp_path))


@pytest.mark.parametrize(("limits", "code"), [({"timeout_s": 0.2}, "timeout"), ({"stall_s": 0.2}, "stalled")])
def test_a_program_past_its_deadline_is_killed_with_its_whole_group(
    tmp_path: Path, limits: dict[str, float], code: str
) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(Problem) as caught:
        children.run(Wire(), ["sh", "-c", script], **limits)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert _state(int((tmp_path / "pid").read_text())) in ("", "Z")


def test_a_program_that_closes_its_output_and_stays_still_meets_its_deadline() -> None:
    with pytest.raises(Problem, match="had not ended"):
        children.run(Wire(), ["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout_s=0.5)


def test_a_daemon_that_keeps_the_pipes_open_is_not_waited_for() -> None:
    began = time.monotonic()
    status, output, _ = children.run(Wire(), ["sh", "-c", "sleep 5 & echo started"], foreign=True)
    assert (status, output) == (0, b"started\n")
    assert time.monotonic() - began < 4


def test_of_a_foreign_program_only_the_end_is_kept() -> None:
    _, output, errors = children.run(Wire(), ["sh", "-c", "seq 100000; seq 100000 >&2"], foreign=True)
    assert len(output) == children.TAIL
    assert output.endswith(b"\n100000\n")
    assert errors.endswith("\n100000")
    assert len(children.run(Wire(), ["seq", "100000"])[1]) > 500_000


def test_the_end_of_the_session_ends_a_program() -> None:
    wire = Wire()
    wire.over = "ended"
    with pytest.raises(Over):
        children.run(wire, ["sleep", "60"])


@pytest.mark.parametrize("able", [True, False])
def test_without_a_setpriv_that_can_children_run_unguarded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, able: bool
) -> None:
    fake = tmp_path / "setpriv"
    fake.write_text('#!/bin/sh\nshift 2\nexec "$@"\n' if able else "#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(children, "SETPRIV", str(fake))
    monkeypatch.setattr(children, "_guard", None)
    assert children.run(Wire(), ["echo", "x"])[1] == b"x\n"
    assert bool(children.guard()) is able


@pytest.mark.parametrize("text", ["", ":1", "x:one", "x:1:explode", "@host"])
def test_a_malformed_failpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"malformed|invalid literal"):
        failpoints.parse(text)


def test_a_failpoint_fires_at_the_passage_that_was_asked_for() -> None:
    failpoints.arm("here:3:error")
    failpoints.failpoint("here")
    failpoints.failpoint("elsewhere")
    failpoints.failpoint("here")
    with pytest.raises(OSError, match="failpoint here"):
        failpoints.failpoint("here")
    failpoints.failpoint("here")
    failpoints.arm("")
    failpoints.failpoint("here")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
