"""The data plane of transfers without a computation: rows as CSV, fetched or sent, with a digest.

What leaves is written to the provider's disk first (`outgoing/`): a broken row is found before the
first byte goes out, the digest is known, and a repetition gives the same rows, so that one permit
is for one state of the data. Rows that need consent are the exception: each time they are given
they are read again, as somebody may have withdrawn. What comes is written to `received/`.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pyarrow as pa
import structlog
from pyarrow import csv
from sqlmodel import Session

from connectors.conditions import Where
from connectors.errors import ConnectorError
from connectors.source import ConsentedSource, Source
from connectors.table import batches
from connectors.use import Use
from contracts import messages as dsp
from contracts.party import Party
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL, PUSH
from dataspace.catalog import conditions_of
from dataspace.errors import InputRejected, NotFound, ProtocolViolation, Unavailable
from dataspace.identity.did import verify_public_address
from dataspace.outbound import within
from dataspace.processes import LEASE_S, Handler, Pool, Process
from dataspace.protocol.transfer_rows import endpoint_of, token_hash
from dataspace.protocol.transit import CHUNK_BYTES, Digesting, Incoming, fresh_file, sweep
from dataspace.store.tables import AgreementRow, DatasetRow, TransferRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.data_plane")

MOVE = "move-rows"
# One attempt ends before another worker may take the work over.
MOVE_S = LEASE_S - 20.0
CSV_TYPE = "text/csv; charset=utf-8"
# One sentence for a wrong token and a transfer that is over, so that neither is told.
_NOTHING_HERE = "there is nothing to fetch or send here with this token"
# The other side may have suspended or ended the transfer, with its word about that on the way.
_WORD_MAY_COME = frozenset({401, 403, 404, 410, 429})


@dataclass(frozen=True)
class Outgoing:
    """Rows that may be given now: how many bytes, their `Content-Digest`, and the bytes once."""

    size: int
    digest: str
    chunks: Iterator[bytes]


class DataPlane:
    """Serves, sends, fetches and takes in the rows of transfers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._being_written: set[str] = set()
        for directory in ("outgoing", "received"):
            sweep(node.home.path / directory)

    def handlers(self) -> dict[str, Handler]:
        return {MOVE: Handler(self._move, self._failed, Pool.PEERS)}

    def serve(self, pid: str, token: str) -> Outgoing:
        """What a consumer may fetch with `token`.

        Raises NotFound for a wrong token or a transfer that has ended, Unavailable while it is
        suspended or the rows cannot be read, Denied where the policy no longer lets them leave.
        """
        return self._outgoing(self._granted(pid, token, Party.PROVIDER, PULL))

    @contextmanager
    def take_in(self, pid: str, token: str, claimed: str | None) -> Iterator[Incoming]:
        """Where the rows go that a provider pushes; kept if they have the digest `claimed`."""
        row = self._granted(pid, token, Party.CONSUMER, PUSH)
        with self._receiving(row) as incoming:
            yield incoming
            incoming.verify(claimed)

    def forget(self, row: TransferRow) -> None:
        """Remove the copy that was written for a transfer of ours that has ended."""
        self._outgoing_path(row).unlink(missing_ok=True)

    # ---- moving, as one of our processes ----------------------------------------------------

    def _move(self, process: Process) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
        if row.state != TransferState.STARTED:
            return
        # Preparing the rows counts too; where it takes long, the next attempt finds them prepared.
        with within(MOVE_S):
            if row.role == Party.PROVIDER.value:
                self._send(row)
            else:
                self._fetch(row)
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state == TransferState.STARTED:
                self._node.transfers.complete(tx, row)

    def _failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get_one(TransferRow, process.subject)
        self._node.transfers.terminate(tx, row, error, code="failed")

    def _send(self, row: TransferRow) -> None:
        """Put the rows where the consumer wants them."""
        outgoing = self._outgoing(row)
        headers = {
            "content-type": CSV_TYPE,
            "content-length": str(outgoing.size),
            "content-digest": outgoing.digest,
        }
        with self._call("PUT", row, headers, outgoing.chunks) as answer:
            answer.read()
            _verify_success(row, answer)

    def _fetch(self, row: TransferRow) -> None:
        """Get the rows from the provider."""
        # What is digested, counted and kept is what the provider wrote, in no other encoding.
        with self._call("GET", row, {"accept-encoding": "identity"}, None) as answer:
            _verify_success(row, answer)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ProtocolViolation(f"{row.peer} encoded the rows although it was asked not to")
            with self._receiving(row) as incoming:
                for chunk in answer.iter_raw(CHUNK_BYTES):
                    self._verify_started(row.pid)
                    incoming.write(chunk)
                incoming.verify(answer.headers.get("content-digest"))

    # ---- what leaves ------------------------------------------------------------------------

    def _outgoing(self, row: TransferRow) -> Outgoing:
        sight = self._node.leaving.look(row)
        with self._node.store.transaction() as tx:
            stored = tx.get_one(TransferRow, row.pid)
            refusal = self._node.leaving.refuse_now(tx, stored, sight)
            agreement = tx.get_one(AgreementRow, row.agreement)
            dataset = self._node.datasets.get(tx, agreement.dataset)
        if refusal is not None:
            raise refusal
        with self._alone(row.pid):
            path = self._outgoing_path(row)
            source = self._node.leaving.source(dataset)
            if isinstance(source, ConsentedSource) or stored.moved is None or not path.exists():
                self._write(stored, source, dataset, path)
            file = path.open("rb")
        digesting = Digesting.of(file)
        return Outgoing(digesting.size, digesting.header(), self._chunks(file, row.pid))

    def _write(self, row: TransferRow, source: Source, dataset: DatasetRow, path: Path) -> None:
        """Write the published columns of the rows that may be used so, and note that they leave."""
        use = Use(
            purpose=row.purpose or "",
            recipient=row.peer,
            at=datetime.now(UTC),
            agreement=row.agreement,
            computation=row.format,
        )
        names = [str(one["name"]) for one in dataset.columns]
        try:
            with fresh_file(path) as file:
                rows = _write_csv(file, source, names, use, conditions_of(dataset))
        except (ConnectorError, pa.ArrowException) as err:
            # Why is for the owner's log: it names files and columns of this machine.
            log.error("rows cannot be written", dataset=dataset.id, error=str(err)[:300])
            raise Unavailable(
                "the dataset cannot be read at the moment",
                remedy="try again, or tell the provider's owner",
            ) from err
        with path.open("rb") as written:
            moved = {"rows": rows, **Digesting.of(written).to_json()}
        # Before the first byte leaves: a node that dies in between says too much, never too little.
        self._moved(row, "sent", moved, path)

    def _chunks(self, file: IO[bytes], pid: str) -> Iterator[bytes]:
        """The bytes of `file`, for as long as the transfer is not interrupted."""
        with file:
            while chunk := file.read(CHUNK_BYTES):
                self._verify_started(pid)
                yield chunk

    @contextmanager
    def _alone(self, pid: str) -> Iterator[None]:
        """Two requests at once must not write the same rows twice."""
        with self._lock:
            if pid in self._being_written:
                raise Unavailable("the rows are being prepared", remedy="try again in a moment")
            self._being_written.add(pid)
        try:
            yield
        finally:
            with self._lock:
                self._being_written.discard(pid)

    def _outgoing_path(self, row: TransferRow) -> Path:
        return self._node.home.path / "outgoing" / f"{_name(row)}.csv"

    # ---- what comes -------------------------------------------------------------------------

    @contextmanager
    def _receiving(self, row: TransferRow) -> Iterator[Incoming]:
        path = self._node.home.path / "received" / f"{_name(row)}.csv"
        with fresh_file(path) as file:
            incoming = Incoming(file)
            yield incoming
        self._moved(row, "received", {**incoming.digesting.to_json(), "file": str(path)}, path)

    # ---- both -------------------------------------------------------------------------------

    def _moved(self, row: TransferRow, outcome: str, moved: dict[str, Any], path: Path) -> None:
        """Note what was moved, with the evidence; once for the same bytes.

        Raises Unavailable, and keeps nothing, where the transfer was interrupted meanwhile.
        """
        with self._node.store.transaction() as tx:
            stored = tx.get_one(TransferRow, row.pid)
            if stored.state != TransferState.STARTED:
                path.unlink(missing_ok=True)
                raise _interrupted(stored)
            if stored.moved == moved:
                return
            stored.moved = moved
            tx.add(stored)
            agreement = tx.get_one(AgreementRow, row.agreement)
            self._node.evidence.record(
                tx,
                EntryType.ACCESSED,
                peer=row.peer,
                corr=agreement.id,
                agreement_h=agreement.document_h,
                kind=row.format,
                purpose=row.purpose,
                outcome=outcome,
            )

    def _granted(self, pid: str, token: str, role: Party, format_: str) -> TransferRow:
        with self._node.store.transaction() as tx:
            row = tx.get(TransferRow, pid)
        if row is None or (row.role, row.format) != (role.value, format_):
            raise NotFound(_NOTHING_HERE)
        if not hmac.compare_digest(row.token_h or "", token_hash(token)):
            raise NotFound(_NOTHING_HERE)
        if row.state == TransferState.SUSPENDED:
            raise _interrupted(row)
        if row.state != TransferState.STARTED:
            raise NotFound(_NOTHING_HERE)
        return row

    def _verify_started(self, pid: str) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, pid)
        if row.state != TransferState.STARTED:
            raise _interrupted(row)

    @contextmanager
    def _call(
        self,
        method: str,
        row: TransferRow,
        headers: dict[str, str],
        content: Iterable[bytes] | None,
    ) -> Iterator[httpx2.Response]:
        """The peer's answer, streamed. Raises Unavailable where it cannot be reached."""
        # The address is the peer's word; it must lead to the peer and not into our own network.
        url = endpoint_of(row, self._node.peers)
        verify_public_address(urlsplit(url).hostname or "", local=self._node.home.settings.local)
        token = dsp.DataAddress.model_validate(row.data_address).property_named("authorization")
        granted = {"authorization": f"Bearer {token}"} if token else {}
        try:
            with self._node.http.stream(
                method, url, content=content, headers={**granted, **headers}, timeout=MOVE_S
            ) as answer:
                yield answer
        except (httpx2.HTTPError, httpx2.InvalidURL) as err:
            raise Unavailable(
                f"{row.peer} broke off the rows' transfer ({type(err).__name__})",
                remedy="check that the peer's node is running",
            ) from err


