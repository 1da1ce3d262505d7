"""What another node answered to a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataspace.errors import ProtocolViolation


@dataclass(frozen=True)
class Answer:
    """What a peer answered: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; ProtocolViolation where it is none."""
        value = self._parsed()
        if not isinstance(value, dict):
            raise ProtocolViolation("the peer's answer is not a JSON object")
        return value

    def json_list(self) -> list[dict[str, Any]]:
        """The body as a list of JSON objects; ProtocolViolation where it is none."""
        value = self._parsed()
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise ProtocolViolation("the peer's answer is not a list of JSON objects")
        return value

    def _parsed(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as err:
            raise ProtocolViolation("the peer's answer is not JSON") from err

    def reason(self) -> str:
        """The peer's own sentence about its refusal, as text we can show, at most 500 letters."""
        try:
            value = self.json()
        except ProtocolViolation:
            return f"HTTP {self.status}"
        reasons = value.get("reason")
        found = value.get("detail") or (reasons[0] if isinstance(reasons, list) and reasons else "")
        return str(found)[:500] or f"HTTP {self.status}"
