"""Recognises whoever calls at the owner's side."""

from __future__ import annotations

import hmac

from dataspace.access.principal import HOME, Principal
from dataspace.errors import Unauthenticated


class Access:
    """Who may use this node."""

    def __init__(self, home_key: str) -> None:
        self._home_key = home_key

    def recognise(self, given: str) -> Principal:
        """The holder of a key or token. Raises Unauthenticated."""
        if hmac.compare_digest(given.encode(), self._home_key.encode()):
            return HOME
        raise Unauthenticated(
            "this address is for the node's owner: the API key is missing or wrong",
            remedy="send Authorization: Bearer with the key in the home's keys/api.key",
        )
