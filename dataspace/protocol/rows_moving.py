"""Moving rows over HTTP: a consumer fetches them, a provider sends them, both from where they were.

A connection that breaks costs what was under way in it. A fetch goes on with `Range` and `If-Range`
(RFC 9110), and a send with `Content-Range`, once the receiver has said how much of the same rows it
has: whoever does not know that gets or gives all of it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2

from contracts import messages as dsp
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.protocol.rows_in import Delivery, RowsIn, Sending
from dataspace.protocol.rows_out import Written
from dataspace.protocol.transfer_rows import REFRESH, address_of, endpoint_of, of_peer
from dataspace.protocol.transit import CHUNK_BYTES, Incoming
from dataspace.store.tables import TransferRow

if TYPE_CHECKING:
    from dataspace.node import Node

CSV_TYPE = "text/csv; charset=utf-8"
DELIVERY, DELIVERY_DUE = "delivery-number", "delivery-due"
UPLOAD_OFFSET, UPLOAD_COMPLETE = "upload-offset", "upload-complete"
# The other side may have suspended or ended the transfer, with its word about that on the way; or
# be busy with an earlier attempt.
_WORD_MAY_COME = frozenset({401, 403, 404, 409, 410, 429})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


@dataclass(frozen=True)
class Received:
    """What has come of rows that a provider pushes: how many bytes, or all, and the digest of the
    whole."""

    there: int
    digest: str | None
    complete: bool


class Moving:
    """One side's calls to the other's data plane."""

    def __init__(self, node: Node, rows_in: RowsIn, *, call_s: float) -> None:
        self._node = node
        self._rows_in = rows_in
        self._call_s = call_s

    # ---- fetching ---------------------------------------------------------------------------

    def fetch(self, row: TransferRow, go_on: Callable[[], None]) -> tuple[Incoming, bool]:
        """Get the rows from the provider, or the rest of them; what came, and whether it is CSV.

        `go_on` is asked before every piece. Raises Unavailable where it broke off.
        """
        coming = row.coming or {}
        there = self._rows_in.there(row) if coming.get("tag") else 0
        # What is digested, counted and kept is what the provider wrote, in no other encoding.
        headers = {"accept-encoding": "identity"}
        if there:
            if there == coming["size"]:
                # All of it had come when this node or the connection died.
                return self._nothing_more(row, coming), True
            headers |= {"range": f"bytes={there}-", "if-range": coming["tag"]}
        with self._call("GET", row, headers, None) as answer:
            if answer.status_code == 401 and self._renew(row):
                raise Unavailable("the token had ended, and there is a new one")
            if answer.status_code == 416:
                self._rows_in.forget(row)
                raise Unavailable("the rows are others now, so they come anew")
            _verify_success(row, answer)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ProtocolViolation(f"{row.peer} encoded the rows although it was asked not to")
            with self._rows_in.receiving(row, _sending(row, answer, there)) as incoming:
                for chunk in _pieces(answer):
                    go_on()
                    incoming.write(chunk)
        return incoming, answer.headers.get("content-type", "text/csv").startswith("text/csv")

    def _nothing_more(self, row: TransferRow, coming: dict[str, Any]) -> Incoming:
        sending = Sending(coming["digest"], coming["size"], coming["size"], tag=coming["tag"])
        with self._rows_in.receiving(row, sending) as incoming:
            return incoming

    def _renew(self, row: TransferRow) -> bool:
        """Ask the provider for a new token, with a proof of who we are; whether there is one."""
        url = address_of(row).property_named(REFRESH)
        if url is None:
            return False
        of_peer(row, url, self._node.peers)
        answer = self._node.peers.send("POST", url, to=row.peer)
        if answer.status != 200:
            return False
        address = dsp.parse(dsp.DataAddress, answer.body)
        with self._node.store.transaction() as tx:
            tx.get_one(TransferRow, row.pid).data_address = address.to_json()
        return True

    # ---- sending ----------------------------------------------------------------------------

    def send(
        self,
        row: TransferRow,
        written: Written,
        pieces: Callable[[int], Iterable[bytes]],
        *,
        there: int = 0,
        delivery: Delivery | None = None,
    ) -> None:
        """Put the rows where the consumer wants them, from the byte on that it said it has."""
        headers = {
            "content-type": CSV_TYPE,
            "content-length": str(written.size - there),
            "repr-digest": written.digest,
            **_delivery_headers(delivery),
        }
        if there:
            headers["content-range"] = f"bytes {there}-{written.size - 1}/{written.size}"
        else:
            headers["content-digest"] = written.digest
        with self._call("PUT", row, headers, pieces(there)) as answer:
            answer.read()
            _verify_success(row, answer)

    def ask(self, row: TransferRow, delivery: Delivery | None) -> Received:
        """What the consumer has of rows that we began to send. Whoever does not know the question
        has nothing."""
        with self._call("HEAD", row, _delivery_headers(delivery), None) as answer:
            if answer.status_code >= 300:
                return Received(0, None, complete=False)
            offset = answer.headers.get(UPLOAD_OFFSET, "0")
            return Received(
                int(offset) if re.fullmatch("[0-9]{1,15}", offset) else 0,
                answer.headers.get("repr-digest"),
                complete=answer.headers.get(UPLOAD_COMPLETE) == "?1",
            )

    # ---- both -------------------------------------------------------------------------------

    @contextmanager
    def _call(
        self,
        method: str,
        row: TransferRow,
        headers: dict[str, str],
        content: Iterable[bytes] | None,
    ) -> Iterator[httpx2.Response]:
        """The peer's answer, streamed. Raises Unavailable where it cannot be reached."""
        # The address is the peer's word; it must lead to the peer, and the client sees to it that
        # it does not lead into our own network.
        url = endpoint_of(row, self._node.peers)
        token = address_of(row).property_named("authorization")
        granted = {"authorization": f"Bearer {token}"} if token else {}
        try:
            with self._node.http.stream(
                method, url, content=content, headers={**granted, **headers}, timeout=self._call_s
            ) as answer:
                yield answer
        except (httpx2.HTTPError, httpx2.InvalidURL) as err:
            raise Unavailable(
                f"{row.peer} broke off the rows' transfer ({type(err).__name__})",
                remedy="check that the peer's node is running",
            ) from err


