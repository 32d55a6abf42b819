"""The order in which a target asks the mirrors: those of its zone, then the others, the hub last."""

from __future__ import annotations

import pytest
from config_text import SMALL, read
from test_inline import probe

from tasks.core.hosts import Host
from tasks.core.release import Release
from tasks.transports.git import GitTransport

RELEASE = Release("20260101T000000Z-0001-aaaaaaa", 1, "prod", "a" * 40, "b" * 40, "c" * 40)
MIRROR = '[[mirrors]]\nhost = "{}"\npath = "/srv/git/www.git"\n'


def transport(*zones: str) -> GitTransport:
    """Make one with a mirror per zone, the first of them the hub; an empty zone is none."""
    head, tail = SMALL.split("[[mirrors]]", 1)
    _, rest = tail.split("[ssh]", 1)
    mirrors = [
        MIRROR.format(f"mirror-{place}") + (f'zone = "{zone}"\n' if zone else "") for place, zone in enumerate(zones)
    ]
    return GitTransport(read(head + "".join(mirrors) + "[ssh]" + rest).mirrors, "deploy", 900.0)


@pytest.mark.parametrize(
    ("zones", "zone", "ranks"),
    [
        (("eu", "us"), "us", {"mirror-1": 0, "mirror-0": 2}),
        (("eu", "us"), "eu", {"mirror-0": 0, "mirror-1": 1}),
        (("eu", "us", "us"), "us", {"mirror-1": 0, "mirror-2": 0, "mirror-0": 2}),
        (("eu", "us", "asia"), "asia", {"mirror-2": 0, "mirror-1": 1, "mirror-0": 2}),
        (("eu", "us"), None, {"mirror-1": 1, "mirror-0": 2}),
        (("eu", "us"), "moon", {"mirror-1": 1, "mirror-0": 2}),
        (("", ""), None, {"mirror-1": 1, "mirror-0": 2}),
        (("",), "eu", {"mirror-0": 2}),
    ],
)
def test_the_zone_comes_first_and_the_hub_last(zones: tuple[str, ...], zone: str | None, ranks: dict[str, int]) -> None:
    found = transport(*zones).mirrors_for(Host("web-1", zone=zone))
    assert {mirror.name: mirror.rank for mirror in found} == ranks
    assert [mirror.name for mirror in found] == list(ranks)


def test_a_target_is_told_one_address_per_mirror_with_the_user_of_the_environment() -> None:
    (mirror,) = transport("eu").mirrors_for(Host("web-1"))
    assert mirror.url == "ssh://deploy@mirror-0/srv/git/www.git"


def test_bringing_a_release_is_one_fetch_from_all_of_them() -> None:
    (request,) = transport("eu", "us").bring(RELEASE, Host("web-1", zone="us"), probe())
    assert (request.verb, request.fields["commit"]) == ("fetch", "b" * 40)
    mirrors = request.fields["mirrors"]
    assert isinstance(mirrors, list)
    assert [mirror["name"] for mirror in mirrors] == ["mirror-1", "mirror-0"]
