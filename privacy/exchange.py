"""Two sets compared in buckets: the part that every computation over an intersection has in common.

One party is the *gate*: it finds out how much is common, and later lets the result go or holds it
back. The other one is its *guest*. Nobody learns more here than the size of the other's set and, at
the gate, how many elements are common. Scheme: Huberman, Franklin, Hogg 1999, with the order of the
gate's points destroyed as in De Cristofaro, Gasti, Tsudik 2012.

    1. guest -> gate   hello      size of its set, buckets it has finished
    2. gate -> guest   hello      the same, or "withheld" if either set is below the minimum cohort
    3. both            resumed    digest of what both have finished, where that is anything
       then for each bucket that is left, under fresh keys g and h:
    4. both            masked     H(x)^g for the own elements, ascending, each with its extra bytes
    5. guest -> gate   raised     the points of 4 under both keys, shortened, the order destroyed
                                  (kept, where the gate may know which of its own are common)

A finished bucket is never done again: its digest goes into `resumed`, and with it into the
transcript of the run that goes on.

Points under both keys are only compared, so they are sent shortened to as many bytes as keep any
two different ones in the whole run apart but for a chance of 2^-`false_positive_bits`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from privacy.buckets import (
    BUCKET_ELEMENTS,
    PARTS,
    Elements,
    OwnSet,
    bucket_count,
    lay_out,
    padded_size,
    strangers,
)
from privacy.computation import RoleContext
from privacy.disclosure import MIN_COHORT, WITHHELD, reaches_cohort, receive_verdict, released
from privacy.errors import ProtocolViolation, Withheld
from privacy.masking import MaskingKey, mask_all, raise_all, verify_not_copied
from privacy.role import Progress, Steps, receive, send
from privacy.wire import COUNT_BYTES, NUMBER_BYTES, POINT_BYTES, parse_records, verify_ascending

# The identifiers of one party in one run.
MAX_IDENTIFIERS = 20_000_000
FALSE_POSITIVE_BITS = 40
DIGEST_BYTES = 32
# One bit for each bucket there can be.
_FINISHED_BYTES = PARTS // 8
_HELLO_BYTES = NUMBER_BYTES + _FINISHED_BYTES


@dataclass(frozen=True)
class Shape:
    """What two parties agree about how their sets are compared.

    `guest_extra` and `gate_extra` are the bytes that go with each point of the guest and of the
    gate; the gate's come back to it with the points of `raised`. `ordered`: the gate may know which
    of its own elements are common.
    """

    guest_extra: int = 0
    gate_extra: int = 0
    ordered: bool = False
    bucket_elements: int = BUCKET_ELEMENTS
    max_identifiers: int = MAX_IDENTIFIERS
    false_positive_bits: int = FALSE_POSITIVE_BITS


@dataclass(frozen=True)
class Compared:
    """One bucket as the party that yields it sees it, after frame 5.

    `own` are the party's identifiers in the order of its masked points, None for strangers.
    `theirs` are the other's points under both keys, shortened, in the order they came, and
    `theirs_extra` what went with them. `own_raised` (gate only) are the own ones under both keys in
    the order they came, `own_extra` what went with them.
    """

    number: int
    of: int
    own: Sequence[str | None]
    theirs: Sequence[bytes]
    theirs_extra: Sequence[bytes]
    own_raised: Sequence[bytes] = ()
    own_extra: Sequence[bytes] = ()

    def common(self) -> set[bytes]:
        """At the gate: the shortened points both have."""
        return set(self.theirs).intersection(self.own_raised)


# Makes the extra bytes of the own elements, in the order of the identifiers it is given; those that
# are not among the elements are strangers.
Attach = Callable[[Elements, Sequence[str]], Steps[list[bytes]]]
# Takes a compared bucket: keeps in the spool what it will need of it.
Take = Callable[[Compared], Steps[None]]


@dataclass(frozen=True)
class Met:
    """What both know when all buckets have been compared: the sizes, and in how many buckets."""

    own: OwnSet
    peer_count: int
    of: int
    width: int

    def padded(self) -> int:
        """Elements in each of the own buckets, strangers included."""
        return padded_size(self.own.count, self.of)

    def peer_padded(self) -> int:
        """Elements in each of the peer's buckets."""
        return padded_size(self.peer_count, self.of)


def no_extra(_: Elements, identifiers: Sequence[str]) -> Steps[list[bytes]]:
    """Nothing goes with the points."""
    yield from ()
    return [b""] * len(identifiers)


