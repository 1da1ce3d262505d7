"""What leaves in a transfer of rows: read under the agreement's rules and written as CSV.

It is written to this node's disk first (`outgoing/`): a broken row is found before the first byte
goes out, the digest is known, and a repetition gives the same rows, so that one permit is for one
state of the data. Rows that need consent are the exception: each time they are given they are read
again, as somebody may have withdrawn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import structlog
from pyarrow import csv

import connectors.errors
from connectors.errors import ConnectorError
from connectors.source import ConsentedSource
from connectors.table import batches
from connectors.use import Use
from contracts.odrl import Agreement
from dataspace.catalog import conditions_of
from dataspace.errors import Denied, Unavailable
from dataspace.protocol.transit import CHUNK_BYTES, Digesting, digest_header, fresh_file
from dataspace.releasing import release_of, schema_read
from dataspace.store.tables import AgreementRow, DatasetRow, TransferRow

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.rows_out")


@dataclass(frozen=True)
class Written:
    """Rows on our disk, to be given: the open file and what is known of it."""

    file: IO[bytes]
    rows: int
    size: int
    sha256: str

    @property
    def digest(self) -> str:
        """As a `Repr-Digest` header has it."""
        return digest_header(bytes.fromhex(self.sha256))

    @property
    def etag(self) -> str:
        """Names this state of the rows; equal for equal bytes only."""
        return f'"{self.sha256}"'

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "bytes": self.size, "sha256": self.sha256}


class RowsOut:
    """Writes the rows of transfers whose provider this node is."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._directory = node.home.path / "outgoing"

    def write(
        self, row: TransferRow, agreement: AgreementRow, dataset: DatasetRow, path: Path
    ) -> Written:
        """The published columns of the rows that may be used so, as the agreement lets them leave.

        Raises Denied where its rules cannot be applied to this dataset any more, and Unavailable
        while the rows cannot be read; why is for the owner's log.
        """
        try:
            release = release_of(Agreement.model_validate(agreement.document), row.format, dataset)
        except connectors.errors.InputRejected as err:
            raise Denied(
                f"The rows cannot be treated as the agreement demands: {err}",
                remedy="Negotiate a new agreement.",
            ) from err
        use = Use(
            purpose=row.purpose or "",
            recipient=row.peer,
            at=datetime.now(UTC),
            agreement=agreement.id,
            computation=row.format,
        )
        try:
            source = self._node.leaving.source(dataset)
            with fresh_file(path) as file:
                where = (*conditions_of(dataset), *release.where)
                found = batches(source, release.reads, use, where)
                key = self._node.derived_key(f"release/{agreement.id}")
                left = release.apply(found, key, spill=path.parent)
                rows = _write_csv(file, left, lambda: release.schema(schema_read(source, release)))
        except (ConnectorError, pa.ArrowException) as err:
            # Why is for the owner's log: it names files and columns of this machine.
            log.error("rows cannot be written", dataset=dataset.id, error=str(err)[:300])
            raise Unavailable(
                "the dataset cannot be read at the moment",
                remedy="try again, or tell the provider's owner",
            ) from err
        return opened(path, rows=rows)

    def reads_anew(self, dataset: DatasetRow) -> bool:
        """Whether the dataset's rows may be other ones each time they are given."""
        return isinstance(self._node.leaving.source(dataset), ConsentedSource)

    def path(self, row: TransferRow, number: int | None = None) -> Path:
        """Where the rows of a transfer are written, or those of one delivery of it."""
        suffix = "" if number is None else f"-{number}"
        return self._directory / f"{file_name(row)}{suffix}.csv"

    def forget(self, row: TransferRow) -> None:
        """Remove what was written for a transfer that has ended."""
        self.path(row).unlink(missing_ok=True)
        for delivery in self._directory.glob(f"{file_name(row)}-*.csv"):
            delivery.unlink(missing_ok=True)


class BeingWritten:
    """Transfers whose files are being written now: two at once must not write the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[str] = set()

    @contextmanager
    def alone(self, pid: str) -> Iterator[None]:
        """Raises Unavailable while somebody else is in such a block for the same transfer."""
        with self._lock:
            if pid in self._pids:
                raise Unavailable("the rows are being prepared", remedy="try again in a moment")
            self._pids.add(pid)
        try:
            yield
        finally:
            with self._lock:
                self._pids.discard(pid)


def opened(path: Path, *, rows: int) -> Written:
    """The rows in this file, digested now."""
    file = path.open("rb")
    digesting = Digesting.of(file)
    return Written(file, rows, digesting.size, digesting.to_json()["sha256"])


def still_there(path: Path, moved: dict[str, Any] | None) -> Written | None:
    """The rows written earlier, of which `moved` was noted; None where they are not there so."""
    if moved is None or "rows" not in moved:
        return None
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    if path.stat().st_size != moved["bytes"]:
        file.close()
        return None
    return Written(file, moved["rows"], moved["bytes"], moved["sha256"])


def file_name(row: TransferRow) -> str:
    """A file's name for a transfer: our own pid, which is no text of a peer's."""
    return row.pid.rpartition(":")[2]


def pieces(written: Written, begin_at: int) -> Iterator[bytes]:
    """The bytes from `begin_at` on; the file is closed after them."""
    with written.file as file:
        file.seek(begin_at)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _write_csv(file: IO[bytes], left: Iterable[pa.RecordBatch], schema: Any) -> int:
    """Write what leaves; how many rows that was. `schema` is asked where nothing leaves."""
    rows = 0
    writer: csv.CSVWriter | None = None
    for batch in left:
        if writer is None:
            writer = csv.CSVWriter(file, batch.schema)
        writer.write_batch(batch)
        rows += batch.num_rows
    if writer is None:
        # The header alone.
        writer = csv.CSVWriter(file, schema())
    writer.close()
    return rows
