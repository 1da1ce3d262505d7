"""Differential privacy: integers with discrete Laplace noise, drawn by OpenDP (extra `dp`).

A number to which one unit of privacy can add or take away at most `bound` is released with noise of
scale bound / epsilon: whether the unit is in the data then changes the odds of any result by at
most the factor e^epsilon. What the unit is, a person or a row, is the caller's to say. Whatever is
made of a noisy number afterwards, rounding or a comparison, costs nothing more.

Source: Dwork, McSherry, Nissim, Smith, TCC 2006; on integers Ghosh, Roughgarden, Sundararajan, STOC
2009; drawn exactly, without floating point, by Canonne, Kamath, Steinke, NeurIPS 2020, section 5.2.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec

from privacy.errors import InputRejected

# Beyond this the odds change by a factor above 22,000: no protection worth the name.
MAX_EPSILON = Decimal(10)
MIN_EPSILON = Decimal("0.000001")
# The odds that a cohort below the minimum passes for one that reaches it.
COHORT_MISTAKE = Fraction(1, 1_000_000)
# OpenDP draws 64-bit numbers. With bounds cut down to so many bits the scale stays below 2^52 for
# the least epsilon, and a draw that does not fit has odds below e^-2000.
UNIT_BITS = 32
_FINEST = Decimal("1e-12")


def verify_epsilon(epsilon: Decimal) -> None:
    """Raise InputRejected unless noise of this `epsilon` can be drawn: 0.000001 to 10."""
    if not epsilon.is_finite() or not MIN_EPSILON <= epsilon <= MAX_EPSILON:
        raise InputRejected(f"epsilon: a number from {MIN_EPSILON:f} to {MAX_EPSILON} expected")
    if find_spec("opendp") is None:
        raise InputRejected(
            "epsilon: noise needs OpenDP, which is not installed here; "
            "install it with: pip install 'city-dataspace[dp]'"
        )


def noisy_count(count: int, epsilon: Decimal) -> int:
    """Return `count`, of which one unit of privacy changes 1, with noise; it may be negative.

    Raises InputRejected for an epsilon out of range, or where OpenDP is not installed.
    """
    return noisy_sums([count], 1, epsilon)[0]


def noisy_sum(total: int, bound: int, epsilon: Decimal) -> int:
    """Return `total`, which one unit of privacy changes by at most `bound`, with noise.

    That values keep to the bound must have been checked before. A bound of more than 32 bits
    makes the result a multiple of a power of two, at most bound / 2^31. Raises InputRejected for
    an epsilon out of range, a bound below 1, or where OpenDP is not installed.
    """
    return noisy_sums([total], bound, epsilon)[0]


def noisy_sums(totals: Sequence[int], bound: int, epsilon: Decimal) -> list[int]:
    """Return every one of `totals` with noise of its own, all at the price of one.

    They are to be of disjoint parts: one unit of privacy is in a single one of them.
    """
    verify_epsilon(epsilon)
    if bound < 1:
        raise InputRejected("the bound of a noisy sum: at least 1 expected")
    unit = 1 << max(0, bound.bit_length() - UNIT_BITS)
    # Two totals that differ by the bound may be rounded one unit further apart.
    sensitivity = bound if unit == 1 else bound // unit + 1
    units = [(total + unit // 2) // unit for total in totals]
    noise = _draw(len(units), _scale(sensitivity, epsilon))
    return [(each + added) * unit for each, added in zip(units, noise, strict=True)]


def share_of(epsilon: Decimal, parts: int) -> Decimal:
    """Return the epsilon of each of `parts` numbers that together are to cost `epsilon` at most.

    Losses of what is released of the same rows add up. Source: Dwork, McSherry, Nissim, Smith 2006.
    """
    return (epsilon / parts).quantize(_FINEST, ROUND_FLOOR)


def cohort_threshold(min_cohort: int, epsilon: Decimal) -> int:
    """The noisy count from which on a cohort reaches `min_cohort`; 0 where any may be shown.

    The true count must not decide: whoever can steer a cohort to one below the minimum would learn
    from the verdict whether one person more is in it. A noisy count (of this `epsilon`) reaches the
    threshold with odds of at most one in a million while the true one is below the minimum, as
    P(noise >= t) <= e^(-epsilon t). So cohorts well above the minimum are held back as well.
    """
    if min_cohort == 0:
        return 0
    odds = math.log(COHORT_MISTAKE.denominator / COHORT_MISTAKE.numerator)
    return min_cohort - 1 + math.ceil(odds / float(epsilon))


def _scale(sensitivity: int, epsilon: Decimal) -> float:
    """The least float of at least sensitivity / epsilon, so that rounding never costs privacy."""
    exact = Fraction(sensitivity) / Fraction(epsilon)
    scale = float(exact)
    return scale if Fraction(scale) >= exact else math.nextafter(scale, math.inf)


@lru_cache(maxsize=1)
def _enable_opendp() -> None:
    import opendp.prelude as dp

    # What OpenDP calls contributed are its mechanisms with a proof on paper but no audit yet.
    dp.enable_features("contrib")


def _draw(count: int, scale: float) -> list[int]:
    """Draw `count` integers of the discrete Laplace distribution."""
    import opendp.prelude as dp

    _enable_opendp()
    if not count:
        return []
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    laplace = dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)
    return list(laplace([0] * count))
