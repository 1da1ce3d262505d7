"""Passing a peer's frames on to the replica that runs the computation they are for.

Peers know one address of a node, and whichever replica answers there has authenticated the peer.
The frame goes on to the other replica's own address with the peer's name and a tag over all of it
under a key that only this node's replicas can derive. It is good for a short while; a repetition
within it changes nothing, as frames are idempotent.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dataspace.answer import Answer
from dataspace.errors import NotFound, Unavailable
from dataspace.outbound import UNREACHABLE, ask, outbound_client
from dataspace.store.tables import ComputationRow

if TYPE_CHECKING:
    from dataspace.node import Node

PREFIX = "/replica"
PEER, TAG = "replica-peer", "replica-tag"
# What a frame says of itself besides its bytes.
FRAME_HEADERS = ("frame-name", "frame-chunks", "frame-attempt", "content-digest")
# Replicas' clocks may differ by as much as peers' may.
GOOD_FOR_S = 60
TIMEOUT_S = 15.0
# It answers with a word or two about the frame, or with where a computation is.
MAX_ANSWER_BYTES = 64 * 1024


class Forwarding:
    """Both ends of what goes between the replicas of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = node.derived_key("replicas")
        # At whatever address: the replicas of one owner trust their network.
        self._http = outbound_client(node.home.settings.tls_ca)

    def close(self) -> None:
        self._http.close()

    def pass_on(
        self, order: str, path: str, *, peer: str, body: bytes = b"", headers: Mapping[str, str]
    ) -> Answer | None:
        """The answer of the replica that runs this order to a PUT of `peer`; None where that is
        this one, or none yet. Raises Unavailable where that replica is away."""
        replicas = self._node.replicas
        if replicas.alone:
            return None
        with self._node.store.transaction() as tx:
            row = tx.get(ComputationRow, order)
        if row is None or row.replica in ("", replicas.name):
            return None
        frame = {name: headers[name] for name in FRAME_HEADERS if name in headers}
        return self._call("PUT", row.replica, path, peer=peer, body=body, headers=frame)

    def progress(self, row: ComputationRow) -> dict[str, Any] | None:
        """Where a computation is that another replica runs; None where it cannot be asked."""
        replicas = self._node.replicas
        if replicas.alone or row.replica in ("", replicas.name):
            return None
        path = f"/computations/{row.id}/progress"
        try:
            answer = self._call("GET", row.replica, path, peer=self._node.did)
        except Unavailable:
            return None
        return dict(answer.json()) if answer.status == 200 else None

    def verify(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> str:
        """The DID of the peer for whom another replica of this node passes this on. Raises
        NotFound: to everybody else there is nothing here."""
        until, _, _tag = headers.get(TAG, "").partition(".")
        peer = headers.get(PEER, "")
        frame = {name: headers[name] for name in FRAME_HEADERS if name in headers}
        expected = self._tag(method, path, peer, frame, body, until)
        known = hmac.compare_digest(expected.encode(), headers.get(TAG, "").encode())
        if not known or not until.isdecimal() or int(until) < time.time():
            raise NotFound("there is nothing at this address")
        return peer

    def _call(
        self,
        method: str,
        replica: str,
        path: str,
        *,
        peer: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        address = self._node.replicas.address_of(replica)
        if address is None:
            raise Unavailable("the replica with this computation is away", remedy="try again")
        frame = dict(headers or {})
        tag = self._tag(method, path, peer, frame, body, str(int(time.time()) + GOOD_FOR_S))
        sent = {
            "content-type": "application/octet-stream",
            # A node answers under its own name only.
            "host": urlsplit(self._node.home.url).netloc,
            **frame,
            PEER: peer,
            TAG: tag,
        }
        try:
            return ask(
                self._http,
                method,
                f"{address}{PREFIX}{path}",
                most=MAX_ANSWER_BYTES,
                timeout_s=TIMEOUT_S,
                content=body,
                headers=sent,
            )
        except UNREACHABLE as err:
            raise Unavailable(
                "the replica with this computation cannot be reached", remedy="try again"
            ) from err

    def _tag(
        self,
        method: str,
        path: str,
        peer: str,
        frame: Mapping[str, str],
        body: bytes,
        until: str,
    ) -> str:
        parts = [method, path, peer, until, hashlib.sha256(body).hexdigest()]
        parts += [f"{name}={frame[name]}" for name in sorted(frame)]
        # A length before each, so that no two lists of parts read the same.
        said = b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)
        return f"{until}.{hmac.new(self._key, said, 'sha256').hexdigest()}"
