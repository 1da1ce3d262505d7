"""What rules of a release do to whole rows: samples, rare combinations left out, totals."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import InputRejected
from connectors.release_cells import as_text, keyed_hash

# Each is held in memory with its count; more are too fine to be released by combination anyway.
MAX_COMBINATIONS: Final = 200_000
# A sum of 10^11 rows of numbers below 10^17 with 18 decimals is still exact.
_DIGITS: Final = 60


def sampled(batch: pa.RecordBatch, share: Fraction, key: bytes) -> pa.RecordBatch:
    """About this share of the rows, chosen by a keyed hash of what is in the row.

    The same row is chosen again whenever it is fetched: if chance chose anew each time, somebody
    who fetches often enough would have every row. Without the key nobody can tell, or steer by the
    values they write, which rows those are. Equal rows are chosen together.
    """
    limit, digest = int(share * 2**64), keyed_hash(key)
    chosen = [
        int.from_bytes(digest(row.encode())[:8]) < limit
        for row in _keys(batch, batch.schema.names).to_pylist()
    ]
    return batch.filter(pa.array(chosen, pa.bool_()))


def first(batches: Iterable[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    """The first `count` rows."""
    left = count
    for batch in batches:
        yield batch.slice(0, left)
        left -= min(left, batch.num_rows)
        if left == 0:
            return


@dataclass(frozen=True)
class AtLeast:
    """Rows whose combination of the columns `by` occurs in at least `count` rows."""

    count: int
    by: tuple[str, ...]

    def apply(
        self, batches: Iterable[pa.RecordBatch], *, spill: Path | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows are kept on disk, in a nameless file in the directory `spill`, until all have
        been counted: a source read a second time may have changed."""
        seen: Counter[str] = Counter()
        with tempfile.TemporaryFile(dir=spill) as file:
            writer: pa.RecordBatchStreamWriter | None = None
            for batch in batches:
                if writer is None:
                    writer = pa.ipc.new_stream(file, batch.schema)
                writer.write_batch(batch)
                _count(seen, _keys(batch, self.by))
            if writer is None:
                return
            writer.close()
            enough = pa.array([key for key, n in seen.items() if n >= self.count], pa.string())
            file.seek(0)
            with closing(pa.ipc.open_stream(file)) as kept:
                for batch in kept:
                    yield batch.filter(pc.is_in(_keys(batch, self.by), value_set=enough))


@dataclass(frozen=True)
class Total:
    """Counts of rows and totals of `value` for each combination of the columns `by`.

    `value` is a column of decimals, and a row without one is not counted. A group of fewer than
    `least` rows is left out; so that its total cannot be found by subtracting from one that is
    known from elsewhere, others are left out with it (`_hidden`).
    """

    value: str
    by: tuple[str, ...]
    least: int
    text: str = ""

    def schema(self) -> pa.Schema:
        """The columns of the totals: `by`, how many rows, and the total, as exact numbers."""
        texts = [pa.field(name, pa.string()) for name in self.by]
        return pa.schema(
            [*texts, pa.field("rows", pa.int64()), pa.field(f"{self.value}_total", pa.string())]
        )

    def apply(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows: Counter[tuple[str | None, ...]] = Counter()
        totals: defaultdict[tuple[str | None, ...], Decimal] = defaultdict(Decimal)
        with localcontext(prec=_DIGITS):
            for batch in batches:
                for group, count, total in self._of(batch):
                    rows[group] += count
                    totals[group] += total
                _verify_few(len(rows))
            hidden = _hidden(rows, self.least)
        shown = sorted((one for one in rows if one not in hidden), key=_order)
        columns = [pa.array([one[n] for one in shown], pa.string()) for n in range(len(self.by))]
        columns.append(pa.array([rows[one] for one in shown], pa.int64()))
        columns.append(pa.array([_plain(totals[one]) for one in shown], pa.string()))
        yield pa.RecordBatch.from_arrays(columns, schema=self.schema())

    def _of(self, batch: pa.RecordBatch) -> Iterator[tuple[tuple[str | None, ...], int, Decimal]]:
        # Named by number, as a column may be both a group and the value.
        cells = {str(n): as_text(batch.column(name)) for n, name in enumerate(self.by)}
        table = pa.table({**cells, "value": batch.column(self.value)})
        summed = table.group_by(list(cells)).aggregate([("value", "sum"), ("value", "count")])
        for row in summed.to_pylist():
            if row["value_count"]:
                group = tuple(row[name] for name in cells)
                yield group, row["value_count"], row["value_sum"]


def _hidden(rows: Counter[tuple[str | None, ...]], least: int) -> set[tuple[str | None, ...]]:
    """The groups to leave out: those below `least`, and others so that none stands alone.

    Groups that differ in one column only are a line, whose sum may be known from elsewhere. What
    is left out of a line is two groups or more of `least` rows or more together, or all of it: the
    smallest others go with them. This is the common rule for tables of totals; it does not hold
    against somebody who knows members of the groups, or solves for several tables at once.
    """
    hidden = {group for group, count in rows.items() if count < least}
    dimensions = len(next(iter(rows), ()))
    lines: defaultdict[tuple[object, ...], list[tuple[str | None, ...]]] = defaultdict(list)
    for group in rows:
        for n in range(dimensions):
            lines[n, *group[:n], *group[n + 1 :]].append(group)
    for line in lines.values():
        line.sort(key=lambda group: (rows[group], _order(group)))
    grown = True
    while grown:
        grown = False
        for line in lines.values():
            out = [group for group in line if group in hidden]
            together = sum(rows[group] for group in out)
            for group in (one for one in line if one not in hidden):
                if not out or (len(out) > 1 and together >= least):
                    break
                out.append(group)
                together += rows[group]
                hidden.add(group)
                grown = True
    return hidden


def _keys(batch: pa.RecordBatch, by: Sequence[str]) -> pa.Array:
    """One text for each row that differs where any of these columns does."""
    parts: list[pa.Array | pa.Scalar] = []
    for name in by:
        cells = as_text(batch.column(name))
        # With its length before it, no text can pass for two.
        parts += [pc.utf8_length(cells).cast(pa.string()), pa.scalar(":"), cells]
    return pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="-")


def _count(seen: Counter[str], keys: pa.Array) -> None:
    for one in keys.value_counts().to_pylist():
        seen[one["values"]] += one["counts"]
    _verify_few(len(seen))


def _verify_few(combinations: int) -> None:
    if combinations > MAX_COMBINATIONS:
        raise InputRejected(
            f"a rule of the release counts by columns that have more than {MAX_COMBINATIONS} "
            "combinations; coarsen them first (band, prefix, year), or name fewer"
        )


def _order(group: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(cell or "" for cell in group)


def _plain(total: Decimal) -> str:
    """The number without an exponent and without zeros that say nothing."""
    text = f"{total:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
