"""Percentiles and growth are what they are defined to be."""

import math
import random

import pytest

from tests.load.figures import Latency, growth, percentile


def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(values)
    assert [percentile(values, part) for part in (0.01, 0.5, 0.99, 0.991, 1.0)] == [
        1.0,
        50.0,
        99.0,
        100.0,
        100.0,
    ]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_latencies_are_told_in_milliseconds() -> None:
    found = Latency.of([0.001] * 98 + [0.5, 2.0])
    assert found == Latency(count=100, p50_ms=1.0, p90_ms=1.0, p99_ms=500.0, max_ms=2000.0)


def test_what_grows_steadily_has_its_slope_and_its_gain() -> None:
    rising = [(second, 100.0 + second / 6) for second in range(121)]
    found = growth([(float(at), value) for at, value in rising])
    assert found.a_minute == pytest.approx(10.0)
    # From the middle of the first third to that of the last: 60 s of the 90 after the warm-up.
    assert found.gained == pytest.approx(10.0, abs=0.5)


def test_what_fills_up_in_the_warm_up_alone_is_flat() -> None:
    filling = [(float(at), 100.0 if at < 25 else 180.0) for at in range(101)]
    found = growth(filling)
    assert (found.first, found.last, found.a_minute) == (180.0, 180.0, 0.0)


def test_a_single_peak_is_no_growth() -> None:
    peaked = [(float(at), 500.0 if at == 95 else 100.0) for at in range(101)]
    assert growth(peaked).gained == 0.0


def test_too_few_looks_say_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        growth([])
    with pytest.raises(ValueError, match="six or more"):
        growth([(float(at), 1.0) for at in range(6)])
