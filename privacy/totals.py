"""Tables of totals over 2 to 16 providers, of which nobody who can decrypt sees a single part.

Everybody holds rows with the same public groups. The providers form a ring, and two things go round
it. First which cells each of them withholds, one flag a cell; the last one adds what else has to be
withheld (`privacy.disclosure.protected`) and tells all. Then, for the cells that are shown only,
the sums of the rows, their values and their squares, under the consumer's key: each provider adds
its own and passes on, and the last sends to the consumer, which alone can decrypt. What a provider
withholds is so never encrypted by anyone.

A Paillier plaintext holds many cells: 16 with count and sum of 63-bit values under a key of 2048
bits, 20 with 40 bits declared. Every sum has a slot that 16 providers cannot fill: each part is
checked to be within its limit before it is packed, and shifted by that limit to be positive.

`rounding` is each provider's too, as nobody sees a total before the consumer does: the total is a
sum of rounded parts, and off by up to half the base for each of them.

Where the order has an epsilon each provider adds noise for all of it to its own part: even if all
others pool what they have, the rest is private, and the price is n times the variance of one noise.
The unit of privacy is one row of one provider. Cells are disjoint, so a row is in one of them; the
epsilon is shared out evenly over the sums kept of a cell. Which cells a provider withholds is then
told by the noisy count, and costs nothing more.

Source: additive aggregation is Paillier 1999; each party adding noise before it sends is the local
form of Dwork, Kenthapadi, McSherry, Mironov, Naor (EUROCRYPT 2006), without their sharing of noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import (
    MIN_COHORT,
    WITHHELD,
    is_small_group,
    protected,
    receive_verdict,
    released,
    rounded,
)
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.noise import cohort_threshold, noisy_sums, share_of, verify_epsilon
from privacy.paillier import Ciphertext, PublicKey
from privacy.role import JsonValue, Outcome, Progress, Role, Steps, receive, send
from privacy.tables import MAX_ROWS, SETTINGS, Table, Tally, released_totals, table_of, tally_of

MAX_PROVIDERS = 16


@dataclass(frozen=True)
class Packing:
    """How the sums of many cells share a plaintext: equal cells, each with a slot for each sum.

    A part is within `limits` on both sides of 0 and is shifted by them; `widths` are such that
    MAX_PROVIDERS shifted parts stay in their slot, each at most twice its limit.
    """

    limits: tuple[int, ...]
    plaintext_bits: int

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits of each slot of a cell, the lowest slot first."""
        return tuple((MAX_PROVIDERS * 2 * limit).bit_length() for limit in self.limits)

    @property
    def cells(self) -> int:
        """How many cells fit in one plaintext."""
        return self.plaintext_bits // sum(self.widths)

    def plaintexts(self, cells: int) -> int:
        """How many plaintexts so many cells need."""
        return -(-cells // self.cells)

    def pack(self, parts: Sequence[Sequence[int]]) -> list[int]:
        """Put the parts, one sequence of sums a cell, into plaintexts.

        Raises InputRejected, naming no number, for a part beyond its limit.
        """
        plaintexts = []
        for start in range(0, len(parts), self.cells):
            packed = shift = 0
            for part in parts[start : start + self.cells]:
                for total, limit, width in zip(part, self.limits, self.widths, strict=True):
                    if not -limit <= total <= limit:
                        raise InputRejected("a total is beyond what the declared bounds allow")
                    packed |= (total + limit) << shift
                    shift += width
            plaintexts.append(packed)
        return plaintexts

    def unpack(self, plaintexts: Sequence[int], cells: int, addends: int) -> list[tuple[int, ...]]:
        """Return the sums of `cells` cells, of which `addends` parts were added.

        Raises InputRejected where a plaintext has bits that no such parts give.
        """
        totals: list[tuple[int, ...]] = []
        for number, packed in enumerate(plaintexts):
            rest = packed
            for _ in range(min(self.cells, cells - number * self.cells)):
                slots = []
                for limit, width in zip(self.limits, self.widths, strict=True):
                    slots.append((rest & ((1 << width) - 1)) - addends * limit)
                    rest >>= width
                totals.append(tuple(slots))
            if rest:
                raise InputRejected("a packed number has bits above its cells")
        return totals


def packing_of(table: Table, public_key: PublicKey) -> Packing:
    """Return how cells of `table` are packed under this key."""
    return Packing(table.limits, public_key.max_value.bit_length() - 1)


@dataclass(frozen=True)
class Part:
    """One provider's table as it may leave: what it withholds, and its sums cell by cell."""

    withheld: tuple[bool, ...]
    moments: tuple[tuple[int, ...], ...]


def part_of(table: Table, tally: Tally, parameters: Parameters) -> Part:
    """Apply the disclosure controls to one provider's sums: noise, cohort, rounding."""
    moments = tally.moments
    if parameters.epsilon is None:
        withheld = [is_small_group(count, parameters.min_cohort) for count in moments[0]]
    else:
        epsilon = share_of(parameters.epsilon, table.moments)
        moments = [
            noisy_sums(totals, bound, epsilon)
            for totals, bound in zip(moments, table.bounds, strict=True)
        ]
        threshold = _threshold(parameters, epsilon)
        # An empty cell is withheld like a small one: not even one row may make a difference.
        withheld = [threshold is not None and count < threshold for count in moments[0]]
    told = [
        [_fitted(rounded(total, base), limit // base * base) for total in totals]
        for totals, base, limit in zip(moments, table.bases, table.limits, strict=True)
    ]
    return Part(tuple(withheld), tuple(zip(*told, strict=True)))


def _fitted(total: int, limit: int) -> int:
    """Clip a total to its slot. Only noise goes beyond it, and clipping what is noisy is free."""
    return max(-limit, min(limit, total))


def _threshold(parameters: Parameters, epsilon: Decimal) -> int | None:
    """The noisy count from which on a cell is shown; None where all are."""
    if parameters.min_cohort == 0:
        return None
    return cohort_threshold(parameters.min_cohort, epsilon)


def _parse_flags(payload: bytes, sender: str, cells: int) -> tuple[bool, ...]:
    if len(payload) != cells or any(flag > 1 for flag in payload):
        raise ProtocolViolation(f"{sender} sent no list of {cells} flags, each 0 or 1")
    return tuple(flag == 1 for flag in payload)


def _parse_pattern(payload: bytes, sender: str, table: Table) -> tuple[bool, ...]:
    """Read which cells are withheld in the end; ProtocolViolation if it protects too little."""
    withheld = _parse_flags(payload, sender, table.cells)
    if all(withheld):
        raise ProtocolViolation(f"{sender} released a table in which every cell is withheld")
    if withheld != protected(withheld, len(table.groups), table.columns):
        raise ProtocolViolation(f"{sender} left a withheld cell alone in its row or column")
    return withheld


def _parse_ciphertexts(
    public_key: PublicKey, payload: bytes, sender: str, expected: int
) -> list[Ciphertext]:
    width = public_key.ciphertext_bytes
    if len(payload) != expected * width:
        raise ProtocolViolation(
            f"{sender} sent {len(payload)} bytes, {expected} ciphertexts of {width} expected"
        )
    return [
        public_key.parse_ciphertext(payload[start : start + width], sender)
        for start in range(0, len(payload), width)
    ]


def _count_rows(context: RoleContext, table: Table) -> Steps[Tally]:
    tally = Tally(table)
    for batch in context.rows.batches():
        tally.add(batch)
        yield Progress(done=len(batch.groups))
    return tally


def _provider(context: RoleContext) -> Role:
    """Count, agree on what is withheld, add to what came round, pass on."""
    table = table_of(context.parameters)
    ring, cells = context.providers, table.cells
    place = ring.index(context.role)
    tally = yield from _count_rows(context, table)
    part = part_of(table, tally, context.parameters)
    withheld = part.withheld
    if place > 0:
        before = yield from receive(ring[place - 1], "flags", cells)
        theirs = _parse_flags(before, ring[place - 1], cells)
        withheld = tuple(map(max, withheld, theirs))
    if place < len(ring) - 1:
        yield from send(ring[place + 1], "flags", bytes(withheld))
        pattern = yield from receive_verdict(ring[-1], "pattern", cells)
        shown = _parse_pattern(pattern, ring[-1], table)
        if any(hidden > kept for hidden, kept in zip(withheld, shown, strict=True)):
            raise ProtocolViolation(f"{ring[-1]} does not withhold what it was told to")
        withheld = shown
    else:
        withheld = yield from _agree(table, withheld, ring)
    yield from _add_own(context, table, part, withheld)
    return Outcome(None)


def _agree(
    table: Table, withheld: tuple[bool, ...], ring: tuple[str, ...]
) -> Steps[tuple[bool, ...]]:
    """Withhold what else has to be, and tell the other providers; Withheld if nothing is left."""
    pattern = protected(withheld, len(table.groups), table.columns)
    verdict = WITHHELD if all(pattern) else released(bytes(pattern))
    for provider in ring[:-1]:
        yield from send(provider, "pattern", verdict)
    if verdict == WITHHELD:
        yield from send(CONSUMER, "result", WITHHELD)
        raise Withheld(MIN_COHORT)
    return pattern


def _add_own(
    context: RoleContext, table: Table, part: Part, withheld: Sequence[bool]
) -> Steps[None]:
    """Add this provider's sums of the cells shown; the last one sends them to the consumer.

    The own ciphertexts carry fresh randomness, so nothing that leaves here can be traced to what
    came in.
    """
    public_key, ring = context.public_key(), context.providers
    place = ring.index(context.role)
    packing = packing_of(table, public_key)
    shown = [m for m, hidden in zip(part.moments, withheld, strict=True) if not hidden]
    totals = public_key.encrypt_all(packing.pack(shown), context.random_bytes)
    if place > 0:
        limit = len(totals) * public_key.ciphertext_bytes
        payload = yield from receive(ring[place - 1], "totals", limit)
        before = _parse_ciphertexts(public_key, payload, ring[place - 1], len(totals))
        totals = list(map(public_key.add, totals, before))
    encoded = b"".join(map(public_key.encode, totals))
    if place < len(ring) - 1:
        yield from send(ring[place + 1], "totals", encoded)
    else:
        yield from send(CONSUMER, "result", released(bytes(withheld) + encoded))


def _consumer(context: RoleContext) -> Role:
    """Decrypt the cells that are shown."""
    table = table_of(context.parameters)
    private_key, last = context.private_key(), context.providers[-1]
    public_key = private_key.public_key
    packing = packing_of(table, public_key)
    most = packing.plaintexts(table.cells) * public_key.ciphertext_bytes
    body = yield from receive_verdict(last, "result", table.cells + most)
    withheld = _parse_pattern(body[: table.cells], last, table)
    shown = [cell for cell, hidden in enumerate(withheld) if not hidden]
    ciphertexts = _parse_ciphertexts(
        public_key, body[table.cells :], last, packing.plaintexts(len(shown))
    )
    plaintexts = []
    for ciphertext in ciphertexts:
        plaintexts.append(private_key.decrypt(ciphertext))
        yield Progress(done=1, total=len(ciphertexts))
    try:
        totals = packing.unpack(plaintexts, len(shown), len(context.providers))
    except InputRejected as err:
        raise ProtocolViolation(f"{last} sent totals that were not packed as agreed") from err
    for total in totals:
        _verify_possible(table, total, context)
    return Outcome(released_totals(table, dict(zip(shown, totals, strict=True)), withheld))


def _verify_possible(table: Table, total: Sequence[int], context: RoleContext) -> None:
    """Raise ProtocolViolation for a cell that no rows can have, or that had to be withheld."""
    last, parties = context.providers[-1], len(context.providers)
    parameters, count = context.parameters, total[0]
    limits = zip(total, table.limits, strict=True)
    if any(abs(each) > parties * limit for each, limit in limits):
        raise ProtocolViolation(f"{last} sent a total that the declared bounds do not allow")
    if any(each % base for each, base in zip(total, table.bases, strict=True)):
        raise ProtocolViolation(f"{last} sent a total that is not rounded as agreed")
    if parameters.epsilon is not None:
        return
    # Rounding keeps the order, so a cohort that is large enough is still so, rounded likewise.
    if is_small_group(count, rounded(parameters.min_cohort, table.bases[0])):
        raise ProtocolViolation(f"{last} released a cell below the agreed minimum")
    if table.rounding is None:
        _verify_moments(table, total, parties * MAX_ROWS, last)


def _verify_moments(table: Table, total: Sequence[int], max_rows: int, last: str) -> None:
    count = total[0]
    possible = 0 <= count <= max_rows and all(
        abs(each) <= bound * count for each, bound in zip(total, table.bounds, strict=True)
    )
    # The square of a sum is at most the count times the sum of squares (Cauchy and Schwarz).
    if not possible or (len(total) == 3 and total[1] ** 2 > count * total[2]):
        raise ProtocolViolation(f"{last} sent a total that no rows can have")


def _start(context: RoleContext) -> Role:
    return _consumer(context) if context.role == CONSUMER else _provider(context)


def _verify_settings(parameters: Parameters) -> None:
    table = table_of(parameters)
    if parameters.epsilon is None:
        return
    verify_epsilon(parameters.epsilon)
    verify_epsilon(share_of(parameters.epsilon, table.moments))
    if table.moments > 1 and table.value_bits is None:
        raise InputRejected(
            "parameters: noise grows with the bound of the values, so an order with an epsilon is "
            "to declare valueBits"
        )


def _parts(inputs: Mapping[str, Inputs], table: Table, parameters: Parameters) -> Iterator[Part]:
    for party, rows in inputs.items():
        if party != CONSUMER:
            yield part_of(table, tally_of(table, rows.batches()), parameters)


def _in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    table = table_of(parameters)
    parts = list(_parts(inputs, table, parameters))
    withheld = protected(
        [any(flags) for flags in zip(*(part.withheld for part in parts), strict=True)],
        len(table.groups),
        table.columns,
    )
    if all(withheld):
        raise Withheld(MIN_COHORT)
    totals = {
        cell: tuple(map(sum, zip(*(part.moments[cell] for part in parts), strict=True)))
        for cell, hidden in enumerate(withheld)
        if not hidden
    }
    return released_totals(table, totals, withheld)


TOTALS = Kind(
    name="aggregate/2",
    title="Tables of totals over several providers, without any provider's own part",
    title_zh="多个提供方合计的统计表,不泄露任何一方的部分",
    leakage={
        "provider": "Which cells are withheld in the end, and which of them by the providers "
        "before it in the ring, for the second one so by the first, but no number. Each provider "
        "withholds its own cells below the minimum cohort, counted in rows; with noise it goes by "
        "its noisy count and withholds cells in which it has no rows too. The last provider then "
        "withholds further cells, so that none of these can be computed from true margins. If the "
        "neighbours of a provider in the ring share what they have with the consumer, they learn "
        "its part, with its own noise where the order has an epsilon.",
        CONSUMER: "Number of rows, and as the order asks sum, mean and variance, of each cell that "
        "is shown, over all providers together, and which cells are withheld, but not by whom or "
        "why. No margins are told. Where only one provider has rows in a cell, the total is its "
        "own; a provider that shares its part with the consumer lets it subtract that part, so "
        "with two providers it learns the other's; and what a provider received in the ring the "
        "consumer can decrypt if it is given it. Two orders with different bins can differ in a "
        "single row: only an epsilon bounds what that tells of one row. The noise is then in the "
        "parts before they leave, one for each provider.",
    },
    result={
        "provider": "nothing",
        CONSUMER: '{"cells": [{"group": g, "across": a | "from": e, "below": e, "count": n, '
        '"sum": "12.50", "mean": "…", "variance": "…"}, …], "withheld": [{"group": g, …}, …]}; '
        "sum, mean and (sample) variance are decimal numbers as text, null where there are too "
        "few rows",
    },
    columns={"provider": ("group", "value"), CONSUMER: ()},
    optional={"provider": ("across",)},
    providers=(2, MAX_PROVIDERS),
    needs_key=True,
    max_rows=MAX_ROWS,
    party_names=lambda providers: tuple(f"provider-{i}" for i in range(1, providers + 1)),
    start_role=_start,
    compute_in_clear=_in_clear,
    settings=SETTINGS,
    check_settings=_verify_settings,
    adds_noise=True,
)
