"""A digest of rows that does not depend on their order.

Rows of a table have none. The sum of one SHA-256 for each row, modulo 2^256, together with their
number, is the multiset hash MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh
(ASIACRYPT 2003, after AdHash of Bellare and Micciancio, EUROCRYPT 1997). Two tables that differ by
chance have the same digest with probability 2^-256. It is not collision-resistant against somebody
who chooses all rows and spends about 2^32 work (Wagner, CRYPTO 2002); here that is the owner alone,
who could publish either table anyway.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LANES = 8
_MODULUS = 1 << 256


class RowsDigest:
    """Adds up rows, batch by batch; all batches have the same columns."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of `batch`."""
        if not batch.num_rows or not batch.num_columns:
            self.rows += batch.num_rows
            return
        joined = _rows(batch).to_pylist()
        digests = np.frombuffer(b"".join([sha256(row).digest() for row in joined]), dtype="<u4")
        # Eight 32-bit lanes add up without overflow for 2^32 rows of a batch.
        lanes = digests.reshape(-1, _LANES).sum(axis=0, dtype=np.uint64).tolist()
        total = sum(lane << (32 * place) for place, lane in enumerate(lanes))
        self._sum = (self._sum + total) % _MODULUS
        self.rows += batch.num_rows

    def text(self) -> str:
        """Number of rows and their sum, as text."""
        return f"{self.rows} rows {self._sum:064x}"


def _rows(batch: pa.RecordBatch) -> pa.Array:
    """Each row as bytes that no other row has: every cell with its length before it, or a dash."""
    parts: list[pa.Array | pa.Scalar] = []
    for cells in batch.columns:
        raw = _bytes(cells)
        lengths = pc.binary_length(raw).cast(pa.string()).cast(pa.binary())
        tagged = pc.binary_join_element_wise(lengths, raw, pa.scalar(b":", pa.binary()))
        parts.append(pc.coalesce(tagged, pa.scalar(b"-", pa.binary())))
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def _bytes(cells: pa.Array) -> pa.Array:
    kind = cells.type
    if pa.types.is_binary(kind):
        return cells
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return cells.cast(pa.binary())
    if pa.types.is_floating(kind):
        # All bits of it: text would join what only the last digits tell apart.
        bits = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[kind.bit_width]
        cells = cells.view(bits)
    elif pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        cells = cells.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    return cells.cast(pa.string()).cast(pa.binary())
