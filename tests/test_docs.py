"""The docs stay true: what they name is there, and what is there and matters to an operator is named."""

from __future__ import annotations

import ast
import re
import shlex

import pytest
from source_reading import ROOT, TASKS, all_tasks, flags, literals, nodes, parsed

from tasks import dev
from tasks.core import errors
from tasks.core.config import known_keys

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
CONTRACT = {0, 2, 3, 4, 5, 6, 10, 12, 13, 130}
GLOBAL_OPTIONS = {"--list", "--help", "--version"}


def page(name: str) -> str:
    """Return the text of a page of docs/; nothing where it is not there."""
    return "".join(path.read_text("utf-8") for path in DOCS if path.name == name)


ALL = "\n".join(path.read_text("utf-8") for path in PAGES)


def section(title: str) -> str:
    """Return what stands in README below a heading, up to the next of its kind."""
    _, found, rest = README.read_text("utf-8").partition(f"\n## {title}\n")
    assert found, f"README has no section {title!r}"
    return rest.partition("\n## ")[0]


def fences(text: str) -> list[tuple[str, list[str]]]:
    """List fenced blocks as (language, lines)."""
    return [
        (kind, body.splitlines()) for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def code(text: str) -> list[str]:
    """List what stands in code: the lines of fenced blocks, and spans between backticks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for _, lines in fences(text) for line in lines] + re.findall(r"`([^`\n]+)`", prose)


@pytest.mark.parametrize("title", ["Try it", "Test it"])
def test_readme_says_in_one_line_how_to_try_and_how_to_test(title: str) -> None:
    ((language, lines),) = fences(section(title))
    assert language == "sh"
    assert len(lines) == 1
    for step in lines[0].split("&&"):
        assert shlex.split(step)


def test_what_ci_runs_is_what_readme_says() -> None:
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert "## Test it" in script
    assert "dev.test" not in script


def documented_codes(text: str) -> set[int]:
    """Collect the exit codes that a table's first column, or a list such as ``5 too many · 6 …``, explains."""
    return {int(number) for number in re.findall(r"(?:^\| ?|^|· ?\n?)(\d{1,3}) (?=\||\w|`)", text, re.MULTILINE)}


def codes_of_flows() -> set[int]:
    """Collect the numbers that reports of flows and the command line can end with."""
    found = set()
    for path in [*(TASKS / "flows").glob("*.py"), TASKS / "_cli.py"]:
        for node in ast.walk(parsed(path)):
            numbers: list[ast.expr] = []
            if isinstance(node, ast.Call):
                numbers = [*node.args[:2], *(word.value for word in node.keywords if word.arg == "exit_code")]
                named = ast.unparse(node.func)
                numbers = numbers if named.endswith((".report", "_exit", "Report", "replace")) else []
            elif isinstance(node, ast.Return) and node.value is not None:
                numbers = [node.value, *getattr(node.value, "__dict__", {}).values()]
            inner = [leaf for number in numbers if isinstance(number, ast.expr) for leaf in ast.walk(number)]
            found |= {leaf.value for leaf in inner if isinstance(leaf, ast.Constant) and type(leaf.value) is int}
    return found


def test_every_exit_code_is_explained_in_readme() -> None:
    leaves = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.SkeinError)]
    raised = {leaf.exit_code for leaf in leaves} | codes_of_flows()
    explained = documented_codes(section("When it goes wrong") + page("exit-codes.md"))
    assert explained >= CONTRACT
    assert raised - {1} <= explained | {0}


def test_every_command_stands_in_readme_s_table_and_nothing_else_does() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \|", section("Commands"), re.MULTILINE)
    assert sorted(rows) == sorted(all_tasks())


