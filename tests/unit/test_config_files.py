"""The files in config/: they load, and the reference and the schema agree; also whatever else may stand in a file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from config_text import SMALL, problems, read
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.config import known_keys, parse
from tasks.core.errors import ConfigError
from tasks.core.hosts import fold

CONFIG = Path(__file__).parents[2] / "config"
WELL_SAID = re.compile(r'(?:[a-z_.*\[\]0-9-]|"[^"]*")+: .+')
KEY_LINE = re.compile(r"^(?:# )?([a-z_]+) = (.+)$")
TABLE_LINE = re.compile(r"^\[+([^\[\]]+)\]+$")


@pytest.mark.parametrize("name", ["demo", "example", "prod"])
def test_every_file_in_config_can_be_loaded(name: str) -> None:
    assert parse((CONFIG / f"{name}.toml").read_text(), name, name).hosts


def test_the_demo_has_six_targets_in_two_zones() -> None:
    settings = parse((CONFIG / "demo.toml").read_text(), "demo", "demo")
    assert fold(host.name for host in settings.hosts if host.zone == "eu") == "web-[1-3]"
    assert fold(host.name for host in settings.hosts if host.zone == "us") == "web-[4-6]"
    assert [(mirror.name, mirror.zone) for mirror in settings.mirrors] == [("mirror-1", "eu"), ("mirror-2", "us")]
    assert (settings.app.name, settings.source.path) == ("www", "~/site")
    assert (settings.targets.deploy_to, settings.targets.linked_dirs) == ("~/srv/app", ("uploads",))


def documented() -> list[tuple[str, str, str, bool]]:
    """Return table, key, value and whether it is commented out for every key line of the reference."""
    table, found = "", []
    for line in (CONFIG / "example.toml").read_text().splitlines():
        if header := TABLE_LINE.match(line):
            table = re.sub(r"groups\.[^.]+", "groups.*", header[1])
        elif key := KEY_LINE.match(line):
            found.append((table, key[1], key[2], line.startswith("#")))
    return found


def test_the_reference_shows_every_key_of_the_schema_and_no_other() -> None:
    shown = {f"{table}.{key}" for table, key, _, _ in documented()}
    wanted = {f"{table}.{key}" for table, keys in known_keys().items() for key in keys if table}
    inline = {"source.host", "mirrors.host", "targets.groups.*.hosts", "transport.swarm"}
    tables = {"targets.groups"}
    assert shown == {key for key in wanted if key.rpartition(".")[0] not in inline} - tables
    text = (CONFIG / "example.toml").read_text()
    assert all(re.search(rf"\b{key} = ", text) for table in inline for key in known_keys()[table])


def test_a_sentence_stands_before_every_key_of_the_reference() -> None:
    seen: set[tuple[str, str]] = set()
    table, before = "", ""
    for line in (CONFIG / "example.toml").read_text().splitlines():
        if header := TABLE_LINE.match(line):
            table = re.sub(r"groups\.[^.]+", "groups.*", header[1])
        elif (key := KEY_LINE.match(line)) and (table, key[1]) not in seen:
            seen.add((table, key[1]))
            assert before.startswith("# "), line
            assert not KEY_LINE.match(before), line
        before = line


def default_of(table: str, key: str) -> Any:
    """Return the schema's default, from a configuration that leaves everything out; None where there is none."""
    dumped: Any = read(SMALL).model_dump(mode="json")
    for part in table.replace("*", "web").split("."):
        dumped = dumped[0][part] if isinstance(dumped, list) else dumped[part]
    return (dumped[0] if isinstance(dumped, list) else dumped)[key]


@pytest.mark.parametrize(("table", "key", "value"), [found[:3] for found in documented() if found[3]])
def test_every_default_in_the_reference_is_the_schema_s(table: str, key: str, value: str) -> None:
    default = default_of(table, key)
    assert default is None or tomllib.loads(f"{key} = {value}")[key] == default


def test_the_reference_marks_as_examples_exactly_the_keys_without_a_default() -> None:
    lines = (CONFIG / "example.toml").read_text().splitlines()
    for table, key, value, commented in documented():
        if commented:
            before = lines[lines.index(f"# {key} = {value}") - 1]
            assert ("xample:" in before) is (default_of(table, key) is None), (table, key)


def test_every_example_in_the_reference_is_accepted_when_its_comment_is_taken_away() -> None:
    lines = (CONFIG / "example.toml").read_text().splitlines()
    live = [line.removeprefix("# ") if KEY_LINE.match(line) and "server-1" not in line else line for line in lines]
    settings = parse("\n".join(live), "example", "config/example.toml")
    assert settings.targets.after_flip == ("systemctl", "reload", "php-fpm")
    assert settings.ssh.gateway == "ops@bastion:22"


def found_in(text: str) -> tuple[str, ...]:
    """Return what is wrong with ``text``; nothing where it is right."""
    try:
        parse(text, "prod", "config/prod.toml")
    except ConfigError as refusal:
        return refusal.problems
    return ()


def branches(value: Any) -> list[tuple[Any, Any]]:
    """List every place in a document as (container, key)."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in branches(value[key])]


def toml(value: Any) -> str:
    """Write a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value + "'" if isinstance(value, str) else str(value)


WORDS = ["", "-x", "web-1", "eu", "/a", "a/b", "[1-3]", "x[1-", "a:b", "%s{x}", "ssh://[x/y", "//", "~/", "1%", "\x85"]
leaves = st.sampled_from(WORDS) | st.integers(-1, 70000) | st.booleans() | st.floats()
tables = st.dictionaries(st.sampled_from(["name", "host", "a b"]), leaves, max_size=3)
anything = leaves | tables | st.lists(leaves | tables, max_size=3)


@given(st.data())
def test_whatever_stands_in_a_key_the_answer_is_settings_or_problems_with_a_place(data: st.DataObject) -> None:
    document = tomllib.loads((CONFIG / "example.toml").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(branches(document)))
        container[key] = data.draw(anything)
    text = "\n".join(f'"{key}" = {toml(value)}' for key, value in document.items())
    assert not [problem for problem in found_in(text) if not WELL_SAID.fullmatch(problem) or not problem.isprintable()]


@given(st.text(max_size=80) | st.text("abc=[]\"'{}.,\n#1-", max_size=60))
def test_any_text_at_all_is_refused_as_a_configuration_and_never_crashes(text: str) -> None:
    assert all(problem.isprintable() for problem in problems(text))
