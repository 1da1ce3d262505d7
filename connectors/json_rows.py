"""JSON documents as rows of text: numbers as written, objects flattened, lists as JSON.

An identity number that an API sends as a number must not become a float, so numbers stay the digits
they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import pyarrow as pa

from connectors.errors import InputRejected

Row = dict[str, Any]

_HALVES: Final = re.compile(r"\\u[dD][89a-fA-F]")
MISSING: Final = object()
# Objects in objects in a row; more is no table.
MAX_DEPTH: Final = 12
MAX_COLUMNS: Final = 2_000


class _Number(str):
    """Digits of a number, told from text where a list is written out again."""

    __slots__ = ()


_AS_WRITTEN: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
# Twice as slow, so only for pages that hold lists.
_TELLING: Final = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


class _ListFoundError(Exception):
    """A cell is a list, which has to be written as JSON."""


def parse_document(body: bytes, *, what: str, telling: bool = False) -> object:
    """The document with every number as text. With `telling`, `json_text` can write it again.

    Raises InputRejected where it is no JSON in UTF-8; the message holds nothing of it.
    """
    try:
        text = body.decode("utf-8-sig")
        document: object = (_TELLING if telling else _AS_WRITTEN).decode(text)
        if _HALVES.search(text):
            # An escape can name half a character, which no text column can hold.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InputRejected(
            f"{what} is not JSON in UTF-8; check what the address leads to"
        ) from None
    return document


def at_path(document: object, path: str) -> object:
    """What stands at the dotted `path`, MISSING where nothing does; the empty path is all.

    A name may itself hold dots, as `@odata.nextLink` does: the longest that fits is taken.
    """
    if not path:
        return document
    if not isinstance(document, dict):
        return MISSING
    names = path.split(".")
    for end in range(len(names), 0, -1):
        name = ".".join(names[:end])
        if name in document:
            return at_path(document[name], ".".join(names[end:]))
    return MISSING


def find_items(document: object, *, what: str) -> str:
    """The path of the only list of objects in the first two levels of `document`."""
    if isinstance(document, list):
        return ""
    found = [path for path, value in _levels(document) if _is_items(value)]
    filled = [path for path in found if at_path(document, path)]
    best = filled or found
    if len(best) != 1:
        names = ", ".join(sorted(document)[:20]) if isinstance(document, dict) else "no object"
        raise InputRejected(
            f"{what}: {'more than one' if best else 'no'} list of objects in the answer (it holds "
            f"{names[:300]}); name its place, such as items=data.items"
        )
    return best[0]


def items_at(document: object, path: str, *, what: str) -> list[Any]:
    """The list at `path`; null and a missing one after an empty answer count as empty."""
    items = at_path(document, path)
    if items is None:
        return []
    if not isinstance(items, list):
        names = ", ".join(sorted(document)[:20]) if isinstance(document, dict) else "a list"
        raise InputRejected(
            f"{what}: there is no list at {path or 'the top'}, the answer holds {names[:300]}; "
            "check items="
        )
    return items


def flat_rows(items: list[Any], *, what: str) -> list[Row]:
    """Every item as one level of cells: an object in it gives columns `outer.inner`.

    Raises InputRejected for an item that is no object, for objects too deep, and where a flattened
    name and a written one are the same.
    """
    # Chained, so that rows without any object in them cost no line of Python each.
    if set(map(type, items)) <= {dict} and dict not in set(map(type, _cells(items))):
        return items
    rows: list[Row] = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InputRejected(f"{what}, item {number} is not a JSON object; check items=")
        row: Row = {}
        _flatten(item, "", row, f"{what}, item {number}", MAX_DEPTH)
        rows.append(row)
    return rows


def holds_lists(rows: Iterable[Row]) -> bool:
    """Whether any cell is a list."""
    return list in set(map(type, _cells(rows)))


def names_of(rows: Iterable[Row], *, what: str) -> list[str]:
    """The columns that occur, in the order in which they do first."""
    names = dict.fromkeys(chain.from_iterable(rows))
    if len(names) > MAX_COLUMNS:
        raise InputRejected(f"{what} has {len(names)} columns, more than {MAX_COLUMNS}")
    return list(names)


def verify_same_shape(rows: Collection[Row], known: Collection[str], *, what: str) -> None:
    """Raises InputRejected where a column that was one cell has become an object, or the reverse.

    Columns that are new are no one's loss: nobody can have asked for them.
    """
    settled = frozenset(known)
    new = set(chain.from_iterable(rows)) - settled
    if not new:
        return
    outer = {place for name in settled for place in _places(name)}
    for name in sorted(new):
        filled = any(row.get(name) is not None for row in rows)
        if filled and (name in outer or not settled.isdisjoint(_places(name))):
            raise InputRejected(
                f"{what}: column {name[:200]} is an object on some pages and a single cell on "
                "others; ask the API for one form"
            )


def _places(name: str) -> list[str]:
    """The objects a column lies in: `a` and `a.b` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def text_batch(
    rows: Sequence[Row], columns: Sequence[str], again: Callable[[], Sequence[Row]]
) -> pa.RecordBatch:
    """The rows as text columns; what is absent is null.

    `again` gives the same rows of a document that was parsed `telling`, where a cell is a list.
    """
    cells = [[row.get(name) for row in rows] for name in columns]
    try:
        arrays = [_text_column(column) for column in cells]
    except _ListFoundError:
        told = again()
        cells = [[row.get(name) for row in told] for name in columns]
        arrays = [pa.array(map(_text, column), pa.string()) for column in cells]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def json_text(value: object) -> str:
    """JSON of a document that was parsed `telling`, with numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(json_text, value))}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{json_text(str(name))}: {json_text(v)}" for name, v in value.items())
        return f"{{{inner}}}"
    return json.dumps(value, ensure_ascii=False)


def _cells(rows: Iterable[Row]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, rows))


def _text_column(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        if list in map(type, cells):
            raise _ListFoundError from None
        return pa.array(map(_text, cells), pa.string())


def _text(cell: object) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return json_text(cell)


def _flatten(item: Mapping[str, Any], prefix: str, row: Row, what: str, depth: int) -> None:
    if depth == 0:
        raise InputRejected(f"{what} holds objects in objects more than {MAX_DEPTH} levels deep")
    for name, value in item.items():
        if type(value) is dict:
            _flatten(value, f"{prefix}{name}.", row, what, depth - 1)
            continue
        if prefix + name in row:
            raise InputRejected(f"{what} has two cells for one column {(prefix + name)[:200]}")
        row[prefix + name] = value


def _levels(document: object) -> Iterator[tuple[str, object]]:
    if not isinstance(document, dict):
        return
    for name, value in document.items():
        yield name, value
        if isinstance(value, dict):
            for inner, below in value.items():
                yield f"{name}.{inner}", below


def _is_items(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value[:100])
