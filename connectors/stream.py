"""MQTT streams as sources: `mqtt://broker/city/air/#?into=/folder&window=60`.

`connectors.collector` subscribes and writes windows into the folder; the source reads those that
are closed, and needs neither the broker nor a running collector for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import pyarrow as pa

from connectors.addresses import Address, parse_address
from connectors.conditions import Where, filtered, verify_readable
from connectors.errors import InputRejected
from connectors.files import ParquetFile, reading
from connectors.messages import Shape, parse_offset
from connectors.windows import Windowing, closed_windows

WINDOW_S: Final = 60
LATE_S: Final = 10
MOST_WINDOW_S: Final = 7 * 86_400
_OPTIONS: Final = (
    "into", "window", "late", "keep", "time", "offset", "levels", "aggregate", "keys",
    "client", "secret", "ca",
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """An address of a stream, read: where it comes from, and what becomes of it."""

    address: Address
    topic: str
    folder: Path
    windowing: Windowing
    shape: Shape

    @property
    def client(self) -> str:
        """What the broker knows this collector by; it must not be that of another one."""
        given = self.address.options.get("client")
        named = hashlib.sha256(f"{self.topic} {self.folder}".encode()).hexdigest()[:16]
        return given or f"dataspace-{named}"

    def mark(self) -> str:
        """What must not change between two collections into one folder."""
        shape = {one.name: getattr(self.shape, one.name) for one in fields(self.shape)}
        shape["offset"] = str(self.shape.offset)
        told = {"topic": self.topic, "window": self.windowing.width_s, **shape}
        return json.dumps(told, ensure_ascii=False, sort_keys=True)


class Stored:
    """The closed windows of a stream as one table, the oldest first."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def name(self) -> str:
        return self._stream.topic

    def schema(self) -> pa.Schema:
        """The columns of all windows; a window that lacks one has nulls there."""
        return self._schema([ParquetFile(path) for path in self._windows()])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        windows = [ParquetFile(path) for path in self._windows()]
        schema = self._schema(windows)
        verify_readable(columns, where, schema.names, source=self.name)
        return filtered(lambda names: _batches(windows, schema, names), columns, where)

    def version(self) -> str:
        """Of the set of closed windows: their names and sizes, as a closed one never changes."""
        digest = hashlib.sha256()
        for path in self._windows():
            with reading(path):
                digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def description(self) -> Mapping[str, str]:
        windows = self._windows()
        return {
            "format": "MQTT windows (Parquet)",
            "topic": self.name,
            "window": f"{self._stream.windowing.width_s} s",
            "closed windows": str(len(windows)),
            "first": windows[0].stem,
            "last": windows[-1].stem,
            "rows": "totals" if self._stream.shape.aggregate else "messages",
        }

    def _windows(self) -> list[Path]:
        with reading(self._stream.folder):
            found = closed_windows(self._stream.folder)
        if not found:
            raise InputRejected(
                f"{self.name}: no window is closed yet in {self._stream.folder.name}; run "
                "dataspace source collect with this address"
            )
        return found

    def _schema(self, windows: Sequence[ParquetFile]) -> pa.Schema:
        try:
            schema: pa.Schema = pa.unify_schemas([one.schema() for one in windows])
        except pa.ArrowException:
            raise InputRejected(
                f"{self.name}: the windows in {self._stream.folder.name} do not have the same "
                "types; each stream needs a folder of its own"
            ) from None
        return schema.remove_metadata()


def open_stream(url: str) -> Stored:
    """The windows of the stream at `mqtt:` or `mqtts:`. Raises InputRejected for wrong options."""
    return Stored(parse_stream(url))


def parse_stream(url: str) -> Stream:
    """Raises InputRejected for a topic or an option that is missing or malformed."""
    # In a topic it stands for all levels below; an address of ours has no fragment.
    address = parse_address(url.replace("#", "%23"), known=_OPTIONS)
    options = address.options
    if not address.host:
        raise InputRejected(f"{address.scheme}: the address names no broker; write one after //")
    topic = address.path.removeprefix("/")
    _verify_topic(topic)
    folder = Path(options.get("into", ""))
    if not folder.is_absolute() or "\0" in options["into"]:
        raise InputRejected("into= takes the absolute path of the folder for the windows")
    shape = Shape(
        levels=_names(options, "levels"),
        time=options.get("time", ""),
        offset=parse_offset(options["offset"]) if "offset" in options else None,
        aggregate=tuple(filter(None, _names(options, "aggregate"))),
        keys=tuple(filter(None, _names(options, "keys"))),
    )
    windowing = Windowing(
        _seconds(options, "window", WINDOW_S, least=1),
        # Messages are never late where their arrival is their time.
        _seconds(options, "late", LATE_S if shape.time else 0, least=0),
        _seconds(options, "keep", 0, least=0),
    )
    return Stream(address, topic, folder, windowing, shape)


def _batches(
    windows: Sequence[ParquetFile], schema: pa.Schema, names: list[str]
) -> Iterator[pa.RecordBatch]:
    for window in windows:
        present = window.schema().names
        here = [name for name in names if name in present]
        # Where none of the columns is in this window, its rows are there all the same.
        for batch in window.scan(here or present[:1]):
            arrays = [
                batch[name] if name in here else pa.nulls(batch.num_rows, schema.field(name).type)
                for name in names
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _verify_topic(topic: str) -> None:
    levels = topic.split("/")
    wrong = not topic or len(topic.encode()) > 1_000 or "\0" in topic
    wrong = wrong or any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]
    if wrong or any("+" in level and level != "+" for level in levels):
        raise InputRejected(
            "the path of an mqtt: address is a topic, such as city/air/# or city/+/pm25; + stands "
            "for one level and # for all the last ones"
        )


def _names(options: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in options[name].split(",")) if name in options else ()


def _seconds(options: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = options.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and least <= int(text[:9]) <= MOST_WINDOW_S):
        raise InputRejected(f"{name}= takes a whole number from {least} to {MOST_WINDOW_S}")
    return int(text)
