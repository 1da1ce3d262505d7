"""What three or more sets have in common: how much, or which of the consumer's own.

Both kinds intersect the providers' sets on a ring (`privacy.ring`, after Vaidya and Clifton 2005)
and hold for semi-honest parties. docs/protocols/multi-party-psi.md has the frames, what every party
and every two that collude learn, and what other protocols would cost.
"""

from collections.abc import Mapping, Sequence

from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import (
    receive_verdict,
    released,
    verify_cohort,
    verify_released_cohort,
    withhold_below,
)
from privacy.errors import ProtocolViolation
from privacy.masking import MaskingKey, raise_all, shorten
from privacy.psi import MAX_IDENTIFIERS, parse_masked_set
from privacy.ring import (
    SHORT_BYTES,
    announce_work,
    encode_shortened,
    exchange_sizes,
    mask_sorted,
    read_distinct,
    receive_shortened,
    sieve,
    travel,
)
from privacy.role import JsonValue, Outcome, Progress, Role, Steps, receive, send
from privacy.wire import (
    NUMBER_BYTES,
    encode_bits,
    encode_number,
    encode_points,
    limit_of_bits,
    limit_of_points,
    parse_bits,
    parse_number,
)

# Everyone masks or raises every set once, so the work of each grows with the number of providers.
MAX_PROVIDERS = 8


def _names(providers: int) -> tuple[str, ...]:
    return tuple(f"provider-{number}" for number in range(1, providers + 1))


def _others(context: RoleContext) -> list[str]:
    """All providers but this one."""
    return [provider for provider in context.providers if provider != context.role]


def _gate(context: RoleContext, count: int, result: bytes) -> Steps[None]:
    """Let `result` go to the consumer if `count` reaches the cohort, and tell everyone which."""
    verdicts = dict.fromkeys(_others(context), "verdict")
    yield from withhold_below(
        count, context.parameters.min_cohort, tell={CONSUMER: "result", **verdicts}
    )
    yield from send(CONSUMER, "result", released(result))
    for provider, name in verdicts.items():
        yield from send(provider, name, released())


# --- psi-multi-cardinality/1 ----------------------------------------------------------------------
# The gate is the first provider, with whom the running intersection arrives. It is the only one who
# compares anything that its own set is part of, and so the only one who could learn of one person
# by bringing that person and strangers: no frame shows that a set is made up.


def _cardinality_provider(context: RoleContext) -> Role:
    """Intersect on the ring; the first provider applies the cohort and tells the count."""
    first = context.providers[0]
    own = read_distinct(context)
    tell = {CONSUMER: "result"} if context.role == first else {}
    sizes = yield from exchange_sizes(context, own, context.providers, tell=tell)
    yield from announce_work(sizes)
    key = MaskingKey.generate(context.random_bytes)
    [resting] = (yield from travel(context, key, own, sizes)).values()
    common = yield from sieve(context, resting, sizes)
    if context.role != first:
        yield from receive_verdict(first, "verdict", 0)
        return Outcome(None, own.report())
    yield from _gate(context, len(common), encode_number(len(common)))
    return Outcome({"count": len(common)}, own.report())


def _cardinality_consumer(context: RoleContext) -> Role:
    first = context.providers[0]
    count = parse_number((yield from receive_verdict(first, "result", NUMBER_BYTES)), first)
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(f"{first} sent a count above the {MAX_IDENTIFIERS} of one run")
    verify_released_cohort(count, context.parameters.min_cohort, first)
    return Outcome({"count": count})


def _start_cardinality(context: RoleContext) -> Role:
    if context.role == CONSUMER:
        return _cardinality_consumer(context)
    return _cardinality_provider(context)


def _common(inputs: Mapping[str, Inputs], parties: Sequence[str], min_cohort: int) -> set[str]:
    """What all of `parties` have, in the clear; Withheld below the cohort."""
    common = set.intersection(*(set(inputs[party].identifiers) for party in parties))
    verify_cohort(len(common), min_cohort)
    return common


def _cardinality_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    providers = [party for party in inputs if party != CONSUMER]
    return {"count": len(_common(inputs, providers, parameters.min_cohort))}


