"""The house keeps its floors: these tests read the source itself, so that a slip is a failure and not a matter of taste."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke.tasks import Task
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import fabfile
import tasks
from tasks import dev

ROOT = Path(__file__).resolve().parent.parent
TASKS = ROOT / "tasks"
SOURCES = sorted(TASKS.rglob("*.py"))
COMMANDS = sorted(path for path in TASKS.glob("*.py") if not path.name.startswith("_"))
SHARED = "shared command-line code"
COMMAND = "commands"
FLOORS = {"core": 0, "transports": 1, "traffic": 1, "remote": 2, "flows": 3, SHARED: 4, COMMAND: 5}
SEES_AGENT = FLOORS["remote"]
HANDS_ONLY = ("fabric", "git", "paramiko", "asyncssh", "socket", "subprocess")
AGENT_TOO = ("socket", "subprocess")
PURE = {
    *("__future__", "collections", "dataclasses", "datetime", "difflib", "enum", "functools", "hashlib", "ipaddress"),
    *("itertools", "json", "math", "operator", "posixpath", "re", "textwrap", "tomllib", "typing", "urllib"),
    *("ClusterShell", "pydantic", "pydantic_core"),
}
EFFECTS = {"open", "print", "input", "eval", "exec", "now", "today", "utcnow", "read_text", "write_text"}
LINES = 300
HEAVY = ("git", "pydantic", "rich", "paramiko", "fabric", "asyncssh", "libtorrent", "stamina")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """List what a file imports, also inside functions, as (dots before it, dotted name, line)."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name, node.lineno) for alias in node.names)


def room_of(parts: tuple[str, ...]) -> str:
    """Return the floor of a module, given its place below ``tasks/``: a folder's name, or which kind of file it is."""
    if len(parts) > 1 or (parts and (TASKS / parts[0]).is_dir()):
        return parts[0]
    return SHARED if parts and parts[0].startswith("_") and parts[0] != "__init__" else COMMAND


def own_imports(path: Path) -> Iterator[tuple[str, str, int]]:
    """List the modules of ours that a file imports as (its floor, dotted name below tasks/, line)."""
    folder = path.relative_to(TASKS).parent.parts
    for dots, module, line in imports(path):
        if dots:
            target = (*folder[: len(folder) - dots + 1], *module.split("."))
            yield room_of(target), ".".join(target), line


def may_import(room: str, other: str) -> bool:
    if room == other:
        return room != COMMAND
    if room == "agent" or other == "agent":
        return other == "agent" and FLOORS[room] >= SEES_AGENT
    return FLOORS[other] < FLOORS[room]


def options(task: Task) -> list[str]:  # type: ignore[type-arg]
    return [argument.name for argument in task.get_arguments()]


def all_tasks() -> dict[str, Task]:  # type: ignore[type-arg]
    return {name: tasks.ns[name] for name in tasks.ns.task_names}


