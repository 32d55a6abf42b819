"""Every command through the real command line, at the demo's fleet: its JSON, and what the operator's log keeps."""

from __future__ import annotations

import json

import pytest
from demo_operator import DemoOperator, Ran

import tasks

CHANGING = {
    "deploy": ("--snapshot", "--reason", "a\nb\x1b[2J https://ann:hunter2@h/"),
    "rollback": (),
    "lock": ("--reason", "audit"),
    "unlock": (),
    "setup": (),
    "adopt": (),
    "mirrors.sync": (),
}
LOOKING = {
    "status": (),
    "log": (),
    "releases": (),
    "diff": ("1", "2"),
    "history": ("web-1",),
    "check": (),
    "mirrors.check": (),
}
PLANS = {"deploy": ("--snapshot", "--plan"), "rollback": ("--plan",), "adopt": ("--plan",), "status": ("--live",)}
ELSEWHERE = {
    "bench": "tests/e2e/test_bench.py: it needs a lab",
    "lab.up": "what it makes is read by people",
    "lab.down": "it says one line",
    "lab.link": "it says nothing",
    "lab.run": "what it prints is the command's own",
    "lab.shell": "a person types there",
    "dev.test": "what it prints is the tools' own",
    "dev.failpoints": "a plain list",
    "dev.cost": "a table for people",
    "dev.soak": "tests/e2e/test_soak.py: it needs a lab",
}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> DemoOperator:
    """Give somebody who deployed the demo's two versions, so that there is one to go back to."""
    operator = DemoOperator(tmp_path_factory.mktemp("demo"))
    operator.config()
    assert operator.run("deploy").code == 0
    return operator


def test_every_command_is_tried_here_or_says_why_not() -> None:
    assert {*CHANGING, *LOOKING, *ELSEWHERE} == set(tasks.ns.task_names)


def told(command: str, ran: Ran) -> None:
    """Assert that a command printed one document that says what it is and how it ended."""
    said = {key: ran.json[key] for key in ("format", "command", "environment", "exit_code")}
    assert said == {"format": 1, "command": command, "environment": "demo", "exit_code": ran.code}
    assert ran.code == 0, ran.out


@pytest.mark.parametrize("command", CHANGING)
def test_a_command_that_changes_something_tells_it_as_json_and_logs_its_steps_without_secrets(
    operator: DemoOperator, command: str
) -> None:
    operator.change()
    before = len(operator.log)
    ran = operator.run(command, "--json", *CHANGING[command])
    told(command, ran)
    log = operator.log[before:]
    assert {(each["format"], each["run"]) for each in log} == {(1, log[0]["run"])}
    assert (log[0]["event"], log[0]["command"], log[0]["environment"]) == ("began", command, "demo")
    assert (log[-1]["event"], log[-1]["exit_code"]) == ("ended", ran.code)
    assert [each["report"]["exit_code"] for each in log if each["event"] == "report"] == [ran.code]
    assert {"asked", "stage"} & {each["event"] for each in log}
    text = json.dumps(log)
    assert "hunter2" not in text
    assert "\\u001b" not in text


@pytest.mark.parametrize(("command", "argv"), [*LOOKING.items(), *PLANS.items()], ids=str)
def test_a_command_that_only_looks_tells_it_as_json_and_logs_nothing(
    operator: DemoOperator, command: str, argv: tuple[str, ...]
) -> None:
    before = operator.log
    told(command, operator.run(command, "--json", *argv, program="invoke"))
    assert operator.log == before


@pytest.mark.parametrize("command", sorted({*CHANGING, *LOOKING}))
def test_with_json_what_cannot_be_is_a_document_too(operator: DemoOperator, command: str) -> None:
    ran = operator.run(command, "--json", *LOOKING.get(command, ()), "--env", "nowhere")
    assert (ran.code, ran.json["format"], ran.json["exit_code"]) == (2, 1, 2)
    assert "nowhere" in ran.json["error"]


def test_the_log_of_a_deploy_names_its_hosts_verbs_and_seconds(operator: DemoOperator) -> None:
    operator.change()
    before, fault = len(operator.log), "agent.stage.synced@web-2:1:error"
    assert operator.run("deploy", "--snapshot", "--fail-limit", "1", SKEIN_FAILPOINT=fault).code == 12
    asked = [each for each in operator.log[before:] if each["event"] == "asked"]
    stage = next(each for each in asked if "stage" in each["verbs"])
    assert stage["seconds"] >= 0
    assert [each["hosts"] for each in stage["outcomes"]] == ["web-[1,3-6]", "web-2"]
    assert "reason" in stage["outcomes"][1]
    flip = next(each for each in asked if each["verbs"] == ["flip"])
    assert [each["hosts"] for each in flip["outcomes"]] == ["web-[1,3-6]"]


def test_a_command_that_is_refused_is_logged_with_the_reason(operator: DemoOperator) -> None:
    before = len(operator.log)
    assert operator.run("lock").code == 2
    assert operator.log[before:][-1]["exit_code"] == 2
    assert "--reason" in operator.log[before:][-1]["error"]
