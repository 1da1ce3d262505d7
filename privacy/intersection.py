"""Private set intersection of two parties at any size: the intersection, or its size alone.

All four kinds compare the sets in buckets (`privacy.exchange`). The party that would disclose, a
provider, is the gate: it learns how many are common, applies the minimum cohort to the whole, and
only then says which of the other's points matched, one bit each. They hold for semi-honest parties.

What holds against a guest that does not follow the protocol. It cannot skip the check: without the
gate's key it cannot compare anything itself, and the bits come after all buckets were compared. It
cannot raise the size by invented points in `raised`: they would have to equal points under the
gate's key that it never sees. Strangers in its own set do not help, as only matches count. What
remains: it may put one person into its set under k different keys and raise a k-th part of the
gate's set under each; then it reaches a cohort of k with probability 1/k and else is held back.
Excluding this needs a proof that one key was used throughout. And it may always fill its set with
k - 1 persons it knows to be in the gate's. Against both there are budgets of uses and the evidence
of every run, not this protocol.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from privacy.buckets import BUCKET_ELEMENTS
from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import (
    receive_verdict,
    released,
    verify_cohort,
    verify_released_cohort,
    withhold_below,
)
from privacy.engine import (
    ENGINE_SETTING,
    PsiEngine,
    Shared,
    agree_on_engine,
    engine_consumer,
    engine_provider,
    wanted_engine,
)
from privacy.errors import InputRejected, ProtocolViolation
from privacy.exchange import (
    FALSE_POSITIVE_BITS,
    MAX_IDENTIFIERS,
    Compared,
    Met,
    Shape,
    gate,
    guest,
)
from privacy.noise import cohort_threshold, noisy_count, verify_epsilon
from privacy.role import JsonValue, Outcome, Role, Steps, receive, send
from privacy.spool import Spool
from privacy.wire import (
    NUMBER_BYTES,
    encode_bits,
    encode_number,
    limit_of_bits,
    parse_bits,
    parse_number,
)

LEFT, RIGHT, SENDER = "left", "right", "sender"
# More identifiers than this are an attachment: a file with one JSON text a line.
MAX_IDENTIFIERS_IN_VALUE = 50_000
IDENTIFIERS_FILE = "identifiers"
BUCKET_SETTINGS = ("bucketElements", "falsePositiveBits")


def check_settings(parameters: Parameters) -> None:
    """Take `falsePositiveBits` from 30 to 64 (40 where it is left out), `bucketElements` from 1,024
    to 2^20 (2^17), and an epsilon that noise can be drawn for. Raises InputRejected."""
    shape_of(parameters)
    if parameters.epsilon is not None:
        verify_epsilon(parameters.epsilon)


def _check_both(parameters: Parameters) -> None:
    check_settings(parameters)
    wanted_engine(parameters)


def shape_of(parameters: Parameters, *, ordered: bool = False) -> Shape:
    """How sets without anything beside them are compared. Raises InputRejected for settings out of
    their range."""
    return Shape(
        ordered=ordered,
        bucket_elements=whole_setting(
            parameters, "bucketElements", default=BUCKET_ELEMENTS, least=1 << 10, most=1 << 20
        ),
        false_positive_bits=whole_setting(
            parameters, "falsePositiveBits", default=FALSE_POSITIVE_BITS, least=30, most=64
        ),
    )


def whole_setting(parameters: Parameters, name: str, *, default: int, least: int, most: int) -> int:
    """A whole number among the settings. Raises InputRejected outside `least` to `most`."""
    value = parameters.settings.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise InputRejected(f"parameters: {name} is a whole number from {least} to {most}")
    return value


# --- What is kept of a bucket, and read when all are compared -------------------------------------


def keep_count(spool: Spool, compared: Compared) -> None:
    """Keep how many elements of a bucket are common."""
    spool.put(f"count-{compared.number}", encode_number(len(compared.common())))


def total_count(spool: Spool, of: int) -> int:
    """Add up what `keep_count` kept of all buckets."""
    kept = (spool.get(f"count-{number}") or b"" for number in range(of))
    return sum(int.from_bytes(content, "big") for content in kept)


def _encode_lines(identifiers: Sequence[str]) -> bytes:
    # A separator of JSON's items that no item contains: it escapes line feeds.
    lines = json.dumps(identifiers, ensure_ascii=False, separators=("\n", ":"))[1:-1]
    return f"{lines}\n".encode() if identifiers else b""


def _parse_lines(content: bytes) -> list[str]:
    # Only a line feed ends a line: JSON escapes it, and no other separator of lines.
    found: list[str] = json.loads(b"[%b]" % content.rstrip(b"\n").replace(b"\n", b","))
    return found


def identifiers_outcome(spool: Spool, count: int, report: Mapping[str, int]) -> Outcome:
    """The outcome of who may know the identifiers that were appended to `IDENTIFIERS_FILE`."""
    if count > MAX_IDENTIFIERS_IN_VALUE:
        return Outcome({"count": count}, report, IDENTIFIERS_FILE)
    found = _parse_lines(spool.get(IDENTIFIERS_FILE) or b"")
    return Outcome({"count": count, "identifiers": sorted(found)}, report)


# --- psi/2, psi-both/1, psi-count/1: the consumer's own set against a provider's ------------------


def _meet_consumer(context: RoleContext, *, ordered: bool) -> Steps[tuple[Met, int]]:
    """As the provider: compare with the consumer's set; the sizes and how many are common."""
    spool = context.spool

    def take(compared: Compared) -> Steps[None]:
        yield from ()
        keep_count(spool, compared)
        common = compared.common()
        matches = [point in common for point in compared.theirs]
        spool.put(f"result-{compared.number}", encode_bits(matches))
        if ordered:
            matched = [
                name
                for name, point in zip(compared.own, compared.own_raised, strict=True)
                if name is not None and point in common
            ]
            spool.put(f"matched-{compared.number}", _encode_lines(matched))

    met = yield from gate(context, CONSUMER, shape_of(context.parameters, ordered=ordered), take)
    return met, total_count(spool, met.of)


