"""Every exit code that README promises, through the real command line, at the demo's fleet.

Each case is what brings it about; README's own table says what it means.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from demo_operator import CHECKOUT, DemoOperator, Ran

from tasks.remote.lab import wait_until

Case = Callable[[DemoOperator], Ran]
ONE_FAILS = {"SKEIN_FAILPOINT": "agent.stage.synced@web-2:1:error"}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> DemoOperator:
    """Give somebody at a fleet whose after_flip fails while a file called `broken` is there."""
    operator = DemoOperator(tmp_path_factory.mktemp("demo"))
    operator.config(targets=f'after_flip = ["test", "!", "-e", "{operator.folder}/broken"]')
    assert operator.run("deploy").code == 0
    return operator


def deploy(operator: DemoOperator, *argv: str, **variables: str) -> Ran:
    """Deploy something new."""
    operator.change()
    return operator.run("deploy", "--snapshot", "--json", *argv, **variables)


def nothing_is_left_to_do(operator: DemoOperator) -> Ran:
    assert deploy(operator).code == 0
    return operator.run("deploy", "--snapshot", "--json")


def an_unknown_option(operator: DemoOperator) -> Ran:
    return operator.run("deploy", "--no-such-option")


def a_limit_that_is_none(operator: DemoOperator) -> Ran:
    return deploy(operator, "--fail-limit", "many")


def a_release_that_is_nowhere(operator: DemoOperator) -> Ran:
    return operator.run("rollback", "--json", "--to", "20260101T000000Z-9999-abcdef0")


def the_hub_lost_its_ledger(operator: DemoOperator) -> Ran:
    (hub,) = operator.state.glob("fleet/hosts/mirror-1/**/www.git")
    subprocess.run(["git", f"--git-dir={hub}", "update-ref", "-d", "refs/skein/ledger/demo"], check=True, timeout=30)
    try:
        return deploy(operator)
    finally:
        assert operator.run("mirrors.sync", "--from", "mirror-2").code == 0


def the_environment_is_frozen(operator: DemoOperator) -> Ran:
    operator.run("lock", "--reason", "audit")
    try:
        return deploy(operator)
    finally:
        assert operator.run("unlock").code == 0


def one_target_cannot_stage(operator: DemoOperator) -> Ran:
    return deploy(operator, **ONE_FAILS)


def a_check_finds_a_freeze(operator: DemoOperator) -> Ran:
    operator.run("lock", "--reason", "audit")
    try:
        return operator.run("check", "--json")
    finally:
        assert operator.run("unlock").code == 0


def status_finds_a_target_that_was_left_out(operator: DemoOperator) -> Ran:
    assert deploy(operator, "--fail-limit", "1", **ONE_FAILS).code == 12
    try:
        return operator.run("status", "--json")
    finally:
        assert operator.run("deploy", "--snapshot").code == 0


def after_flip_fails_everywhere(operator: DemoOperator, **variables: str) -> Ran:
    broken = operator.folder / "broken"
    broken.touch()
    try:
        return deploy(operator, **variables)
    finally:
        broken.unlink()


def one_target_of_the_limit_fails(operator: DemoOperator) -> Ran:
    return deploy(operator, "--fail-limit", "1", **ONE_FAILS)


def one_cannot_be_put_back(operator: DemoOperator) -> Ran:
    return after_flip_fails_everywhere(operator, SKEIN_FAILPOINT="agent.revert.before@web-2:1:error")


def ctrl_c_while_all_is_staged(operator: DemoOperator) -> Ran:
    operator.change()
    deployer = operator.start("deploy", "--snapshot", "--json", SKEIN_FAILPOINT="deploy.staged:1:pause")
    wait_until(lambda: "\nState:\tT" in Path(f"/proc/{deployer.pid}/status").read_text(), "it stands still", 60)
    os.killpg(deployer.pid, signal.SIGINT)
    os.killpg(deployer.pid, signal.SIGCONT)
    out, err = deployer.communicate(timeout=60)
    return Ran(deployer.returncode, out, err)


CASES: list[tuple[int, Case, str]] = [
    (0, deploy, "live on all 6 targets"),
    (0, nothing_is_left_to_do, "nothing to do"),
    (1, an_unknown_option, "--no-such-option"),
    (2, a_limit_that_is_none, "many"),
    (2, a_release_that_is_nowhere, "no target has release 20260101T000000Z-9999-abcdef0"),
    (3, the_hub_lost_its_ledger, "was truncated: it is empty"),
    (4, the_environment_is_frozen, "is frozen, nothing was changed: by .*audit"),
    (5, one_target_cannot_stage, "nothing changed: .* before the flip"),
    (6, a_check_finds_a_freeze, "frozen by .*audit"),
    (6, status_finds_a_target_that_was_left_out, "behind: .* is wanted"),
    (10, after_flip_fails_everywhere, "every target was put back to what it served before"),
    (12, one_target_of_the_limit_fails, "live on 5 of 6 targets"),
    (13, one_cannot_be_put_back, "not every target could be put back: web-2"),
    (130, ctrl_c_while_all_is_staged, "backed out, nothing visible was changed"),
]


@pytest.mark.parametrize(("code", "case", "told"), CASES, ids=[f"{code}-{case.__name__}" for code, case, _ in CASES])
def test_a_run_ends_with_the_code_that_readme_promises(
    operator: DemoOperator, code: int, case: Case, told: str
) -> None:
    ran = case(operator)
    assert (ran.code, bool(re.search(told, ran.out + ran.err))) == (code, True), ran.out + ran.err
    if code != 1:  # the parser is fab's own
        assert (ran.json["format"], ran.json["exit_code"]) == (1, code)


def test_after_all_that_the_next_deploy_converges(operator: DemoOperator) -> None:
    ran = deploy(operator)
    assert {each["state"] for each in ran.json["targets"]} == {"live"}
    assert operator.run("status").code == 0


def test_every_code_in_readme_has_its_case_and_no_other() -> None:
    listed = re.findall(r"^\| (\d+) \|", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    assert [int(code) for code in listed] == sorted({code for code, _, _ in CASES})
