"""The house keeps its floors: these tests read the source itself."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

from source_reading import ROOT, SOURCES, TASKS, Import, called, calls, imports, python, tracked

SHARED, COMMAND, NAMESPACE = "tasks/_*.py", "tasks/*.py", "tasks/__init__.py"
FLOORS = {"core": 0, "transports": 1, "traffic": 1, "remote": 2, "flows": 3, SHARED: 4, COMMAND: 5, NAMESPACE: 6}
HANDS_ONLY = {"fabric", "git", "paramiko", "asyncssh", "socket", "subprocess"}
AGENT_TOO = {"socket", "subprocess"}
PURE = {
    *(
        "__future__",
        "base64",
        "binascii",
        "collections",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "ipaddress",
    ),
    *("itertools", "json", "math", "operator", "posixpath", "re", "textwrap", "tomllib", "typing", "urllib"),
    *("statistics", "ClusterShell", "pydantic", "pydantic_core"),
}
EFFECTS = {"open", "print", "input", "eval", "exec", "now", "today", "utcnow", "read_text", "write_text"}
NOT_FOR_FLOWS = {"os", "sys", "time", "random", "secrets", "pathlib", "io", "threading", "signal", "invoke"}
LINES = 300


def floor_of(parts: tuple[str, ...]) -> str:
    """Return the floor of a module, given its place below ``tasks/``."""
    if not parts or parts == ("__init__",):
        return NAMESPACE
    if (TASKS / parts[0]).is_dir():
        return parts[0]
    return SHARED if parts[0].startswith("_") else COMMAND


def home(path: Path) -> str:
    return floor_of(path.relative_to(TASKS).with_suffix("").parts)


def goes_up(found: Import) -> bool:
    """Tell whether an import of ours leads to a floor that the file may not know."""
    folder = found.path.relative_to(TASKS).parent.parts
    here = home(found.path)
    there = floor_of((*folder[: len(folder) - found.dots + 1], *found.module.split(".")))
    if here == there:
        return here in (COMMAND, NAMESPACE)
    if here == "agent":
        return True
    lowest = FLOORS["remote"] if there == "agent" else FLOORS[there] + 1
    return FLOORS[here] < lowest


def folder(name: str) -> list[Path]:
    return sorted((TASKS / name).rglob("*.py"))


def test_imports_point_down_only() -> None:
    assert [str(found) for found in imports(SOURCES) if found.dots and goes_up(found)] == []


def test_every_folder_of_tasks_is_a_known_floor() -> None:
    names = {path.name for path in TASKS.iterdir() if path.is_dir()}
    assert names - FLOORS.keys() <= {"agent", "__pycache__"}


def test_imports_inside_tasks_are_relative() -> None:
    assert [str(found) for found in imports(SOURCES) if not found.dots and found.top == "tasks"] == []


def test_only_the_hands_import_what_reaches_other_machines_and_programs() -> None:
    allowed = {"remote": HANDS_ONLY, "agent": AGENT_TOO}
    wrong = [
        str(found)
        for found in imports(SOURCES)
        if not found.dots and found.top in HANDS_ONLY - allowed.get(home(found.path), set())
    ]
    assert wrong == [], "this belongs in tasks/remote/"


def test_the_core_is_pure() -> None:
    assert [str(found) for found in imports(folder("core")) if not found.dots and found.top not in PURE] == []
    assert [f"{path.name}:{call.lineno}" for path, call in calls(folder("core")) if called(call) in EFFECTS] == []


def test_flows_have_no_hands_clock_or_environment_of_their_own() -> None:
    found = list(imports(folder("flows")))
    assert [str(one) for one in found if not one.dots and one.top in NOT_FOR_FLOWS] == []
    assert [str(one) for one in found if one.dots and one.module.startswith(("remote", "agent"))] == []


def test_the_agent_is_standard_library_only_and_knows_nothing_of_ours() -> None:
    own = {"agent", *(path.stem for path in folder("agent"))}
    known = own | sys.stdlib_module_names
    wrong = [found for found in imports(folder("agent")) if found.dots > 1 or found.top not in known]
    assert [str(found) for found in wrong] == []


def test_the_agent_runs_on_python_3_8() -> None:
    vermin = ("-c", "from vermin.main import main; main()", "-t=3.8-", "--violations", "--no-tips")
    checked = python(*vermin, "tasks/agent")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for path in folder("agent"):
        ast.parse(path.read_text("utf-8"), feature_version=(3, 8))


def test_nothing_in_tasks_hides_a_library() -> None:
    libraries = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    names = {path.stem for path in TASKS.iterdir()} - {"__init__", "__pycache__"}
    assert names & libraries == set()


def test_a_file_can_be_read_in_one_sitting() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in sizes.items() if lines > LINES} == {}


def test_nothing_is_left_to_do() -> None:
    assert [path.name for path in SOURCES if re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text("utf-8"))] == []


PASSES_OVER = re.compile(r"\b(?:skip|skipif|importorskip|xfail)\b *\(|mark\.(?:skip|xfail)\b")


def test_no_test_leaves_itself_out_but_by_saying_what_it_needs() -> None:
    here = (Path(__file__).resolve(), ROOT / "tests/needs.py")
    files = [path for path in tracked() if path.suffix == ".py" and "tests" in path.parts and path not in here]
    assert len(files) > 50
    assert [str(path) for path in files if PASSES_OVER.search(path.read_text("utf-8"))] == []


LAB_HOME = r"(?!deploy\b|vagrant\b)"  # users of the lab's and the virtual machines' own
MACHINE = re.compile(rf"(?<![\w.}}])/(?:home/{LAB_HOME}\w|Users/\w|root/\.|work/)")
REGISTRY = re.compile(
    r"(?i)(?:extra-)?index-url|trusted-host|(?:pip|uv)_(?:extra_)?index|goproxy|npm_config"
    r"|https?://[\w.-]*(?:pypi|pythonhosted|npmjs|registry|artifactory|nexus|devpi|proxy)"
)


def test_no_file_names_a_path_of_one_machine_or_a_package_registry() -> None:
    lines = [
        (path, line)
        for path in tracked()
        if path != Path(__file__).resolve()
        for line in path.read_text("utf-8", "replace").splitlines()
    ]
    assert len(lines) > 1000
    assert [
        f"{path.relative_to(ROOT)}: {line}" for path, line in lines if MACHINE.search(line) or REGISTRY.search(line)
    ] == []


def test_that_guard_knows_a_path_and_a_registry_when_it_sees_one() -> None:
    assert all(
        map(MACHINE.search, ("'/home/ann/x'", "cd /root/.pyenv", "/root/.ssh/config", "/work/main", "/Users/ann"))
    )
    assert not any(map(MACHINE.search, ("/home/deploy", "/srv/www", "net/work/x", "{base}/home/x", "/root/config")))
    assert all(map(REGISTRY.search, ("--index-url x", "https://pypi.example/simple", "PIP_INDEX_URL=x")))
