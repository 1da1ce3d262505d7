"""What each kind of computation takes, in units that do not depend on the machine.

A unit is one curve multiplication, one ciphertext made, added or opened, one row handled, one byte
sent. The numbers follow from the protocols, whose frames each kind's module lists; sizes are rows,
taken as all different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

from dataspace.errors import InputRejected
from privacy.buckets import bucket_count, padded_size
from privacy.computation import CONSUMER, Parameters
from privacy.exchange import Shape
from privacy.intersection import shape_of
from privacy.join_hidden import DUMMIES
from privacy.join_sides import BUCKET_ELEMENTS as JOIN_BUCKET_ELEMENTS
from privacy.join_sides import GROUP_BYTES
from privacy.psi import LEFT, RIGHT, SENDER
from privacy.ring import SHORT_BYTES, route
from privacy.tables import table_of
from privacy.totals import Packing
from privacy.wire import NUMBER_BYTES, POINT_BYTES

# An encoded ciphertext under a key of 2048 bits, which is what nodes make.
CIPHERTEXT_BYTES = 512
# Of a plaintext under such a key, which phe bounds by a third of the modulus.
PLAINTEXT_BITS = 2045


@dataclass(frozen=True)
class Work:
    """One party's units.

    `masked` and `raised` are curve multiplications with and without hashing to the curve;
    `encrypted`, `added` and `decrypted` ciphertexts; `handled` rows read, sorted, packed and
    compared; `held` elements in memory at once, of all parties.
    """

    masked: int = 0
    raised: int = 0
    encrypted: int = 0
    added: int = 0
    decrypted: int = 0
    handled: int = 0
    held: int = 0


@dataclass(frozen=True)
class Plan:
    """What every party does, and the bytes that go from one to another.

    `pooled`: the work is spread over each party's workers. `in_turn`: each party works when the one
    before it has ended; otherwise all work at once. `again`: the same from the second time on,
    where something is kept.
    """

    parties: Mapping[str, Work]
    moved: Mapping[tuple[str, str], int]
    pooled: bool = True
    in_turn: bool = False
    again: Plan | None = None


@dataclass(frozen=True)
class Question:
    """What is to be computed: rows by role, of those that bring any, and the order's parameters."""

    rows: Mapping[str, int]
    parameters: Parameters

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(role for role in self.rows if role != CONSUMER)


def plan_of(kind: str, question: Question) -> Plan:
    """What the kind takes. Raises InputRejected for one that nobody has said it of."""
    if kind not in PLANS:
        raise InputRejected(
            f"there is no estimate for {kind[:80]!r}", remedy="run it on a part of the data first"
        )
    return PLANS[kind](question)


# ---- two sets, compared whole --------------------------------------------------------------------


def _whole(asked: Question, gate: str, guest: str) -> Plan:
    """Each masks its own set and raises the other's; the guest returns what it raised."""
    mine, theirs = asked.rows[gate], asked.rows[guest]
    held = mine + theirs
    return Plan(
        {
            gate: Work(masked=mine, raised=theirs, handled=mine, held=held),
            guest: Work(masked=theirs, raised=mine, handled=theirs, held=held),
        },
        {(gate, guest): POINT_BYTES * mine, (guest, gate): POINT_BYTES * held},
        pooled=False,
    )


def _psi_1(asked: Question) -> Plan:
    plan = _whole(asked, SENDER, CONSUMER)
    # The sender returns the consumer's set too, which is how the consumer reads the result.
    return _with_moved(plan, SENDER, CONSUMER, POINT_BYTES * asked.rows[CONSUMER])


def _private_sum_1(asked: Question) -> Plan:
    plan = _with_moved(
        _whole(asked, LEFT, RIGHT), RIGHT, LEFT, CIPHERTEXT_BYTES * asked.rows[RIGHT]
    )
    plan = _with_work(plan, RIGHT, encrypted=asked.rows[RIGHT])
    plan = _with_work(plan, LEFT, added=min(asked.rows[LEFT], asked.rows[RIGHT]))
    return _to_consumer(plan, ciphertexts=1)


# ---- two sets, compared in buckets ---------------------------------------------------------------


def _buckets(asked: Question, gate: str, guest: str, shape: Shape) -> Plan:
    """See `privacy.exchange`; what goes with the points is in `shape`."""
    mine, theirs = asked.rows[gate], asked.rows[guest]
    of = bucket_count(max(mine, theirs), shape.bucket_elements)
    of_mine, of_theirs = padded_size(mine, of), padded_size(theirs, of)
    own, other = of_mine * of, of_theirs * of
    held = of_mine + of_theirs
    raised_bytes = _compared_bytes(asked, shape) + shape.gate_extra
    return Plan(
        {
            gate: Work(masked=own, raised=other, handled=mine, held=held),
            guest: Work(masked=other, raised=own, handled=theirs, held=held),
        },
        {
            (gate, guest): (POINT_BYTES + shape.gate_extra) * own,
            (guest, gate): (POINT_BYTES + shape.guest_extra) * other + raised_bytes * own,
        },
    )


