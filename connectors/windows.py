"""Messages of a stream in tumbling windows, each of which becomes one Parquet file.

What is accepted stands in the journal of its window, on disk, before the broker is told so: whoever
is killed loses nothing. A window closes when its end and the time allowed for latecomers have
passed by the clock of this machine; its file appears whole or not at all, and never changes.

    <folder>/.open-20261130T225500Z.journal     a window that is open
    <folder>/20261130T225500Z.parquet           one that is closed
    <folder>/.recent                            marks of messages the broker may send again
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow.parquet as pq

from connectors.files import reading
from connectors.json_rows import MAX_COLUMNS
from connectors.messages import Message, Shape, parse_message, rows_as_table, summarised

# How many messages a broker may have sent without being told that they are on disk; so many may
# come again after a crash.
IN_FLIGHT: Final = 1_000
# Rows turned into columns at a time when a window closes.
ROWS_AT_A_TIME: Final = 50_000
_RECORD: Final = struct.Struct(">dHII")
_SUM_BYTES: Final = 4
_MARK_BYTES: Final = 16
_RECENT: Final = ".recent"
_NAME: Final = "%Y%m%dT%H%M%SZ"


class Outcome(StrEnum):
    """What became of a message."""

    STORED = "stored"
    MALFORMED = "malformed"
    LATE = "late"
    EARLY = "early"
    REPEATED = "repeated"


@dataclass(frozen=True)
class Windowing:
    """Windows of `width_s` seconds from the epoch on, open for `late_s` seconds after their end;
    of closed ones the last `keep` stay (all where that is 0)."""

    width_s: int
    late_s: int
    keep: int

    def start(self, at: float) -> int:
        return int(at // self.width_s) * self.width_s

    def is_over(self, start: int, now: float) -> bool:
        return now >= start + self.width_s + self.late_s

    def is_early(self, at: float, now: float) -> bool:
        # A clock that is ahead by more than this is wrong, and would leave windows open for ever.
        return at > now + self.width_s + self.late_s


class Windows:
    """The open windows of one folder. For one process and one thread at a time."""

    def __init__(self, folder: Path, windowing: Windowing, shape: Shape) -> None:
        self._folder, self._windowing, self._shape = folder, windowing, shape
        self._journals: dict[int, BinaryIO] = {}
        self._columns: dict[int, dict[str, None]] = {}
        self._unwritten: dict[int, list[bytes]] = {}
        # What the broker may not know to be on disk, and so may send again.
        self._recent: deque[bytes] = deque(maxlen=IN_FLIGHT)
        # Those of them that it did send again, and has still not been told about.
        self._repeated: list[bytes] = []
        with reading(folder):
            self._recover()

    def accept(
        self, topic: str, payload: bytes, *, now: float, packet: int, again: bool
    ) -> Outcome:
        """Take a message in; it is on disk after the next `write`.

        `again` where the broker says that it may have sent it before; it then has the number of the
        `packet` that it had. Another message may well be equal in all else.
        """
        mark = _mark(packet, topic, payload)
        if again and mark in self._recent:
            self._repeated.append(mark)
            return Outcome.REPEATED
        message = parse_message(self._shape, topic, payload, arrived=now)
        if message is None:
            return Outcome.MALFORMED
        start = self._windowing.start(message.at)
        is_new = start not in self._columns
        if self._windowing.is_over(start, now) or (is_new and self._path(start).exists()):
            return Outcome.LATE
        if self._windowing.is_early(message.at, now):
            return Outcome.EARLY
        columns = self._columns.setdefault(start, {})
        if not columns.keys() >= message.row.keys():
            if len(columns.keys() | message.row.keys()) > MAX_COLUMNS:
                return Outcome.MALFORMED
            columns.update(dict.fromkeys(message.row))
        self._unwritten.setdefault(start, []).append(_record(now, packet, topic, payload))
        self._recent.append(mark)
        return Outcome.STORED

    def write(self) -> None:
        """Put what was accepted on disk; afterwards the broker may be told. Raises Unavailable."""
        for start, records in self._unwritten.items():
            with reading(self._folder):
                journal = self._journals.get(start)
                if journal is None:
                    journal = self._journals[start] = self._open_journal(start)
                journal.write(b"".join(records))
                journal.flush()
                os.fdatasync(journal.fileno())
        self._unwritten.clear()

    def told(self) -> None:
        """The broker has been told about everything: what it sent again it does not send once more.

        Its number is then free for another message, which may be an equal one.
        """
        for mark in self._repeated:
            with suppress(ValueError):
                self._recent.remove(mark)
        self._repeated.clear()

    def close_due(self, now: float) -> int:
        """Write the files of the windows that are over; give how many. Raises Unavailable."""
        self.write()
        due = sorted(start for start in self._columns if self._windowing.is_over(start, now))
        if due:
            with reading(self._folder):
                self._remember()
        for start in due:
            with reading(self._folder):
                self._close(start)
        if due and self._windowing.keep:
            with reading(self._folder):
                for old in closed_windows(self._folder)[: -self._windowing.keep]:
                    old.unlink(missing_ok=True)
        return len(due)

    @property
    def open_windows(self) -> int:
        return len(self._columns)

    def release(self) -> None:
        """Let go of the journals; what they hold is read when the folder is next opened."""
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()

    def _close(self, start: int) -> None:
        path, unfinished = self._path(start), self._folder / f".{_name(start)}.unfinished"
        if start in self._columns and not path.exists():
            with unfinished.open("wb") as file:
                self._write_parquet(start, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            _sync_directory(self._folder)
        journal = self._journals.pop(start, None)
        if journal is not None:
            journal.close()
        self._journal_path(start).unlink(missing_ok=True)
        del self._columns[start]

    def _write_parquet(self, start: int, file: BinaryIO) -> None:
        columns = list(self._columns[start])
        if self._shape.aggregate:
            # All rows of one window at once: a mean is of all of them.
            whole = [message for _, message in self._messages(start)]
            table = rows_as_table(self._shape, whole, columns)
            pq.write_table(summarised(self._shape, table, start), file, compression="zstd")
            return
        with pq.ParquetWriter(file, self._shape.schema(columns), compression="zstd") as writer:
            held: list[Message] = []
            for _, message in self._messages(start):
                held.append(message)
                if len(held) == ROWS_AT_A_TIME:
                    writer.write_table(rows_as_table(self._shape, held, columns))
                    held = []
            if held:
                writer.write_table(rows_as_table(self._shape, held, columns))

    def _messages(self, start: int) -> Iterator[tuple[bytes, Message]]:
        for arrived, packet, topic, payload in _records(self._journal_path(start)):
            message = parse_message(self._shape, topic, payload, arrived=arrived)
            if message is not None:
                yield _mark(packet, topic, payload), message

    def _remember(self) -> None:
        """Keep what the broker may send again: the journals that hold it are about to go."""
        unfinished = self._folder / f"{_RECENT}.unfinished"
        with unfinished.open("wb") as file:
            file.write(b"".join(self._recent))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._folder / _RECENT)

    def _recover(self) -> None:
        """Go on where a process before ended, however it did."""
        recent = self._folder / _RECENT
        if recent.exists():
            marks = recent.read_bytes()
            ends = range(_MARK_BYTES, len(marks) + 1, _MARK_BYTES)
            self._recent.extend(marks[end - _MARK_BYTES : end] for end in ends)
        for path in sorted(self._folder.glob(".open-*.journal")):
            start = _start(path.name.removeprefix(".open-").removesuffix(".journal"))
            if start is None:
                continue
            if self._path(start).exists():
                # It was killed between the file and the removal of the journal.
                path.unlink()
                continue
            columns: dict[str, None] = {}
            for mark, message in self._messages(start):
                columns.update(dict.fromkeys(message.row))
                self._recent.append(mark)
            if columns:
                self._columns[start] = columns
            else:
                path.unlink()
        for path in self._folder.glob(".*.unfinished"):
            path.unlink()

    def _open_journal(self, start: int) -> BinaryIO:
        path = self._journal_path(start)
        whole = sum(map(_size, _records(path))) if path.exists() else 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        journal = open(descriptor, "r+b")  # noqa: SIM115
        # A record cut off by a crash is one the broker was not told about, and sends again.
        journal.truncate(whole)
        journal.seek(whole)
        _sync_directory(self._folder)
        return journal

    def _path(self, start: int) -> Path:
        return self._folder / f"{_name(start)}.parquet"

    def _journal_path(self, start: int) -> Path:
        return self._folder / f".open-{_name(start)}.journal"


def closed_windows(folder: Path) -> list[Path]:
    """The files of closed windows, the oldest first."""
    return sorted(path for path in folder.glob("*.parquet") if _start(path.stem) is not None)


def _mark(packet: int, topic: str, payload: bytes) -> bytes:
    told = packet.to_bytes(2, "big") + topic.encode() + b"\0" + payload
    return hashlib.blake2b(told, digest_size=_MARK_BYTES).digest()


def _record(arrived: float, packet: int, topic: str, payload: bytes) -> bytes:
    name = topic.encode()
    body = _RECORD.pack(arrived, packet, len(name), len(payload)) + name + payload
    return body + zlib.crc32(body).to_bytes(_SUM_BYTES, "big")


def _size(record: tuple[float, int, str, bytes]) -> int:
    _, _, topic, payload = record
    return _RECORD.size + len(topic.encode()) + len(payload) + _SUM_BYTES


def _records(path: Path) -> Iterator[tuple[float, int, str, bytes]]:
    """The whole records of a journal, up to the first that is not."""
    with path.open("rb") as file:
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            arrived, packet, name_bytes, payload_bytes = _RECORD.unpack(head)
            size = name_bytes + payload_bytes
            body = file.read(size + _SUM_BYTES)
            if (
                len(body) < size + 4
                or zlib.crc32(head + body[:size]).to_bytes(4, "big") != body[size:]
            ):
                return
            yield arrived, packet, body[:name_bytes].decode(), body[name_bytes:size]


def _name(start: int) -> str:
    return datetime.fromtimestamp(start, UTC).strftime(_NAME)


def _start(name: str) -> int | None:
    try:
        return int(datetime.strptime(name, _NAME).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
