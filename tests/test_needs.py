"""A test that cannot be run here is no pass: the last lines of the run say so."""

from __future__ import annotations

from pathlib import Path

from source_reading import ROOT, python

TESTS = """
import pytest
from needs import lack

@pytest.mark.parametrize("number", range(2))
def test_that_needs_the_moon(number):
    lack("the moon")

def test_that_needs_the_sun():
    lack("the sun")

def test_that_can_be_run():
    pass
"""


def test_the_last_lines_of_a_run_count_what_was_not_run_by_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    words = ("-q", "-n", "0", "-p", "no:cacheprovider", "-c", "/dev/null", "-p", "conftest")
    paths = [f"pythonpath={ROOT} {ROOT / 'tests'}", f"--rootdir={tmp_path}"]
    done = python("-m", "pytest", *words, "-o", *paths, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    *_, moon, sun, summary = done.stdout.splitlines()
    assert (moon, sun) == ("2 tests not run: needs the moon", "1 test not run: needs the sun")
    assert "1 passed, 3 skipped" in summary
