"""What carriers are expected to take, before and after they were measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.core.pricing import GIT, INLINE, MANY, RATE, SWARM, Carried, Rates, choose, learned

KINDS = (INLINE, GIT, SWARM)
RUNS = some.builds(
    Carried,
    by=some.sampled_from(KINDS),
    hosts=some.integers(1, 1000),
    bytes=some.integers(0, 1 << 40),
    seconds=some.floats(0, 1e6),
)


def ran(by: str, hosts: int, each: int, seconds: float) -> Carried:
    return Carried(by=by, hosts=hosts, bytes=hosts * each, seconds=seconds)


def best(rates: Rates, hosts: int, size: int) -> str:
    return choose({by: rates.seconds(by, hosts, size) for by in KINDS}, hosts * size)


def test_before_anything_was_measured_little_goes_inline_and_much_to_many_by_swarm() -> None:
    unknown = learned(())
    assert best(unknown, 100, 1_200) == INLINE
    assert best(unknown, 3, 20_000_000) in (INLINE, SWARM)
    assert best(unknown, 100, 20_000_000) == SWARM
    assert unknown.seconds(INLINE, 10, 10_000_000) == pytest.approx(0.1 + 100_000_000 / RATE)


def test_a_carrier_that_was_measured_is_expected_to_take_as_long_again() -> None:
    for by, hosts, size, seconds in (
        (INLINE, 30, 5_000_000, 120.0),
        (GIT, 30, 5_000_000, 60.0),
        (SWARM, 30, 5_000_000, 9.0),
    ):
        rates = learned([ran(by, hosts, size, seconds)])
        assert rates.seconds(by, hosts, size) == pytest.approx(seconds, rel=1e-3)


def test_small_loads_tell_what_a_target_costs_and_large_ones_the_rate() -> None:
    rates = learned([ran(INLINE, 100, 1_000, 5.0), ran(INLINE, 100, 1_000_000, 15.0)])
    assert rates.seconds(INLINE, 200, 0) == pytest.approx(10.0)
    assert rates.seconds(INLINE, 100, 2_000_000) == pytest.approx(25.0)


def test_a_slow_link_that_one_carrier_met_is_not_forgotten_when_another_is_priced() -> None:
    slow = learned([ran(SWARM, 30, 10_000_000, 15.0)])
    assert slow.seconds(INLINE, 30, 200_000) > 5
    assert best(slow, 30, 200_000) == SWARM
    assert best(learned(()), 30, 200_000) == INLINE


def test_a_fast_network_brings_the_bytes_back_to_the_session() -> None:
    fast = learned([ran(INLINE, 10, 10_000_000, 1.0)])
    assert best(fast, 10, 10_000_000) == INLINE


def test_one_odd_run_does_not_turn_the_expectation() -> None:
    steady = [ran(INLINE, 10, 10_000_000, 10.0)] * 4
    odd = ran(INLINE, 10, 10_000_000, 1000.0)
    assert learned([odd, *steady]).seconds(INLINE, 10, 10_000_000) == pytest.approx(10.0, rel=0.01)


def test_little_rides_on_the_session_whatever_was_measured_on_a_busy_day() -> None:
    busy = learned([ran(INLINE, 5, 200, 60.0), ran(GIT, 5, 200, 0.1)])
    assert best(busy, 100, 1_000) == INLINE
    assert busy.seconds(GIT, 100, 0) >= learned(()).seconds(GIT, 100, 0), "a log-in at a mirror is never free"


@given(some.lists(RUNS, max_size=12), some.integers(1, 1000), some.integers(0, 1 << 40))
def test_a_price_is_a_number_and_grows_with_the_bytes(past: list[Carried], hosts: int, size: int) -> None:
    rates = learned(past)
    for by in KINDS:
        assert 0 <= rates.seconds(by, hosts, size) <= rates.seconds(by, hosts, size + MANY) < float("inf")