def run(*argv: str, timeout_s: int = 120) -> subprocess.CompletedProcess[str]:
    """Run Python on the checkout, as an operator would, without the caches of this process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SKEIN_", "INVOKE_"))}
    command = [sys.executable, *argv]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


# Floors


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_down_only(path: Path) -> None:
    room = room_of(path.relative_to(TASKS).with_suffix("").parts)
    if path == TASKS / "__init__.py":
        return  # the namespace stands above the commands, and nothing stands above it
    wrong = [f"line {line}: {module}" for other, module, line in own_imports(path) if not may_import(room, other)]
    assert not wrong, f"{name_of(path)} ({room}) looks up or sideways"


@pytest.mark.parametrize("folder", sorted(path.name for path in TASKS.iterdir() if path.is_dir()))
def test_every_folder_of_tasks_is_a_known_floor(folder: str) -> None:
    assert folder in FLOORS or folder in ("agent", "__pycache__")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_inside_tasks_are_relative(path: Path) -> None:
    assert not [line for dots, module, line in imports(path) if not dots and module.split(".")[0] == "tasks"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_hands_import_what_reaches_other_machines_and_programs(path: Path) -> None:
    folder = path.relative_to(TASKS).parts[0]
    allowed = HANDS_ONLY if folder == "remote" else AGENT_TOO if folder == "agent" else ()
    wrong = [
        f"line {line}: {module}"
        for dots, module, line in imports(path)
        if not dots and module.split(".")[0] in HANDS_ONLY and module.split(".")[0] not in allowed
    ]
    assert not wrong, f"{name_of(path)}: this belongs in tasks/remote/"


@pytest.mark.parametrize("path", sorted((TASKS / "core").glob("*.py")), ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    impure = [module for dots, module, _ in imports(path) if not dots and module.split(".")[0] not in PURE]
    assert not impure
    called = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    names = {func.id if isinstance(func, ast.Name) else getattr(func, "attr", "") for func in called}
    assert not names & EFFECTS


@pytest.mark.parametrize("path", sorted((TASKS / "flows").glob("*.py")), ids=name_of)
def test_flows_have_no_hands_clock_or_environment_of_their_own(path: Path) -> None:
    forbidden = {"os", "time", "random", "secrets", "pathlib", "io", "sys", "threading", "invoke"}
    assert not [module for dots, module, _ in imports(path) if not dots and module.split(".")[0] in forbidden]
    assert not [module for room, module, _ in own_imports(path) if room in ("remote", "agent")]


# The agent


@pytest.mark.parametrize("path", sorted((TASKS / "agent").glob("*.py")), ids=name_of)
def test_the_agent_is_standard_library_only_and_knows_nothing_of_ours(path: Path) -> None:
    own = {"agent", *(source.stem for source in (TASKS / "agent").glob("*.py"))}
    for dots, module, line in imports(path):
        top = module.split(".")[0]
        good = dots <= 1 and top in own if dots else top in sys.stdlib_module_names or top == "agent"
        assert good, f"{name_of(path)}:{line}: {module}"


def test_the_agent_runs_on_python_3_8() -> None:
    checked = run("-m", "vermin", "-t=3.8-", "--violations", "--no-tips", "--no-parse-comments", "tasks/agent")
    assert checked.returncode == 0, checked.stdout + checked.stderr


# Files


@pytest.mark.parametrize("path", [path for path in TASKS.iterdir() if path.name != "__init__.py"], ids=name_of)
def test_nothing_in_tasks_hides_a_library(path: Path) -> None:
    libraries = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    assert path.stem == "__pycache__" or path.stem not in libraries


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_to_do(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text("utf-8"))


def tracked() -> list[Path]:
    """List the files that git has or would take; outside a checkout, all of them."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if listed.returncode == 0:
        paths = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts[-3:])]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


LAB_HOME = r"(?!deploy\b|vagrant\b)"  # users of the lab's and the virtual machines' own
MACHINE = re.compile(rf"(?<![\w.}}])/(?:home/{LAB_HOME}\w|Users/\w|root/\.|work/)")
REGISTRY = re.compile(
    r"(?i)(?:extra-)?index-url|trusted-host|(?:pip|uv)_(?:extra_)?index|goproxy|npm_config"
    r"|https?://[\w.-]*(?:pypi|pythonhosted|npmjs|registry|artifactory|nexus|devpi|proxy)"
)


def test_no_file_names_a_path_of_one_machine_or_a_package_registry() -> None:
    found = []
    for path in tracked():
        if path != Path(__file__).resolve():
            lines = path.read_text("utf-8", "replace").splitlines()
            found += [f"{name_of(path)}: {line.strip()}" for line in lines if MACHINE.search(line) or REGISTRY.search(line)]
    assert not found


def test_the_guard_against_paths_and_registries_knows_one_when_it_sees_one() -> None:
    assert all(MACHINE.search(text) for text in ("'/home/ann/x'", "cd /root/.ssh", "/work/main", "/Users/ann"))
    assert not any(MACHINE.search(text) for text in ("/home/deploy", "/srv/www", "net/work/x", "{base}/home/x", "/root"))
    assert all(REGISTRY.search(text) for text in ("--index-url x", "https://pypi.example/simple", "PIP_INDEX_URL=x"))


# Commands