MULTI_CARDINALITY = Kind(
    name="psi-multi-cardinality/1",
    title="How many people or things three or more providers all have",
    title_zh="三个及以上提供方共有多少人或物(只得数量)",
    leakage={
        "provider-1": "The number of distinct identifiers of every other provider, and how many "
        "all providers have in common, even when that is withheld, but not which; provider-1 "
        "applies the minimum cohort before the consumer learns the count, so the others rely on it "
        "for that.",
        "provider-2": "The number of distinct identifiers of every other provider and whether the "
        "count was released.",
        "provider": "The number of distinct identifiers of every other provider, whether the count "
        "was released, and one size that no cohort holds back: provider-3 how many identifiers "
        "provider-1 and provider-2 have in common, provider-4 how many 1 to 3 have, and so on; but "
        "not which. Two providers that share what they have learn such sizes of more selections "
        "of the sets.",
        CONSUMER: "The count, or only that it was withheld, and never an identifier, masked or "
        "not; together with any providers it learns no more than they do.",
    },
    result={"provider-1": '{"count": n}', "provider": "nothing", CONSUMER: '{"count": n}'},
    columns={"provider": ("identifier",), CONSUMER: ()},
    providers=(3, MAX_PROVIDERS),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=_names,
    start_role=_start_cardinality,
    compute_in_clear=_cardinality_in_clear,
)


# --- psi-multi/1 ----------------------------------------------------------------------------------
# The providers act as one sender of `psi/1`, whose set is what they have in common, whose key is
# the product of theirs, and whose gate is the second provider:
#
#   1. everyone -> every provider       size
#   2. provider-1 -> consumer           begin, or "withheld" if a set is below the cohort
#   3. consumer -> provider-1           its masked set. It commits to the set here. The set goes the
#                                       way of the first provider's, keeps its order, and rests with
#                                       provider-2 under all keys.
#      meanwhile the ring; the running intersection arrives at provider-1
#   4. provider-1 -> consumer           common: the intersection, filled up with strangers
#   5. consumer -> provider-2           the points of 4 raised to the consumer's key, shortened, the
#                                       order destroyed
#   6. provider-2 -> consumer           for each point of 3 whether it is among those of 5; or
#                                       "withheld"
#
# The first provider puts a second key, the seal, on the consumer's set and on frame 4. Without it
# the consumer and any one provider could together compare the set of 3, in its order, with the
# first provider's on the way and with all that rests: it would be under the same keys but for the
# consumer's own. With it, only frame 5 is.
#
# The strangers of 4 are other points of the set that rests with the first provider, raised to a key
# that nobody else uses: as many points are raised as there is room for, whatever the intersection,
# so that the time this takes does not tell its size.
#
# Against a consumer that does not follow the protocol holds what holds for `psi/1`. It cannot skip
# the check, as frame 6 is all it ever learns. Invented or repeated points in 5 do not raise the
# count. It can put one person in 3 under k keys, raise a k-th part of 4 under each, and reach a
# cohort of k with probability 1/k; and it can fill its set with k - 1 persons it knows to be common
# to all. Of the providers only the first and the second compare what their own set is part of.


def _intersection_provider(context: RoleContext) -> Role:
    """Intersect on the ring, the consumer's set under way with the first provider's."""
    first, second = context.providers[:2]
    own = read_distinct(context)
    is_first = context.role == first
    tell = {CONSUMER: "begin"} if is_first else {}
    owners = (*context.providers, CONSUMER)
    sizes = yield from exchange_sizes(context, own, owners, tell=tell)
    room = min(sizes[provider] for provider in context.providers)
    key = MaskingKey.generate(context.random_bytes)
    seal = MaskingKey.generate(context.random_bytes) if is_first else None
    yield from announce_work(sizes, more=sizes[CONSUMER] + room if is_first else 0)
    if is_first:
        yield from send(CONSUMER, "begin", released())
    resting = yield from travel(context, key, own, sizes, seal=seal)
    of_consumer = resting.pop(CONSUMER, [])
    [of_before] = resting.values()
    common = yield from sieve(context, of_before, sizes)
    if seal is not None:
        yield from _send_sealed(context, seal, common, of_before, room)
    if context.role != second:
        yield from receive_verdict(second, "verdict", 0)
        return Outcome(None, own.report())
    theirs = yield from receive_shortened(CONSUMER, "raised", room)
    found = [shorten(point, SHORT_BYTES) in theirs for point in of_consumer]
    yield from _gate(context, sum(found), encode_bits(found))
    return Outcome({"count": sum(found)}, own.report())


