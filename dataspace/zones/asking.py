"""How a node asks its space's operator about zones, over the network or in its own process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dataspace.answer import Answer
from dataspace.errors import Denied, InputRejected, NotFound
from dataspace.evidence import read_space

if TYPE_CHECKING:
    from dataspace.node import Node

FETCH_S = 10.0


class OperatorsZones:
    """What the operator says of zones. At the operator's own node it is asked without a network.

    Every method raises NotFound for a zone or policy that is not there, Denied and InputRejected
    with the operator's own sentence, ProtocolViolation for an answer that is none, and Unavailable
    where it cannot be reached.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def did(self) -> str:
        """The operator. Raises Unavailable before this node has joined its space."""
        return self._node.peers.operator()

    def joined(self) -> bool:
        """Whether there is an operator that would answer us."""
        with self._node.store.transaction() as tx:
            return read_space(tx) is not None and self._node.member(tx)

    def all(self) -> list[dict[str, Any]]:
        """The zones of the space, without their members."""
        if self._node.operator is not None:
            return self._node.operator.zones.summary()
        return self._ask("GET", "").json_list()

    def signed_list(self, zone: str) -> str:
        if self._node.operator is not None:
            return self._node.operator.zones.signed_list(zone)
        return _text(self._ask("GET", f"/{_quoted(zone)}"))

    def policies(self, zone: str) -> list[dict[str, Any]]:
        """What the zone shares, as the operator lists it, unsigned."""
        if self._node.operator is not None:
            return self._node.operator.zones.policies(zone, reader=self._node.did)
        return self._ask("GET", f"/{_quoted(zone)}/policies").json_list()

    def signed_policy(self, zone: str, policy: str) -> str:
        if self._node.operator is not None:
            return self._node.operator.zones.signed_policy(zone, policy, reader=self._node.did)
        return _text(self._ask("GET", f"/{_quoted(zone)}/policies/{_quoted(policy)}"))

    def put_policy(self, zone: str, policy: str, document: dict[str, Any]) -> dict[str, Any]:
        if self._node.operator is not None:
            own = self._node.operator.zones
            return own.put_policy(zone, policy, document, by=self._node.did)
        path = f"/{_quoted(zone)}/policies/{_quoted(policy)}"
        return self._ask("PUT", path, {"document": document}).json()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        operator = self.did()
        url = f"{self._node.peers.url_of(operator)}/operator/zones{path}"
        content = b"" if body is None else json.dumps(body).encode()
        answer = self._node.peers.send(method, url, to=operator, body=content, timeout_s=FETCH_S)
        if answer.status == 404:
            raise NotFound(answer.reason(), remedy="see the zones with: dataspace zone list")
        if answer.status == 403:
            raise Denied(answer.reason(), remedy="ask the operator to admit you")
        if answer.status >= 300:
            raise InputRejected(f"the operator refused: {answer.reason()}")
        return answer


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")
