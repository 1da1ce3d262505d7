"""What a computation would cost and tell, before anybody is asked: time, bytes, memory, budget.

The work of each party (`dataspace.computing.plans`) times what a unit costs. For this machine that
is measured, once; for the others it is what a machine of two processors was measured to take
(Debian, x86-64, 2026), as nobody tells anybody how fast it is. A figure is right within a factor
of about two, and says what it assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import gmpy2

from dataspace.computing.plans import Plan, Question, Work, plan_of
from dataspace.errors import InputRejected
from privacy.kinds import CONSUMER, Kind
from privacy.masking import MaskingKey

# Processors of a party elsewhere, and the bytes a second between two: a gigabit.
PEER_WORKERS = 2
LINK_BYTES_S = 125_000_000
# What an estimate says that it took for granted.
ASSUMED = {"workers_elsewhere": PEER_WORKERS, "link_bytes_per_s": LINK_BYTES_S}
# Order, transfers, decisions, evidence and the signed transcript, whatever is computed.
OVERHEAD_S = 0.5
# A node at rest, one of its workers, and one element with all that is kept of it: points, text.
NODE_BYTES = 180_000_000
WORKER_BYTES = 45_000_000
ELEMENT_BYTES = 300
# More rows than this no computation takes; it keeps the arithmetic about a request sane.
MAX_ROWS = 10**9
CALIBRATION_ELEMENTS = 256
CALIBRATION_BITS = 2048


@dataclass(frozen=True)
class Costs:
    """Seconds one unit of each kind takes one processor."""

    masked: float
    raised: float
    encrypted: float
    added: float
    decrypted: float
    handled: float

    def seconds(self, work: Work, workers: int) -> float:
        """How long a party works that has so many processors for what can be spread."""
        spread = (
            work.masked * self.masked
            + work.raised * self.raised
            + work.encrypted * self.encrypted
            + work.added * self.added
            + work.decrypted * self.decrypted
        )
        return spread / workers + work.handled * self.handled


REFERENCE = Costs(
    masked=97e-6, raised=70e-6, encrypted=0.18e-3, added=6e-6, decrypted=2.9e-3, handled=10e-6
)
# One exponentiation with a full exponent modulo n^2, on the machine of `REFERENCE`.
REFERENCE_POWER_S = 10.5e-3


@dataclass(frozen=True)
class PartyEstimate:
    """What one party spends and what it learns."""

    seconds: float
    sent_bytes: int
    received_bytes: int
    memory_bytes: int
    learns: str


@dataclass(frozen=True)
class Estimate:
    """A computation before it runs.

    `again_s` is what it takes from the second time on, where something is kept; `epsilon` is spent
    of the budget of every dataset in it.
    """

    kind: str
    seconds: float
    again_s: float | None
    computing_s: float
    moving_s: float
    parties: Mapping[str, PartyEstimate]
    epsilon: Decimal | None


def estimate(
    kind: Kind,
    question: Question,
    *,
    workers: int,
    costs: Costs,
) -> Estimate:
    """Estimate a computation of which this node, with its `workers` and `costs`, is the consumer.

    Raises InputRejected for parameters the kind does not take, a kind without a plan, a party whose
    rows are not given, and more rows than the kind takes.
    """
    _verify_rows(kind, question)
    kind.verify_parameters(question.parameters)
    plan = plan_of(kind.name, question)
    parties = {
        role: PartyEstimate(
            seconds=_seconds(plan, role, workers, costs),
            sent_bytes=sum(count for (one, _), count in plan.moved.items() if one == role),
            received_bytes=sum(count for (_, other), count in plan.moved.items() if other == role),
            memory_bytes=_memory(plan, role, workers),
            learns=kind.leakage_of(role),
        )
        for role in (*question.providers, CONSUMER)
    }
    computing_s, moving_s = _whole(plan, workers, costs)
    return Estimate(
        kind=kind.name,
        seconds=OVERHEAD_S + computing_s + moving_s,
        again_s=OVERHEAD_S + sum(_whole(plan.again, workers, costs)) if plan.again else None,
        computing_s=computing_s,
        moving_s=moving_s,
        parties=parties,
        epsilon=question.parameters.epsilon,
    )


def _whole(plan: Plan, workers: int, costs: Costs) -> tuple[float, float]:
    """How long all parties together compute, and how long the bytes are under way."""
    each = [_seconds(plan, role, workers, costs) for role in plan.parties]
    computing_s = sum(each) if plan.in_turn else max(each)
    return computing_s, sum(plan.moved.values()) / LINK_BYTES_S


def _seconds(plan: Plan, role: str, workers: int, costs: Costs) -> float:
    work = plan.parties.get(role, Work())
    return (costs if role == CONSUMER else REFERENCE).seconds(
        work, _processors(plan, role, workers)
    )


def _processors(plan: Plan, role: str, workers: int) -> int:
    if not plan.pooled:
        return 1
    return workers if role == CONSUMER else PEER_WORKERS


def _memory(plan: Plan, role: str, workers: int) -> int:
    work = plan.parties.get(role, Work())
    pooled = plan.pooled and (work.masked or work.raised or work.encrypted)
    pool = WORKER_BYTES * _processors(plan, role, workers) if pooled else 0
    return NODE_BYTES + pool + work.held * ELEMENT_BYTES


def _verify_rows(kind: Kind, question: Question) -> None:
    for role in kind.roles(len(question.providers)):
        if role not in question.rows and kind.columns_of(role):
            raise InputRejected(f"{kind.name}: the rows of {role} are not given")
    for role, rows in question.rows.items():
        if not 0 <= rows <= min(kind.max_rows, MAX_ROWS):
            raise InputRejected(
                f"{role}: {kind.name} takes at most {kind.max_rows} rows, got {rows}",
                remedy="take a part of them",
            )


def measure_costs(clock: Callable[[], float] = time.perf_counter) -> Costs:
    """Measure this machine in about a tenth of a second.

    Ciphertexts are measured by one exponentiation of their size, to which all they take is in
    proportion; rows are taken as the machine is at curve arithmetic.
    """
    key = MaskingKey((1).to_bytes(31, "big") + b"\x07")
    points = key.mask(["warm-up"])
    identifiers = [f"{number:018d}" for number in range(CALIBRATION_ELEMENTS)]
    masked_s, points = _timed(clock, lambda: key.mask(identifiers))
    raised_s, _ = _timed(clock, lambda: key.raise_points(points, "calibration"))
    # Any odd modulus takes as long as a product of primes.
    modulus = (1 << 2 * CALIBRATION_BITS) - 1
    exponent = (1 << CALIBRATION_BITS) - 1
    power_s, _ = _timed(clock, lambda: [gmpy2.powmod(modulus // 3, exponent, modulus)])
    arithmetic = power_s / REFERENCE_POWER_S
    masked = masked_s / CALIBRATION_ELEMENTS
    return Costs(
        masked=masked,
        raised=raised_s / CALIBRATION_ELEMENTS,
        encrypted=REFERENCE.encrypted * arithmetic,
        added=REFERENCE.added * arithmetic,
        decrypted=REFERENCE.decrypted * arithmetic,
        handled=REFERENCE.handled * masked / REFERENCE.masked,
    )


@cache
def costs_here() -> Costs:
    """The costs of this machine, measured when they are first asked for."""
    return measure_costs()


def _timed(
    clock: Callable[[], float], work: Callable[[], list[bytes]]
) -> tuple[float, list[bytes]]:
    begun = clock()
    result = work()
    return clock() - begun, result
