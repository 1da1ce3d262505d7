"""Messages of sensors as rows: when, which topic, and what the payload holds.

A payload is a JSON object, whose cells become columns as those of any JSON do, or one number, text
or truth value, which becomes the column `value`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pyarrow as pa

from connectors.errors import InputRejected
from connectors.json_rows import Row, flat_rows, parse_document, text_batch

# A sensor that sends more sends something else.
MAX_PAYLOAD_BYTES: Final = 256 * 1024
TIME: Final = pa.timestamp("ms", tz="UTC")
_OWN: Final = ("time", "topic")
_UNIX: Final = re.compile(r"[0-9]{9,13}(\.[0-9]{1,9})?")
# 10^11 seconds are in the year 5138, as many milliseconds in 1973.
_MILLISECONDS_FROM: Final = 1e11
_OFFSET: Final = re.compile(r"([+-])([01][0-9]):([0-5][0-9])")


@dataclass(frozen=True)
class Shape:
    """How a message becomes a row.

    `levels` name the levels of the topic, from the first on ("" for one that is left out); `time`
    is the column of the payload that holds when it was, "" for when it came; `offset` is the time
    zone of times that name none. With `aggregate`, a window holds one row for each combination of
    the levels, and of `keys`, with figures of these columns.
    """

    levels: tuple[str, ...] = ()
    time: str = ""
    offset: timezone | None = None
    aggregate: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = [name for name in self.levels if name]
        if len(set(named)) < len(named) or set(named) & set(_OWN):
            raise InputRejected(
                f"levels= names a level twice, or {' or '.join(_OWN)}; give each a name of its own"
            )
        if self.keys and not self.aggregate:
            raise InputRejected("keys= are of use with aggregate= only")

    def schema(self, columns: Iterable[str]) -> pa.Schema:
        """Of the rows of a window whose payloads and topics have `columns`."""
        return pa.schema(
            [("time", TIME), ("topic", pa.string()), *((name, pa.string()) for name in columns)]
        )

    @property
    def group(self) -> tuple[str, ...]:
        """What a window is summarised by: levels and keys, or the topic where none are named."""
        named = (*(name for name in self.levels if name), *self.keys)
        return named or ("topic",)


@dataclass(frozen=True)
class Message:
    """When it was, in seconds since the epoch, where, and what it holds."""

    at: float
    topic: str
    row: Row


def parse_message(shape: Shape, topic: str, payload: bytes, *, arrived: float) -> Message | None:
    """None where the payload is none we can read, or does not tell the time it should."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        value = parse_document(payload, what=topic, telling=b"[" in payload)
        cells = value if isinstance(value, dict) else {"value": value}
        (flat,) = flat_rows([cells], what=topic)
    except InputRejected:
        return None
    if isinstance(value, list) or value is None:
        return None
    at: float | None = arrived
    if shape.time:
        at = _point_in_time(flat.get(shape.time), shape.offset)
        if at is None:
            return None
    row: Row = {}
    parts = topic.split("/")
    for level, name in enumerate(shape.levels):
        if name:
            row[name] = parts[level] if level < len(parts) else None
    own = {*_OWN, *row}
    for name, cell in flat.items():
        if name != shape.time:
            row[f"payload.{name}" if name in own else name] = cell
    assert at is not None
    return Message(at, topic, row)


def rows_as_table(shape: Shape, messages: Sequence[Message], columns: Sequence[str]) -> pa.Table:
    """The messages with these columns after time and topic."""
    times = pa.array([round(one.at * 1000) for one in messages], pa.int64()).cast(TIME)
    topics = pa.array([one.topic for one in messages], pa.string())
    rows = [one.row for one in messages]
    batch = text_batch(rows, columns, lambda: rows)
    return pa.Table.from_arrays([times, topics, *batch.columns], schema=shape.schema(columns))


def summarised(shape: Shape, table: pa.Table, start: int) -> pa.Table:
    """One row for each group of a window: how many messages, and of each value column how many
    numbers, their mean, least, greatest and the last one by time. What is no number is not counted.
    """
    table = table.sort_by("time")
    for name in (*shape.group, *shape.aggregate):
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    group = list(shape.group)
    values = {
        name: pa.array(map(_number, table[name].to_pylist()), pa.float64())
        for name in shape.aggregate
    }
    numbers = pa.table(
        {
            **{name: table[name] for name in group},
            **{f"of {name}": cells for name, cells in values.items()},
        }
    )
    figures = ("count", "mean", "min", "max", "last")
    options = [(f"of {name}", one) for name in values for one in figures]
    grouped = numbers.group_by(group, use_threads=False).aggregate([([], "count_all"), *options])
    columns: dict[str, Any] = {
        "time": pa.array([start * 1000] * grouped.num_rows, pa.int64()).cast(TIME)
    }
    columns |= {name: grouped[name] for name in group}
    columns["messages"] = grouped["count_all"]
    for name in values:
        for one in figures:
            columns[f"{name}.{one}"] = grouped[f"of {name}_{one}"]
    return pa.table(columns)


def parse_offset(text: str) -> timezone:
    """`+08:00` as a time zone. Raises InputRejected."""
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise InputRejected("offset= takes the time zone of times that name none, such as +08:00")
    away = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-away if found[1] == "-" else away)


def _point_in_time(cell: object, offset: timezone | None) -> float | None:
    """RFC 3339, or seconds or milliseconds since the epoch."""
    if not isinstance(cell, str):
        return None
    if _UNIX.fullmatch(cell):
        number = float(cell)
        return number / 1000 if number >= _MILLISECONDS_FROM else number
    try:
        at = datetime.fromisoformat(cell)
        if at.tzinfo is None:
            if offset is None:
                return None
            at = at.replace(tzinfo=offset)
        return at.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _number(cell: str | None) -> float | None:
    try:
        number = float(cell) if cell is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