def _disclose(context: RoleContext, met: Met, count: int) -> Steps[None]:
    """Apply the cohort, then tell the consumer which of its points are common."""
    yield from withhold_below(count, context.parameters.min_cohort, tell={CONSUMER: "verdict"})
    yield from send(CONSUMER, "verdict", released())
    for number in range(met.of):
        yield from send(CONSUMER, "result", context.spool.get(f"result-{number}") or b"")


def _sender(context: RoleContext) -> Role:
    met, count = yield from _meet_consumer(context, ordered=False)
    yield from _disclose(context, met, count)
    return Outcome({"count": count}, met.own.report())


def _engine_of(context: RoleContext) -> PsiEngine | None:
    """The external engine, but for a run that the curve has begun."""
    return None if context.spool.get("set") is not None else context.engine


def _shared_outcome(context: RoleContext, shared: Shared) -> Outcome:
    context.spool.put(IDENTIFIERS_FILE, _encode_lines(shared.identifiers))
    return identifiers_outcome(context.spool, len(shared.identifiers), shared.report)


def _sender_of_both(context: RoleContext) -> Role:
    engine = _engine_of(context)
    agreed = yield from agree_on_engine(context, engine, CONSUMER)
    if engine is not None and agreed is not None:
        return _shared_outcome(context, (yield from engine_provider(context, engine, agreed)))
    met, count = yield from _meet_consumer(context, ordered=True)
    yield from _disclose(context, met, count)
    context.spool.remove(IDENTIFIERS_FILE)
    for number in range(met.of):
        matched = context.spool.get(f"matched-{number}") or b""
        context.spool.append(IDENTIFIERS_FILE, matched)
    return identifiers_outcome(context.spool, count, met.own.report())


def _receiver_of_both(context: RoleContext) -> Role:
    engine = _engine_of(context)
    agreed = yield from agree_on_engine(context, engine, SENDER)
    if engine is not None and agreed is not None:
        shared = yield from engine_consumer(context, engine, agreed, SENDER)
        return _shared_outcome(context, shared)
    return (yield from _receiver(context, ordered=True))


