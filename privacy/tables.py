"""Tables of totals: their cells, what is counted in each, what is withheld, and what is told.

A table has a row for each public group, and one column, or one for each public value of a second
group (a cross-table), or one for each bin of the value (a histogram). Nothing here is secret-shared
or encrypted: these are the functions of values that a provider and the consumer agree on.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from privacy.computation import MAX_GROUPS, Inputs, Parameters
from privacy.errors import InputRejected
from privacy.role import JsonValue

# How many sums over the rows of a cell (the rows, their values, their squares) a statistic needs.
MOMENTS = {"count": 1, "sum": 2, "mean": 2, "variance": 3}
DEFAULT_STATISTICS = ("sum", "count")
# |value| stays below 2^63 wherever nothing less is declared, as in every kind.
MAX_VALUE_BITS = 63
MAX_DECIMALS = 9
MAX_ROUNDING = 1000
# Larger integers are not the same number to every reader of JSON. RFC 8785, appendix D.
MAX_EDGE = 2**53 - 1
# The rows of one provider, and the bits of their number.
MAX_ROWS = 10_000_000
ROW_BITS = 24
# Means and variances have so many digits more than the values.
MORE_DIGITS = 6
SETTINGS = ("statistics", "valueBits", "decimals", "binEdges", "across", "rounding")


@dataclass(frozen=True)
class Table:
    """The shape of a table and what is told of its cells, as the order has it.

    `value_bits`, `rounding` None: not declared, not rounded. `decimals` of 2 says that the value
    1250 means 12.50; `bin_edges` are such integers too. Cells are numbered row by row.
    """

    groups: tuple[str, ...]
    across: tuple[str, ...] = ()
    bin_edges: tuple[int, ...] = ()
    statistics: tuple[str, ...] = DEFAULT_STATISTICS
    value_bits: int | None = None
    decimals: int = 0
    rounding: int | None = None

    @property
    def columns(self) -> int:
        """The number of columns."""
        return len(self.across) or (len(self.bin_edges) + 1 if self.bin_edges else 1)

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.groups) * self.columns

    @property
    def moments(self) -> int:
        """How many sums are kept of a cell: 1 the rows, 2 the values too, 3 their squares too."""
        return max(MOMENTS[name] for name in self.statistics)

    @property
    def bounds(self) -> tuple[int, ...]:
        """The most that one row adds to each of these sums, or takes away."""
        largest = (1 << (self.value_bits or MAX_VALUE_BITS)) - 1
        return (1, largest, largest**2)[: self.moments]

    @property
    def bases(self) -> tuple[int, ...]:
        """To multiples of what each of these sums is rounded; 1 for none of them."""
        base = self.rounding or 1
        return (base, base * 10**self.decimals if self.rounding else 1, 1)[: self.moments]

    @property
    def limits(self) -> tuple[int, ...]:
        """What each of these sums over one provider's rows stays within, on both sides of 0."""
        return tuple(
            (bound << ROW_BITS) + base for bound, base in zip(self.bounds, self.bases, strict=True)
        )

    def place(self, cell: int) -> dict[str, JsonValue]:
        """Say where a cell is: its group, and its value across or its bin."""
        row, column = divmod(cell, self.columns)
        place: dict[str, JsonValue] = {"group": self.groups[row]}
        if self.across:
            place["across"] = self.across[column]
        if self.bin_edges:
            place["from"] = self.bin_edges[column - 1] if column else None
            place["below"] = self.bin_edges[column] if column < len(self.bin_edges) else None
        return place


def table_of(parameters: Parameters) -> Table:
    """Read the table out of an order's groups and settings.

    Raises InputRejected, naming the setting, for one that cannot be used.
    """
    settings = parameters.settings
    table = Table(
        parameters.groups,
        _texts(settings, "across"),
        _edges(settings),
        _statistics(settings),
        _integer(settings, "valueBits", 1, MAX_VALUE_BITS),
        _integer(settings, "decimals", 0, MAX_DECIMALS) or 0,
        _integer(settings, "rounding", 2, MAX_ROUNDING),
    )
    if table.across and table.bin_edges:
        raise InputRejected("parameters: either across or binEdges, not both")
    if table.rounding and "variance" in table.statistics:
        raise InputRejected("parameters: a variance cannot be had from rounded sums")
    if table.cells > MAX_GROUPS:
        raise InputRejected(f"parameters: at most {MAX_GROUPS} cells, got {table.cells}")
    return table


def _integer(settings: Mapping[str, JsonValue], name: str, least: int, most: int) -> int | None:
    value = settings.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise InputRejected(f"parameters: {name} is to be an integer from {least} to {most}")
    return value


def _texts(settings: Mapping[str, JsonValue], name: str) -> tuple[str, ...]:
    given = settings.get(name)
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputRejected(f"parameters: {name} is to be a list of texts")
    texts = tuple(text for text in given if isinstance(text, str) and text)
    if not given or len(texts) != len(given) or len(set(texts)) != len(texts):
        raise InputRejected(f"parameters: {name} is to be a list of texts, each of them once")
    return texts


