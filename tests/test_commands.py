"""A file in tasks/ is a command, the same under fab and invoke; and failpoints and dependencies are what they say."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import sys
import tomllib
from collections import Counter
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from source_reading import ARGUMENTS, COMMANDS, ROOT, SOURCES, TASKS, all_tasks, called, calls, imports, parsed, python

import fabfile
import tasks
from tasks import dev

HEAVY = ("git", "pydantic", "rich", "paramiko", "fabric", "asyncssh", "libtorrent", "stamina")
BODY_LINES = 15


def test_fab_and_invoke_share_one_namespace() -> None:
    assert fabfile.ns is tasks.ns


def test_every_file_of_tasks_is_a_command_and_every_task_is_shown() -> None:
    for path in COMMANDS:
        shown = {task.body.__name__ for task in all_tasks().values() if task.body.__module__ == f"tasks.{path.stem}"}
        functions = [node for node in parsed(path).body if isinstance(node, ast.FunctionDef)]
        assert shown == {node.name for node in functions if node.decorator_list}
        assert shown


@pytest.mark.parametrize("name", sorted(all_tasks()))
def test_every_task_says_what_it_does_and_what_each_option_means(name: str) -> None:
    task = all_tasks()[name]
    first, *_ = (task.__doc__ or "").strip().splitlines() or [""]
    assert first.endswith(".")
    assert [argument.name for argument in ARGUMENTS[name] if not argument.help] == []


def test_a_task_s_body_is_short() -> None:
    for path in COMMANDS:
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.body[0].lineno < BODY_LINES, node.name


def listed(program: str) -> list[Any]:
    shown = python("-m", program, "--list", "--list-format=json")
    assert shown.returncode == 0, shown.stderr
    namespace = json.loads(shown.stdout)
    return [namespace["tasks"], namespace["collections"]]


def test_fab_and_invoke_list_the_same_tasks() -> None:
    by_fab, by_invoke = listed("fabric"), listed("invoke")
    assert by_fab == by_invoke
    assert {"deploy", "rollback", "status", "check", "setup"} <= {one["name"] for one in by_fab[0]}


def test_listing_the_tasks_loads_nothing_heavy() -> None:
    shown = python("-c", f"import sys, tasks; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == []


def test_every_failpoint_is_named_in_plain_sight_on_its_own_side() -> None:
    for path, call in calls(SOURCES):
        if called(call) == "failpoint":
            (argument,) = call.args
            side = "agent." if path.is_relative_to(TASKS / "agent") else "deploy."
            assert isinstance(argument, ast.Constant), f"{path.name}:{call.lineno}"
            assert str(argument.value).startswith(side), f"{path.name}:{call.lineno}"


def test_a_failpoint_s_name_stands_for_one_place_and_is_listed() -> None:
    names = [ast.literal_eval(call.args[0]) for _, call in calls(SOURCES) if called(call) == "failpoint"]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert sorted(names) == dev.failpoint_names()


def document() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def requirements(*extras: str) -> dict[str, Requirement]:
    wanted = document()["project"]
    lines = [*wanted["dependencies"], *(line for extra in extras for line in wanted["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_installing_brings_the_dependencies_and_no_package_of_ours() -> None:
    assert document()["tool"]["setuptools"]["packages"] == []


def test_what_pip_is_told_of_the_project_is_true() -> None:
    found = document()["project"]
    assert Version(found["version"]) > Version("0")
    assert "3.11" in SpecifierSet(found["requires-python"])
    assert "3.10" not in SpecifierSet(found["requires-python"])
    assert all((ROOT / name).is_file() for name in (found["readme"], *found["license-files"]))


def test_every_dependency_has_a_lower_bound_and_none_is_named_by_address() -> None:
    for requirement in requirements("demo").values():
        assert requirement.url is None
        assert any(bound.operator == ">=" for bound in requirement.specifier), requirement


def test_every_library_that_the_code_imports_is_declared() -> None:
    owners = importlib.metadata.packages_distributions()
    declared = set(requirements("demo"))
    foreign = [
        found
        for found in imports(SOURCES)
        if not found.dots and not found.typing_only and found.top not in {*sys.stdlib_module_names, "agent"}
    ]
    assert [
        str(found)
        for found in foreign
        if not declared & {canonicalize_name(name) for name in owners.get(found.top, [found.top])}
    ] == []


def test_the_demo_s_ssh_server_is_no_dependency_of_a_real_fleet() -> None:
    assert "asyncssh" not in requirements()
    assert "asyncssh" in requirements("demo")
    assert "asyncssh" in requirements("test")
