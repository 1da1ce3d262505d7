"""Totals by group over 2 to 16 providers, of which the consumer sees no single part.

The providers form a ring. The first encrypts, under the consumer's key, one ciphertext a group that
holds its sum and its count side by side; every other one adds its own and passes on; the last sends
to the consumer what may be shown. Only the consumer can decrypt, and it is sent only the end.

A group in which a provider has rows, but fewer than the minimum cohort, is withheld by that
provider. Its ciphertext is then replaced by an encryption of nothing, so that even what the
providers before put in is gone from the ring. Source: additive homomorphic aggregation is Paillier
1999; the packing of sum and count is `privacy.paillier.pack`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from privacy.computation import CONSUMER, VALUE_BOUND, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import (
    MIN_COHORT,
    WITHHELD,
    is_small_group,
    receive_verdict,
    released,
)
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.paillier import Ciphertext, PublicKey, pack, unpack
from privacy.role import JsonValue, Outcome, Role, receive, send

MAX_PROVIDERS = 16
# The rows of one provider.
MAX_ROWS = 10_000_000
# Two slots a plaintext: the count in the lower one, the sum in the upper one. With 4 guard bits for
# 16 addends a slot holds values below 2^124, and 2^63 * 10^7 rows stay below 2^87.
SLOT_BITS = 128
# A sum may be negative and a slot may not, so every provider adds this much and the consumer takes
# it away as often as there are providers.
SUM_OFFSET = 1 << 100


@dataclass(frozen=True)
class Total:
    """Sum and number of the rows of one group."""

    sum: int = 0
    count: int = 0


@dataclass(frozen=True)
class _Account:
    """What goes round: for each public group whether it is withheld, and its ciphertext."""

    withheld: tuple[bool, ...]
    ciphertexts: tuple[Ciphertext, ...]


def totals_by_group(inputs: Inputs, groups: Sequence[str]) -> list[Total]:
    """Add up the rows of one provider, one total for each of the public `groups`."""
    sums = dict.fromkeys(groups, 0)
    counts = dict.fromkeys(groups, 0)
    for group, value in zip(inputs.groups, inputs.values, strict=True):
        sums[group] += value
        counts[group] += 1
    return [Total(sums[group], counts[group]) for group in groups]


def _encode_flags(flags: Sequence[bool]) -> bytes:
    return bytes(flags)


def _parse_flags(encoded: bytes, sender: str, groups: int) -> tuple[bool, ...]:
    if len(encoded) != groups or any(flag > 1 for flag in encoded):
        raise ProtocolViolation(f"{sender} sent no list of {groups} flags, each 0 or 1")
    return tuple(flag == 1 for flag in encoded)


def _parse_ciphertexts(
    public_key: PublicKey, encoded: bytes, sender: str, expected: int
) -> tuple[Ciphertext, ...]:
    width = public_key.ciphertext_bytes
    if len(encoded) != expected * width:
        raise ProtocolViolation(
            f"{sender} sent {len(encoded)} bytes, {expected} ciphertexts of {width} expected"
        )
    return tuple(
        public_key.parse_ciphertext(encoded[i : i + width], sender)
        for i in range(0, len(encoded), width)
    )


def _parse_account(public_key: PublicKey, payload: bytes, sender: str, groups: int) -> _Account:
    return _Account(
        _parse_flags(payload[:groups], sender, groups),
        _parse_ciphertexts(public_key, payload[groups:], sender, groups),
    )


def _encode_account(public_key: PublicKey, account: _Account) -> bytes:
    return _encode_flags(account.withheld) + b"".join(map(public_key.encode, account.ciphertexts))


def _contribute(context: RoleContext, public_key: PublicKey, before: _Account | None) -> _Account:
    """Add this provider's totals to what came round, withholding its own small groups.

    The provider's own ciphertexts carry fresh randomness, so that nothing that leaves here can be
    traced to what came in.
    """
    parameters = context.parameters
    totals = totals_by_group(context.inputs, parameters.groups)
    withheld = [is_small_group(total.count, parameters.min_cohort) for total in totals]
    if before is not None:
        withheld = [mine or theirs for mine, theirs in zip(withheld, before.withheld, strict=True)]
    shown = [Total() if hidden else t for hidden, t in zip(withheld, totals, strict=True)]
    own = public_key.encrypt_all(
        [pack((t.count, t.sum + SUM_OFFSET), SLOT_BITS, addends=MAX_PROVIDERS) for t in shown],
        context.random_bytes,
    )
    if before is None:
        return _Account(tuple(withheld), tuple(own))
    together = [
        mine if hidden else public_key.add(mine, theirs)
        for hidden, mine, theirs in zip(withheld, own, before.ciphertexts, strict=True)
    ]
    return _Account(tuple(withheld), tuple(together))


def _provider(context: RoleContext) -> Role:
    """Receive from the provider before, add, pass on; the last one discloses what may be shown."""
    public_key = context.public_key()
    groups = len(context.parameters.groups)
    ring = context.providers
    place = ring.index(context.role)
    before = None
    if place > 0:
        limit = groups * (1 + public_key.ciphertext_bytes)
        payload = yield from receive(ring[place - 1], "totals", limit)
        before = _parse_account(public_key, payload, ring[place - 1], groups)
    account = _contribute(context, public_key, before)
    if place < len(ring) - 1:
        yield from send(ring[place + 1], "totals", _encode_account(public_key, account))
        yield from receive_verdict(ring[-1], "verdict", 0)
        return Outcome(None)
    result, verdict = _disclose(public_key, account)
    yield from send(CONSUMER, "result", result)
    for provider in ring[:-1]:
        yield from send(provider, "verdict", verdict)
    if verdict == WITHHELD:
        raise Withheld(MIN_COHORT)
    return Outcome(None)


def _disclose(public_key: PublicKey, account: _Account) -> tuple[bytes, bytes]:
    """Return the frames for the consumer and for the other providers."""
    if all(account.withheld):
        return WITHHELD, WITHHELD
    shown = b"".join(
        public_key.encode(ciphertext)
        for hidden, ciphertext in zip(account.withheld, account.ciphertexts, strict=True)
        if not hidden
    )
    return released(_encode_flags(account.withheld) + shown), released()


def _consumer(context: RoleContext) -> Role:
    """Decrypt the totals of the groups that are shown."""
    private_key = context.private_key()
    public_key = private_key.public_key
    groups = context.parameters.groups
    last = context.providers[-1]
    body = yield from receive_verdict(
        last, "result", len(groups) * (1 + public_key.ciphertext_bytes)
    )
    withheld = _parse_flags(body[: len(groups)], last, len(groups))
    shown = [group for group, hidden in zip(groups, withheld, strict=True) if not hidden]
    if not shown:
        raise ProtocolViolation(f"{last} released a result in which every group is withheld")
    ciphertexts = _parse_ciphertexts(public_key, body[len(groups) :], last, len(shown))
    totals = {
        group: _read_total(private_key.decrypt(ciphertext), context, group)
        for group, ciphertext in zip(shown, ciphertexts, strict=True)
    }
    hidden_groups = [group for group, hidden in zip(groups, withheld, strict=True) if hidden]
    return Outcome(_as_json(totals, hidden_groups))


def _read_total(packed: int, context: RoleContext, group: str) -> Total:
    """Unpack and check one total: impossible numbers or a cohort too small are a violation."""
    last = context.providers[-1]
    try:
        count, shifted = unpack(packed, SLOT_BITS, 2)
    except InputRejected as err:
        raise ProtocolViolation(f"{last} sent no packed total for group {group!r}") from err
    total = Total(shifted - SUM_OFFSET * len(context.providers), count)
    if count > MAX_ROWS * len(context.providers) or abs(total.sum) > VALUE_BOUND * count:
        raise ProtocolViolation(f"{last} sent a total for group {group!r} that no rows can have")
    if is_small_group(count, context.parameters.min_cohort):
        raise ProtocolViolation(f"{last} released group {group!r} below the agreed minimum")
    return total


def _as_json(totals: Mapping[str, Total], withheld: Sequence[str]) -> JsonValue:
    return {
        "groups": {group: {"sum": t.sum, "count": t.count} for group, t in totals.items()},
        "withheld": list(withheld),
    }


def _start(context: RoleContext) -> Role:
    return _consumer(context) if context.role == CONSUMER else _provider(context)


def _in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    parts = [
        dict(zip(parameters.groups, totals_by_group(rows, parameters.groups), strict=True))
        for party, rows in inputs.items()
        if party != CONSUMER
    ]
    withheld = [
        group
        for group in parameters.groups
        if any(is_small_group(part[group].count, parameters.min_cohort) for part in parts)
    ]
    if len(withheld) == len(parameters.groups):
        raise Withheld(MIN_COHORT)
    totals = {
        group: Total(sum(p[group].sum for p in parts), sum(p[group].count for p in parts))
        for group in parameters.groups
        if group not in withheld
    }
    return _as_json(totals, withheld)


AGGREGATE = Kind(
    name="aggregate/1",
    title="Totals by group over several providers, without any provider's own part",
    title_zh="多个提供方按组合计的总数,不泄露任何一方的部分",
    leakage={
        "provider": "Which groups were withheld by the providers before it in the ring, for the "
        "second one so by the first, and whether anything was released, but no number. Each "
        "provider withholds its own groups below the minimum cohort, counted in rows, and the last "
        "one leaves them out of the result. If the neighbours of a provider in the ring share "
        "what they have with the consumer, they learn its part.",
        CONSUMER: "Sum and number of rows of each group that is shown, over all providers "
        "together, and which groups were withheld, but not by whom. Where only one provider has "
        "rows in a group, the total is its own; a provider that shares its part with the consumer "
        "lets it subtract that part, so with two providers it learns the other's; and what a "
        "provider received in the ring the consumer can decrypt if it is given it.",
    },
    result={
        "provider": "nothing",
        CONSUMER: '{"groups": {g: {"sum": s, "count": n}}, "withheld": [g, …]}',
    },
    columns={"provider": ("group", "value"), CONSUMER: ()},
    providers=(2, MAX_PROVIDERS),
    needs_key=True,
    max_rows=MAX_ROWS,
    party_names=lambda providers: tuple(f"provider-{i}" for i in range(1, providers + 1)),
    start_role=_start,
    compute_in_clear=_in_clear,
)
