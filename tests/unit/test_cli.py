"""From an error to its exit code, from an environment variable to what it decides, and fab's -H refused."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from config_text import SMALL
from fabric import Connection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

import tasks
from tasks import _cli, _desk, _here
from tasks._cli import Asked, Options
from tasks.core.errors import (
    CheckFailedError,
    ConfigError,
    LockedError,
    RepositoryError,
    SkeinError,
    TooManyFailedError,
    UsageError,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a config folder with one environment, and nothing else in the environment that could decide."""
    for name in ("SKEIN_ENV", "SKEIN_FAILPOINT", "SKEIN_OPERATOR", "SUDO_USER", *_here.CI_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SKEIN_CONFIG", str(tmp_path))
    (tmp_path / "prod.toml").write_text(SMALL)
    return tmp_path


def ended(error: BaseException, options: Options | None = None) -> Exit:
    """Let a task end with ``error`` and return what the command line makes of it."""
    with pytest.raises(Exit) as exit_, _cli.desk(Context(), options or Options()):
        raise error
    return exit_.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SkeinError("x"), 1),
        (UsageError("x"), 2),
        (ConfigError("config/prod.toml", ("a: b", "c: d")), 2),
        (RepositoryError("x"), 3),
        (LockedError("x"), 4),
        (TooManyFailedError("x"), 5),
        (CheckFailedError("x"), 6),
    ],
)
@pytest.mark.usefixtures("config")
def test_every_error_ends_with_its_code_and_its_words(error: SkeinError, code: int) -> None:
    found = ended(error)
    assert (found.code, found.message) == (code, f"skein: {error}")


@pytest.mark.usefixtures("config")
def test_ctrl_c_is_130_and_says_what_state_that_left() -> None:
    found = ended(KeyboardInterrupt())
    assert found.code == 130
    assert "nothing visible was changed" in str(found.message)
    assert "stopped in the middle" in str(ended(KeyboardInterrupt("stopped in the middle of the flip")).message)


@pytest.mark.usefixtures("config")
def test_a_bug_is_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError), _cli.desk(Context(), Options()):
        raise ZeroDivisionError


@pytest.mark.usefixtures("config")
def test_with_json_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    ended(RepositoryError("no\nhub"), Options(as_json=True))
    assert json.loads(capsys.readouterr().out) == {"format": 1, "exit_code": 3, "error": "no\nhub"}


def test_all_mistakes_of_a_configuration_are_listed_in_one_go(config: Path) -> None:
    (config / "prod.toml").write_text(SMALL.replace("deploy_to", "deploy_too") + 'kind = "pigeon"\n')
    with pytest.raises(Exit) as exit_, _cli.desk(Context(), Options()):
        pass
    assert exit_.value.code == 2
    for told in ("prod.toml", "deploy_too", "transport.kind"):
        assert told in str(exit_.value.message)


TOUCHING = sorted(set(tasks.ns.task_names) - {"dev.failpoints"})
"""All tasks but the one that only reads the checkout."""

REQUIRED = {
    "bench": {"scenario": "story"},
    "lab.link": {"on": "web-01"},
    "lab.run": {"command": "true"},
    "dev.soak": {"name": "kills"},
    "diff": {"old": "1", "new": "2"},
    "history": {"host": "web-1"},
}


