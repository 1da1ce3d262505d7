"""The data plane of transfers without a computation: rows as CSV, fetched or sent, with a digest.

`rows_out` writes what leaves, `rows_in` keeps what comes, `rows_moving` carries it between nodes;
here is who may, and what is noted of it.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlmodel import Session

from contracts import messages as dsp
from contracts.odrl import Agreement
from contracts.party import Party
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL, PUSH
from dataspace.errors import Denied, NotFound, Superseded, Unauthenticated, Unavailable
from dataspace.identity.tokens import Member
from dataspace.leases import LEASE_S
from dataspace.outbound import within
from dataspace.processes import FIRST_RETRY_S, Handler, Later, Pool, Process
from dataspace.protocol.rows_in import Delivery, RowsIn, Sending
from dataspace.protocol.rows_moving import Moving, Received
from dataspace.protocol.rows_out import BeingWritten, RowsOut, Written, pieces, still_there
from dataspace.protocol.transfer_rows import commitment_of, start_address, token_hash
from dataspace.protocol.transit import CHUNK_BYTES, Incoming, digest_header, sweep
from dataspace.store.tables import AgreementRow, DeliveryRow, TransferRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

MOVE = "move-rows"
# One attempt ends before another worker may take the work over; the next goes on from there.
MOVE_S = LEASE_S - 20.0
# One sentence for a wrong token and a transfer that is over, so that neither is told.
_NOTHING_HERE = "there is nothing to fetch or send here with this token"


@dataclass(frozen=True)
class Outgoing:
    """Rows that may be given now, and their bytes from one on, for as long as they may."""

    written: Written
    verify_started: Callable[[], None]

    def chunks(self, begin_at: int = 0) -> Iterator[bytes]:
        """Yields the bytes once. Raises Unavailable as soon as the transfer is interrupted."""
        for piece in pieces(self.written, begin_at):
            self.verify_started()
            yield piece

    def close(self) -> None:
        """Where the bytes are not asked for."""
        self.written.file.close()


class DataPlane:
    """Serves, sends, fetches and takes in the rows of transfers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.rows_out, self._rows_in = RowsOut(node), RowsIn(node)
        self.moving = Moving(node, self._rows_in, call_s=MOVE_S)
        self._being_written, self._being_received = BeingWritten(), BeingWritten()
        for directory in ("outgoing", "received"):
            sweep(node.home.path / directory)

    def handlers(self) -> dict[str, Handler]:
        return {MOVE: Handler(self._move, self._failed, Pool.PEERS)}

    # ---- for peers --------------------------------------------------------------------------

    def serve(self, pid: str, token: str) -> Outgoing:
        """What a consumer may fetch with `token`.

        Raises NotFound for a wrong token or a transfer that has ended, Unauthenticated for a token
        that has, Unavailable while the transfer is suspended or the rows cannot be read, Denied
        where the policy no longer lets them leave.
        """
        row = self._granted(pid, token, Party.PROVIDER, PULL)
        if row.token_until is not None and row.token_until < time.time():
            raise Unauthenticated(
                "this token has ended",
                remedy="ask for another at the refreshEndpoint of the data address",
            )
        return self._outgoing(row)

    def renew(self, pid: str, peer: Member) -> dsp.DataAddress:
        """The data address of a pull again, with a new token, for the transfer's consumer.

        Raises NotFound for anybody else and where nothing can be fetched now.
        """
        with self._node.store.transaction() as tx:
            row = tx.get(TransferRow, pid)
            if row is None or row.peer != peer.did or row.state != TransferState.STARTED:
                raise NotFound("there is no such transfer")
            address = self.start_address(row)
            if address is None:
                raise NotFound("there is nothing to fetch in this transfer")
            tx.add(row)
        return address

    def start_address(self, row: TransferRow) -> dsp.DataAddress | None:
        """Where the rows of a transfer that starts are fetched, with a new token; None where this
        node does not serve them."""
        settings = self._node.home.settings
        return start_address(row, self._node.home.url, token_s=settings.data_token_s)

    @contextmanager
    def take_in(self, pid: str, token: str, sending: Sending) -> Iterator[Incoming]:
        """Where the rows go that a provider pushes, or the rest of them; kept if they have the
        digest they were sent with. Raises Superseded for what does not follow what is there."""
        row = self._granted(pid, token, Party.CONSUMER, PUSH)
        with self._being_received.alone(pid):
            if sending.delivery is not None and self._came(row, sending.delivery) is not None:
                raise Superseded("these rows have come already")
            with self._rows_in.receiving(row, sending) as incoming:
                yield incoming
            self._note_received(row, incoming, sending.delivery, is_csv=True)

    def received(self, pid: str, token: str, delivery: Delivery | None) -> Received:
        """How much has come of what a provider pushes."""
        row = self._granted(pid, token, Party.CONSUMER, PUSH)
        coming, moved = row.coming or {}, self._came(row, delivery)
        if moved is not None:
            digest = digest_header(bytes.fromhex(moved["sha256"]))
            return Received(int(moved["bytes"]), digest, complete=True)
        if coming.get("delivery") != (delivery.number if delivery else None):
            return Received(0, None, complete=False)
        return Received(self._rows_in.there(row), coming.get("digest"), complete=False)

    def forget(self, row: TransferRow) -> None:
        """Remove what was written for a transfer that has ended, and what came in part."""
        self.rows_out.forget(row)
        self._rows_in.forget(row)

    # ---- moving, as one of our processes ----------------------------------------------------

    def _move(self, process: Process) -> Later | None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
        if row.state != TransferState.STARTED:
            return None
        # Preparing the rows counts too; where it takes long, the next attempt finds them prepared.
        with within(MOVE_S):
            if row.role == Party.PROVIDER.value:
                self._send(row, again=process.attempts > 1)
            elif self._fetch(row) is None:
                # Not one of the attempts after which a transfer is given up.
                return Later(FIRST_RETRY_S)
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state == TransferState.STARTED:
                self._node.transfers.complete(tx, row)
        return None

    def _failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get_one(TransferRow, process.subject)
        self._node.transfers.terminate(tx, row, error, code="failed")

    def _send(self, row: TransferRow, *, again: bool) -> None:
        outgoing = self._outgoing(row)
        self.send(row, outgoing.written, again=again)

    def send(
        self, row: TransferRow, written: Written, *, again: bool, delivery: Delivery | None = None
    ) -> None:
        """Push rows; where it is not the first time, from where the consumer has them.

        Raises Unavailable where it broke off or the transfer was interrupted.
        """
        with written.file:
            asked = self.moving.ask(row, delivery) if again else Received(0, None, complete=False)
            same = asked.digest == written.digest
            # Who has a token could have put other rows; a delivery's number is given once.
            if asked.complete and (same or delivery is not None):
                return
            there = asked.there if same and asked.there < written.size else 0
            outgoing = Outgoing(written, lambda: self.verify_started(row.pid))
            self.moving.send(row, written, outgoing.chunks, there=there, delivery=delivery)

    def _fetch(self, row: TransferRow) -> Incoming | None:
        """What came; None where it broke off after more had come than in earlier attempts."""
        before = self._rows_in.there(row)
        try:
            incoming, is_csv = self.moving.fetch(row, lambda: self.verify_started(row.pid))
        except Unavailable:
            with self._node.store.transaction() as tx:
                now = tx.get_one(TransferRow, row.pid)
            if self._rows_in.there(now) - before < CHUNK_BYTES:
                raise
            return None
        self._note_received(row, incoming, None, is_csv=is_csv)
        return incoming

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
        with self._being_written.alone(row.pid):
            path = self.rows_out.path(row)
            written = None
            if not self.rows_out.reads_anew(dataset):
                written = still_there(path, stored.moved)
            if written is None:
                written = self.write(row, path)
        return Outgoing(written, lambda: self.verify_started(row.pid))

    def reads_anew(self, row: TransferRow) -> bool:
        """Whether the rows of a transfer may be other ones each time they are given."""
        with self._node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, row.agreement)
            dataset = self._node.datasets.get(tx, agreement.dataset)
        return self.rows_out.reads_anew(dataset)

    def write(self, row: TransferRow, path: Path, delivery: Delivery | None = None) -> Written:
        """Read the rows and note that they leave, before the first byte does: a node that dies in
        between says too much, never too little."""
        with self._node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, row.agreement)
            dataset = self._node.datasets.get(tx, agreement.dataset)
        document = Agreement.model_validate(agreement.document)
        try:
            covered = self._node.versions.covered(document, dataset)
            written = self.rows_out.write(row, agreement, dataset, path)
            if covered is not None:
                self._node.versions.verify_still(dataset, covered)
        except Denied as refusal:
            with self._node.store.transaction() as tx:
                self._node.transfers.deny(tx, tx.get_one(TransferRow, row.pid), refusal)
            raise
        self._moved(row, "sent", written.to_json(), path, delivery)
        return written

    # ---- what is noted ----------------------------------------------------------------------

    def _note_received(
        self, row: TransferRow, incoming: Incoming, delivery: Delivery | None, *, is_csv: bool
    ) -> None:
        path = self._rows_in.path(row, delivery)
        counted = {"rows": incoming.counter.rows()} if is_csv else {}
        moved = {**counted, **incoming.digesting.to_json(), "file": str(path)}
        self._moved(row, "received", moved, path, delivery)

    def _moved(
        self,
        row: TransferRow,
        outcome: str,
        moved: dict[str, Any],
        path: Path,
        delivery: Delivery | None,
    ) -> None:
        """Note what was moved, with the evidence; once for the same bytes of a delivery.

        Raises Unavailable, and keeps nothing, where the transfer was interrupted meanwhile.
        """
        number = None if delivery is None else delivery.number
        with self._node.store.transaction() as tx:
            stored = tx.get_one(TransferRow, row.pid)
            if stored.state != TransferState.STARTED:
                path.unlink(missing_ok=True)
                raise interrupted(stored)
            agreement = tx.get_one(AgreementRow, row.agreement)
            if delivery is None:
                if stored.moved == moved:
                    return
            elif not self._note_delivery(tx, stored, delivery, moved):
                return
            stored.moved, stored.coming = moved, None
            tx.add(stored)
            self._node.evidence.record(
                tx,
                EntryType.ACCESSED,
                peer=row.peer,
                corr=agreement.id,
                agreement_h=agreement.document_h,
                kind=row.format,
                purpose=row.purpose,
                outcome=outcome,
                outputs_c=(commitment_of(stored, moved["sha256"], number),),
            )

    def _note_delivery(
        self, tx: Session, row: TransferRow, delivery: Delivery, moved: dict[str, Any]
    ) -> bool:
        """Keep what a delivery moved; whether that is new."""
        noted = tx.get(DeliveryRow, (row.pid, delivery.number))
        if noted is None:
            noted = DeliveryRow(
                transfer=row.pid,
                number=delivery.number,
                due_at=delivery.due_at,
                began_at=time.time(),
            )
        if noted.moved == moved:
            return False
        if row.role == Party.CONSUMER.value:
            noted.finished_at = time.time()
            if delivery.number > 1:
                # The first is the use that the transfer's start was counted as.
                agreement = tx.get_one(AgreementRow, row.agreement)
                agreement.use_count += 1
                tx.add(agreement)
        noted.moved = moved
        tx.add(noted)
        return True

    # ---- who may ----------------------------------------------------------------------------

    def _granted(self, pid: str, token: str, role: Party, format_: str) -> TransferRow:
        with self._node.store.transaction() as tx:
            row = tx.get(TransferRow, pid)
        if row is None or (row.role, row.format) != (role.value, format_):
            raise NotFound(_NOTHING_HERE)
        if not hmac.compare_digest(row.token_h or "", token_hash(token)):
            raise NotFound(_NOTHING_HERE)
        if row.state == TransferState.SUSPENDED:
            raise interrupted(row)
        if row.state != TransferState.STARTED:
            raise NotFound(_NOTHING_HERE)
        return row

    def _came(self, row: TransferRow, delivery: Delivery | None) -> dict[str, Any] | None:
        """What was noted of these rows once all of them had come; None before."""
        if delivery is None:
            return row.moved
        with self._node.store.transaction() as tx:
            noted = tx.get(DeliveryRow, (row.pid, delivery.number))
        return None if noted is None or noted.finished_at is None else noted.moved

    def verify_started(self, pid: str) -> None:
        """Raises Unavailable where the transfer was interrupted or has ended."""
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, pid)
        if row.state != TransferState.STARTED:
            raise interrupted(row)


def interrupted(row: TransferRow) -> Unavailable:
    """Why no rows move now."""
    if row.state == TransferState.SUSPENDED:
        return Unavailable("the transfer is suspended", remedy="try again when it has been resumed")
    return Unavailable(f"the transfer is {row.state}")
