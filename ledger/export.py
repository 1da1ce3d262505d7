"""A log as a directory: what anybody can keep, pass on and audit without a server.

The layout is that of C2SP tlog-tiles (`checkpoint`, `tile/<L>/<N>`, `tile/entries/<N>`), the
entries being the commitments. Beside it `entries.jsonl` has one line for each entry: its body and
salt, or null where it was erased. Without that file no bodies are shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import from_json

from ledger.checkpoint import MAX_NOTE_BYTES
from ledger.entry import SealedEntry, shown_entry
from ledger.errors import InputRejected
from ledger.log import Log, MemoryNodeStore
from ledger.tiles import (
    MAX_ENTRY_BYTES,
    TILE_WIDTH,
    Tile,
    entry_bundle,
    parse_entry_bundle,
    tile_bytes,
    tiles_of,
)

CHECKPOINT = "checkpoint"
ENTRIES = "entries.jsonl"
MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)
# A body of 65,535 bytes in base64 with salt and commitment.
MAX_LINE_BYTES = 100_000


def export_log(
    directory: Path,
    checkpoint: str,
    commitments: Sequence[bytes],
    entries: Sequence[SealedEntry | None] | None,
) -> None:
    """Write a log into this directory; `entries` None leaves the bodies out.

    Raises InputRejected when there are not as many entries as commitments.
    """
    if entries is not None and len(entries) != len(commitments):
        raise InputRejected(f"{len(entries)} entries for {len(commitments)} commitments")
    store = MemoryNodeStore()
    log = Log(store)
    for commitment in commitments:
        log.append(commitment)
    for tile in tiles_of(len(commitments)):
        path = directory / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if tile.level is None:
            first = tile.index * TILE_WIDTH
            path.write_bytes(entry_bundle(commitments[first : first + tile.width]))
        else:
            path.write_bytes(tile_bytes(store, tile))
    directory.mkdir(parents=True, exist_ok=True)
    if entries is not None:
        with (directory / ENTRIES).open("w") as out:
            for entry in entries:
                out.write(json.dumps(None if entry is None else entry.to_json()) + "\n")
    (directory / CHECKPOINT).write_text(checkpoint)


class DirectoryLog:
    """A reader (`ledger.audit.LogReader`) of an exported log. Nothing in it is trusted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._line_starts: list[int] | None = None

    def checkpoint(self) -> str:
        return _read(self._directory / CHECKPOINT, MAX_NOTE_BYTES).decode()

    def commitments(self, start: int, end: int) -> list[bytes]:
        """Leaf data of the entries start … end-1, fewer when the copy ends before."""
        found: list[bytes] = []
        for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
            bundle = self._bundle(index)
            if bundle is None:
                break
            first = index * TILE_WIDTH
            found += bundle[max(0, start - first) : end - first]
        return found

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        """Bodies of the entries start … end-1, fewer when the copy ends before."""
        path = self._directory / ENTRIES
        if not path.exists():
            return None
        with path.open("rb") as lines:
            if self._line_starts is None:
                self._line_starts = _line_starts(path)
            wanted = self._line_starts[start:end]
            if not wanted:
                return []
            lines.seek(wanted[0])
            return [_parse_line(lines.readline(MAX_LINE_BYTES)) for _ in wanted]

    def _bundle(self, index: int) -> list[bytes] | None:
        full = self._directory / Tile(None, index).path
        if full.exists():
            return parse_entry_bundle(_read(full, MAX_BUNDLE_BYTES))
        partial = full.with_name(f"{full.name}.p")
        widths = [int(path.name) for path in partial.glob("*") if path.name.isdecimal()]
        if not widths:
            return None
        return parse_entry_bundle(_read(partial / str(max(widths)), MAX_BUNDLE_BYTES))


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputRejected(f"{path.name} has more than {limit} bytes")
    return content


def _line_starts(path: Path) -> list[int]:
    starts, at = [], 0
    with path.open("rb") as lines:
        for line in lines:
            starts.append(at)
            at += len(line)
    return starts


def _parse_line(line: bytes) -> SealedEntry | None:
    try:
        value = from_json(line)
    except ValueError:
        value = line
    return shown_entry(value)
