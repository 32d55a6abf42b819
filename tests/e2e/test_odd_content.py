"""Odd content of a site: carried exactly, byte for byte, and nothing of it is ever run or followed."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator

import pytest
from invariants import read_tree
from lab_operator import Operator, small_fleet
from real_site import Site

from tasks.remote.lab import Lab

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
    "page.utf16": "text\n".encode("utf-16"),
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


def lay_traps(lab: Lab, operator: Operator, site: Site) -> None:
    """Make git want to change bytes and run commands, by hooks, filters and settings; see that the traps work."""
    driver = f"touch {MARK}; tr a-z A-Z"
    evil = f'[filter "evil"]\n\tclean = "{driver}"\n\tsmudge = "{driver}"\n\trequired = true\n'
    homes = {host: lab.path(host, "/home/deploy") for host in operator.hosts}
    for folder in [site.folder / ".git", *homes.values()]:
        hooks = folder / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in HOOKS:
            (hooks / name).write_text(f"#!/bin/sh\ntouch {MARK}\n")
            (hooks / name).chmod(0o755)
    with (site.folder / ".git/config").open("a") as config:
        config.write(f"{evil}[core]\n\tautocrlf = true\n\tfsmonitor = .git/hooks/fsmonitor\n")
    for home in homes.values():
        (home / ".gitconfig").write_text(f"{evil}[core]\n\tautocrlf = true\n\thooksPath = ~/hooks\n")
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "trap")
    lab.run("server-1", ["git", "-C", operator.folder, "status"])
    lab.run("web-01", ["sh", "-c", f"git init -q /tmp/trap && cd /tmp/trap && git {shlex.join(commit)}"], user="deploy")
    for machine in ("server-1", "web-01"):
        lab.path(machine, MARK).unlink()


def test_attributes_filters_and_hooks_change_no_byte_and_run_nothing(lab: Lab) -> None:
    operator, site = small_fleet(lab, CONTENT)
    site.change({".gitattributes": ATTRIBUTES, "sub/.gitattributes": b"* text eol=crlf ident\n", "sub/a": b"$Id$\n"})
    expected = site.files_at(site.commits[1])
    lay_traps(lab, operator, site)
    operator.deploy("--ref", site.commits[1])
    operator.assert_serves(expected)
    operator.status()
    operator.fab("deploy", code=None)  # on main it is looked for what is not committed
    (site.folder / "page.filtered").write_bytes(b"changed on disk\n")
    operator.deploy("--snapshot")
    assert_nothing_was_executed(lab)
    shutil.rmtree(site.folder / ".git")
    operator.assert_serves(read_tree(site.folder))


def test_a_release_file_that_looks_like_ours_is_only_content(lab: Lab) -> None:
    files: dict[str, bytes | None] = {"current/index.html": b"1\n", "releases/a": b"2\n", ".git-not/config": b"3\n"}
    operator, site = small_fleet(lab, files)
    operator.deploy()
    operator.assert_serves(site.files_at(site.commits[0]))
