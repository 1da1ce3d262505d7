"""Is one party's number at most another's? One of them finds out, and nothing else.

A number of the peer, from 0 to a public `most`, is at most our limit if and only if it is among
the numbers up to the limit. So {number} is compared with {0, ..., limit}, filled up with strangers
to as many elements as there can be numbers, by the comparison of sets of Huberman, Franklin, Hogg
1999 under two fresh keys: we find one element common, or none. The peer sees random points only.
For semi-honest parties: who puts other numbers into its set finds out whether one of these it is.

    1. asking -> asked    threshold   the numbers and strangers, masked, ascending
    2. asked -> asking    number      the asked party's number, masked
    3. asked -> asking    compared    the points of 1 under both keys, without their first bytes,
                                      the order destroyed
"""

from privacy.buckets import strangers
from privacy.computation import RoleContext
from privacy.masking import MaskingKey, mask_all, raise_all, shorten
from privacy.role import Steps, receive, send
from privacy.wire import (
    COUNT_BYTES,
    POINT_BYTES,
    encode_points,
    limit_of_points,
    parse_point_set,
    parse_records,
    verify_ascending,
)

# A point without its first byte.
X_BYTES = POINT_BYTES - 1


def _name(number: int) -> str:
    return f"number {number}"


def is_at_most(context: RoleContext, limit: int, most: int, peer: str) -> Steps[bool]:
    """Find out whether the peer's number, from 0 to `most`, is at most `limit`; nothing else."""
    key = MaskingKey.generate(context.random_bytes)
    below = [_name(number) for number in range(min(limit, most) + 1)]
    names = below + strangers(most + 1 - len(below), context.random_bytes)
    masked = yield from mask_all(context.workers, key, names)
    yield from send(peer, "threshold", encode_points(sorted(masked)))
    [theirs] = parse_point_set(
        (yield from receive(peer, "number", limit_of_points(1))), peer, expected=1
    )
    payload = yield from receive(peer, "compared", COUNT_BYTES + (most + 1) * X_BYTES)
    raised = parse_records(payload, X_BYTES, peer, expected=most + 1)
    verify_ascending(raised, peer)
    return shorten(key.raise_points([theirs], peer)[0], X_BYTES) in set(raised)


def let_compare(context: RoleContext, number: int, most: int, peer: str) -> Steps[None]:
    """Let the peer find out whether our `number`, from 0 to `most`, is at most its limit."""
    payload = yield from receive(peer, "threshold", limit_of_points(most + 1))
    points = parse_point_set(payload, peer, expected=most + 1)
    key = MaskingKey.generate(context.random_bytes)
    yield from send(peer, "number", encode_points(key.mask([_name(number)])))
    raised = yield from raise_all(context.workers, key, points, peer, width=X_BYTES)
    yield from send(peer, "compared", encode_points(sorted(raised)))