def commands() -> list[tuple[str, list[str]]]:
    """List every `fab …` and `invoke …` in the docs as (task, its words)."""
    found = []
    for line in code(ALL):
        for step in re.split(r"&&|\||;|#", line):
            words = [word for word in step.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
            if words and words[0].rpartition("/")[2] in ("fab", "invoke") and len(words) > 1:
                found.append((words[1], words[2:]))
    return found


def test_every_command_line_in_the_docs_can_be_typed() -> None:
    assert len(commands()) > 5
    for name, words in commands():
        if name.startswith("-") or "…" in name:
            continue
        assert name in all_tasks(), f"fab {name}"
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= flags(name) | GLOBAL_OPTIONS, f"fab {name} {' '.join(words)}"


def test_every_option_of_an_operator_s_command_is_told_of() -> None:
    options = {flag for name in all_tasks() if not name.startswith("dev.") for flag in flags(name, positional=False)}
    told = set(re.findall(r"--[a-z][a-z-]*", ALL + (ROOT / "config/example.toml").read_text("utf-8")))
    assert {flag for flag in options if flag.startswith("--")} - told - {"--transport"} == set()


def test_every_key_of_the_configuration_is_explained() -> None:
    reference = (ROOT / "config/example.toml").read_text("utf-8")
    described = page("configuration.md")
    for table, keys in known_keys().items():
        for key in keys:
            assert re.search(rf"\b{key}\b", reference), f"{table}.{key} is not in config/example.toml"
            assert not described or re.search(rf"\b{key}\b", described), (
                f"{table}.{key} is not in docs/configuration.md"
            )


def test_every_key_that_the_docs_name_is_there() -> None:
    keys = known_keys()
    tables = "|".join(sorted(table for table in keys if table and "." not in table))
    named = {name for span in code(ALL) for name in re.findall(rf"(?<![\w./-])(?:{tables})\.[a-z_]+\b(?!/)", span)}
    named = {name for name in named if not name.endswith((".py", ".toml", ".git", ".log"))}
    known = {f"{table}.{key}" for table, row in keys.items() for key in row} | set(all_tasks())
    assert named
    assert named - known == set()


def test_every_failpoint_that_the_docs_name_is_there() -> None:
    named = set(re.findall(r"\b(?:agent|deploy)\.[a-z]+(?:\.[a-z]+)?\b", "\n".join(code(ALL))))
    prefixes = {"agent." + name.split(".")[1] for name in dev.failpoint_names() if name.startswith("agent.")}
    assert {name for name in named if not name.endswith(".py")} <= {*dev.failpoint_names(), *prefixes}
    assert "dev.failpoints" in ALL


def test_every_variable_that_skein_reads_or_sets_is_told_of() -> None:
    keywords = {word.arg for node in nodes() if isinstance(node, ast.Call) for word in node.keywords if word.arg}
    ours = {name for name in literals() | keywords if re.fullmatch(r"SKEIN_[A-Z]+", name)}
    told = ALL + (ROOT / "config/example.toml").read_text("utf-8")
    assert len(ours) > 3
    assert {name for name in ours if name not in told} == set()
    assert set(re.findall(r"SKEIN_[A-Z]+", told)) - ours == set()


def test_every_link_leads_somewhere() -> None:
    for path in PAGES:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
        assert [name for name in targets if "://" not in name and not (path.parent / name).exists()] == [], path.name


def test_every_file_that_the_docs_name_is_there() -> None:
    named = {
        name for span in code(ALL) for name in re.findall(r"(?<![\w/.~>])(?:tasks|tests|config|docs)/[\w./-]+", span)
    }
    real = {name.rstrip(".") for name in named if "<" not in name}
    assert {name for name in real if not (ROOT / name).exists()} == set()


def test_every_message_that_troubleshooting_quotes_can_be_said() -> None:
    said = "\n".join(literals())
    rows = re.findall(r"^\| (`[^|]*) \|", page("troubleshooting.md"), re.MULTILINE)
    quotes = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    assert len(quotes) > 10
    pieces = {quote: [piece.strip() for piece in re.split(r"…\S*|\d+|[(),]", quote)] for quote in quotes}
    assert [quote for quote in quotes if not any(" " in piece and piece in said for piece in pieces[quote])] == []


def test_the_changelog_s_newest_entry_is_the_version_that_is_built() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert newest
    assert version
    assert newest[1] == version[1]