def _compared_bytes(asked: Question, shape: Shape) -> int:
    """The width to which a point is shortened that is only compared."""
    bits = shape.false_positive_bits + 2 * max(asked.rows.values()).bit_length()
    return min(POINT_BYTES - 1, -(-bits // 8))


def _psi_2(asked: Question) -> Plan:
    shape = shape_of(asked.parameters)
    plan = _buckets(asked, SENDER, CONSUMER, shape)
    # One bit for each of the consumer's points.
    return _with_moved(plan, SENDER, CONSUMER, -(-plan.parties[CONSUMER].masked // 8))


def _psi_count(asked: Question) -> Plan:
    return _buckets(asked, SENDER, CONSUMER, shape_of(asked.parameters))


def _psi_cardinality_2(asked: Question) -> Plan:
    return _to_consumer(_buckets(asked, LEFT, RIGHT, shape_of(asked.parameters)))


def _join(
    asked: Question, gate: str, guest: str, bucket_elements: int = JOIN_BUCKET_ELEMENTS
) -> Plan:
    """A ciphertext goes with each of the guest's points, and the groups with those whose they are;
    the gate adds up, and sends a total of the whole and of each group."""
    groups_of = asked.parameters.settings.get("groupsOf")
    shape = Shape(
        guest_extra=CIPHERTEXT_BYTES + (GROUP_BYTES if groups_of == guest else 0),
        gate_extra=GROUP_BYTES if groups_of == gate else 0,
        bucket_elements=bucket_elements,
    )
    plan = _buckets(asked, gate, guest, shape)
    totals = 1 + len(asked.parameters.groups)
    values = plan.parties[guest].masked
    plan = _with_work(plan, guest, encrypted=values)
    plan = _with_work(plan, gate, added=values, encrypted=totals)
    plan = _with_work(plan, CONSUMER, decrypted=totals)
    return _with_moved(plan, gate, CONSUMER, totals * CIPHERTEXT_BYTES)


def _hidden(asked: Question) -> Plan:
    """With dummies in every bucket, and the minimum compared with a sum of them."""
    of = bucket_count(max(asked.rows.values()), JOIN_BUCKET_ELEMENTS)
    rows = {role: count + of * DUMMIES for role, count in asked.rows.items()}
    plan = _join(replace(asked, rows=rows), LEFT, RIGHT, JOIN_BUCKET_ELEMENTS + DUMMIES)
    if asked.parameters.min_cohort == 0:
        return plan
    numbers = of * DUMMIES + 1
    plan = _with_work(plan, LEFT, masked=numbers, raised=1)
    plan = _with_work(plan, RIGHT, masked=1, raised=numbers)
    plan = _with_moved(plan, LEFT, RIGHT, POINT_BYTES * numbers)
    return _with_moved(plan, RIGHT, LEFT, POINT_BYTES + (POINT_BYTES - 1) * numbers)


# ---- one set that is masked once and kept --------------------------------------------------------


def _cached(asked: Question) -> Plan:
    """The first time. From the second on only the consumer's set is masked and raised."""
    kept, brought = asked.rows[SENDER], asked.rows[CONSUMER]
    again = Plan(
        {
            SENDER: Work(raised=brought, handled=kept, held=kept),
            CONSUMER: Work(masked=brought, handled=brought, held=brought),
        },
        {(CONSUMER, SENDER): POINT_BYTES * brought, (SENDER, CONSUMER): brought // 8},
    )
    first = _with_work(again, SENDER, masked=kept)
    first = _with_work(first, CONSUMER, raised=kept, held=kept)
    first = _with_moved(first, SENDER, CONSUMER, POINT_BYTES * kept)
    first = _with_moved(first, CONSUMER, SENDER, SHORT_BYTES * kept)
    return replace(first, again=again)


# ---- several sets on a ring ----------------------------------------------------------------------


def _multi_cardinality(asked: Question) -> Plan:
    """See `privacy.ring`: every set goes once around, and each provider raises all but its own."""
    providers = asked.providers
    held = sum(asked.rows.values())
    parties = {
        name: Work(
            masked=asked.rows[name],
            raised=held - asked.rows[name],
            handled=held,
            held=2 * max(asked.rows.values()),
        )
        for name in providers
    }
    plan = Plan({**parties, CONSUMER: Work()}, {(providers[0], CONSUMER): NUMBER_BYTES})
    for owner, size in asked.rows.items():
        for sender, receiver in pairwise(route(owner, providers)):
            plan = _with_moved(plan, sender, receiver, POINT_BYTES * size)
    room = min(asked.rows[name] for name in providers)
    for sender, receiver in pairwise((*providers[1:], providers[0])):
        plan = _with_moved(plan, sender, receiver, SHORT_BYTES * room)
    return plan


def _multi(asked: Question) -> Plan:
    """As above, with the consumer's set on the way of the first provider's, and sealed."""
    first, second = asked.providers[:2]
    brought = asked.rows[CONSUMER]
    room = min(asked.rows[name] for name in asked.providers)
    plan = _with_work(_multi_cardinality(asked), first, raised=brought + room)
    plan = _with_work(plan, CONSUMER, masked=brought, raised=room, handled=brought + room)
    plan = _with_moved(plan, first, CONSUMER, POINT_BYTES * room)
    plan = _with_moved(plan, CONSUMER, second, SHORT_BYTES * room)
    return _with_moved(plan, second, CONSUMER, brought // 8 + 1)


# ---- totals --------------------------------------------------------------------------------------


def _ring(asked: Question, *, ciphertexts: int, flags: int) -> Plan:
    """Each provider adds its own to what comes round, and the last sends to the consumer."""
    providers = asked.providers
    parties = {
        name: Work(
            encrypted=ciphertexts, added=ciphertexts, handled=asked.rows[name], held=ciphertexts
        )
        for name in providers
    }
    round_bytes = ciphertexts * CIPHERTEXT_BYTES + flags
    return Plan(
        {**parties, CONSUMER: Work(decrypted=ciphertexts)},
        dict.fromkeys(pairwise((*providers, CONSUMER)), round_bytes),
        pooled=False,
        in_turn=True,
    )


def _aggregate_1(asked: Question) -> Plan:
    groups = len(asked.parameters.groups)
    return _ring(asked, ciphertexts=groups, flags=groups)


def _aggregate_2(asked: Question) -> Plan:
    table = table_of(asked.parameters)
    packing = Packing(table.limits, PLAINTEXT_BITS)
    return _ring(asked, ciphertexts=packing.plaintexts(table.cells), flags=table.cells)


def _aggregate_partial(asked: Question) -> Plan:
    """As if all were there: fewer take less."""
    settings = {n: one for n, one in asked.parameters.settings.items() if n != "leastProviders"}
    return _aggregate_2(replace(asked, parameters=replace(asked.parameters, settings=settings)))


# ---- building ------------------------------------------------------------------------------------


def _with_moved(plan: Plan, sender: str, receiver: str, count: int) -> Plan:
    before = plan.moved.get((sender, receiver), 0)
    return replace(plan, moved={**plan.moved, (sender, receiver): before + count})


def _with_work(plan: Plan, party: str, **units: int) -> Plan:
    work = plan.parties.get(party, Work())
    more = {name: getattr(work, name) + count for name, count in units.items()}
    return replace(plan, parties={**plan.parties, party: replace(work, **more)})


def _to_consumer(plan: Plan, *, ciphertexts: int = 0) -> Plan:
    """The consumer brings nothing and is sent a result by left."""
    parties = {**plan.parties, CONSUMER: Work(decrypted=ciphertexts)}
    moved = {**plan.moved, (LEFT, CONSUMER): NUMBER_BYTES + ciphertexts * CIPHERTEXT_BYTES}
    return replace(plan, parties=parties, moved=moved)


PlanOf: TypeAlias = Callable[[Question], Plan]

PLANS: Mapping[str, PlanOf] = MappingProxyType(
    {
        "psi/1": _psi_1,
        "psi/2": _psi_2,
        "psi-both/1": _psi_2,
        "psi-count/1": _psi_count,
        "psi-cardinality/1": lambda asked: _to_consumer(_whole(asked, LEFT, RIGHT)),
        "psi-cardinality/2": _psi_cardinality_2,
        "psi-cached/1": _cached,
        "private-sum/1": _private_sum_1,
        "private-sum/2": lambda asked: _join(asked, LEFT, RIGHT),
        "private-sum-hidden/1": _hidden,
        "private-sum-own/1": lambda asked: _join(asked, "provider", CONSUMER),
        "psi-multi/1": _multi,
        "psi-multi-cardinality/1": _multi_cardinality,
        "aggregate/1": _aggregate_1,
        "aggregate/2": _aggregate_2,
        "aggregate-partial/1": _aggregate_partial,
    }
)
