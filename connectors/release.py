"""The rules under which rows leave: a small language, as a policy's `ds:release` clause lists it.

    COLUMN:drop         the column does not leave
    COLUMN:mask(3,4)    its first 3 and last 4 characters, `*` for each other
    COLUMN:pseudonym    a keyed hash: equal values stay equal under one agreement, and no other
    COLUMN:prefix(6)    its first 6 characters
    COLUMN:band(10)     20-29, for numbers
    COLUMN:round(100)   the nearest multiple, for numbers
    COLUMN:year         2024, for dates; COLUMN:month 2024-05
    rows:where(COLUMN=VALUE)             rows with that value; COLUMN^=VALUE: that begin with it
    rows:sample(0.1)                     a tenth of the rows, always the same ones
    rows:first(1000)                     no more rows than that
    rows:atleast(5;by=age,district)      no row whose combination occurs in fewer than 5 rows
    rows:total(value;by=a,b;min=20)      no rows but counts and totals, of 20 rows or more each

However they are written, they are applied in this order: where, sample, first; then the columns;
then atleast, which counts combinations as they would leave; then total. A column has one rule at
most, and so has the whole but for `where`, all of which must hold.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import pyarrow as pa

from connectors.conditions import Comparison, Condition, Where
from connectors.errors import InputRejected
from connectors.release_cells import (
    Transformation,
    UnfitCellError,
    UnfitColumnError,
    as_decimal,
    band,
    mask,
    month,
    prefix,
    pseudonym,
    round_to,
    year,
)
from connectors.release_rows import AtLeast, Total, first, sampled

# A policy that names more is a program.
MAX_RULES: Final = 200
MAX_RULE_LENGTH: Final = 500
MAX_SHOWN: Final = 64
MAX_STEP: Final = 10**15

_RULE: Final = re.compile(r"(.+?):([a-z]+)(?:\((.*)\))?", re.DOTALL)
_WHERE: Final = re.compile(r"(.+?)(\^?=)(.+)", re.DOTALL)
_SHARE: Final = re.compile(r"0?\.[0-9]{1,9}|1(\.0*)?")
_ROWS: Final = "rows"


@dataclass(frozen=True)
class CellRule:
    """A rule about one column, with its text for messages."""

    text: str
    transformation: Transformation


@dataclass(frozen=True)
class Release:
    """Rules that fit each other and the columns there are; none means that rows leave as they are.

    `reads` are the columns that `apply` must be given, of the rows that meet `where`; `leaves`
    those that leave unless there is a `total`.
    """

    rules: tuple[str, ...]
    where: Where
    reads: tuple[str, ...]
    leaves: tuple[str, ...]
    cells: Mapping[str, CellRule] = field(default_factory=dict)
    share: Fraction | None = None
    most: int | None = None
    at_least: AtLeast | None = None
    total: Total | None = None

    def schema(self, given: pa.Schema) -> pa.Schema:
        """What leaves of columns of these types. Raises InputRejected where a rule cannot work on
        the type of its column."""
        fields = [given.field(name) for name in self.reads]
        changed = self._change(pa.RecordBatch.from_pylist([], schema=pa.schema(fields)), b"", 1)
        return changed.schema if self.total is None else self.total.schema()

    def apply(
        self, batches: Iterable[pa.RecordBatch], key: bytes, *, spill: Path | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield what leaves, in the order of the source, in bounded memory.

        Pseudonyms and samples are the same under one `key`, a secret of one agreement. `spill` is
        the directory for a nameless file where combinations are counted. Raises InputRejected
        naming rule and row where a cell is not what a rule needs.
        """
        flowing = batches
        if self.share is not None:
            flowing = _sample(flowing, self.share, _subkey(key, "sample"))
        if self.most is not None:
            flowing = first(flowing, self.most)
        flowing = self._changed(flowing, _subkey(key, "pseudonym"))
        if self.at_least is not None:
            flowing = self.at_least.apply(flowing, spill=spill)
        if self.total is not None:
            flowing = self.total.apply(flowing)
        yield from flowing

    def _changed(self, batches: Iterable[pa.RecordBatch], key: bytes) -> Iterator[pa.RecordBatch]:
        row = 1
        for batch in batches:
            yield self._change(batch, key, row)
            row += batch.num_rows

    def _change(self, batch: pa.RecordBatch, key: bytes, row: int) -> pa.RecordBatch:
        """The columns that leave, or are counted, each by its rule; `row` is the first's number."""
        changed = {}
        for name in self.leaves:
            cells = batch.column(name)
            rule = self.cells.get(name)
            if rule is not None:
                cells = _apply(rule, cells, key, row)
            if self.total is not None and name == self.total.value:
                cells = _apply(CellRule(self.total.text, _to_numbers), cells, key, row)
            changed[name] = cells
        return pa.RecordBatch.from_pydict(changed)


