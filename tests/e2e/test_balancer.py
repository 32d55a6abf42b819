"""The lab's balancer is a real HAProxy before real web servers, ready to be told whom to spare."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.remote.lab import Lab, provision, spaces, wait_until

ASK = """
import sys, urllib.request
for _ in range(int(sys.argv[1])):
    print(urllib.request.urlopen("http://balancer/", timeout=10).read().decode())
"""
TELL = """
import socket, sys
with socket.socket(socket.AF_UNIX) as control:
    control.connect("/run/haproxy/admin.sock")
    control.sendall(sys.argv[1].encode() + b"\\n")
    print(control.recv(1 << 16).decode())
"""


@pytest.fixture(scope="module")
def lab(serving: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three targets, each with a page of its own, behind the balancer."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3, mirrors=0, balancer=True) as machines:
        for target in machines.targets:
            show(machines, target, target)
        yield machines


def show(lab: Lab, target: str, text: str) -> None:
    """Flip a target to a release of one page."""
    release = lab.path(target, f"/srv/app/releases/{text}")
    release.mkdir(parents=True)
    (release / "index.html").write_text(text)
    (release / "new").symlink_to(f"releases/{text}")
    (release / "new").rename(lab.path(target, "/srv/app/current"))


def answers(lab: Lab, count: int = 9) -> set[str]:
    return set(lab.run("server-1", [sys.executable, "-c", ASK, str(count)]).stdout.split())


def tell(lab: Lab, command: str) -> str:
    return lab.run("balancer", ["python3", "-c", TELL, command], user="deploy").stdout.strip()


def test_requests_through_the_balancer_reach_every_target(lab: Lab) -> None:
    assert answers(lab) == set(lab.targets)


def test_a_flip_is_served_from_the_next_request_on(lab: Lab) -> None:
    show(lab, "web-01", "flipped")
    assert answers(lab) == {"flipped", "web-02", "web-03"}
    show(lab, "web-01", "web-01-again")
    assert answers(lab) == {"web-01-again", "web-02", "web-03"}


def test_deploy_can_drain_a_target_over_the_runtime_socket(lab: Lab) -> None:
    assert tell(lab, "set server targets/web-02 state drain") == ""
    assert "web-02" not in answers(lab)
    tell(lab, "set server targets/web-02 state ready")
    assert "web-02" in answers(lab)


def test_it_serves_again_after_a_power_cut(lab: Lab) -> None:
    for machine in ("web-03", "balancer"):
        lab.power_off(machine)
        lab.power_on(machine)
    wait_until(lambda: "web-03" in answers(lab, 3), "the target is back", 20)


@pytest.mark.parametrize(
    ("programs", "lacks", "served"),
    [((), ("nginx", "haproxy"), []), (("nginx",), ("haproxy",), ["web-1"]), (("nginx", "haproxy"), (), ["web-1", "b"])],
)
def test_only_what_is_installed_is_started_and_the_rest_is_named(
    programs: tuple[str, ...],
    lacks: tuple[str, ...],
    served: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in programs:
        (tmp_path / name).touch(0o755)
    monkeypatch.setattr(spaces, "PATH", os.fspath(tmp_path))
    assert provision.unserved() == lacks
    assert list(provision.services({"web-1": "target", "b": "balancer", "m": "mirror"})) == served