def _receiver(context: RoleContext, *, ordered: bool) -> Role:
    """As the consumer: read the intersection once it is let go."""
    spool = context.spool

    def take(compared: Compared) -> Steps[None]:
        yield from ()
        spool.put(f"own-{compared.number}", json.dumps(compared.own).encode())

    met = yield from guest(context, SENDER, shape_of(context.parameters, ordered=ordered), take)
    yield from receive_verdict(SENDER, "verdict", 0)
    spool.remove(IDENTIFIERS_FILE)
    count = 0
    for number in range(met.of):
        payload = yield from receive(SENDER, "result", limit_of_bits(met.padded()))
        matches = parse_bits(payload, SENDER, met.padded())
        own: list[str | None] = json.loads(spool.get(f"own-{number}") or b"[]")
        matched = [name for name, match in zip(own, matches, strict=True) if match]
        common = [name for name in matched if name is not None]
        if len(common) < len(matched):
            raise ProtocolViolation(f"{SENDER} claims to know identifiers that nobody has")
        spool.append(IDENTIFIERS_FILE, _encode_lines(common))
        count += len(common)
    verify_released_cohort(count, context.parameters.min_cohort, SENDER)
    return identifiers_outcome(spool, count, met.own.report())


def _counted(context: RoleContext) -> Role:
    """As the provider of psi-count/1: let the size go and nothing else."""
    met, count = yield from _meet_consumer(context, ordered=False)
    shown = yield from _show_count(context, count, tell={CONSUMER: "verdict"})
    yield from send(CONSUMER, "verdict", released(encode_number(shown)))
    return Outcome({"count": count}, met.own.report())


def _show_count(context: RoleContext, count: int, *, tell: dict[str, str]) -> Steps[int]:
    """Apply the cohort to a count; what may be shown of it, with noise where that is ordered.

    With noise the true count decides nothing: see `cohort_threshold`.
    """
    min_cohort, epsilon = context.parameters.min_cohort, context.parameters.epsilon
    if epsilon is not None:
        count, min_cohort = noisy_count(count, epsilon), cohort_threshold(min_cohort, epsilon)
    yield from withhold_below(count, min_cohort, tell=tell)
    return max(0, count)


def _counting(context: RoleContext) -> Role:
    met = yield from guest(context, SENDER, shape_of(context.parameters), _keep_nothing)
    outcome = yield from _receive_count(context, SENDER, "verdict")
    return Outcome(outcome.value, met.own.report())


def _keep_nothing(_: Compared) -> Steps[None]:
    yield from ()


def _receive_count(context: RoleContext, sender: str, name: str) -> Steps[Outcome]:
    body = yield from receive_verdict(sender, name, NUMBER_BYTES)
    count = parse_number(body, sender)
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(f"{sender} sent a count above the {MAX_IDENTIFIERS} of one run")
    verify_released_cohort(count, context.parameters.min_cohort, sender)
    return Outcome({"count": count})


def _start_intersection(context: RoleContext) -> Role:
    return _sender(context) if context.role == SENDER else _receiver(context, ordered=False)


def _start_both(context: RoleContext) -> Role:
    return _sender_of_both(context) if context.role == SENDER else _receiver_of_both(context)


def _start_count(context: RoleContext) -> Role:
    return _counted(context) if context.role == SENDER else _counting(context)


def _common(inputs: Mapping[str, Inputs], one: str, other: str, min_cohort: int) -> set[str]:
    common = set(inputs[one].identifiers) & set(inputs[other].identifiers)
    verify_cohort(len(common), min_cohort)
    return common


def _intersection_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    common = _common(inputs, SENDER, CONSUMER, parameters.min_cohort)
    return {"count": len(common), "identifiers": sorted(common)}


def _count_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    return {"count": len(_common(inputs, SENDER, CONSUMER, parameters.min_cohort))}


_SIZES_LEARNT = (
    "Both learn how many distinct identifiers the other has. The minimum cohort is applied to "
    "everything together, before any of it can be read."
)

