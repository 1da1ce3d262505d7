"""The provider of a cached comparison; see `privacy.cached` for the frames."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from privacy.cached.files import (
    HASH_BYTES,
    IN_BASE,
    IN_RECENT,
    INDEX_BYTES,
    RECORD_BYTES,
    SENDER_STATE,
    SenderState,
    Table,
    draw_scalar,
    save_state,
)
from privacy.cached.frames import (
    AFRESH,
    ANSWER,
    CHANGED,
    HELLO,
    MAX_IDENTIFIERS,
    NOTHING_AGREED,
    SAME,
    frame_counts,
    next_agreed,
    receive_frame,
    receive_table,
    send_all,
)
from privacy.cached.rows import (
    Afresh,
    Change,
    Kept,
    Plan,
    Same,
    Sizes,
    load_kept,
    plan_of,
    save_kept,
)
from privacy.computation import CONSUMER, RoleContext
from privacy.disclosure import released, withhold_below
from privacy.errors import ProtocolViolation
from privacy.masking import MaskingKey, mask_all, raise_all
from privacy.role import Outcome, Progress, Role, Steps, receive, send
from privacy.wire import POINT_BYTES, encode_bits, encode_points, verify_ascending


def start_sender(context: RoleContext, sizes: Sizes) -> Role:
    """Bring the cache up to date, compare, apply the cohort, and only then disclose."""
    min_cohort = context.parameters.min_cohort
    asked, agreed = _parse_hello((yield from receive(CONSUMER, "hello", HELLO.size)))
    kept = load_kept(context.cache)
    if kept is not None and kept.state.agreed != agreed:
        kept = None
    plan = yield from plan_of(context, kept, sizes)
    yield from withhold_below(min(asked, plan.distinct), min_cohort, tell={CONSUMER: "hello"})
    yield from send(CONSUMER, "hello", released(_answer(plan)))
    kept, masked = yield from _carry_out(context, plan, asked, sizes)
    matched = yield from _compare(context, kept, asked, sizes)
    count = sum(map(sum, matched))
    yield from withhold_below(count, min_cohort, tell={CONSUMER: "result"})
    yield from send(CONSUMER, "result", released(b"".join(map(encode_bits, matched))))
    rows, distinct = kept.state.rows, kept.state.distinct
    report = {"rows": rows, "distinct": distinct, "duplicates": rows - distinct, "masked": masked}
    return Outcome({"count": count}, report)


def _parse_hello(payload: bytes) -> tuple[int, bytes]:
    if len(payload) != HELLO.size:
        raise ProtocolViolation(f"{CONSUMER} sent a hello of {len(payload)} bytes")
    count, agreed = HELLO.unpack(payload)
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(
            f"{CONSUMER} announced {count} identifiers; at most {MAX_IDENTIFIERS} are taken"
        )
    return count, agreed


def _answer(plan: Plan) -> bytes:
    if isinstance(plan, Same):
        return ANSWER.pack(SAME, 0, 0)
    if isinstance(plan, Change):
        return ANSWER.pack(CHANGED, len(plan.leaving), plan.recent_count)
    return ANSWER.pack(AFRESH, plan.distinct, 0)


def _carry_out(
    context: RoleContext, plan: Plan, asked: int, sizes: Sizes
) -> Steps[tuple[Kept, int]]:
    """Do what the plan says; what is kept now, and how many identifiers were masked for it."""
    if isinstance(plan, Same):
        if plan.state != plan.kept.state:
            save_state(context.cache, SENDER_STATE, plan.state)
        yield Progress(total=asked * (2 if len(plan.kept.recent) else 1))
        return replace(plan.kept, state=plan.state), 0
    if isinstance(plan, Change):
        yield Progress(total=len(plan.added) + asked * 2)
        return (yield from _do_change(context, plan, sizes)), len(plan.added)
    yield Progress(total=plan.distinct + asked)
    return (yield from _do_afresh(context, plan, sizes)), plan.distinct


def _do_afresh(context: RoleContext, plan: Afresh, sizes: Sizes) -> Steps[Kept]:
    """Frames 3 and 4: everything under new keys."""
    scalar = draw_scalar(context.random_bytes)
    index: list[bytes] = []
    # A frame goes out while the next is masked. What is in a frame together must not tell which
    # rows stood together, so the order is that of the keyed hashes.
    rest = iter(sorted(plan.own.items()))
    while piece := list(islice(rest, sizes.frame)):
        masked = yield from mask_all(
            context.workers, MaskingKey(scalar), [identifier for _, identifier in piece]
        )
        yield from send(CONSUMER, "masked", encode_points(sorted(masked)))
        index += [
            hashed + point + IN_BASE for (hashed, _), point in zip(piece, masked, strict=True)
        ]
    base = yield from receive_table(CONSUMER, "raised", plan.distinct, sizes)
    agreed, recent = next_agreed(NOTHING_AGREED, base), Table()
    return _keep(context, plan, scalar, plan.hash_key, agreed, index, base, recent)


def _do_change(context: RoleContext, plan: Change, sizes: Sizes) -> Steps[Kept]:
    """Frames 3a to 4b: what moves, mixed with what stays."""
    before, added = plan.kept.state, sorted(plan.added.items())
    masked = yield from mask_all(
        context.workers, MaskingKey(before.scalar), [identifier for _, identifier in added]
    )
    recent_index = [
        *plan.recent,
        *(h + point + IN_RECENT for (h, _), point in zip(added, masked, strict=True)),
    ]
    yield from send_all(CONSUMER, "leaving", _points(plan.leaving), sizes)
    yield from send_all(CONSUMER, "recent", _points(recent_index), sizes)
    left = yield from receive_table(CONSUMER, "left", len(plan.leaving), sizes)
    recent = yield from receive_table(CONSUMER, "raised", len(recent_index), sizes)
    gone = set(left)
    base = Table.of(record for record in plan.kept.base if record not in gone)
    if len(base) != len(plan.kept.base) - len(left):
        raise ProtocolViolation(f"{CONSUMER} raised points that leave to some that were not there")
    agreed = next_agreed(before.agreed, left, recent)
    index = sorted([*plan.staying, *recent_index])
    return _keep(context, plan, before.scalar, before.hash_key, agreed, index, base, recent)


def _points(index: Sequence[bytes]) -> list[bytes]:
    return sorted(record[HASH_BYTES : HASH_BYTES + POINT_BYTES] for record in index)


def _keep(
    context: RoleContext,
    plan: Change | Afresh,
    scalar: bytes,
    hash_key: bytes,
    agreed: bytes,
    index: Sequence[bytes],
    base: Table,
    recent: Table,
) -> Kept:
    table = Table.of(index, INDEX_BYTES)
    state = SenderState(
        scalar,
        hash_key,
        agreed,
        plan.source.version,
        plan.source.digest,
        plan.source.rows,
        plan.distinct,
        table.digest(),
        base.digest(),
        recent.digest(),
    )
    kept = Kept(state, base, recent)
    save_kept(context.cache, kept, table)
    return kept


def _compare(context: RoleContext, kept: Kept, asked: int, sizes: Sizes) -> Steps[list[list[bool]]]:
    """Frame 5: for each part of T that there is, and each point of the query, whether it is in."""
    matched = []
    for part in [kept.base, kept.recent] if len(kept.recent) else [kept.base]:
        found: list[bool] = []
        records: set[bytes] = set()
        last: list[bytes] = []
        for expected in frame_counts(asked, sizes):
            points = yield from receive_frame(CONSUMER, "query", expected, POINT_BYTES)
            verify_ascending([*last, points[0]], CONSUMER)
            last = points[-1:]
            raised = yield from raise_all(
                context.workers, MaskingKey(kept.state.scalar), points, CONSUMER, width=RECORD_BYTES
            )
            for record in raised:
                matches = part.has(record)
                # A point and its inverse are two points of one x: they would count twice.
                if matches and record in records:
                    raise ProtocolViolation(f"{CONSUMER} asked for one identifier twice")
                if matches:
                    records.add(record)
                found.append(matches)
        matched.append(found)
    return matched