def gate(
    context: RoleContext,
    guest: str,
    shape: Shape,
    take: Take,
    *,
    attach: Attach = no_extra,
    tell: Sequence[tuple[str, str]] = (),
) -> Steps[Met]:
    """Compare all buckets with `guest`, giving each to `take`. Returns when the last is done.

    Raises Withheld where a set is below the minimum cohort, after having told the guest, and those
    in `tell` (party, name of the frame it waits for).
    """
    own = yield from lay_out(context)
    hello = yield from receive(guest, "hello", _HELLO_BYTES)
    peer = _parse_hello(hello, guest, shape)
    if not _both_reach(context, own.count, peer.count):
        for party, name in ((guest, "hello"), *tell):
            yield from send(party, name, WITHHELD)
        raise Withheld(MIN_COHORT)
    yield from send(guest, "hello", released(_hello(context, own, peer.count, shape)))
    met = _met(own, peer.count, shape)
    side = _Side(context, guest, shape, met, take, attach)
    yield from side.run(peer, side.gate_bucket)
    return met


def guest(
    context: RoleContext,
    gate_party: str,
    shape: Shape,
    take: Take,
    *,
    attach: Attach = no_extra,
) -> Steps[Met]:
    """Compare all buckets with `gate_party`. Raises Withheld where the gate says so."""
    own = yield from lay_out(context)
    # The own finished buckets are named once the number of buckets is known to both.
    yield from send(gate_party, "hello", _hello(context, own, None, shape))
    body = yield from receive_verdict(gate_party, "hello", _HELLO_BYTES)
    peer = _parse_hello(body, gate_party, shape)
    if not _both_reach(context, own.count, peer.count):
        raise ProtocolViolation(f"{gate_party} went on with a set below the agreed minimum")
    met = _met(own, peer.count, shape)
    side = _Side(context, gate_party, shape, met, take, attach)
    yield from side.run(peer, side.guest_bucket)
    return met


@dataclass(frozen=True)
class _Hello:
    count: int
    finished: int