def parse_rules(
    texts: Sequence[str], columns: Sequence[str], *, filterable: Sequence[str] = ()
) -> Release:
    """The release that these rules say about `columns`, the published ones in their order.

    `where` may look at the columns `filterable` besides. Raises InputRejected naming the rule and
    the remedy for a rule that is none, names a column that is not there, or does not fit others.
    """
    if len(texts) > MAX_RULES:
        raise InputRejected(f"a release has at most {MAX_RULES} rules, these are {len(texts)}")
    published = tuple(dict.fromkeys(columns))
    made = _Parsing(published, (*published, *filterable))
    for text in texts:
        made.add(text)
    return made.release(tuple(texts))


class _Parsing:
    """The rules read so far."""

    def __init__(self, columns: tuple[str, ...], filterable: tuple[str, ...]) -> None:
        self._columns, self._filterable = columns, filterable
        self._where: list[Condition] = []
        self._cells: dict[str, CellRule] = {}
        self._dropped: dict[str, str] = {}
        self._rows: dict[str, str] = {}
        self._share: Fraction | None = None
        self._most: int | None = None
        self._at_least: AtLeast | None = None
        self._total: Total | None = None

    def add(self, text: str) -> None:
        match = _RULE.fullmatch(text) if len(text) <= MAX_RULE_LENGTH else None
        if match is None:
            raise _refuse(text, "is no rule", "write COLUMN:mask(3,4) or rows:first(1000)")
        name, word, given = match.groups()
        if name == _ROWS and word in _ROW_RULES:
            if word != "where" and word in self._rows:
                raise _refuse(text, f"is a second rows:{word}", "keep one of the two")
            self._rows[word] = text
            _ROW_RULES[word](self, text, given or "")
        else:
            self._add_column(text, name, word, given)

    def _add_column(self, text: str, name: str, word: str, given: str | None) -> None:
        if word not in _CELL_RULES and word != "drop":
            known = ", ".join(("drop", *_CELL_RULES, *(f"rows:{one}" for one in _ROW_RULES)))
            raise _refuse(text, f"names {word}, which is no rule", f"use one of: {known}")
        self._verify_column(text, name, self._columns)
        if name in self._cells or name in self._dropped:
            raise _refuse(text, f"is a second rule for column {name}", "keep one of the two")
        if word == "drop":
            _numbers(text, given, 0)
            self._dropped[name] = text
        else:
            self._cells[name] = CellRule(text, _CELL_RULES[word](text, given))

    def where(self, text: str, given: str) -> None:
        match = _WHERE.fullmatch(given)
        if match is None:
            raise _refuse(text, "compares nothing", "write rows:where(COLUMN=VALUE) or COLUMN^=")
        name, sign, value = match.groups()
        self._verify_column(text, name, self._filterable)
        how = Comparison.STARTS_WITH if sign == "^=" else Comparison.EQ
        self._where.append(Condition(name, how, (value,)))

    def sample(self, text: str, given: str) -> None:
        if not _SHARE.fullmatch(given) or Fraction(given) == 0:
            raise _refuse(text, "names no share", "write a number above 0 up to 1, such as 0.1")
        self._share = Fraction(given)

    def first(self, text: str, given: str) -> None:
        (self._most,) = _numbers(text, given, 1, least=1, most=MAX_STEP)

    def atleast(self, text: str, given: str) -> None:
        count, named = _options(text, given, ("by",))
        (least,) = _numbers(text, count, 1, least=2, most=MAX_STEP)
        self._at_least = AtLeast(least, self._by(text, named["by"]))

    def total(self, text: str, given: str) -> None:
        value, named = _options(text, given, ("min",), optional=("by",))
        self._verify_column(text, value, self._columns)
        by = self._by(text, named["by"]) if "by" in named else ()
        if value in by:
            raise _refuse(text, f"groups by {value}, which it adds up", "name another column")
        (least,) = _numbers(text, named["min"], 1, least=1, most=MAX_STEP)
        self._total = Total(value, by, least, text)

    def release(self, texts: tuple[str, ...]) -> Release:
        leaves = tuple(name for name in self._columns if name not in self._dropped)
        for rule, names in self._counted():
            for name in names:
                if name in self._dropped:
                    raise _refuse(rule, f"needs column {name}, which is dropped", "drop it not")
        if not leaves:
            raise InputRejected("the rules drop every column; keep one, or offer no rows")
        if self._total is not None:
            needed = {name for _, names in self._counted() for name in names}
            leaves = tuple(name for name in leaves if name in needed)
        # Rows that are equal in what leaves are still told apart by a sample.
        reads = leaves if self._share is None else self._columns
        return Release(
            rules=texts,
            where=tuple(self._where),
            reads=reads,
            leaves=leaves,
            cells=self._cells,
            share=self._share,
            most=self._most,
            at_least=self._at_least,
            total=self._total,
        )

    def _counted(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The rules that count rows, and the columns they need."""
        if self._at_least is not None:
            yield self._rows["atleast"], self._at_least.by
        if self._total is not None:
            yield self._rows["total"], (*self._total.by, self._total.value)

    def _by(self, text: str, named: str) -> tuple[str, ...]:
        by = tuple(name.strip() for name in named.split(","))
        for name in by:
            self._verify_column(text, name, self._columns)
        if len(set(by)) < len(by):
            raise _refuse(text, "names a column twice", "name it once")
        return by

    def _verify_column(self, text: str, name: str, present: Sequence[str]) -> None:
        if name not in present:
            listed = ", ".join(dict.fromkeys(present))
            raise _refuse(text, f"names no column that is there: {name}", f"use one of: {listed}")


_ROW_RULES: Final[Mapping[str, Callable[[_Parsing, str, str], None]]] = {
    "where": _Parsing.where,
    "sample": _Parsing.sample,
    "first": _Parsing.first,
    "atleast": _Parsing.atleast,
    "total": _Parsing.total,
}


def _mask(text: str, given: str | None) -> Transformation:
    return mask(*_numbers(text, given, 2, least=0, most=MAX_SHOWN))


def _prefix(text: str, given: str | None) -> Transformation:
    return prefix(*_numbers(text, given, 1, least=1, most=MAX_SHOWN))


def _band(text: str, given: str | None) -> Transformation:
    return band(*_numbers(text, given, 1, least=2, most=MAX_STEP))


def _round(text: str, given: str | None) -> Transformation:
    return round_to(*_numbers(text, given, 1, least=1, most=MAX_STEP))


def _plain(transformation: Transformation) -> Callable[[str, str | None], Transformation]:
    """A rule that takes no numbers."""

    def make(text: str, given: str | None) -> Transformation:
        _numbers(text, given, 0)
        return transformation

    return make


_CELL_RULES: Final[Mapping[str, Callable[[str, str | None], Transformation]]] = {
    "mask": _mask,
    "pseudonym": _plain(pseudonym),
    "prefix": _prefix,
    "band": _band,
    "round": _round,
    "year": _plain(year),
    "month": _plain(month),
}


def _numbers(
    text: str, given: str | None, count: int, *, least: int = 0, most: int = 0
) -> tuple[int, ...]:
    parts = given.split(",") if given else []
    if len(parts) != count or not all(re.fullmatch(r" *[0-9]{1,16} *", one) for one in parts):
        takes = f"{count} whole numbers" if count > 1 else "one whole number"
        raise _refuse(text, f"takes {takes if count else 'nothing in brackets'}", "correct it")
    numbers = tuple(int(one) for one in parts)
    if not all(least <= one <= most for one in numbers):
        raise _refuse(text, "has a number out of bounds", f"use {least} to {most}")
    return numbers


def _options(
    text: str, given: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> tuple[str, dict[str, str]]:
    """`value;name=text;name=text`: the value, and the options by name."""
    value, *parts = given.split(";")
    named = dict(part.strip().partition("=")[::2] for part in parts)
    allowed = (*needed, *optional)
    if set(named) - set(allowed) or len(named) < len(parts) or not all(map(named.get, needed)):
        raise _refuse(text, "lacks an option or has a strange one", f"give {' and '.join(needed)}")
    return value.strip(), named


def _refuse(text: str, what: str, remedy: str) -> InputRejected:
    return InputRejected(f"the rule {text[:200]!r} {what}; {remedy}")


def _apply(rule: CellRule, cells: pa.Array, key: bytes, row: int) -> pa.Array:
    try:
        return rule.transformation(cells, key)
    except UnfitColumnError as err:
        raise InputRejected(
            f"the rule {rule.text!r} is for {err}; its column holds {cells.type}: choose another"
        ) from None
    except UnfitCellError as err:
        raise InputRejected(
            f"the rule {rule.text!r} needs {err.expected} in each cell, and row "
            f"{row + err.index} of those that would leave has something else; correct that row, "
            "or choose another rule"
        ) from None


def _sample(
    batches: Iterable[pa.RecordBatch], share: Fraction, key: bytes
) -> Iterator[pa.RecordBatch]:
    return (sampled(one, share, key) for one in batches)


def _to_numbers(cells: pa.Array, _: bytes) -> pa.Array:
    return as_decimal(cells)


def _subkey(key: bytes, use: str) -> bytes:
    """A key for one use of it, so that what one rule shows says nothing about another's choice."""
    return hmac.digest(key, b"city-dataspace/release/1/" + use.encode(), hashlib.sha256)
