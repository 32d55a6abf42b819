"""Reading the product's own source: what imports what, where, and what git has."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from invoke.parser import Argument
from invoke.tasks import Task

import tasks

ROOT = Path(__file__).resolve().parent.parent
TASKS = ROOT / "tasks"
SOURCES = sorted(TASKS.rglob("*.py"))
COMMANDS = sorted(path for path in TASKS.glob("*.py") if not path.name.startswith("_"))


class Import(NamedTuple):
    """One import: the file, the dots before the name, the dotted name, and whether only a type checker follows it."""

    path: Path
    line: int
    dots: int
    module: str
    typing_only: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {'.' * self.dots}{self.module}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imports(paths: list[Path]) -> Iterator[Import]:
    """List every import, also those inside functions."""
    for path in paths:
        tree = parsed(path)
        checks = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ]
        typing_only = {id(inner) for check in checks for inner in ast.walk(check)}
        for node in ast.walk(tree):
            place = (path, getattr(node, "lineno", 0))
            if isinstance(node, ast.Import):
                yield from (Import(*place, 0, alias.name, id(node) in typing_only) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.module else [alias.name for alias in node.names]
                yield from (Import(*place, node.level, name, id(node) in typing_only) for name in names)


def called(node: ast.Call) -> str:
    """Return the bare name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def calls(paths: list[Path]) -> Iterator[tuple[Path, ast.Call]]:
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                yield path, node


def nodes() -> Iterator[ast.AST]:
    """List every node of every file of the product."""
    return (node for path in SOURCES for node in ast.walk(parsed(path)))


@cache
def literals() -> frozenset[str]:
    """Return every piece of text that the product holds; of formatted text, the pieces between what is filled in."""
    constants = (node.value for node in nodes() if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str))


def all_tasks() -> dict[str, Task]:  # type: ignore[type-arg]
    return {name: tasks.ns[name] for name in tasks.ns.task_names}


ARGUMENTS: dict[str, list[Argument]] = {name: task.get_arguments() for name, task in all_tasks().items()}
"""What each task takes. Asked once: invoke takes the help out of a task as it makes its arguments."""


def flags(name: str, *, positional: bool = True) -> set[str]:
    """Return the options of a task, as they are typed, with or without those that need no name."""
    names = (name for argument in ARGUMENTS[name] if positional or not argument.positional for name in argument.names)
    return {f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}" for name in names}


def tracked() -> list[Path]:
    """List the text files that git has or would take; outside a checkout, all but hidden ones."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, timeout=60, check=False)
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    if listed.returncode:
        every = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [str(path) for path in every if not any(part.startswith(".") for part in path.parts)]
    paths = [ROOT / name for name in names]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout, as an operator would."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SKEIN_", "INVOKE_"))}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
