"""The sum of a value over the people two providers have in common, for a third party.

Source: Ion et al., "On Deploying Secure Computing: Private Intersection-Sum-with-Cardinality",
EuroS&P 2020 (ePrint 2019/723), section 4, with one change: the values are encrypted under the key
of the consumer, so that the provider who adds them up cannot read the sum and the consumer, who
can, never sees an identifier.

    1. left -> right       left's masked identifiers
    2. right -> left       pairs (right's masked identifier, encrypted value)
    3. right -> left       the points of 1 raised to right's key, the order destroyed
    4. left -> consumer    count and product of the ciphertexts in common, re-randomised
    5. left -> right       whether it was released
"""

from collections.abc import Mapping, Sequence

from privacy.computation import (
    CONSUMER,
    VALUE_BOUND,
    Inputs,
    Kind,
    Parameters,
    RoleContext,
)
from privacy.disclosure import (
    WITHHELD,
    receive_verdict,
    released,
    verify_cohort,
    verify_released_cohort,
    withhold_below,
)
from privacy.errors import ProtocolViolation, Withheld
from privacy.masking import MaskingKey, verify_not_copied
from privacy.paillier import Ciphertext, PublicKey
from privacy.psi import LEFT, RIGHT, masked_set, parse_masked_set
from privacy.role import JsonValue, Outcome, Role, receive, send
from privacy.wire import (
    COUNT_BYTES,
    NUMBER_BYTES,
    POINT_BYTES,
    encode_number,
    encode_points,
    limit_of_points,
    parse_number,
    parse_point_set,
    parse_records,
    verify_ascending,
)

# The rows of one provider: with a 2048-bit key the pairs then take 109 MB.
MAX_ROWS = 200_000
# No honest sum is greater, as every row is bounded and several rows of one identifier are added.
SUM_BOUND = VALUE_BOUND * MAX_ROWS


def totals_by_identifier(identifiers: Sequence[str], values: Sequence[int]) -> dict[str, int]:
    """Add up the values of every identifier."""
    totals: dict[str, int] = {}
    for identifier, value in zip(identifiers, values, strict=True):
        totals[identifier] = totals.get(identifier, 0) + value
    return totals


def _encode_pairs(public_key: PublicKey, pairs: Mapping[bytes, Ciphertext]) -> bytes:
    """Write point and ciphertext of every pair, after their number."""
    records = [point + public_key.encode(ciphertext) for point, ciphertext in pairs.items()]
    return len(records).to_bytes(COUNT_BYTES, "big") + b"".join(records)


def _parse_pairs(
    public_key: PublicKey, payload: bytes, own: Mapping[bytes, object]
) -> dict[bytes, Ciphertext]:
    """Read what `_encode_pairs` wrote, in ascending order of the points, none of them our `own`."""
    records = parse_records(payload, POINT_BYTES + public_key.ciphertext_bytes, RIGHT)
    points = [record[:POINT_BYTES] for record in records]
    verify_ascending(points, RIGHT)
    verify_not_copied(points, own, RIGHT)
    return {
        record[:POINT_BYTES]: public_key.parse_ciphertext(record[POINT_BYTES:], RIGHT)
        for record in records
    }


def _left(context: RoleContext) -> Role:
    """Find the pairs in common, apply the cohort, add their ciphertexts up for the consumer."""
    public_key = context.public_key()
    key = MaskingKey.generate(context.random_bytes)
    mine = masked_set(key, context.inputs.identifiers)
    yield from send(RIGHT, "masked", encode_points(list(mine)))
    try:
        pairs_limit = COUNT_BYTES + MAX_ROWS * (POINT_BYTES + public_key.ciphertext_bytes)
        body = yield from receive_verdict(RIGHT, "pairs", pairs_limit)
    except Withheld:
        yield from send(CONSUMER, "result", WITHHELD)
        raise
    pairs = _parse_pairs(public_key, body, mine)
    theirs_raised = key.raise_points(list(pairs), RIGHT)
    payload = yield from receive(RIGHT, "raised", limit_of_points(len(mine)))
    mine_raised = set(parse_point_set(payload, RIGHT, expected=len(mine)))
    common = [
        ciphertext
        for point, ciphertext in zip(theirs_raised, pairs.values(), strict=True)
        if point in mine_raised
    ]
    yield from withhold_below(
        len(common), context.parameters.min_cohort, tell={CONSUMER: "result", RIGHT: "verdict"}
    )
    total = public_key.rerandomise(public_key.add_all(common), context.random_bytes)
    body = encode_number(len(common)) + public_key.encode(total)
    yield from send(CONSUMER, "result", released(body))
    yield from send(RIGHT, "verdict", released())
    return Outcome({"count": len(common)})