def _statistics(settings: Mapping[str, JsonValue]) -> tuple[str, ...]:
    if settings.get("statistics") is None:
        return DEFAULT_STATISTICS
    names = _texts(settings, "statistics")
    if not set(names) <= set(MOMENTS):
        raise InputRejected(f"parameters: statistics are among {', '.join(MOMENTS)}")
    return names


def _edges(settings: Mapping[str, JsonValue]) -> tuple[int, ...]:
    given = settings.get("binEdges")
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InputRejected("parameters: binEdges is to be a list of integers")
    edges = tuple(edge for edge in given if type(edge) is int and abs(edge) <= MAX_EDGE)
    ascending = all(left < right for left, right in pairwise(edges))
    if len(edges) != len(given) or not ascending:
        raise InputRejected("parameters: binEdges are to be ascending integers below 2**53")
    return edges


class Tally:
    """The sums over one provider's rows, by cell."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = {group: row * table.columns for row, group in enumerate(table.groups)}
        self._across = {value: column for column, value in enumerate(table.across)}
        self.moments = [[0] * table.cells for _ in range(table.moments)]

    def add(self, batch: Inputs) -> None:
        """Count the rows of a batch. Raises InputRejected, without a value, for bad ones."""
        table = self._table
        cells = [self._rows[group] for group in batch.groups]
        if table.across or batch.across:
            cells = list(map(int.__add__, cells, self._columns_across(batch)))
        if table.bin_edges:
            bins = (bisect_right(table.bin_edges, value) for value in batch.values)
            cells = list(map(int.__add__, cells, bins))
        counts = self.moments[0]
        for cell in cells:
            counts[cell] += 1
        if table.moments > 1:
            self._verify_bound(batch.values)
            sums = self.moments[1]
            for cell, value in zip(cells, batch.values, strict=True):
                sums[cell] += value
        if table.moments > 2:
            squares = self.moments[2]
            for cell, value in zip(cells, batch.values, strict=True):
                squares[cell] += value * value

    def _columns_across(self, batch: Inputs) -> list[int]:
        if not self._table.across:
            raise InputRejected("column across: the order asks for no cross-table")
        if len(batch.across) != len(batch.groups):
            raise InputRejected("column across: the order asks for a cross-table, so it is needed")
        foreign = sum(value not in self._across for value in batch.across)
        if foreign:
            raise InputRejected(f"column across: {foreign} rows have a value that is not listed")
        return [self._across[value] for value in batch.across]

    def _verify_bound(self, values: Sequence[int]) -> None:
        bound = self._table.bounds[1]
        if values and (max(values) > bound or min(values) < -bound):
            beyond = sum(abs(value) > bound for value in values)
            raise InputRejected(
                f"column value: {beyond} rows are not below the declared bound of "
                f"2**{self._table.value_bits}"
            )


def tally_of(table: Table, batches: Iterable[Inputs]) -> Tally:
    """Count all rows."""
    tally = Tally(table)
    for batch in batches:
        tally.add(batch)
    return tally


def released_totals(
    table: Table, totals: Mapping[int, Sequence[int]], withheld: Sequence[bool]
) -> JsonValue:
    """Write a table as the consumer gets it; `totals` is cell to its sums, for the cells shown."""
    return {
        "cells": [
            {**table.place(cell), **told_of(table.statistics, table.decimals, totals[cell])}
            for cell in sorted(totals)
        ],
        "withheld": [table.place(cell) for cell, hidden in enumerate(withheld) if hidden],
    }


def told_of(
    statistics: Collection[str], decimals: int, moments: Sequence[int]
) -> dict[str, JsonValue]:
    """Write the count and the statistics asked for out of count, sum and sum of squares.

    The values had so many decimals. What cannot be had of too few rows is None.
    """
    unit, digits = 10**decimals, decimals + MORE_DIGITS
    count, total, squares = (*moments, 0, 0)[:3]
    told: dict[str, JsonValue] = {"count": count}
    if "sum" in statistics:
        told["sum"] = decimal_text(Fraction(total, unit), decimals)
    if "mean" in statistics:
        mean = Fraction(total, count * unit) if count > 0 else None
        told["mean"] = None if mean is None else decimal_text(mean, digits)
    if "variance" in statistics:
        # With noise the difference may be below zero, which no variance is.
        spread = max(Fraction(0), squares - Fraction(total**2, count)) if count > 1 else None
        variance = None if spread is None else spread / ((count - 1) * unit**2)
        told["variance"] = None if variance is None else decimal_text(variance, digits)
    return told


def decimal_text(number: Fraction, digits: int) -> str:
    """Write a number with so many decimal digits, the last one rounded half to even."""
    scaled = round(number * 10**digits)
    sign, text = "-" if scaled < 0 else "", str(abs(scaled)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else sign + text
