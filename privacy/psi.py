"""Private set intersection of two parties, and its size alone for a third.

Both protocols mask identifiers on a curve (`privacy.masking`) and hold for semi-honest parties:
those who follow the protocol and look at everything they are sent. Source of the scheme: Huberman,
Franklin, Hogg 1999; of its size by destroying the order: De Cristofaro, Gasti, Tsudik 2012.
"""

from collections.abc import Mapping, Sequence

from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
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
from privacy.role import JsonValue, Outcome, Role, Steps, receive, send
from privacy.wire import (
    NUMBER_BYTES,
    encode_number,
    encode_points,
    limit_of_points,
    parse_number,
    parse_point_set,
    parse_points,
)

LEFT, RIGHT, SENDER = "left", "right", "sender"
# The identifiers of one run. Larger sets are split by hash into several runs.
MAX_IDENTIFIERS = 1_000_000


def masked_set(key: MaskingKey, identifiers: Sequence[str]) -> dict[bytes, str]:
    """Mask the distinct `identifiers` and return masked point to identifier, in ascending order."""
    distinct = list(dict.fromkeys(identifiers))
    return dict(sorted(zip(key.mask(distinct), distinct, strict=True)))


def parse_masked_set(payload: bytes, sender: str, own: Mapping[bytes, object]) -> list[bytes]:
    """Read the masked set of `sender`: in ascending order, none of it our `own`."""
    points = parse_point_set(payload, sender)
    verify_not_copied(points, own, sender)
    return points


def receive_masked_set(sender: str, own: Mapping[bytes, object]) -> Steps[list[bytes]]:
    """Receive and read the masked set of `sender`."""
    payload = yield from receive(sender, "masked", limit_of_points(MAX_IDENTIFIERS))
    return parse_masked_set(payload, sender, own)


# --- psi-cardinality/1 ----------------------------------------------------------------------------
# Both providers mask and raise at the same time: each sends its masked set before it waits.


def _cardinality_left(context: RoleContext) -> Role:
    """Compare both sets under both keys, apply the cohort, tell the consumer the count."""
    key = MaskingKey.generate(context.random_bytes)
    mine = masked_set(key, context.inputs.identifiers)
    yield from send(RIGHT, "masked", encode_points(list(mine)))
    theirs = yield from receive_masked_set(RIGHT, mine)
    theirs_raised = set(key.raise_points(theirs, RIGHT))
    try:
        body = yield from receive_verdict(RIGHT, "raised", limit_of_points(len(mine)))
    except Withheld:
        yield from send(CONSUMER, "result", WITHHELD)
        raise
    mine_raised = parse_point_set(body, RIGHT, expected=len(mine))
    count = len(theirs_raised.intersection(mine_raised))
    yield from withhold_below(
        count, context.parameters.min_cohort, tell={CONSUMER: "result", RIGHT: "verdict"}
    )
    yield from send(CONSUMER, "result", released(encode_number(count)))
    yield from send(RIGHT, "verdict", released())
    return Outcome({"count": count})


def _cardinality_right(context: RoleContext) -> Role:
    """Mask the own set, raise the other one and destroy its order."""
    key = MaskingKey.generate(context.random_bytes)
    mine = masked_set(key, context.inputs.identifiers)
    yield from send(LEFT, "masked", encode_points(list(mine)))
    yield from raise_for_left(key, mine, context.parameters.min_cohort)
    yield from receive_verdict(LEFT, "verdict", 0)
    return Outcome(None)


def raise_for_left(key: MaskingKey, own: Mapping[bytes, object], min_cohort: int) -> Steps[None]:
    """Receive the masked set of left and return it raised to `key`, the order destroyed.

    A set too small for any cohort to come out is refused: that stops the plainest probe, a set of
    one, and says no more than left knows, the size of its own set.
    """
    points = yield from receive_masked_set(LEFT, own)
    yield from withhold_below(len(points), min_cohort, tell={LEFT: "raised"})
    raised = sorted(key.raise_points(points, LEFT))
    yield from send(LEFT, "raised", released(encode_points(raised)))


def _cardinality_consumer(context: RoleContext) -> Role:
    body = yield from receive_verdict(LEFT, "result", NUMBER_BYTES)
    count = parse_number(body, LEFT)
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(f"{LEFT} sent a count above the {MAX_IDENTIFIERS} of one run")
    verify_released_cohort(count, context.parameters.min_cohort, LEFT)
    return Outcome({"count": count})


def _start_cardinality(context: RoleContext) -> Role:
    starts = {
        LEFT: _cardinality_left,
        RIGHT: _cardinality_right,
        CONSUMER: _cardinality_consumer,
    }
    return starts[context.role](context)


def _cardinality_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    common = set(inputs[LEFT].identifiers) & set(inputs[RIGHT].identifiers)
    verify_cohort(len(common), parameters.min_cohort)
    return {"count": len(common)}


CARDINALITY = Kind(
    name="psi-cardinality/1",
    title="How many people or things two providers have in common",
    title_zh="两个提供方共有多少人或物(只得数量)",
    leakage={
        LEFT: "The number of distinct identifiers of right and how many are common, even when that "
        "is withheld, but not which; left applies the minimum cohort before the consumer learns "
        "the count, so right relies on left for it.",
        RIGHT: "The number of distinct identifiers of left and whether the count was released; "
        "right refuses a set of left that is too small to reach the minimum cohort.",
        CONSUMER: "The count, or only that it was withheld, and never an identifier, masked or "
        "not; together with left it learns no more than left does.",
    },
    result={LEFT: '{"count": n}', RIGHT: "nothing", CONSUMER: '{"count": n}'},
    columns={LEFT: ("identifier",), RIGHT: ("identifier",), CONSUMER: ()},
    providers=(2, 2),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (LEFT, RIGHT),
    start_role=_start_cardinality,
    compute_in_clear=_cardinality_in_clear,
)


