"""The consumer of a cached comparison; see `privacy.cached` for the frames."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from privacy.cached.files import (
    CONSUMER_STATE,
    RECORD_BYTES,
    ConsumerState,
    Table,
    draw_scalar,
    load_state,
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
    SENDER,
    frame_counts,
    next_agreed,
    receive_frame,
    send_all,
)
from privacy.cached.rows import Sizes
from privacy.computation import RoleContext
from privacy.disclosure import (
    reaches_cohort,
    receive_verdict,
    verify_released_cohort,
)
from privacy.errors import ProtocolViolation
from privacy.intersection import IDENTIFIERS_FILE, MAX_IDENTIFIERS_IN_VALUE
from privacy.masking import MaskingKey, mask_all, raise_all, verify_not_copied
from privacy.role import Outcome, Progress, Role, Steps, send
from privacy.wire import POINT_BYTES, parse_bits


@dataclass(frozen=True)
class _Task:
    """What the sender says is to be done, with what the consumer has when it is done.

    `agreed` of `state` is still that of before.
    """

    mode: int
    leaving: int
    state: ConsumerState

    @property
    def raised(self) -> int:
        """How many points the consumer raises."""
        if self.mode == SAME:
            return 0
        return self.leaving + self.state.recent if self.mode == CHANGED else self.state.base


def start_consumer(context: RoleContext, sizes: Sizes) -> Role:
    """Raise what has changed in the sender's set, ask for the own one, read the answer."""
    own = list(dict.fromkeys(context.inputs.identifiers))
    kept = load_state(context.cache, CONSUMER_STATE, ConsumerState)
    yield from send(SENDER, "hello", HELLO.pack(len(own), kept.agreed if kept else NOTHING_AGREED))
    body = yield from receive_verdict(SENDER, "hello", ANSWER.size)
    task = _parse_answer(body, kept, context, sizes)
    state = task.state
    parts = [(state.base_scalar, state.base)]
    if state.recent:
        parts.append((state.recent_scalar, state.recent))
    yield Progress(total=len(own) * len(parts) + task.raised)
    queries = []
    for scalar, _ in parts:
        masked = yield from mask_all(context.workers, MaskingKey(scalar), own)
        queries.append(dict(sorted(zip(masked, own, strict=True))))
    yield from _carry_out_task(context, task, queries, sizes)
    for query in queries:
        yield from send_all(SENDER, "query", list(query), sizes)
    common = yield from _receive_result(queries, [count for _, count in parts])
    verify_released_cohort(len(common), context.parameters.min_cohort, SENDER)
    return _outcome(context, sorted(common), len(own))


def _parse_answer(
    body: bytes, kept: ConsumerState | None, context: RoleContext, sizes: Sizes
) -> _Task:
    """Read frame 2, and refuse what would leave the own queries in a small company."""
    if len(body) != ANSWER.size:
        raise ProtocolViolation(f"{SENDER} sent a hello of {len(body)} bytes")
    mode, first, recent = ANSWER.unpack(body)
    if mode == AFRESH and recent == 0:
        state = ConsumerState(draw_scalar(context.random_bytes), b"", NOTHING_AGREED, first, 0)
        task = _Task(mode, 0, state)
    elif mode == CHANGED and kept is not None:
        scalar = draw_scalar(context.random_bytes)
        state = replace(kept, recent_scalar=scalar, base=kept.base - first, recent=recent)
        if min(first or sizes.mixed, recent, state.base) < sizes.mixed:
            raise ProtocolViolation(f"{SENDER} moves less than {sizes.mixed} rows at once")
        task = _Task(mode, first, state)
    elif mode == SAME and kept is not None and first == recent == 0:
        task = _Task(mode, 0, kept)
    else:
        raise ProtocolViolation(f"{SENDER} answered the hello with what does not follow from it")
    count = task.state.base + task.state.recent
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(
            f"{SENDER} announced {count} identifiers; at most {MAX_IDENTIFIERS} are taken"
        )
    if not reaches_cohort(count, context.parameters.min_cohort):
        raise ProtocolViolation(f"{SENDER} went on with a set below the agreed minimum")
    return task


def _carry_out_task(
    context: RoleContext, task: _Task, queries: Sequence[Mapping[bytes, str]], sizes: Sizes
) -> Steps[None]:
    """Frames 3 and 4, or 3a to 4b: raise what came, and remember what both have now."""
    state = task.state
    if task.mode == SAME:
        return
    if task.mode == AFRESH:
        base = yield from _receive_and_raise(
            context, "masked", state.base_scalar, state.base, queries, sizes
        )
        yield from _send_records("raised", base, sizes)
        agreed = next_agreed(NOTHING_AGREED, base)
    else:
        scalars = state.base_scalar, state.recent_scalar
        left = yield from _receive_and_raise(
            context, "leaving", scalars[0], task.leaving, queries, sizes
        )
        recent = yield from _receive_and_raise(
            context, "recent", scalars[1], state.recent, queries, sizes
        )
        yield from _send_records("left", left, sizes)
        yield from _send_records("raised", recent, sizes)
        agreed = next_agreed(state.agreed, left, recent)
    save_state(context.cache, CONSUMER_STATE, replace(state, agreed=agreed))


def _receive_and_raise(
    context: RoleContext,
    name: str,
    scalar: bytes,
    count: int,
    queries: Sequence[Mapping[bytes, str]],
    sizes: Sizes,
) -> Steps[Table]:
    """Receive `count` points of the sender and raise them, their order destroyed."""
    records: list[bytes] = []
    for expected in frame_counts(count, sizes):
        points = yield from receive_frame(SENDER, name, expected, POINT_BYTES)
        for query in queries:
            verify_not_copied(points, query, SENDER)
        records += yield from raise_all(
            context.workers, MaskingKey(scalar), points, SENDER, width=RECORD_BYTES
        )
    records.sort()
    if any(one == other for one, other in pairwise(records)):
        raise ProtocolViolation(f"{SENDER} sent points that cannot be told apart")
    return Table.of(records)


def _send_records(name: str, table: Table, sizes: Sizes) -> Steps[None]:
    yield from send_all(SENDER, name, list(table), sizes)


def _receive_result(
    queries: Sequence[Mapping[bytes, str]], counts: Sequence[int]
) -> Steps[set[str]]:
    """Frame 6: which of the own identifiers are in some part of the sender's set."""
    size = sum(-(-len(query) // 8) for query in queries)
    body = yield from receive_verdict(SENDER, "result", size)
    if len(body) != size:
        raise ProtocolViolation(f"{SENDER} sent a result of {len(body)} bytes, not {size}")
    common: set[str] = set()
    for query, count in zip(queries, counts, strict=True):
        part, body = body[: -(-len(query) // 8)], body[-(-len(query) // 8) :]
        bits = parse_bits(part, SENDER, len(query))
        found = {name for name, bit in zip(query.values(), bits, strict=True) if bit}
        if len(found) > count or not common.isdisjoint(found):
            raise ProtocolViolation(f"{SENDER} sent a result that no set can have")
        common |= found
    return common


def _outcome(context: RoleContext, found: Sequence[str], distinct: int) -> Outcome:
    rows = len(context.inputs.identifiers)
    report = {"rows": rows, "distinct": distinct, "duplicates": rows - distinct}
    if len(found) <= MAX_IDENTIFIERS_IN_VALUE:
        return Outcome({"count": len(found), "identifiers": found}, report)
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    context.spool.put(IDENTIFIERS_FILE, lines.encode())
    return Outcome({"count": len(found)}, report, IDENTIFIERS_FILE)
