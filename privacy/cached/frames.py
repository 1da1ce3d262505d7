"""What both parties of a cached comparison do alike: frames of many records, masking, raising."""

import hashlib
import struct
from collections.abc import Iterator, Sequence

from privacy.cached.files import RECORD_BYTES, Table
from privacy.cached.rows import Sizes
from privacy.role import Steps, receive, send
from privacy.wire import COUNT_BYTES, encode_points, parse_records, verify_ascending
from privacy.workers import pieces_of

SENDER = "sender"
# Identifiers of one party: what the sender's index of them, 50 bytes each, leaves room for.
MAX_IDENTIFIERS = 2_000_000
DIGEST_BYTES = 32
NOTHING_AGREED = bytes(DIGEST_BYTES)
# The consumer's count, and the digest of what it thinks both have.
HELLO = struct.Struct(f">Q{DIGEST_BYTES}s")
# What is to be done, and two counts: all or leaving, and recent.
ANSWER = struct.Struct(">BQQ")
SAME, CHANGED, AFRESH = 0, 1, 2


def next_agreed(before: bytes, *tables: Table) -> bytes:
    """The digest both have after `tables` went from the consumer to the sender."""
    parts = (before, *(table.digest() for table in tables))
    return hashlib.sha256(b"psi-cached/1\0" + b"".join(parts)).digest()


def frame_counts(count: int, sizes: Sizes) -> Iterator[int]:
    """How many records there are in each frame of `count` in all."""
    for start in range(0, count, sizes.frame):
        yield min(sizes.frame, count - start)


def send_all(to: str, name: str, records: Sequence[bytes], sizes: Sizes) -> Steps[None]:
    """Send `records` in frames of bounded size, none where there are no records."""
    for piece in pieces_of(records, sizes.frame):
        yield from send(to, name, encode_points(piece))


def receive_frame(sender: str, name: str, count: int, width: int) -> Steps[list[bytes]]:
    """Receive exactly `count` records in ascending order, all different."""
    payload = yield from receive(sender, name, COUNT_BYTES + count * width)
    records = parse_records(payload, width, sender, expected=count)
    verify_ascending(records, sender)
    return records


def receive_table(sender: str, name: str, count: int, sizes: Sizes) -> Steps[Table]:
    """Receive `count` points under both keys, shortened, ascending over all frames."""
    records: list[bytes] = []
    for expected in frame_counts(count, sizes):
        more = yield from receive_frame(sender, name, expected, RECORD_BYTES)
        verify_ascending([*records[-1:], more[0]], sender)
        records += more
    return Table.of(records)
