"""The libtorrent that set-up lays on hosts: unpacked, tried, replaced; and nothing where it does not work."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_host import Agent, Host, Refused

from tasks.core.facts import LibraryKind

WORKS = {"libtorrent/__init__.py": "def session_params(): pass\n", "libtorrent-9.dist-info/WHEEL": "Tag: x\n"}
BROKEN = {"libtorrent/__init__.py": "raise ImportError('libssl.so.9: cannot open')\n"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def wheel(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def lay(agent: Agent, files: Mapping[str, str]) -> dict[str, Any]:
    return agent.answer(agent.order_with(wheel(files), "library"))


def laid(host: Host) -> list[Path]:
    return sorted((host.own / "lib").iterdir())


def test_a_host_says_what_fits_it_and_takes_that(host: Host) -> None:
    with host.session() as agent:
        kind = LibraryKind.model_validate(agent.ask("library_look"))
        assert kind.why == "libtorrent is not here: run fab setup"
        assert (kind.python[:2], kind.libc.split()[0]) in [("3.", "glibc"), ("3.", "musl")]
        assert lay(agent, WORKS) == {"changed": ["placed libtorrent"]}
        assert agent.ask("library_look")["why"] == ""
        (folder,) = laid(host)
        assert [path.name for path in folder.iterdir()] == ["libtorrent"], "what belongs to no library stays out"


def test_another_one_takes_the_place_of_the_one_before(host: Host) -> None:
    with host.session() as agent:
        lay(agent, WORKS)
        (before,) = laid(host)
        lay(agent, {**WORKS, "libtorrent/more.py": ""})
        (after,) = laid(host)
        assert before != after


def test_one_that_does_not_work_leaves_the_one_before(host: Host) -> None:
    with host.session() as agent:
        lay(agent, WORKS)
        (before,) = laid(host)
        with pytest.raises(Refused, match=r"cannot be loaded: ImportError: libssl\.so\.9"):
            lay(agent, BROKEN)
        assert laid(host) == [before]
        with pytest.raises(Refused, match="no wheel"):
            agent.answer(agent.order_with(b"not a zip", "library"))
        assert laid(host) == [before]


def test_a_path_that_leads_out_is_not_followed(host: Host) -> None:
    with host.session() as agent:
        lay(agent, {**WORKS, "libtorrent/../../../../planted": "x", "/planted": "x"})
    assert all(path.is_relative_to(host.own / "lib") for path in host.root.rglob("planted*"))


def test_a_kill_before_it_has_its_name_leaves_none(host: Host) -> None:
    with host.session(failpoint="agent.library.before:1:kill") as agent, pytest.raises(EOFError):
        lay(agent, WORKS)
    assert not [path for path in laid(host) if len(path.name) == 64]
    with host.session() as agent:
        lay(agent, WORKS)
        agent.leave()
    assert len(laid(host)) == 1
    assert not host.leftovers()


def test_a_mirror_is_given_one_as_well(host: Host) -> None:
    path = host.root / "www.git"
    with host.session() as agent:
        agent.ask("mirror", path=str(path), app="www")
        number = agent.order_with(wheel(WORKS), "mirror_library", path=str(path))
        assert agent.answer(number) == {"changed": ["placed libtorrent"]}
        assert agent.ask("mirror_library_look", path=str(path))["why"] == ""
