"""What two parties keep between runs of a cached comparison: their keys, sealed, and record files.

A record file is one sequence of bytes with records of one width in ascending order: a million
records of 16 bytes are 16 MB on disk and in memory, and are searched where they lie. Everything
read back is checked, the states by the cache's seal and the files by digests in the state. Whatever
is missing, altered, cut short or of another format counts as not there.
"""

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from privacy.masking import GROUP_ORDER, SCALAR_BYTES
from privacy.paillier import RandomBytes
from privacy.spool import Cache
from privacy.wire import POINT_BYTES

# Written into every state; a change of what a file holds is another number.
FORMAT = 1
PREFIX = "psi-cached-1."
SENDER_STATE, CONSUMER_STATE = PREFIX + "sender", PREFIX + "consumer"
INDEX, BASE, RECENT = PREFIX + "index", PREFIX + "base", PREFIX + "recent"

# The first bytes of the x of a point under both keys. Points are as good as random, so a set of
# 2^21 and 2^43 elements compared with it over the years agree by chance somewhere with 2^-64.
RECORD_BYTES = 16
HASH_BYTES = 16
# Keyed hash of an identifier, its masked point, and whether it is in the recent part.
INDEX_BYTES = HASH_BYTES + POINT_BYTES + 1
IN_BASE, IN_RECENT = b"\0", b"\1"


@dataclass(frozen=True)
class Table:
    """Records of one width in ascending order, all different."""

    content: bytes = b""
    width: int = RECORD_BYTES

    @classmethod
    def of(cls, records: Iterable[bytes], width: int = RECORD_BYTES) -> "Table":
        """Join `records`, which are in ascending order."""
        return cls(b"".join(records), width)

    def __len__(self) -> int:
        return len(self.content) // self.width

    def __getitem__(self, place: int) -> bytes:
        return self.content[place * self.width : (place + 1) * self.width]

    def __iter__(self) -> Iterator[bytes]:
        return (self[place] for place in range(len(self)))

    def has(self, record: bytes) -> bool:
        """Find a record by binary search: 20 steps in a million."""
        place = bisect_left(self, record)
        return place < len(self) and self[place] == record

    def digest(self) -> bytes:
        return hashlib.sha256(self.content).digest()


@dataclass(frozen=True)
class SenderState:
    """What the provider knows of its cached set.

    `scalar` and `hash_key` are secret. `agreed` is the digest both parties have of the set under
    both keys. `version` and `rows_digest` tell from which rows the set was made, `rows` how many
    they were and `distinct` how many identifiers. The rest are digests of the files.
    """

    scalar: bytes = field(repr=False)
    hash_key: bytes = field(repr=False)
    agreed: bytes
    version: str | None
    rows_digest: bytes
    rows: int
    distinct: int
    index: bytes
    base: bytes
    recent: bytes


@dataclass(frozen=True)
class ConsumerState:
    """What the consumer knows: its secret scalars for both parts, the digest both parties have,
    and how many elements the parts have. There is no recent part where `recent` is 0."""

    base_scalar: bytes = field(repr=False)
    recent_scalar: bytes = field(repr=False)
    agreed: bytes
    base: int
    recent: int


State = TypeVar("State", SenderState, ConsumerState)


def draw_scalar(random_bytes: RandomBytes) -> bytes:
    """Draw a scalar for a `MaskingKey` that is to be kept, uniformly."""
    while True:
        scalar = random_bytes(SCALAR_BYTES)
        if 0 < int.from_bytes(scalar, "big") < GROUP_ORDER:
            return scalar


def save_state(cache: Cache, name: str, state: SenderState | ConsumerState) -> None:
    """Seal `state` and keep it. Files it names must have been kept before."""
    values = {
        key: value.hex() if isinstance(value, bytes) else value
        for key, value in asdict(state).items()
    }
    cache.files.put(name, cache.sealing.seal(json.dumps([FORMAT, name, values]).encode()))


def load_state(cache: Cache, name: str, kind: type[State]) -> State | None:
    """Return the state of that name; None where there is none that can be used."""
    sealed = cache.files.get(name)
    if sealed is None:
        return None
    try:
        number, called, values = json.loads(cache.sealing.open(sealed))
    except (ValueError, TypeError):
        return None
    # Only we can have sealed it, so what has our format and name is well formed.
    if (number, called) != (FORMAT, name):
        return None
    read: dict[str, Any] = {
        each.name: bytes.fromhex(values[each.name]) if each.type is bytes else values[each.name]
        for each in fields(kind)
    }
    return kind(**read)


def load_table(cache: Cache, name: str, digest: bytes, width: int = RECORD_BYTES) -> Table | None:
    """Return a record file; None unless it is there and is the one with that digest."""
    table = Table(cache.files.get(name) or b"", width)
    return table if table.digest() == digest else None


def keyed_hashes(hash_key: bytes, identifiers: Sequence[str]) -> list[bytes]:
    """Return 16 bytes for each identifier that say nothing about it to who has not the key."""
    blake2b = hashlib.blake2b
    return [
        blake2b(identifier.encode(), digest_size=HASH_BYTES, key=hash_key).digest()
        for identifier in identifiers
    ]


class RowsDigest:
    """A digest of a column of identifiers, in order, however it is cut into batches."""

    def __init__(self) -> None:
        self._text, self._lengths = hashlib.sha256(), hashlib.sha256()
        self.rows = 0

    def add(self, identifiers: Sequence[str]) -> None:
        # The text alone would not tell "ab", "c" from "a", "bc".
        self._text.update("".join(identifiers).encode())
        self._lengths.update(array("I", map(len, identifiers)).tobytes())
        self.rows += len(identifiers)

    def digest(self) -> bytes:
        return hashlib.sha256(self._text.digest() + self._lengths.digest()).digest()