def _right(context: RoleContext) -> Role:
    """Encrypt the total of every identifier; raise left's set and destroy its order."""
    public_key = context.public_key()
    key = MaskingKey.generate(context.random_bytes)
    totals = totals_by_identifier(context.inputs.identifiers, context.inputs.values)
    mine = masked_set(key, list(totals))
    ciphertexts = public_key.encrypt_all(
        [totals[identifier] for identifier in mine.values()], context.random_bytes
    )
    pairs = dict(zip(mine, ciphertexts, strict=True))
    payload = yield from receive(LEFT, "masked", limit_of_points(MAX_ROWS))
    theirs = parse_masked_set(payload, LEFT, mine)
    # A set too small for any cohort to come out is refused before left gets anything.
    yield from withhold_below(len(theirs), context.parameters.min_cohort, tell={LEFT: "pairs"})
    yield from send(LEFT, "pairs", released(_encode_pairs(public_key, pairs)))
    raised = sorted(key.raise_points(theirs, LEFT))
    yield from send(LEFT, "raised", encode_points(raised))
    yield from receive_verdict(LEFT, "verdict", 0)
    return Outcome(None)


def _consumer(context: RoleContext) -> Role:
    """Decrypt the sum."""
    private_key = context.private_key()
    public_key = private_key.public_key
    body = yield from receive_verdict(LEFT, "result", NUMBER_BYTES + public_key.ciphertext_bytes)
    count = parse_number(body[:NUMBER_BYTES], LEFT)
    total = private_key.decrypt(public_key.parse_ciphertext(body[NUMBER_BYTES:], LEFT))
    if count > MAX_ROWS or abs(total) > SUM_BOUND or (count == 0 and total != 0):
        raise ProtocolViolation(f"{LEFT} sent a count and a sum that no rows can have")
    verify_released_cohort(count, context.parameters.min_cohort, LEFT)
    return Outcome({"sum": total, "count": count})


def _start(context: RoleContext) -> Role:
    return {LEFT: _left, RIGHT: _right, CONSUMER: _consumer}[context.role](context)


def _in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    totals = totals_by_identifier(inputs[RIGHT].identifiers, inputs[RIGHT].values)
    common = totals.keys() & set(inputs[LEFT].identifiers)
    verify_cohort(len(common), parameters.min_cohort)
    return {"sum": sum(totals[identifier] for identifier in common), "count": len(common)}


PRIVATE_SUM = Kind(
    name="private-sum/1",
    title="The total of one provider's value over the people it has in common with another",
    title_zh="两个提供方共有的人或物,其中一方数值的总和",
    leakage={
        LEFT: "The number of distinct identifiers of right and how many are common, even when that "
        "is withheld, but not which, and no value; left applies the minimum cohort before its "
        "last frame. If left and the consumer share what they have, they can decrypt every single "
        "value of right, without knowing whose it is.",
        RIGHT: "The number of distinct identifiers of left and whether the sum was released; right "
        "refuses a set of left that is too small to reach the minimum cohort.",
        CONSUMER: "The sum and the number of people it is over, or only that they were withheld. "
        "If right and the consumer share what they have, right can choose its values so that the "
        "sum tells which of its people are common.",
    },
    result={LEFT: '{"count": n}', RIGHT: "nothing", CONSUMER: '{"sum": s, "count": n}'},
    columns={LEFT: ("identifier",), RIGHT: ("identifier", "value"), CONSUMER: ()},
    providers=(2, 2),
    needs_key=True,
    max_rows=MAX_ROWS,
    party_names=lambda _: (LEFT, RIGHT),
    start_role=_start,
    compute_in_clear=_in_clear,
)
