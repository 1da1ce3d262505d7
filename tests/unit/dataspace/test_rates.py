"""Token buckets: so much in the long run, so much at once, in bounded memory."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace import rates
from dataspace.errors import TooManyRequests
from dataspace.rates import CATALOGUES, MESSAGES, Limit, Rates, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, per_s: float = 2.0, burst: float = 4.0) -> Rates:
    return Rates([Limit("things", per_s, burst)], clock=clock)


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    clock = Clock()
    held = made(clock)
    assert [held.wait_s("things", "a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    clock.now += 0.5
    assert held.wait_s("things", "a") == 0.0
    assert held.wait_s("things", "a") == 0.5


def test_who_asks_too_often_takes_nothing_from_others() -> None:
    clock = Clock()
    held = made(clock)
    for _ in range(100):
        held.wait_s("things", "a")
    assert held.wait_s("things", "b") == 0.0


def test_the_refusal_names_the_limit_and_how_long_to_wait() -> None:
    held = Rates([Limit("messages", 0.5, 1.0)], clock=Clock())
    held.take("messages", "a")
    with pytest.raises(TooManyRequests, match=r"too many messages .* more than 0\.5 a second") as e:
        held.take("messages", "a")
    assert (e.value.limit, e.value.after_s) == ("messages", 2.0)


def test_asking_while_refused_does_not_lengthen_the_wait() -> None:
    clock = Clock()
    held = made(clock)
    for _ in range(50):
        held.wait_s("things", "a")
    clock.now += 0.5
    assert held.wait_s("things", "a") == 0.0


def test_memory_is_bounded_and_whoever_was_silent_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "MAX_BUCKETS", 3)
    held = made(Clock(), burst=1.0)
    for who in ("a", "b", "c", "a", "d"):
        held.wait_s("things", who)
    assert len(held) == 3
    assert held.wait_s("things", "a") > 0.0
    assert held.wait_s("things", "b") == 0.0


@given(
    st.lists(st.floats(min_value=-5.0, max_value=5.0), max_size=60),
    st.floats(min_value=0.1, max_value=50.0),
)
def test_never_more_than_the_burst_and_what_time_has_given(
    steps: list[float], per_s: float
) -> None:
    """Also with a clock that goes back, which gives nothing twice."""
    clock = Clock()
    held = made(clock, per_s=per_s, burst=5.0)
    passed, forward = 0, 0.0
    for step in steps:
        clock.now += step
        forward += max(0.0, step)
        passed += held.wait_s("things", "a") == 0.0
        assert passed <= 5.0 + forward * per_s + 1e-6


def test_threads_share_one_bucket() -> None:
    held = made(Clock(), burst=100.0)
    passed: list[bool] = []

    def ask() -> None:
        for _ in range(50):
            passed.append(held.wait_s("things", "a") == 0.0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 100


def test_what_costs_more_may_be_asked_for_less_often() -> None:
    held = Rates.of_members(10.0)
    refused = {
        name: next(n for n in range(1000) if held.wait_s(name, "did:web:a") > 0.0)
        for name in (MESSAGES, CATALOGUES)
    }
    assert refused[CATALOGUES] * 4 < refused[MESSAGES]


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_one_host_is_one_caller_although_it_has_many_addresses(address: str, counted: str) -> None:
    assert network_of(address) == counted
