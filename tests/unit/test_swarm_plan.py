"""Who sends what to whom in a swarm: nobody more than it receives, each zone entered once, all by the same plan."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.swarm import (
    CHILDREN,
    PIECE_LEAST,
    PIECES_MOST,
    STRIPES,
    Member,
    Plan,
    piece_length,
    plan,
    stripe_lengths,
    torrents,
)

ZONES = st.sampled_from(["eu", "us", "ap", None])
FLEETS = st.lists(ZONES, min_size=1, max_size=60)


def members(zones: list[str | None]) -> list[Member]:
    return [Member(f"web-{number}", zone) for number, zone in enumerate(zones)]


def first(found: Plan, stripe: int) -> dict[str, str]:
    """Return from whom each member gets a stripe to begin with."""
    return {name: ways[stripe][0] for name, ways in found.upstreams.items()}


def way_up(name: str, above: dict[str, str]) -> list[str]:
    """Return those from whom it comes, the source last; fails where it leads round."""
    chain: list[str] = []
    while name in above:
        name = above[name]
        assert name not in chain
        chain.append(name)
    return chain


@given(FLEETS)
def test_every_member_is_reached_from_the_source_and_sends_no_more_than_it_receives(
    zones: list[str | None],
) -> None:
    fleet = members(zones)
    found = plan("source", fleet)
    load: Counter[str] = Counter()
    for stripe in range(STRIPES):
        above = first(found, stripe)
        assert set(above) == {member.name for member in fleet}
        assert all(way_up(name, above)[-1] == "source" for name in above)
        load.update(above.values())
        assert found.children("source", stripe) == tuple(name for name in above if above[name] == "source")
    assert load.pop("source") == STRIPES, "the source sends each byte once"
    assert max(load.values(), default=0) <= CHILDREN


@given(FLEETS)
def test_each_stripe_enters_a_zone_once(zones: list[str | None]) -> None:
    fleet = members(zones)
    found = plan("source", fleet)
    zone = {member.name: member.zone for member in fleet}
    for stripe in range(STRIPES):
        above = first(found, stripe)
        entered = Counter(
            zone[name] for name, parent in above.items() if parent == "source" or zone[parent] != zone[name]
        )
        assert set(entered.values()) <= {1}


@given(FLEETS)
def test_a_large_zone_forwards_one_stripe_per_member(zones: list[str | None]) -> None:
    """With enough members nobody needs to be inner in both trees, but for one in a zone of an odd number."""
    fleet = members(zones)
    found = plan("source", fleet)
    both = [m for m in fleet if all(found.children(m.name, stripe) for stripe in range(STRIPES))]
    sizes = Counter(member.zone for member in fleet)
    assert all(sizes[member.zone] % STRIPES for member in both)
    assert max(Counter(member.zone for member in both).values(), default=0) <= 1


@given(FLEETS)
def test_detours_lead_to_others_who_can_have_it(zones: list[str | None]) -> None:
    found = plan("source", members(zones))
    for stripe in range(STRIPES):
        above = first(found, stripe)
        for name, ways in found.upstreams.items():
            assert len(set(ways[stripe])) == len(ways[stripe])
            assert ways[stripe][-1] == "source"
            assert not any(name in way_up(way, above) for way in ways[stripe]), "nobody waits for what waits for it"


@given(FLEETS)
def test_whoever_is_to_be_asked_lets_one_in(zones: list[str | None]) -> None:
    found = plan("source", members(zones))
    for name in found.upstreams:
        for other in found.neighbours(name):
            assert name in found.neighbours(other)


def test_the_plan_is_the_same_every_time_and_not_deep() -> None:
    fleet = [Member(f"web-{number}", "eu" if number < 50 else "us") for number in range(100)]
    found = plan("source", fleet)
    assert found == plan("source", fleet)
    assert max(len(way_up(name, first(found, stripe))) for name in found.upstreams for stripe in (0, 1)) <= 8


def test_the_first_of_a_zone_is_its_first_peer() -> None:
    fleet = [
        Member("mirror-1", "eu"),
        Member("mirror-2", "us"),
        *(Member(f"web-{n}", ["eu", "us"][n % 2]) for n in range(8)),
    ]
    above = first(plan("source", fleet), 0)
    assert (above["mirror-1"], above["mirror-2"]) == ("source", "mirror-1")


@given(st.integers(min_value=1, max_value=1 << 33))
def test_stripes_are_the_payload_in_few_whole_pieces(size: int) -> None:
    lengths = stripe_lengths(size)
    assert sum(lengths) == size
    assert all(length % piece_length(size) == 0 for length in lengths[:-1])
    assert piece_length(size) == PIECE_LEAST or -(-max(lengths) // piece_length(size)) <= PIECES_MOST


def test_a_torrent_is_private_and_names_every_piece() -> None:
    one, two = torrents(b"x" * 40_000)
    assert one.startswith(b"d4:infod6:lengthi32768e4:name1:012:piece lengthi16384e6:pieces40:")
    assert two.startswith(b"d4:infod6:lengthi7232e4:name1:112:piece lengthi16384e6:pieces20:")
    assert one.endswith(b"7:privatei1eee")


def test_who_has_to_do_with_another_zone_is_known_and_few() -> None:
    fleet = [Member(f"web-{number}", "eu" if number < 50 else "us") for number in range(100)]
    zones = {member.name: member.zone for member in fleet}
    found = plan("source", fleet)
    assert [name for name in zones if found.crosses(name, zones)] == ["web-0", "web-1", "web-50", "web-51"]
