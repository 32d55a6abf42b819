"""What the agent does without the modules that every session would have to load."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.agent import lean
from tasks.agent.names import is_id, is_odd
from tasks.remote.bundle import AGENT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HEAVY = {"argparse", "collections", "contextlib", "enum", "functools", "hashlib", "importlib", "json", "re"}
HEAVY |= {"selectors", "signal", "socket", "subprocess", "threading", "typing"}


def test_to_start_the_agent_loads_none_of_the_modules_that_cost_as_much_as_python() -> None:
    script = f"import sys; sys.path.insert(0, {str(AGENT.parent)!r}); import agent.main; print(*sys.modules)"
    words = [sys.executable, "-I", "-S", "-B", "-c", script]
    loaded = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert "agent.stage" in loaded
    assert loaded & HEAVY == set()


@given(VALUES)
def test_json_is_written_and_read_as_json_does(value: object) -> None:
    assert json.loads(lean.dumps(value)) == value
    assert lean.loads(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "{} {}", "nothing", b"\xff", '{"a": }', "[1,]", '"\n"'])
def test_what_is_no_json_is_an_error_as_json_has_it(text: str | bytes) -> None:
    for loads in (json.loads, lean.loads):
        with pytest.raises(ValueError, match=r"."):
            loads(text)


def test_json_that_is_nested_too_deep_is_an_error_as_json_has_it() -> None:
    with pytest.raises(RecursionError):
        lean.loads("[" * 100_000)


def test_without_what_is_below_json_json_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_scan", None)
    assert lean.loads(lean.dumps({"a": [1, "\u20ac"]})) == {"a": [1, "\u20ac"]}


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
@pytest.mark.parametrize("size", [1, lean.LARGE + 1])
@pytest.mark.parametrize("loaded", [True, False])
def test_digests_are_those_of_hashlib(kind: str, size: int, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loaded:
        monkeypatch.delitem(sys.modules, "hashlib")
    found = lean.digest(kind, size)
    found.update(b"content")
    assert found.hexdigest() == hashlib.new(kind, b"content").hexdigest()


@pytest.mark.parametrize("name", ["20261122T101500Z-0042-1a2b3c4", "20261122T101500Z-123456789-0000000"])
def test_ids_of_releases_are_known(name: str) -> None:
    assert is_id(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "20261122T101500Z-0042-1a2b3c4\n", "20261122T101500Z-042-1a2b3c4", "20261122T101500Z-0042-1A2B3C4"),
        *("20261122T101500Z-0042-1a2b3c", "20261122T1015 0Z-0042-1a2b3c4", "20261122T101500Z-1234567890-1a2b3c4"),
        *("20261122-101500Z-0042-1a2b3c4", "20261122T101500Z-0042-1a2b3c4-", "2026112\u0662T101500Z-0042-1a2b3c4"),
    ],
)
def test_nothing_else_is_the_id_of_a_release(name: str) -> None:
    assert not is_id(name)


@pytest.mark.parametrize("path", [b"", b"/a", b"a//b", b"a/", b"./a", b"a/..", b".git", b"a/.GiT/b"])
def test_paths_that_git_would_not_check_out_are_odd(path: bytes) -> None:
    assert is_odd(path)


def test_paths_with_dots_elsewhere_are_not_odd() -> None:
    assert not any(map(is_odd, (b"...", b".gitignore", b"a/.git.b", b"a./b", b"..a", b".a")))