@pytest.mark.parametrize("name", TOUCHING)
def test_no_task_runs_on_a_host_that_fab_was_given(name: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(*_: object, **__: object) -> None:
        pytest.fail("it reached for the host")

    monkeypatch.setattr(Connection, "run", reach)
    monkeypatch.setattr(Connection, "open", reach)
    with pytest.raises(Exit) as exit_:
        tasks.ns[name](Connection("web-1"), **REQUIRED.get(name, {}))
    assert exit_.value.code == 2
    assert "--only" in str(exit_.value.message)


def test_fab_h_is_refused_on_the_command_line() -> None:
    command = [sys.executable, "-m", "fabric", "-H", "web-1,web-2", "status"]
    ended_ = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended_.returncode == 2
    assert "-H" in ended_.stderr
    assert "--only" in ended_.stderr
    assert "Traceback" not in ended_.stderr


@pytest.mark.parametrize(
    ("arguments", "options", "asked"),
    [
        (
            ("deploy", "--env", "prod", "--ref", "v1", "--only", "web", "--reason", "why", "--fail-limit", "2%"),
            Options("prod", "web", "why", "2%"),
            ("deploy", ("v1",), {"snapshot": False}),
        ),
        (
            ("deploy", "--snapshot", "--transport", "git", "--json"),
            Options(as_json=True, transport="git"),
            ("deploy", (None,), {"snapshot": True}),
        ),
        (("rollback", "--to", "x", "--reason", "why"), Options(reason="why"), ("rollback", ("x",), {})),
        (("deploy", "--plan", "--ref", "v1"), Options(), ("plan", ("v1",), {"snapshot": False})),
        (("rollback", "--plan"), Options(), ("plan_rollback", (None,), {})),
        (("status", "--env", "prod", "--json"), Options("prod", as_json=True), ("status", (), {"live": False})),
        (
            ("deploy", "--wait", "9", "--new-hosts", "--lost-records"),
            Options(wait=9, new_hosts=True, lost_records=True),
            ("deploy", (None,), {"snapshot": False}),
        ),
        (("lock", "--reason", "why", "--wait", "9"), Options(reason="why", wait=9), ("lock", (), {})),
        (("unlock", "--reason", "why"), Options(reason="why"), ("unlock", (), {})),
        (("status", "--live"), Options(), ("status", (), {"live": True})),
        (("check", "--only", "web"), Options(only="web"), ("check", (), {})),
        (("setup", "--wait", "9"), Options(wait=9), ("setup", (Asked(),), {})),
        (("adopt", "--wait", "9"), Options(wait=9), ("adopt", (), {"undo": False, "plan": False, "gap": False})),
        (
            ("setup", "--user", "root", "--shared", "a", "--shared", "b=c", "--print", "--prune-keys", "--replace"),
            Options(),
            ("setup", (Asked("root", None, ("a", "b=c"), True, True, True),), {}),
        ),
        (("setup", "--scan"), Options(), ("pin", (None,), {"go_on": False})),
    ],
)
def test_every_option_reaches_the_desk(
    arguments: tuple[str, ...], options: Options, asked: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class FakeDesk:
        def __init__(self, given: Options) -> None:
            seen.append(given)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __getattr__(self, name: str) -> Any:
            return lambda *given, **more: seen.append((name, given, more))

    monkeypatch.setattr(_desk, "Desk", FakeDesk)
    Program(namespace=tasks.ns, version="0").run(["invoke", *arguments], exit=False)
    assert seen == [options, asked]


# The desk


def test_the_only_environment_is_the_one_that_is_meant(config: Path) -> None:
    assert _desk.Desk(Options()).settings.environment == "prod"


def test_an_environment_is_named_by_option_then_by_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config / "staging.toml").write_text(SMALL)
    with pytest.raises(UsageError, match="prod, staging"):
        _desk.Desk(Options())
    monkeypatch.setenv("SKEIN_ENV", "staging")
    assert _desk.Desk(Options()).settings.environment == "staging"
    assert _desk.Desk(Options(env="prod")).settings.environment == "prod"


def test_options_are_said_again_for_the_next_command() -> None:
    assert Options("prod", as_json=True).words() == ()
    every = Options("prod", "web,!web-1", "why not", "2%", False, "git", 9, True, True)
    assert " ".join(every.words()) == (
        "--only web,!web-1 --reason why not --fail-limit 2% --transport git --wait 9 --new-hosts --lost-records"
    )


@pytest.mark.parametrize("env", ["nowhere", "../prod", "", "Prod", "pr od"])
def test_an_environment_that_is_not_there_is_refused_with_those_that_are(config: Path, env: str) -> None:
    with pytest.raises(UsageError, match="there are: prod"):
        _desk.Desk(Options(env=env))


def test_a_config_that_cannot_be_read_is_named(config: Path) -> None:
    (config / "prod.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"prod\.toml cannot be read"):
        _desk.Desk(Options())


@pytest.mark.parametrize("text", ["x:y", "deploy.staged:1:explode", ":1", "deploy.staged:one"])
def test_a_malformed_failpoint_is_refused(config: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SKEIN_FAILPOINT", text)
    with pytest.raises(UsageError, match="SKEIN_FAILPOINT"):
        _desk.Desk(Options())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (Options(only="web-9"), "web-9"),
        (Options(only="web-1,!web-1"), "selects no host"),
        (Options(only=""), "selects no host"),
        (Options(fail_limit="some"), "--fail-limit"),
        (Options(transport="pigeon"), "--transport"),
    ],
)
@pytest.mark.usefixtures("config")
def test_an_option_that_cannot_be_is_refused_before_any_connection(options: Options, told: str) -> None:
    with pytest.raises(UsageError, match=told), _desk.Desk(options) as desk:
        desk.status(live=True)


@pytest.mark.usefixtures("config")
def test_a_ref_and_a_snapshot_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"), _desk.Desk(Options()) as desk:
        desk.deploy("v1", snapshot=True)


@pytest.mark.parametrize(
    ("variables", "who"),
    [
        ({"SKEIN_OPERATOR": "ann", "SUDO_USER": "bob", "GITHUB_ACTOR": "cat"}, "ann"),
        ({"SUDO_USER": "bob", "GITHUB_ACTOR": "cat"}, "bob"),
        ({"GITHUB_ACTOR": "cat"}, "cat"),
        ({"GITLAB_USER_LOGIN": "dan"}, "dan"),
        ({"SKEIN_OPERATOR": "", "SUDO_USER": "bob"}, "bob"),
        ({}, "login"),
        ({"SKEIN_OPERATOR": "eve\x1b[2J\nroot"}, "eve\\x1b[2J\\nroot"),
    ],
)
def test_who_is_at_work(config: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], who: str) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "login")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    name, _, machine = _here.operator().rpartition("@")
    assert (name, bool(machine)) == (who, True)


@pytest.mark.parametrize("error", [KeyError, OSError])
@pytest.mark.usefixtures("config")
def test_a_user_without_a_name_can_work_too(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def nameless() -> str:
        raise error("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert "@" in _here.operator()


@pytest.mark.usefixtures("config")
def test_a_limit_on_the_command_line_goes_before_all_limits_of_the_configuration(config: Path) -> None:
    (config / "prod.toml").write_text(SMALL.replace('hosts = ["web-[1-3]"]', 'hosts = ["web-[1-3]"]\nfail_limit = 0'))
    with _desk.Desk(Options()) as desk:
        assert desk._hands().policy.groups == {"web": 0}
    with _desk.Desk(Options(fail_limit="2")) as desk:
        assert (desk._hands().policy.overall, desk._hands().policy.groups) == (2, {})


def test_the_reason_is_kept_fit_for_a_terminal(config: Path) -> None:
    with _desk.Desk(Options(reason="\x1b[2Jbecause")) as desk:
        assert desk._hands().reason == "\\x1b[2Jbecause"


def test_a_report_that_is_not_good_ends_with_its_code() -> None:
    with pytest.raises(Exit) as exit_:
        _desk.Desk._exit(SimpleNamespace(), 12)  # type: ignore[arg-type]
    assert exit_.value.code == 12
