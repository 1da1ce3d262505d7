"""How the protocols write their payloads: compact binary, parsed with every bound checked.

Every integer is big-endian. A set of points is sent in strictly ascending order: the order of
points masked under a fresh key says nothing about the identifiers, no second source of randomness
is needed to destroy the old order, and a duplicate shows at once.
"""

from collections.abc import Sequence
from itertools import pairwise

from privacy.errors import ProtocolViolation

# A compressed point of P-256: one byte 02 or 03, then x. SEC 1, section 2.3.3.
POINT_BYTES = 33
COUNT_BYTES = 4
NUMBER_BYTES = 8


def limit_of_points(count: int) -> int:
    """The size in bytes of a frame with `count` points."""
    return COUNT_BYTES + count * POINT_BYTES


def encode_points(points: Sequence[bytes]) -> bytes:
    """Write points (33 bytes each) in the order given."""
    return len(points).to_bytes(COUNT_BYTES, "big") + b"".join(points)


def parse_points(payload: bytes, sender: str, *, expected: int | None = None) -> list[bytes]:
    """Read points in the order sent, all different; `expected` is their number where known."""
    records = parse_records(payload, POINT_BYTES, sender, expected=expected)
    if len(set(records)) != len(records):
        raise ProtocolViolation(f"{sender} sent the same point twice")
    return records


def parse_point_set(payload: bytes, sender: str, *, expected: int | None = None) -> list[bytes]:
    """Read points that must come in strictly ascending order."""
    records = parse_records(payload, POINT_BYTES, sender, expected=expected)
    verify_ascending(records, sender)
    return records


def parse_records(
    payload: bytes, width: int, sender: str, *, expected: int | None = None
) -> list[bytes]:
    """Read a count and that many records of `width` bytes, nothing more."""
    count = int.from_bytes(payload[:COUNT_BYTES], "big")
    if len(payload) != COUNT_BYTES + count * width:
        raise ProtocolViolation(
            f"{sender} sent {len(payload)} bytes where {count} records of {width} were announced"
        )
    if expected is not None and count != expected:
        raise ProtocolViolation(f"{sender} sent {count} records, {expected} expected")
    return [payload[i : i + width] for i in range(COUNT_BYTES, len(payload), width)]


def verify_ascending(points: Sequence[bytes], sender: str) -> None:
    """Raise ProtocolViolation unless every point is greater than the one before it."""
    if any(left >= right for left, right in pairwise(points)):
        raise ProtocolViolation(f"{sender} sent points out of order or twice")


def encode_number(number: int) -> bytes:
    """Write a number from 0 to 2**64 - 1."""
    return number.to_bytes(NUMBER_BYTES, "big")


def parse_number(payload: bytes, sender: str) -> int:
    """Read what `encode_number` wrote."""
    if len(payload) != NUMBER_BYTES:
        raise ProtocolViolation(
            f"{sender} sent a number of {len(payload)} bytes, {NUMBER_BYTES} expected"
        )
    return int.from_bytes(payload, "big")


def limit_of_bits(count: int) -> int:
    """The size in bytes of `count` bits."""
    return -(-count // 8)


def encode_bits(bits: Sequence[bool]) -> bytes:
    """Write one bit for each truth value, the first one highest, the last byte filled with 0."""
    size = limit_of_bits(len(bits))
    text = "".join("1" if bit else "0" for bit in bits).ljust(8 * size, "0")
    return int("0" + text, 2).to_bytes(size, "big")


def parse_bits(payload: bytes, sender: str, expected: int) -> list[bool]:
    """Read `expected` bits that `encode_bits` wrote."""
    text = "".join(f"{byte:08b}" for byte in payload)
    if len(payload) != limit_of_bits(expected) or "1" in text[expected:]:
        raise ProtocolViolation(f"{sender} sent no list of {expected} bits")
    return [bit == "1" for bit in text[:expected]]