def _met(own: OwnSet, peer_count: int, shape: Shape) -> Met:
    largest = max(own.count, peer_count)
    of = bucket_count(largest, shape.bucket_elements)
    # Two sets have at most 2^(2b) pairs of elements, of which none should agree by chance.
    bits = shape.false_positive_bits + 2 * largest.bit_length()
    return Met(own, peer_count, of, min(POINT_BYTES - 1, -(-bits // 8)))


def _both_reach(context: RoleContext, *counts: int) -> bool:
    return all(reaches_cohort(count, context.parameters.min_cohort) for count in counts)


def _hello(context: RoleContext, own: OwnSet, peer_count: int | None, shape: Shape) -> bytes:
    # A party that does not know the other's size yet says what it finished in the last attempt.
    finished = _finished(context)
    if peer_count is not None:
        of = bucket_count(max(own.count, peer_count), shape.bucket_elements)
        finished = {name: digest for name, digest in finished.items() if name[1] == of}
    bits = sum(1 << number for number, _ in finished)
    return own.count.to_bytes(NUMBER_BYTES, "big") + bits.to_bytes(_FINISHED_BYTES, "big")


def _parse_hello(body: bytes, sender: str, shape: Shape) -> _Hello:
    if len(body) != _HELLO_BYTES:
        raise ProtocolViolation(f"{sender} sent a hello of {len(body)} bytes")
    count = int.from_bytes(body[:NUMBER_BYTES], "big")
    if count > shape.max_identifiers:
        raise ProtocolViolation(
            f"{sender} announced {count} identifiers; at most {shape.max_identifiers} are taken"
        )
    return _Hello(count, int.from_bytes(body[NUMBER_BYTES:], "big"))


def _finished(context: RoleContext) -> dict[tuple[int, int], bytes]:
    """The digest of every finished bucket, by its number and how many there are."""
    found = {}
    for name in context.spool.names():
        if name.startswith("done-"):
            _, number, of = name.split("-")
            found[int(number), int(of)] = context.spool.get(name) or b""
    return found


class _Side:
    """One party while buckets are compared."""

    def __init__(
        self,
        context: RoleContext,
        peer: str,
        shape: Shape,
        met: Met,
        take: Take,
        attach: Attach,
    ) -> None:
        self.context, self.peer, self.shape, self.met = context, peer, shape, met
        self.take, self.attach = take, attach

    def run(self, hello: _Hello, compare: "Callable[[int], Steps[bytes]]") -> Steps[None]:
        """Compare the buckets that not both have finished, and remember each with its digest."""
        met, spool = self.met, self.context.spool
        if hello.finished >> met.of:
            raise ProtocolViolation(f"{self.peer} names finished buckets that there are not")
        each = met.padded() + met.peer_padded()
        yield Progress(total=each * met.of)
        mine = {n: d for (n, of), d in _finished(self.context).items() if of == met.of}
        both = [number for number in sorted(mine) if hello.finished >> number & 1]
        if both:
            yield from self._agree_on_finished(b"".join(mine[number] for number in both))
            yield Progress(done=each * len(both))
        for number in range(met.of):
            if number not in both:
                digest = yield from compare(number)
                spool.put(f"done-{number}-{met.of}", digest)

    def _agree_on_finished(self, digests: bytes) -> Steps[None]:
        digest = hashlib.sha256(digests).digest()
        yield from send(self.peer, "resumed", digest)
        theirs = yield from receive(self.peer, "resumed", DIGEST_BYTES)
        if theirs != digest:
            raise ProtocolViolation(f"{self.peer} and we finished buckets that differ")

    def gate_bucket(self, number: int) -> Steps[bytes]:
        """Frames 4 and 5 at the gate."""
        width, shape = self.met.width, self.shape
        key, own, sent = yield from self._mask_and_send(number, shape.gate_extra)
        points, extras, came = yield from self._receive_masked(own, shape.guest_extra)
        theirs = yield from self._raise(key, points)
        limit = COUNT_BYTES + len(own) * (width + shape.gate_extra)
        payload = yield from receive(self.peer, "raised", limit)
        records = parse_records(payload, width + shape.gate_extra, self.peer, expected=len(own))
        if not shape.ordered:
            verify_ascending(records, self.peer)
        raised = [record[:width] for record in records]
        if len(set(raised)) != len(raised):
            raise ProtocolViolation(f"{self.peer} raised two different points to the same")
        yield from self.take(
            Compared(
                number,
                self.met.of,
                list(own.values()),
                theirs,
                extras,
                raised,
                [record[width:] for record in records],
            )
        )
        return _bucket_digest(guest_masked=came, gate_masked=sent, raised=payload)

    def guest_bucket(self, number: int) -> Steps[bytes]:
        """Frames 4 and 5 at the guest."""
        shape = self.shape
        key, own, sent = yield from self._mask_and_send(number, shape.guest_extra)
        points, extras, came = yield from self._receive_masked(own, shape.gate_extra)
        theirs = yield from self._raise(key, points)
        records = [point + extra for point, extra in zip(theirs, extras, strict=True)]
        if not shape.ordered:
            records.sort()
        payload = _encode(records)
        yield from send(self.peer, "raised", payload)
        yield from self.take(Compared(number, self.met.of, list(own.values()), theirs, extras))
        return _bucket_digest(guest_masked=sent, gate_masked=came, raised=payload)

    def _mask_and_send(
        self, number: int, width: int
    ) -> Steps[tuple[MaskingKey, dict[bytes, str | None], bytes]]:
        """Mask the own bucket under a fresh key and send it; masked point to identifier, None for
        a stranger."""
        context = self.context
        elements = self.met.own.bucket(number, self.met.of)
        missing = self.met.padded() - len(elements)
        if missing < 0:
            raise ProtocolViolation("a bucket overflowed, which has a chance of 2^-40; order again")
        identifiers = [*elements, *strangers(missing, context.random_bytes)]
        key = MaskingKey.generate(context.random_bytes)
        masked = yield from mask_all(context.workers, key, identifiers)
        ascending = sorted(zip(masked, identifiers, strict=True))
        extras = yield from self.attach(elements, [identifier for _, identifier in ascending])
        if any(len(extra) != width for extra in extras):
            raise AssertionError("extra bytes of another width than agreed")
        payload = _encode([p + extra for (p, _), extra in zip(ascending, extras, strict=True)])
        yield from send(self.peer, "masked", payload)
        own = {point: name if name in elements else None for point, name in ascending}
        return key, own, payload

    def _receive_masked(
        self, own: Mapping[bytes, object], width: int
    ) -> Steps[tuple[list[bytes], list[bytes], bytes]]:
        """The peer's points, ascending and none of ours, and what goes with each."""
        expected = self.met.peer_padded()
        record_bytes = POINT_BYTES + width
        payload = yield from receive(self.peer, "masked", COUNT_BYTES + expected * record_bytes)
        records = parse_records(payload, record_bytes, self.peer, expected=expected)
        points = [record[:POINT_BYTES] for record in records]
        verify_ascending(points, self.peer)
        verify_not_copied(points, own, self.peer)
        return points, [record[POINT_BYTES:] for record in records], payload

    def _raise(self, key: MaskingKey, points: Sequence[bytes]) -> Steps[list[bytes]]:
        """The peer's points under both keys, shortened, in their order."""
        raised = yield from raise_all(
            self.context.workers, key, points, self.peer, width=self.met.width
        )
        if len(set(raised)) != len(raised):
            raise ProtocolViolation(f"{self.peer} sent points that cannot be told apart")
        return raised


def _encode(records: Sequence[bytes]) -> bytes:
    return len(records).to_bytes(COUNT_BYTES, "big") + b"".join(records)


def _bucket_digest(*, guest_masked: bytes, gate_masked: bytes, raised: bytes) -> bytes:
    parts = (guest_masked, gate_masked, raised)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