# --- psi/1 ----------------------------------------------------------------------------------------
# The consumer is the receiver, and the sender must gate a result that only the consumer can read.
# So the sender learns the size, before it discloses anything:
#
#   1. consumer -> sender   its masked set. It commits to the set here.
#   2. sender -> consumer   its own masked set.
#   3. consumer -> sender   the set of 2 raised to the consumer's key, the order destroyed.
#   4. sender -> consumer   the set of 1 raised to the sender's key, in its order; or "withheld".
#
# The sender compares 3 with what it will send in 4 and has the size. The cost is that of ordinary
# ECDH-PSI: every element is masked once and raised once.
#
# What holds against a receiver that does not follow the protocol. It cannot skip the check: without
# frame 4 it knows no element of its set under the sender's key (computational Diffie-Hellman), so
# frame 2 stays unreadable. It cannot raise the size in frame 3 by invented or repeated points: they
# would have to equal elements of 4, which it has not seen, and repetitions are refused. Nor does
# padding frame 1 with strangers help, as only matches count. What remains: it may put one person in
# frame 1 under k different keys and raise a k-th part of frame 2 under each; if that person is in
# the sender's set, it reaches a cohort of k with probability 1/k and else is withheld. Excluding
# this needs a proof that one key was used throughout, which the curve library cannot give. And it
# may always fill its set with k - 1 persons it knows to be in the sender's. Against both there are
# query budgets and the evidence of every run, not this protocol.


def _intersection_sender(context: RoleContext) -> Role:
    """Raise the consumer's set, compare, apply the cohort, and only then disclose."""
    min_cohort = context.parameters.min_cohort
    key = MaskingKey.generate(context.random_bytes)
    mine = masked_set(key, context.inputs.identifiers)
    theirs = yield from receive_masked_set(CONSUMER, mine)
    yield from withhold_below(len(theirs), min_cohort, tell={CONSUMER: "masked"})
    yield from send(CONSUMER, "masked", released(encode_points(list(mine))))
    theirs_raised = key.raise_points(theirs, CONSUMER)
    payload = yield from receive(CONSUMER, "raised", limit_of_points(len(mine)))
    mine_raised = parse_point_set(payload, CONSUMER, expected=len(mine))
    count = len(set(theirs_raised).intersection(mine_raised))
    yield from withhold_below(count, min_cohort, tell={CONSUMER: "result"})
    yield from send(CONSUMER, "result", released(encode_points(theirs_raised)))
    return Outcome({"count": count})


def _intersection_consumer(context: RoleContext) -> Role:
    """Commit to the own set, raise the other one, and read the intersection once it is released."""
    key = MaskingKey.generate(context.random_bytes)
    mine = masked_set(key, context.inputs.identifiers)
    yield from send(SENDER, "masked", encode_points(list(mine)))
    body = yield from receive_verdict(SENDER, "masked", limit_of_points(MAX_IDENTIFIERS))
    theirs = parse_masked_set(body, SENDER, mine)
    theirs_raised = sorted(key.raise_points(theirs, SENDER))
    yield from send(SENDER, "raised", encode_points(theirs_raised))
    body = yield from receive_verdict(SENDER, "result", limit_of_points(len(mine)))
    mine_raised = parse_points(body, SENDER, expected=len(mine))
    common = set(theirs_raised).intersection(mine_raised)
    verify_released_cohort(len(common), context.parameters.min_cohort, SENDER)
    identifiers = sorted(
        identifier
        for identifier, point in zip(mine.values(), mine_raised, strict=True)
        if point in common
    )
    return Outcome({"count": len(identifiers), "identifiers": identifiers})


def _start_intersection(context: RoleContext) -> Role:
    starts = {SENDER: _intersection_sender, CONSUMER: _intersection_consumer}
    return starts[context.role](context)


def _intersection_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    common = set(inputs[SENDER].identifiers) & set(inputs[CONSUMER].identifiers)
    verify_cohort(len(common), parameters.min_cohort)
    return {"count": len(common), "identifiers": sorted(common)}


INTERSECTION = Kind(
    name="psi/1",
    title="Which of the consumer's own people or things the provider knows too",
    title_zh="消费方自有名单中,提供方也有的人或物",
    leakage={
        SENDER: "The number of distinct identifiers of the consumer and how many are common, but "
        "not which; the sender applies the minimum cohort before its last frame.",
        CONSUMER: "Which of its own identifiers the sender has too, and the number of distinct "
        "identifiers of the sender; if withheld, that number alone, or nothing if its own set was "
        "too small. It may bring identifiers that it only guessed, so the cohort limits probing "
        "and does not exclude it.",
    },
    result={SENDER: '{"count": n}', CONSUMER: '{"count": n, "identifiers": [sorted]}'},
    columns={SENDER: ("identifier",), CONSUMER: ("identifier",)},
    providers=(1, 1),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (SENDER,),
    start_role=_start_intersection,
    compute_in_clear=_intersection_in_clear,
)
