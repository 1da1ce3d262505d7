"""Sets of several providers, intersected on a ring of which no member sees more than one overlap.

Every set travels once around the providers, and each of them raises it to its key and destroys its
order, so that in the end all sets are masked alike and can be compared. That is the protocol of
Vaidya and Clifton ("Secure set intersection cardinality with application to association rule
mining", Journal of Computer Security 13(4), 2005) on the commutative encryption of Huberman,
Franklin, Hogg 1999. There, whoever compares holds all sets under all keys, and so learns the size
of the intersection of every selection of them: 2^n - n - 1 numbers.

Here nobody holds more than two of them, so that a provider learns one number at most:

    1. everyone with a set -> every provider         size
    2. provider p -> provider p-1, cyclically        set-of-…   (n - 1 times, one set each)
    3. provider p -> provider p+1, cyclically        common     (from the second to the first)

The set of provider p comes to rest at p+1 under all keys. In 3 the second provider passes on the
first one's set, provider p keeps of what it is sent what is also in the set that rests with it, and
fills it up with strangers to the size of the smallest set so far, so that the next one does not
learn how much that was. Provider p thus learns the size of the intersection of the sets of 1 to
p-1, and its own set is not among them; the first provider learns that of all, the second nothing.

Why nobody can compare more: under a subset T of the keys, H(x)^T looks random next to H(x)^U for
any other U (decisional Diffie-Hellman). Provider p meets the set of provider i under the keys of
i, i-1, …, p+1, a different subset for each i, also after its own key has been added. Only the set
that rests with it and `common` are under the same ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from privacy.computation import CONSUMER, RoleContext
from privacy.disclosure import withhold_below
from privacy.errors import ProtocolViolation
from privacy.masking import MaskingKey, mask_all, raise_all, shorten, verify_not_copied
from privacy.psi import MAX_IDENTIFIERS
from privacy.role import Progress, Steps, receive, send
from privacy.wire import (
    COUNT_BYTES,
    NUMBER_BYTES,
    encode_number,
    encode_points,
    limit_of_points,
    parse_number,
    parse_point_set,
    parse_points,
    parse_records,
    verify_ascending,
)

# Points under all keys are only compared, so they are cut to the first half of x. Two different
# ones among 2^23 agree with a chance below 2^-80, and a stranger is as many random bytes.
SHORT_BYTES = 16


@dataclass(frozen=True)
class DistinctSet:
    """The distinct identifiers a party brings, and how many rows they came from."""

    identifiers: Sequence[str]
    rows: int

    def report(self) -> dict[str, int]:
        """What its owner is told about its own input."""
        distinct = len(self.identifiers)
        return {"rows": self.rows, "distinct": distinct, "duplicates": self.rows - distinct}


def read_distinct(context: RoleContext) -> DistinctSet:
    """Read the rows, each identifier once."""
    distinct: dict[str, None] = {}
    rows = 0
    for batch in context.rows.batches():
        rows += len(batch.identifiers)
        distinct.update(dict.fromkeys(batch.identifiers))
    return DistinctSet(list(distinct), rows)


def mask_sorted(
    context: RoleContext, key: MaskingKey, identifiers: Sequence[str]
) -> Steps[dict[bytes, str]]:
    """Mask `identifiers`; masked point to identifier, in ascending order."""
    masked = yield from mask_all(context.workers, key, identifiers)
    return dict(sorted(zip(masked, identifiers, strict=True)))


def encode_shortened(records: Sequence[bytes]) -> bytes:
    """Write shortened points in ascending order."""
    return len(records).to_bytes(COUNT_BYTES, "big") + b"".join(sorted(records))


def receive_shortened(sender: str, name: str, expected: int) -> Steps[set[bytes]]:
    """Receive exactly `expected` shortened points, which must come in strictly ascending order."""
    payload = yield from receive(sender, name, COUNT_BYTES + expected * SHORT_BYTES)
    records = parse_records(payload, SHORT_BYTES, sender, expected=expected)
    verify_ascending(records, sender)
    return set(records)


def exchange_sizes(
    context: RoleContext, own: DistinctSet, owners: Sequence[str], *, tell: dict[str, str]
) -> Steps[dict[str, int]]:
    """Tell the size of the own set to all other providers, and return that of each of `owners`.

    Raises Withheld where one is too small for the cohort to be reached, after having told those in
    `tell` (party to the name of the frame it waits for); every provider sees that by itself, before
    a single point is sent.
    """
    me = context.role
    for provider in context.providers:
        if provider != me:
            yield from send(provider, "size", encode_number(len(own.identifiers)))
    sizes = {me: len(own.identifiers)}
    for owner in owners:
        if owner != me:
            size = parse_number((yield from receive(owner, "size", NUMBER_BYTES)), owner)
            if size > MAX_IDENTIFIERS:
                raise ProtocolViolation(f"{owner} announced more than {MAX_IDENTIFIERS} elements")
            sizes[owner] = size
    yield from withhold_below(min(sizes.values()), context.parameters.min_cohort, tell=tell)
    return sizes


def route(owner: str, providers: Sequence[str]) -> tuple[str, ...]:
    """Whom a set passes, its owner first: backwards, once around.

    The consumer has no place on the ring; its set goes the way of the first provider's.
    """
    if owner == CONSUMER:
        return (CONSUMER, *route(providers[0], providers))
    start = providers.index(owner)
    return tuple(providers[start - step] for step in range(len(providers)))


def travel(
    context: RoleContext,
    key: MaskingKey,
    own: DistinctSet,
    sizes: Mapping[str, int],
    *,
    seal: MaskingKey | None = None,
) -> Steps[dict[str, list[bytes]]]:
    """Send every set of `sizes` along its route; return those that come to rest here, by owner.

    The order of each is destroyed at every stop, but not that of the consumer's set, which is the
    consumer's secret. With `seal`, the consumer's set is raised to it as well.
    """
    me, providers = context.role, context.providers
    mine = yield from mask_sorted(context, key, own.identifiers)
    yield from send(route(me, providers)[1], f"set-of-{me}", encode_points(list(mine)))
    resting: dict[str, list[bytes]] = {}
    # A set that has made fewer stops is dealt with first: everyone keeps to that order, so nobody
    # waits for a frame whose sender waits for us.
    stops = sorted((route(owner, providers).index(me), owner) for owner in sizes if owner != me)
    for stop, owner in stops:
        way, name, size = route(owner, providers), f"set-of-{owner}", sizes[owner]
        sender = way[stop - 1]
        payload = yield from receive(sender, name, limit_of_points(size))
        parse = parse_points if owner == CONSUMER else parse_point_set
        points = parse(payload, sender, expected=size)
        verify_not_copied(points, mine, sender)
        raised = yield from raise_all(context.workers, key, points, sender)
        if owner == CONSUMER and seal is not None:
            raised = yield from raise_all(context.workers, seal, raised, sender)
        if owner != CONSUMER:
            raised.sort()
        if stop + 1 < len(way):
            yield from send(way[stop + 1], name, encode_points(raised))
        else:
            resting[owner] = raised
    return resting


def sieve(
    context: RoleContext, resting: Sequence[bytes], sizes: Mapping[str, int]
) -> Steps[list[bytes]]:
    """Pass the running intersection on, from the second provider to the first, where it is whole.

    Returns those points of the set `resting` here that are in the sets of all providers up to its
    owner, which at the first provider are all providers.
    """
    providers = context.providers
    place = providers.index(context.role)
    # How many sets have been compared once this provider has had its turn.
    turn = place or len(providers)
    common = list(resting)
    if turn > 1:
        expected = min(sizes[owner] for owner in providers[: turn - 1])
        before = yield from receive_shortened(providers[place - 1], "common", expected)
        common = [point for point in resting if shorten(point, SHORT_BYTES) in before]
    if turn < len(providers):
        room = min(sizes[owner] for owner in providers[:turn])
        filled = [shorten(point, SHORT_BYTES) for point in common]
        filled += [context.random_bytes(SHORT_BYTES) for _ in range(room - len(common))]
        following = providers[(place + 1) % len(providers)]
        yield from send(following, "common", encode_shortened(filled))
    return common


def announce_work(sizes: Mapping[str, int], more: int = 0) -> Steps[None]:
    """Say how many elements this party will mask and raise: each set once, and `more`."""
    yield Progress(total=sum(sizes.values()) + more)