def test_fab_and_invoke_share_one_namespace() -> None:
    assert fabfile.ns is tasks.ns


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_every_file_of_tasks_is_a_command(path: Path) -> None:
    module = f"tasks.{path.stem}"
    assert [name for name, task in all_tasks().items() if task.body.__module__ == module]
    own = [node for node in parsed(path).body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    assert len(own) == len([task for task in all_tasks().values() if task.body.__module__ == module])


@pytest.mark.parametrize("name", sorted(all_tasks()))
def test_every_task_says_what_it_does_and_what_each_option_means(name: str) -> None:
    task = all_tasks()[name]
    first = (task.__doc__ or "").strip().splitlines()
    assert first, name
    assert first[0].rstrip().endswith(".")
    unsaid = [argument.name for argument in task.get_arguments() if not argument.help]
    assert not unsaid


@pytest.mark.parametrize("name", sorted(all_tasks()))
def test_every_option_of_a_task_has_one_meaning_everywhere(name: str) -> None:
    for other in all_tasks().values():
        theirs = {argument.name: argument.help for argument in other.get_arguments()}
        for argument in all_tasks()[name].get_arguments():
            if name.count(".") == other.name.count(".") and "." not in name:
                assert theirs.get(argument.name, argument.help) == argument.help or "dev" in other.body.__module__


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_a_task_s_body_stays_short(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            assert len(node.body) and node.end_lineno is not None
            assert node.end_lineno - node.body[0].lineno < 15, node.name


def listed(program: str) -> dict[str, object]:
    shown = run("-m", program, "--list", "--list-format=json")
    assert shown.returncode == 0, shown.stderr
    namespace: dict[str, object] = json.loads(shown.stdout)
    return {key: value for key, value in namespace.items() if key != "name"}


def test_fab_and_invoke_list_the_same_tasks() -> None:
    by_fab, by_invoke = listed("fabric"), listed("invoke")
    assert by_fab == by_invoke
    assert {"deploy", "rollback", "status", "check", "setup"} <= {str(one["name"]) for one in by_fab["tasks"]}  # type: ignore[attr-defined,index]


def test_listing_the_tasks_loads_nothing_heavy() -> None:
    shown = run("-c", f"import sys, tasks; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == []


# Failpoints


def failpoint_calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called == "failpoint":
                    yield path, node


def test_every_failpoint_is_named_in_plain_sight_and_on_the_right_side() -> None:
    for path, call in failpoint_calls():
        (argument,) = call.args
        assert isinstance(argument, ast.Constant), f"{name_of(path)}:{call.lineno}"
        side = "agent." if path.is_relative_to(TASKS / "agent") else "deploy."
        assert str(argument.value).startswith(side), f"{name_of(path)}:{call.lineno}"


def test_a_failpoint_s_name_stands_for_one_place_and_is_listed() -> None:
    names = [ast.literal_eval(call.args[0]) for _, call in failpoint_calls()]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert sorted(names) == dev.failpoint_names()


# Packaging


def project() -> dict[str, object]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert document["tool"]["setuptools"]["packages"] == [], "the product runs from its checkout"
    found: dict[str, object] = document["project"]
    return found


def requirements(*extras: str) -> dict[str, Requirement]:
    wanted = project()
    lines = [*wanted["dependencies"], *(line for extra in extras for line in wanted["optional-dependencies"][extra])]  # type: ignore[misc,index]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_what_pip_is_told_of_the_project_is_true() -> None:
    found = project()
    assert Version(str(found["version"])) > Version("0")
    assert "3.11" in SpecifierSet(str(found["requires-python"]))
    assert "3.10" not in SpecifierSet(str(found["requires-python"]))
    for name in (found["readme"], *found["license-files"]):  # type: ignore[misc]
        assert (ROOT / str(name)).is_file()
    assert requirements("demo", "test")


def test_every_dependency_has_a_lower_bound_and_none_is_named_by_address() -> None:
    for requirement in requirements("demo").values():
        assert requirement.url is None
        assert any(bound.operator == ">=" for bound in requirement.specifier), requirement


def test_every_library_that_the_code_imports_is_declared() -> None:
    owners = importlib.metadata.packages_distributions()
    declared = set(requirements("demo"))
    for path in SOURCES:
        typed_only = {
            inner.lineno
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
            if isinstance(inner, (ast.Import, ast.ImportFrom))
        }
        for dots, module, line in imports(path):
            top = module.split(".")[0]
            if dots or top in sys.stdlib_module_names or line in typed_only or path.is_relative_to(TASKS / "agent"):
                continue
            owner = {canonicalize_name(name) for name in owners.get(top, [top])}
            assert owner & declared, f"{name_of(path)}:{line}: {module} is not in pyproject.toml"


def test_the_demo_s_ssh_server_is_no_dependency_of_a_real_fleet() -> None:
    assert "asyncssh" not in requirements()
    assert "asyncssh" in requirements("demo")
    assert "asyncssh" in requirements("test")