def _pieces(answer: httpx2.Response) -> Iterator[bytes]:
    """The bytes in pieces worth a write; where the connection breaks, what had come before that."""
    held = bytearray()
    try:
        for chunk in answer.iter_raw():
            held += chunk
            if len(held) >= CHUNK_BYTES:
                yield bytes(held)
                held.clear()
    except httpx2.HTTPError:
        yield bytes(held)
        raise
    yield bytes(held)


def _sending(row: TransferRow, answer: httpx2.Response, there: int) -> Sending:
    """What a provider's answer says of the rows in it. Raises ProtocolViolation for a piece that
    is not the one that was asked for."""
    tag = answer.headers.get("etag")
    # A weak tag does not name bytes.
    tag = None if tag is None or tag.startswith("W/") else tag
    digest = answer.headers.get("repr-digest")
    if answer.status_code != 206:
        length = answer.headers.get("content-length", "")
        size = int(length) if re.fullmatch("[0-9]{1,15}", length) else None
        whole = digest or answer.headers.get("content-digest")
        return Sending(whole, size=size, tag=tag if size is not None else None)
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None or int(match[1]) != there or not there:
        raise ProtocolViolation(f"{row.peer} gave another part of the rows than was asked for")
    known = row.coming or {}
    return Sending(digest or known["digest"], there, int(match[3]), tag=tag or known["tag"])


def _delivery_headers(delivery: Delivery | None) -> dict[str, str]:
    if delivery is None:
        return {}
    due = datetime.fromtimestamp(delivery.due_at, UTC).isoformat()
    return {DELIVERY: str(delivery.number), DELIVERY_DUE: due}


def _verify_success(row: TransferRow, answer: httpx2.Response) -> None:
    if answer.status_code < 300:
        return
    if answer.status_code in _WORD_MAY_COME or answer.status_code >= 500:
        raise Unavailable(f"{row.peer} answered {answer.status_code} to the rows' transfer")
    raise InputRejected(f"{row.peer} refused the rows' transfer with {answer.status_code}")
