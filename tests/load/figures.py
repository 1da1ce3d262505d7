"""What is made of measured numbers: percentiles, and whether something grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# Before this part of a run a process is still filling what it keeps: pools, caches, statements.
WARM_UP_PART = 0.25


def percentile(values: Sequence[float], part: float) -> float:
    """The least of `values` that at least `part` (0 < part <= 1) of them do not exceed.

    One that was measured, so nothing between two (nearest rank). NaN where there is none.
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


@dataclass(frozen=True)
class Latency:
    """How long the operations of one sort took, in milliseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        p50, p90, p99, most = (percentile(seconds, part) * 1000 for part in (0.5, 0.9, 0.99, 1.0))
        return cls(len(seconds), *(round(one, 2) for one in (p50, p90, p99, most)))


@dataclass(frozen=True)
class Growth:
    """How something that was looked at again and again changed after the warm-up.

    `first` and `last` are the medians of the first and the last third of what follows the warm-up,
    `a_minute` the slope through all of it (least squares).
    """

    first: float
    last: float
    a_minute: float

    @property
    def gained(self) -> float:
        return self.last - self.first


def growth(samples: Sequence[tuple[float, float]], warm_up: float = WARM_UP_PART) -> Growth:
    """The growth of a value over samples of (seconds, value), in the order of time.

    Raises ValueError where fewer than six are left after the warm-up.
    """
    if not samples:
        raise ValueError("no samples")
    begun, ended = samples[0][0], samples[-1][0]
    kept = [one for one in samples if one[0] >= begun + warm_up * (ended - begun)]
    if len(kept) < 6:
        raise ValueError(f"{len(kept)} samples after the warm-up, expected six or more")
    third = len(kept) // 3
    return Growth(
        first=median(value for _, value in kept[:third]),
        last=median(value for _, value in kept[-third:]),
        a_minute=60 * _slope(kept),
    )


def _slope(samples: Sequence[tuple[float, float]]) -> float:
    middle_x = sum(x for x, _ in samples) / len(samples)
    middle_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - middle_x) ** 2 for x, _ in samples)
    if spread == 0:
        return 0.0
    return sum((x - middle_x) * (y - middle_y) for x, y in samples) / spread