INTERSECTION_2 = Kind(
    name="psi/2",
    title="Which of the consumer's own people or things the provider knows too",
    title_zh="消费方自有名单中,提供方也有的人或物",
    leakage={
        SENDER: "How many of its identifiers are common, but not which. " + _SIZES_LEARNT,
        CONSUMER: "Which of its own identifiers the sender has too. It may bring identifiers that "
        "it only guessed, so the cohort limits probing and does not exclude it.",
    },
    result={SENDER: '{"count": n}', CONSUMER: '{"count": n, "identifiers": [sorted]}'},
    columns={SENDER: ("identifier",), CONSUMER: ("identifier",)},
    providers=(1, 1),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (SENDER,),
    start_role=_start_intersection,
    compute_in_clear=_intersection_in_clear,
    settings=BUCKET_SETTINGS,
    check_settings=check_settings,
    resumable=True,
)

BOTH = replace(
    INTERSECTION_2,
    name="psi-both/1",
    title="Which people or things consumer and provider both know, told to both",
    title_zh="消费方与提供方共有的人或物,双方均得知",
    leakage={
        SENDER: "Which of its identifiers the consumer has too, even when that is withheld from "
        "the consumer. " + _SIZES_LEARNT,
        CONSUMER: INTERSECTION_2.leakage[CONSUMER],
    },
    result=dict.fromkeys((SENDER, CONSUMER), '{"count": n, "identifiers": [sorted]}'),
    start_role=_start_both,
    settings=(*BUCKET_SETTINGS, ENGINE_SETTING),
    check_settings=_check_both,
)

COUNT = replace(
    INTERSECTION_2,
    name="psi-count/1",
    title="How many of the consumer's own people or things the provider knows too",
    title_zh="消费方自有名单中,提供方也有多少人或物(只得数量)",
    leakage={
        SENDER: INTERSECTION_2.leakage[SENDER],
        CONSUMER: "How many of its own identifiers the sender has too, but not which. It chooses "
        "its identifiers, so the counts of lists that differ in one person tell about that one; "
        "the number of uses limits it, and noise with a budget bounds it.",
    },
    result=dict.fromkeys((SENDER, CONSUMER), '{"count": n}'),
    start_role=_start_count,
    compute_in_clear=_count_in_clear,
    adds_noise=True,
)


# --- psi-cardinality/2: two providers' sets, for a third party ------------------------------------


def _left(context: RoleContext) -> Role:
    """Compare, apply the cohort, tell the consumer how many are common."""

    def take(compared: Compared) -> Steps[None]:
        yield from ()
        keep_count(context.spool, compared)

    shape = shape_of(context.parameters)
    met = yield from gate(context, RIGHT, shape, take, tell=[(CONSUMER, "result")])
    count = total_count(context.spool, met.of)
    shown = yield from _show_count(context, count, tell={CONSUMER: "result", RIGHT: "verdict"})
    yield from send(CONSUMER, "result", released(encode_number(shown)))
    yield from send(RIGHT, "verdict", released())
    return Outcome({"count": count}, met.own.report())


def _right(context: RoleContext) -> Role:
    met = yield from guest(context, LEFT, shape_of(context.parameters), _keep_nothing)
    yield from receive_verdict(LEFT, "verdict", 0)
    return Outcome(None, met.own.report())


def _start_cardinality(context: RoleContext) -> Role:
    if context.role == CONSUMER:
        return _receive_count(context, LEFT, "result")
    return _left(context) if context.role == LEFT else _right(context)


def _cardinality_in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    return {"count": len(_common(inputs, LEFT, RIGHT, parameters.min_cohort))}


CARDINALITY_2 = Kind(
    name="psi-cardinality/2",
    title="How many people or things two providers have in common",
    title_zh="两个提供方共有多少人或物(只得数量)",
    leakage={
        LEFT: "How many identifiers are common, even when that is withheld, but not which; left "
        "applies the minimum cohort, so right relies on left for it. " + _SIZES_LEARNT,
        RIGHT: "Whether the count was let go. " + _SIZES_LEARNT,
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
    settings=BUCKET_SETTINGS,
    check_settings=check_settings,
    resumable=True,
    adds_noise=True,
)
