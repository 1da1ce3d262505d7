"""Noise is what its docstring says it is, and what cannot be protected is refused."""

import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest

from privacy import noise
from privacy.errors import InputRejected
from privacy.noise import cohort_threshold, noisy_count, noisy_sum, noisy_sums, verify_epsilon

ONE = Decimal(1)


def test_counts_are_discrete_laplace_of_scale_one_over_epsilon():
    draws = Counter(noisy_sums([0] * 20_000, 1, ONE))
    alpha = math.exp(-1)
    for value in range(-2, 3):
        expected = (1 - alpha) / (1 + alpha) * alpha ** abs(value)
        # Six standard deviations of a binomial share of 20,000.
        assert draws[value] / 20_000 == pytest.approx(expected, abs=0.022)


@pytest.mark.parametrize("bound", [1, 100, 2**32 - 1, 2**33, 2**63 - 1, (2**63 - 1) ** 2])
def test_the_noise_of_a_sum_grows_with_the_bound_up_to_the_largest(bound):
    total = 5 * bound
    draws = [abs(each - total) for each in noisy_sums([total] * 2000, bound, Decimal("0.5"))]
    # The mean of the absolute value is the scale, nearly, and its deviation 2% of it here.
    assert sum(draws) / 2000 == pytest.approx(2 * bound, rel=0.2)


def test_the_least_epsilon_is_drawn_without_clipping():
    draws = noisy_sums([0] * 1000, 2**63 - 1, noise.MIN_EPSILON)
    assert max(map(abs, draws)) > 2**63
    assert len(set(draws)) == 1000


@pytest.mark.parametrize("epsilon", ["0.3", "0.000001", "9.999999", "0.7"])
@pytest.mark.parametrize("sensitivity", [1, 3, 2**32 - 1])
def test_rounding_the_scale_never_costs_privacy(epsilon, sensitivity):
    scale = noise._scale(sensitivity, Decimal(epsilon))
    assert Fraction(sensitivity) / Fraction(scale) <= Fraction(Decimal(epsilon))


@pytest.mark.parametrize("epsilon", ["0", "-1", "10.000001", "0.0000001", "NaN", "Infinity"])
def test_an_epsilon_that_protects_nothing_is_refused(epsilon):
    with pytest.raises(InputRejected, match=r"epsilon: a number from 0\.000001 to 10"):
        noisy_count(1, Decimal(epsilon))


def test_a_bound_below_one_is_refused():
    with pytest.raises(InputRejected, match="at least 1"):
        noisy_sum(1, 0, ONE)


def test_without_opendp_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(noise, "find_spec", lambda name: None)
    with pytest.raises(InputRejected, match=r"city-dataspace\[dp\]"):
        verify_epsilon(ONE)


@pytest.mark.parametrize("epsilon", ["0.1", "1", "10"])
@pytest.mark.parametrize("minimum", [1, 20])
def test_one_below_the_minimum_passes_with_odds_of_one_in_a_million(minimum, epsilon):
    threshold = cohort_threshold(minimum, Decimal(epsilon))
    alpha = math.exp(-float(epsilon))
    assert alpha ** (threshold - (minimum - 1)) / (1 + alpha) <= 1e-6
    # Two lower and the odds would be larger than they need be.
    assert alpha ** (threshold - 2 - (minimum - 1)) > 1e-6


def test_any_cohort_may_be_shown_where_there_is_no_minimum():
    assert cohort_threshold(0, ONE) == 0


def test_a_difference_attack_gains_no_more_than_epsilon_allows():
    """Two counts that differ in one person: guessing from noisy answers which one it was.

    The attacker's best rule is a threshold. Its advantage is at most (e^eps - 1) / (e^eps + 1),
    and three standard deviations more for what 20,000 tries show.
    """
    tries, epsilon = 20_000, Decimal("0.5")
    without = noisy_sums([40] * tries, 1, epsilon)
    with_one = noisy_sums([41] * tries, 1, epsilon)
    right = sum(each <= 40 for each in without) + sum(each >= 41 for each in with_one)
    advantage = right / tries - 1
    bound = (math.exp(0.5) - 1) / (math.exp(0.5) + 1)
    assert advantage <= bound + 0.015
    # Without noise every guess would be right.
    assert advantage < 0.3
