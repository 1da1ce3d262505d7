"""Sums over the common identifiers of two providers who do not learn how many there are.

As `privacy.join`, with dummies. In each bucket left adds 2T public dummies to its set, and right
adds a secret number d of these, filled up with random strangers to 2T in all, so that its set does
not tell d. For dummies right attaches an encryption of nothing. Left sees how many points of a
bucket match, which is the true number and d; the true count of the whole is in the ciphertext.

d is T and two-sided geometric noise, cut off at 0 and 2T: d has the weight 2^-|d - T|. One person
is in one bucket and moves its true number by one. That changes the odds of anything left sees by
at most a factor of 2 (epsilon = ln 2), but for d = 0 and d = 2T, which have a chance of
2^-T / (3 - 2^(1-T)) < 2^-40 each for T = 39: (ln 2, 2^-40)-differential privacy. It is exact, as
all weights are powers of 2. Source for dummies that drown a size which a fast protocol leaks:
Groce, Rindal, Rosulek, "Cheaper Private Set Intersection via Differentially Private Leakage",
PoPETs 2019(3), ePrint 2019/1159; for the noise: Ghosh, Roughgarden, Sundararajan, STOC 2009. The
parameters are our own.

Whether the cohort reaches the minimum is decided on the true count. Left has c, which is the count
and all d together; right has D, which is all d; left finds out whether D <= c - minimum by
`privacy.at_most`, and nothing else.

    1. right -> left      size      distinct identifiers, without dummies
    2. left -> right      size      the same, or "withheld" if either is below the minimum cohort
    3. to 7.              as `privacy.exchange` has them
    8. to 10.             as `privacy.at_most` has them, where there is a minimum
   11. left -> consumer   result    as in `privacy.join`
   12. left -> right      verdict   whether it was told
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count as count_from

from privacy.at_most import is_at_most, let_compare
from privacy.buckets import PARTS, OwnSet, bucket_count, lay_out, place, strangers
from privacy.computation import (
    CONSUMER,
    MAX_IDENTIFIER_CHARACTERS,
    Inputs,
    Kind,
    Parameters,
    RoleContext,
)
from privacy.disclosure import MIN_COHORT, WITHHELD, reaches_cohort, receive_verdict, released
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.exchange import Compared, Met, Shape, gate, guest
from privacy.join import (
    ANSWER_FILE,
    LEFT,
    RESULT,
    RIGHT,
    join_in_clear,
    statistics_learnt,
    take_nothing,
)
from privacy.join_sides import Join
from privacy.join_values import MAX_IDENTIFIERS, noise_of, question_of, threshold_of
from privacy.paillier import RandomBytes
from privacy.role import Outcome, Role, Steps, receive, send
from privacy.spool import Spool
from privacy.wire import NUMBER_BYTES, encode_number, parse_number

# T: the chance of what is not covered by the factor of 2 is below 2^-40.
CENTRE = 39
DUMMIES = 2 * CENTRE
# 2^T times those of d, from 0 to 2T.
WEIGHTS = tuple(1 << (CENTRE - abs(number - CENTRE)) for number in range(DUMMIES + 1))
_ADDED_FILE = "added"
_NOISE_FILE = "noise"
# What comes after this is laid out anew, with dummies, and compared.
_INNER = "with-dummies."


def draw_added(random_bytes: RandomBytes) -> int:
    """Draw d: from 0 to 2T, with the weight 2^-|d - T|, exactly."""
    total = sum(WEIGHTS)
    size = (total.bit_length() + 7) // 8
    while True:
        drawn = int.from_bytes(random_bytes(size), "big") & ((1 << total.bit_length()) - 1)
        for number, weight in enumerate(WEIGHTS):
            if drawn < weight:
                return number
            drawn -= weight


def dummies(of: int) -> list[list[str]]:
    """Return the public dummies of each of `of` buckets: 2T, which no row can have."""
    buckets: list[list[str]] = [[] for _ in range(of)]
    for number in count_from():
        name = _dummy(f"dummy {number}")
        bucket = buckets[place(name) * of // PARTS]
        if len(bucket) < DUMMIES:
            bucket.append(name)
        elif all(len(each) == DUMMIES for each in buckets):
            return buckets
    raise AssertionError("unreachable: numbers do not end")


def fillers(wanted: Sequence[int], random_bytes: RandomBytes) -> list[str]:
    """Return random elements that nobody else has, as many in each bucket as are wanted."""
    missing, of = list(wanted), len(wanted)
    found = []
    while any(missing):
        [name] = map(_dummy, strangers(1, random_bytes))
        bucket = place(name) * of // PARTS
        if missing[bucket]:
            missing[bucket] -= 1
            found.append(name)
    return found


def _dummy(name: str) -> str:
    return "\0" + name.rjust(MAX_IDENTIFIER_CHARACTERS, " ")


@dataclass(frozen=True)
class _Enlarged:
    """The rows of a set that is laid out already, and further elements."""

    own: OwnSet
    further: Sequence[str]

    def batches(self) -> Iterator[Inputs]:
        for part in range(self.own.parts):
            elements = self.own.bucket(part, self.own.parts)
            yield Inputs(tuple(elements), tuple(value for value, _ in elements.values()))
        yield Inputs(tuple(self.further), (0,) * len(self.further))


@dataclass(frozen=True)
class _Within:
    """A spool in a spool."""

    spool: Spool

    def put(self, name: str, content: bytes) -> None:
        self.spool.put(_INNER + name, content)

    def append(self, name: str, content: bytes) -> None:
        self.spool.append(_INNER + name, content)

    def get(self, name: str) -> bytes | None:
        return self.spool.get(_INNER + name)

    def remove(self, name: str) -> None:
        self.spool.remove(_INNER + name)

    def names(self) -> Iterator[str]:
        return (n.removeprefix(_INNER) for n in self.spool.names() if n.startswith(_INNER))


@dataclass(frozen=True)
class _Hidden:
    """One provider, once the sizes are known: its set with dummies in `of` buckets."""

    join: Join
    of: int
    peer_count: int

    @classmethod
    def of_sizes(
        cls, join: Join, own: OwnSet, peer_count: int, further: Sequence[str]
    ) -> "_Hidden":
        context = join.context
        inner = replace(context, rows=_Enlarged(own, further), spool=_Within(context.spool))
        return cls(replace(join, context=inner), _buckets(join, own, peer_count), peer_count)

    def shape(self) -> Shape:
        """As without dummies, with room for them: then there are `of` buckets again."""
        shape = self.join.shape()
        return replace(
            shape,
            bucket_elements=shape.bucket_elements + DUMMIES,
            max_identifiers=shape.max_identifiers + self.of * DUMMIES,
        )

    def verify_met(self, met: Met, peer: str) -> None:
        """Raise ProtocolViolation unless the peer added as many elements as were agreed."""
        if met.of != self.of or met.peer_count != self.peer_count + self.of * DUMMIES:
            raise ProtocolViolation(f"{peer} compares a set of another size than it said")


def _buckets(join: Join, own: OwnSet, peer_count: int) -> int:
    return bucket_count(max(own.count, peer_count), join.shape().bucket_elements)


def _parse_size(encoded: bytes, sender: str) -> int:
    count = parse_number(encoded, sender)
    if count > MAX_IDENTIFIERS:
        raise ProtocolViolation(
            f"{sender} announced {count} identifiers; at most {MAX_IDENTIFIERS} are taken"
        )
    return count


def _both_reach(join: Join, *counts: int) -> bool:
    return all(reaches_cohort(count, join.question.min_cohort) for count in counts)


# --- Roles ---------------------------------------------------------------------------------------


def _left(join: Join) -> Role:
    """Compare, add up, find out whether the cohort is reached, tell the consumer."""
    context = join.context
    own = yield from lay_out(context)
    peer_count = _parse_size((yield from receive(RIGHT, "size", NUMBER_BYTES)), RIGHT)
    if not _both_reach(join, own.count, peer_count):
        yield from send(RIGHT, "size", WITHHELD)
        yield from send(CONSUMER, "result", WITHHELD)
        raise Withheld(MIN_COHORT)
    yield from send(RIGHT, "size", released(encode_number(own.count)))
    every = [name for bucket in dummies(_buckets(join, own, peer_count)) for name in bucket]
    hidden = _Hidden.of_sizes(join, own, peer_count, every)
    inner = hidden.join

    def take(compared: Compared) -> Steps[None]:
        inner.keep(compared.number, (yield from inner.add_common(compared, ())))

    tell = [(CONSUMER, "result")]
    met = yield from gate(inner.context, RIGHT, hidden.shape(), take, tell=tell)
    hidden.verify_met(met, RIGHT)
    answer = yield from _answer(inner, met.of)
    yield from inner.disclose(answer)
    return Outcome(None, own.report())


def _answer(join: Join, of: int) -> Steps[bytes]:
    """Decide with right whether the sum is told, and write it for the consumer.

    After a crash the same noise decides again, and the same ciphertext is sent: other ones would
    tell more, to left or to the consumer.
    """
    spool, question = join.context.spool, join.question
    [total] = join.kept(of)
    kept = spool.get(_NOISE_FILE)
    noise = json.loads(kept) if kept else noise_of(question, join.context.random_bytes)
    spool.put(_NOISE_FILE, json.dumps(noise).encode())
    threshold = threshold_of(question)
    if threshold is not None:
        limit = total.count + noise[0] - threshold
        reached = yield from is_at_most(join.context, limit, of * DUMMIES, RIGHT)
        if not reached:
            return WITHHELD
    answer = spool.get(ANSWER_FILE)
    if answer is None:
        [sealed] = yield from join.finish([(total.ciphertext, question.encode(noise))])
        answer = released(sealed)
        spool.put(ANSWER_FILE, answer)
    return answer


def _right(join: Join) -> Role:
    """Compare with encrypted values and hidden dummies."""
    context = join.context
    own = yield from lay_out(context)
    yield from join.verify_values(own)
    yield from send(LEFT, "size", encode_number(own.count))
    body = yield from receive_verdict(LEFT, "size", NUMBER_BYTES)
    peer_count = _parse_size(body, LEFT)
    if not _both_reach(join, own.count, peer_count):
        raise ProtocolViolation(f"{LEFT} went on with a set below the agreed minimum")
    added = _added(context, _buckets(join, own, peer_count))
    chosen = zip(added, dummies(len(added)), strict=True)
    further = [name for number, names in chosen for name in names[:number]]
    further += fillers([DUMMIES - number for number in added], context.random_bytes)
    hidden = _Hidden.of_sizes(join, own, peer_count, further)
    inner = hidden.join
    met = yield from guest(
        inner.context, LEFT, hidden.shape(), take_nothing, attach=inner.attach_values
    )
    hidden.verify_met(met, LEFT)
    if threshold_of(join.question) is not None:
        yield from let_compare(context, sum(added), hidden.of * DUMMIES, LEFT)
    yield from receive_verdict(LEFT, "verdict", 0)
    return Outcome(None, own.report())


def _added(context: RoleContext, of: int) -> list[int]:
    """How many dummies are added in each bucket: drawn once, as two draws would tell more."""
    kept = context.spool.get(_ADDED_FILE)
    if kept is not None:
        before: list[int] = json.loads(kept)
        if len(before) != of:
            raise ProtocolViolation(f"{LEFT} has a set of another size than before")
        return before
    added = [draw_added(context.random_bytes) for _ in range(of)]
    context.spool.put(_ADDED_FILE, json.dumps(added).encode())
    return added


def _consumer(join: Join) -> Role:
    """Read the result."""
    return Outcome((yield from join.result()))


def _start(context: RoleContext) -> Role:
    roles = {LEFT: _left, RIGHT: _right, CONSUMER: _consumer}
    return roles[context.role](Join.of(context, LEFT, RIGHT))


def _check_settings(parameters: Parameters) -> None:
    if parameters.groups:
        raise InputRejected(
            "parameters: groups would be counted by left, who is not to know any count here; "
            "private-sum/2 has groups"
        )
    question_of(parameters, LEFT, RIGHT)


_BOTH_LEARN = (
    "How many distinct identifiers the other has, and whether the result was let go, which is so "
    "where the true count reaches the minimum cohort (with an epsilon: where the noisy one does). "
)

PRIVATE_SUM_HIDDEN = Kind(
    name="private-sum-hidden/1",
    title="Sum, mean and variance of one provider's value over the people it has in common with "
    "another, neither of whom learns how many these are",
    title_zh="两个提供方共有的人或物,其中一方数值的总和、均值与方差,双方均不得知共有数量",
    leakage={
        LEFT: _BOTH_LEARN
        + "In each bucket of up to 32,768 identifiers, how many are common with a "
        "number added that right draws and left does not know: the odds of what it sees change by "
        "at most a factor of 2, but for a chance of 2^-40, if one person is or is not common. No "
        "value, and not which are common. It adds the noise where the order has an epsilon. If "
        "left and the consumer share what they have, they know the count and can decrypt every "
        "single value of right, without knowing whose it is.",
        RIGHT: _BOTH_LEARN + "It relies on left for the minimum cohort, and left on right for the "
        "number that right added: one that lies about it lets a cohort pass that is too small.",
        CONSUMER: statistics_learnt(grouped=False) + "If right and the consumer share what they "
        "have, right can choose its values so that the sum tells which of its people are common.",
    },
    result={LEFT: "nothing", RIGHT: "nothing", CONSUMER: RESULT},
    columns={LEFT: ("identifier",), RIGHT: ("identifier", "value"), CONSUMER: ()},
    providers=(2, 2),
    needs_key=True,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (LEFT, RIGHT),
    start_role=_start,
    compute_in_clear=join_in_clear(LEFT, RIGHT),
    settings=("statistics", "valueBits", "decimals"),
    check_settings=_check_settings,
    resumable=True,
    adds_noise=True,
)