def _write_csv(
    file: IO[bytes], source: Source, published: list[str], use: Use, where: Where
) -> int:
    """Write these columns of the rows that may be used so; how many rows those are."""
    # One column may be published in two roles.
    names = list(dict.fromkeys(published))
    rows = 0
    writer: csv.CSVWriter | None = None
    for batch in batches(source, names, use, where):
        if writer is None:
            writer = csv.CSVWriter(file, batch.schema)
        writer.write_batch(batch)
        rows += batch.num_rows
    if writer is None:
        # Nobody consented: the header alone.
        writer = csv.CSVWriter(file, pa.schema([(name, pa.string()) for name in names]))
    writer.close()
    return rows


def _name(row: TransferRow) -> str:
    """A file's name for a transfer: our own pid, which is no text of a peer's."""
    return row.pid.rpartition(":")[2]


def _interrupted(row: TransferRow) -> Unavailable:
    if row.state == TransferState.SUSPENDED:
        return Unavailable("the transfer is suspended", remedy="try again when it has been resumed")
    return Unavailable(f"the transfer is {row.state}")


def _verify_success(row: TransferRow, answer: httpx2.Response) -> None:
    if answer.status_code < 300:
        return
    if answer.status_code in _WORD_MAY_COME or answer.status_code >= 500:
        raise Unavailable(f"{row.peer} answered {answer.status_code} to the rows' transfer")
    raise InputRejected(f"{row.peer} refused the rows' transfer with {answer.status_code}")