def _send_sealed(
    context: RoleContext,
    seal: MaskingKey,
    common: Sequence[bytes],
    resting: Sequence[bytes],
    room: int,
) -> Steps[None]:
    """Send the consumer the points `common` to all providers, sealed, with strangers to `room`."""
    before = context.providers[-1]
    known = set(common)
    strange = [point for point in resting if point not in known][: room - len(common)]
    stray = MaskingKey.generate(context.random_bytes)
    sealed = yield from raise_all(context.workers, seal, common, before)
    strangers = yield from raise_all(context.workers, stray, strange, before)
    yield from send(CONSUMER, "common", encode_points(sorted(sealed + strangers)))


def _intersection_consumer(context: RoleContext) -> Role:
    """Commit to the own set, raise what the providers have in common, and read the flags."""
    first, second = context.providers[:2]
    own = read_distinct(context)
    for provider in context.providers:
        yield from send(provider, "size", encode_number(len(own.identifiers)))
    yield from receive_verdict(first, "begin", 0)
    key = MaskingKey.generate(context.random_bytes)
    mine = yield from mask_sorted(context, key, own.identifiers)
    yield from send(first, f"set-of-{CONSUMER}", encode_points(list(mine)))
    payload = yield from receive(first, "common", limit_of_points(MAX_IDENTIFIERS))
    theirs = parse_masked_set(payload, first, mine)
    yield Progress(total=len(mine) + len(theirs))
    raised = yield from raise_all(context.workers, key, theirs, first)
    yield from send(
        second, "raised", encode_shortened([shorten(point, SHORT_BYTES) for point in raised])
    )
    body = yield from receive_verdict(second, "result", limit_of_bits(len(mine)))
    found = parse_bits(body, second, len(mine))
    if sum(found) > len(theirs):
        raise ProtocolViolation(f"{second} found more common elements than there can be")
    verify_released_cohort(sum(found), context.parameters.min_cohort, second)
    identifiers = sorted(
        identifier for identifier, is_common in zip(mine.values(), found, strict=True) if is_common
    )
    return Outcome({"count": len(identifiers), "identifiers": identifiers}, own.report())


def _start_intersection(context: RoleContext) -> Role:
    if context.role == CONSUMER:
        return _intersection_consumer(context)
    return _intersection_provider(context)


def _intersection_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    common = _common(inputs, list(inputs), parameters.min_cohort)
    return {"count": len(common), "identifiers": sorted(common)}


MULTI_INTERSECTION = Kind(
    name="psi-multi/1",
    title="Which of the consumer's own people or things several providers all know too",
    title_zh="消费方自有名单中,多个提供方都有的人或物",
    leakage={
        "provider-1": "The number of distinct identifiers of the consumer and of every other "
        "provider, whether the result was released, and one size that no cohort holds back: how "
        "many identifiers all providers have in common, but not which.",
        "provider-2": "The number of distinct identifiers of the consumer and of every other "
        "provider, and how many the consumer and all providers have in common, even when that is "
        "withheld, but not which; provider-2 applies the minimum cohort before its last frame.",
        "provider": "The number of distinct identifiers of the consumer and of every other "
        "provider, whether the result was released, and one size that no cohort holds back: "
        "provider-3 how many identifiers provider-1 and provider-2 have in common, provider-4 how "
        "many 1 to 3 have, and so on; but not which. Two providers that share what they have learn "
        "such sizes of more selections of the providers' sets.",
        CONSUMER: "Which of its own identifiers all providers have too, but not which a single one "
        "has, and the size of the smallest provider's set; if withheld, that size alone, or "
        "nothing if a set was too small. It may bring identifiers that it only guessed, so the "
        "cohort limits probing and does not exclude it. Together with provider-2 it learns the "
        "result even when that is withheld; together with provider-1 and another provider it can "
        "learn which of its own identifiers a third one has.",
    },
    result={
        "provider-2": '{"count": n}',
        "provider": "nothing",
        CONSUMER: '{"count": n, "identifiers": [sorted]}',
    },
    columns={"provider": ("identifier",), CONSUMER: ("identifier",)},
    providers=(2, MAX_PROVIDERS - 1),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=_names,
    start_role=_start_intersection,
    compute_in_clear=_intersection_in_clear,
)
