"""One party's set in buckets by hash: the unit of memory, of progress and of resuming.

A set is first laid out in its spool, each identifier once, in parts by the first bits of a public
hash. When both parties have said how large their sets are, so many neighbouring parts make a bucket
that the larger set has about `BUCKET_ELEMENTS` in each.

How many identifiers fall into a bucket would tell more about a set than its size does, so every
bucket is filled with random strangers up to one size, which depends on the size of the whole set
alone. The bound on the fullest bucket is Bernstein's inequality with 2^-40; the filling costs 3 per
cent at 131,072 a bucket.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TypeAlias

from privacy.computation import Inputs, RoleContext
from privacy.errors import InputRejected
from privacy.paillier import RandomBytes
from privacy.role import Progress, Steps
from privacy.spool import Spool

BUCKET_ELEMENTS = 131_072
PARTS = 1024
# A set of at most so many identifiers is laid out as one part, in memory and on disk.
SMALL_SET = 131_072
# What is gathered in memory before it is appended to the parts.
GATHERED_BYTES = 32 * 1024 * 1024
# ln(2^40) rounded up: the failure probability of the filling.
_FAILURE_NATS = 28

# What an identifier stands for besides itself: the sum of its values, and its group's number.
Cell: TypeAlias = tuple[int, int]
Elements: TypeAlias = dict[str, Cell]

_NOTHING: Cell = (0, 0)
# Length of the identifier, sum of its values (2^31 rows below 2^63 fit in 96 bits), group.
_RECORD = struct.Struct(">HiQH")
_SUM_BIAS = 1 << 95


@dataclass(frozen=True)
class OwnSet:
    """The distinct identifiers of one party, laid out in its spool.

    `rows` is how many rows they came from, so `rows - count` were repetitions. `whole` are the
    elements of a small set that was just laid out.
    """

    count: int
    rows: int
    spool: Spool
    parts: int
    whole: Elements | None = None

    def report(self) -> Mapping[str, int]:
        """What its owner is told about its own input."""
        return {"rows": self.rows, "distinct": self.count, "duplicates": self.rows - self.count}

    def bucket(self, number: int, of: int) -> Elements:
        """Return the elements of bucket `number` of `of`, a power of two up to 1024."""
        if self.parts == 1:
            whole = self.whole
            if whole is None:
                whole = _parse_part(self.spool.get(_part(0)) or b"")
            if of == 1:
                return whole
            return {x: cell for x, cell in whole.items() if place(x) * of // PARTS == number}
        elements: Elements = {}
        for part in range(number * PARTS // of, (number + 1) * PARTS // of):
            elements.update(_parse_part(self.spool.get(_part(part)) or b""))
        return elements


def place(identifier: str) -> int:
    """Return the part of an identifier, 0 to 1023: ten bits of a public hash."""
    digest = hashlib.blake2b(identifier.encode(), digest_size=2, person=b"ds bucket").digest()
    return int.from_bytes(digest, "big") % PARTS


def bucket_count(largest: int, bucket_elements: int = BUCKET_ELEMENTS) -> int:
    """Return how many buckets two sets need of which the larger has `largest` elements."""
    of = 1
    while of < PARTS and largest > of * bucket_elements:
        of *= 2
    return of


def padded_size(count: int, of: int) -> int:
    """Return to how many elements each bucket of a set of `count` is filled.

    With probability 1 - 2^-40 no bucket has more: Bernstein's inequality for each bucket with
    failure 2^-40 / `of`, that is t^2 = 2 L (mean + t/3) with L = ln(2^40 of), in integers so that
    both parties get the same number. One bucket is the set itself.
    """
    if of == 1:
        return count
    nats = _FAILURE_NATS + of.bit_length()
    mean = -(-count // of)
    return min(count, mean + (nats + isqrt(nats * nats + 18 * mean * nats)) // 3 + 2)


def strangers(count: int, random_bytes: RandomBytes) -> list[str]:
    """Return `count` identifiers that nobody else has."""
    return [f"\0{random_bytes(24).hex()}" for _ in range(count)]


def lay_out(context: RoleContext) -> Steps[OwnSet]:
    """Read the rows and lay the set out in the spool, or take the one that lies there complete.

    Rows of one identifier are added up. Raises InputRejected where an identifier is in two groups:
    whose sum it belongs to would not be defined.
    """
    spool = context.spool
    known = spool.get("set")
    if known is not None:
        count, rows, parts = json.loads(known)
        return OwnSet(count, rows, spool, parts)
    for name in list(spool.names()):
        # What a crash left in the middle of laying out.
        if name.startswith("part-"):
            spool.remove(name)
    own = yield from _lay_out_anew(context)
    spool.put("set", json.dumps([own.count, own.rows, own.parts]).encode())
    return own


def _lay_out_anew(context: RoleContext) -> Steps[OwnSet]:
    groups = {group: number for number, group in enumerate(context.parameters.groups)}
    small: Elements | None = {}
    gathered = _Gathered(context.spool)
    rows = 0
    for batch in context.rows.batches():
        rows += len(batch.identifiers)
        if small is None:
            gathered.add_all(_cells(batch, groups))
        else:
            _add_batch(small, batch, groups)
            if len(small) > SMALL_SET:
                gathered.add_all(small.items())
                small = None
        yield Progress()
    if small is not None:
        context.spool.put(_part(0), _encode_part(small))
        return OwnSet(len(small), rows, context.spool, 1, small)
    count = yield from gathered.finish()
    return OwnSet(count, rows, context.spool, PARTS)


def _cells(batch: Inputs, groups: Mapping[str, int]) -> Iterator[tuple[str, Cell]]:
    if not batch.values and not batch.groups:
        return ((identifier, _NOTHING) for identifier in batch.identifiers)
    values = batch.values or (0,) * len(batch.identifiers)
    numbers = [groups[group] for group in batch.groups] or (0,) * len(batch.identifiers)
    cells = zip(values, numbers, strict=True)
    return zip(batch.identifiers, cells, strict=True)


def _add_batch(elements: Elements, batch: Inputs, groups: Mapping[str, int]) -> None:
    if batch.values or batch.groups:
        _add_all(elements, _cells(batch, groups))
    else:
        elements.update(dict.fromkeys(batch.identifiers, _NOTHING))


def _add_all(elements: Elements, cells: Iterable[tuple[str, Cell]]) -> None:
    for identifier, cell in cells:
        before = elements.get(identifier)
        if before is None:
            elements[identifier] = cell
        elif before[1] != cell[1]:
            raise InputRejected(
                "column group: an identifier is in more than one group; give each identifier one"
            )
        elif cell[0]:
            elements[identifier] = (before[0] + cell[0], before[1])


class _Gathered:
    """Rows on their way to their parts."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: list[list[bytes]] = [[] for _ in range(PARTS)]
        self._waiting_bytes = 0

    def add_all(self, cells: Iterable[tuple[str, Cell]]) -> None:
        for identifier, cell in cells:
            record = _encode_record(identifier, cell)
            self._waiting[place(identifier)].append(record)
            self._waiting_bytes += len(record)
        if self._waiting_bytes >= GATHERED_BYTES:
            self._write()

    def _write(self) -> None:
        for part, records in enumerate(self._waiting):
            if records:
                self._spool.append(_part(part), b"".join(records))
                records.clear()
        self._waiting_bytes = 0

    def finish(self) -> Steps[int]:
        """Write every part with each identifier once; return how many identifiers there are."""
        self._write()
        count = 0
        for part in range(PARTS):
            elements = _parse_part(self._spool.get(_part(part)) or b"")
            self._spool.put(_part(part), _encode_part(elements))
            count += len(elements)
            yield Progress()
        return count


def _part(number: int) -> str:
    return f"part-{number}"


def _encode_record(identifier: str, cell: Cell) -> bytes:
    text = identifier.encode()
    high, low = divmod(cell[0] + _SUM_BIAS, 1 << 64)
    return _RECORD.pack(len(text), high - (1 << 31), low, cell[1]) + text


def _encode_part(elements: Elements) -> bytes:
    return b"".join(_encode_record(x, cell) for x, cell in elements.items())


def _parse_part(content: bytes) -> Elements:
    elements: Elements = {}
    _add_all(elements, _records(content))
    return elements


def _records(content: bytes) -> Iterator[tuple[str, Cell]]:
    position, end = 0, len(content)
    while position < end:
        length, high, low, group = _RECORD.unpack_from(content, position)
        position += _RECORD.size
        total = ((high + (1 << 31)) << 64 | low) - _SUM_BIAS
        yield content[position : position + length].decode(), (total, group)
        position += length
