"""Odd content of a site: carried exactly, byte for byte, and nothing of it is ever run or followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from invariants import read_tree
from lab import Lab
from lab_operator import Operator, small_fleet
from real_site import Site

NAMES = [
    "with space",
    " leading and trailing ",
    "new\nline",
    "tab\tand\x1b[31mescape",
    "quote\"and'apostrophe",
    "-rf",
    "--upload-pack=touch x",
    "back\\slash",
    "*?[glob]",
    "$(touch executed)`id`;&|",
    ":(top)magic",
    os.fsdecode(b"latin-\xe9-and-\xff\xfe"),
    "grüße/日本語/\N{SNOWMAN}.html",
    "a" * 255,
    "deep/" * 40 + "file",
    ".hidden/.htaccess",
    "shared/current",
    ".skein/repo.git/config",
]
ATTRIBUTES = b"""*.crlf text eol=crlf
*.ident ident
*.filtered filter=evil
*.utf16 working-tree-encoding=UTF-16 text
secret export-ignore
*.subst export-subst
*.bin -diff binary
"""
CONTENT = {
    "page.crlf": b"unix\nlines\n",
    "page.ident": b"$Id$\n",
    "page.filtered": b"lower case\n",
    "page.utf16": b"text\n",
    "secret": b"not to be left out\n",
    "page.subst": b"$Format:%H$\n",
    "page.bin": bytes(range(256)),
    "dos.txt": b"dos\r\nlines\r\n",
    "empty": b"",
}
HOOKS = [
    "post-checkout",
    "post-commit",
    "pre-push",
    "reference-transaction",
    "pre-auto-gc",
    "fsmonitor",
    "post-index-change",
]
MARK = "/tmp/executed"


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets, which are enough here."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


def assert_nothing_was_executed(lab: Lab) -> None:
    assert [machine for machine in lab.machines if lab.path(machine, MARK).exists()] == []


@pytest.mark.parametrize("how", ["commit", "snapshot"])
def test_any_file_name_is_carried_exactly(lab: Lab, how: str) -> None:
    operator, site = small_fleet(lab, {name: name.encode(errors="surrogateescape") for name in NAMES})
    operator.deploy(*(["--snapshot"] if how == "snapshot" else []))
    operator.assert_serves(site.files_at(site.commits[0]))
    operator.status()
    site.change(dict.fromkeys(NAMES, b"changed\n"))
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]))
    operator.rollback()
    operator.assert_serves(site.files_at(site.commits[0]))
    assert_nothing_was_executed(lab)


def test_links_are_carried_exactly_and_never_followed(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    for host in operator.hosts:
        outside = lab.path(host, "/tmp/outside")
        outside.mkdir(exist_ok=True)
        outside.chmod(0o777)
    texts = {
        "absolute": "/etc/passwd",
        "up": "../../../../../tmp/outside",
        "folder": "/tmp/outside",
        "dangling": "no\nwhere",
    }
    for name, text in {**texts, "itself": "itself", "dot": "."}.items():
        (site.folder / name).symlink_to(text)
    site.commit("links")
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[1]))
    for name in ("up", "folder"):  # what was a link becomes a folder: written beside the old release, not through it
        (site.folder / name).unlink()
        site.change({f"{name}/evil": b"evil\n"})
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[-1]))
    assert [os.listdir(lab.path(host, "/tmp/outside")) for host in operator.hosts] == [[], [], []]


def test_a_linked_path_below_a_link_of_the_release_is_refused(lab: Lab) -> None:
    operator, site = small_fleet(lab, targets={"linked_dirs": ["out/data"]})
    lab.path("web-01", "/tmp/out").mkdir(mode=0o777)
    (site.folder / "out").symlink_to("/tmp/out")
    site.commit("a way out")
    run = operator.deploy(code=5)
    assert "out" in run.reasons["web-01"]
    assert os.listdir(lab.path("web-01", "/tmp/out")) == []


def hostile(lab: Lab, operator: Operator, site: Site) -> None:
    """Make git everywhere want to change bytes and run commands: hooks, filters, and the users' own settings."""
    script = f"#!/bin/sh\ntouch {MARK}\n"
    for name in HOOKS:
        hook = site.folder / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(script)
        hook.chmod(0o755)
    evil = (
        f'[filter "evil"]\n\tclean = touch {MARK}; tr a-z A-Z\n\tsmudge = touch {MARK}; tr a-z A-Z\n\trequired = true\n'
    )
    with (site.folder / ".git/config").open("a") as config:
        config.write(evil)
    settings = f"{evil}[core]\n\tautocrlf = true\n\thooksPath = /tmp/hooks\n\tfsmonitor = /tmp/hooks/fsmonitor\n"
    for machine in [*lab.mirrors, *operator.hosts]:
        folder = lab.path(machine, "/tmp/hooks")
        folder.mkdir()
        for name in [*HOOKS, "pre-receive", "update", "post-receive", "post-update"]:
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
    for machine in operator.hosts:
        lab.path(machine, "/home/deploy/.gitconfig").write_text(settings)


def test_attributes_filters_and_hooks_change_no_byte_and_run_nothing(lab: Lab) -> None:
    operator, site = small_fleet(lab, CONTENT)
    site.change({".gitattributes": ATTRIBUTES, "sub/.gitattributes": b"* text eol=crlf ident\n", "sub/a": b"$Id$\n"})
    hostile(lab, operator, site)
    operator.deploy("--ref", site.commits[1])
    operator.assert_serves(site.files_at(site.commits[1]))
    operator.status()
    aside = Path(f"{site.folder}.git-aside")
    (site.folder / "page.filtered").write_bytes(b"changed on disk\n")
    operator.deploy("--snapshot")
    (site.folder / ".git").rename(aside)
    disk = read_tree(site.folder)
    aside.rename(site.folder / ".git")
    operator.assert_serves(disk)
    site.git("checkout", "--quiet", "--detach")
    lab.path("server-1", MARK).unlink(missing_ok=True)  # the checkout's own hook, and a filter
    operator.fab("deploy", code=None)
    assert_nothing_was_executed(lab)


def test_a_release_file_that_looks_like_ours_is_only_content(lab: Lab) -> None:
    files: dict[str, bytes | None] = {"current/index.html": b"1\n", "releases/a": b"2\n", ".git-not/config": b"3\n"}
    operator, site = small_fleet(lab, files)
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))
