"""Recognises whoever calls at the owner's side, and holds what needs two persons."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from dataspace.access.acts import Acts
from dataspace.access.attempts import Attempts
from dataspace.access.holding import Requests
from dataspace.access.oidc import Provider
from dataspace.access.oidc_tokens import looks_like_token
from dataspace.access.permissions import Permission
from dataspace.access.principal import HOME, Principal
from dataspace.access.registry import Keys


class Access:
    """Who may use this node, and what two persons are needed for."""

    def __init__(
        self,
        home_key: str,
        *,
        keys: Keys,
        acts: Acts,
        requests: Requests,
        provider: Provider | None = None,
        two_persons: Iterable[Permission] = (),
    ) -> None:
        self._home_key_h = sha256(home_key.encode()).digest()
        self._provider = provider
        self.keys = keys
        self.acts = acts
        self.requests = requests
        self.two_persons = frozenset(two_persons)
        self.attempts = Attempts()

    def is_home_key(self, given: str) -> bool:
        """Whether this is the key in the home's directory. Needs no database, and no thread."""
        return hmac.compare_digest(sha256(given.encode()).digest(), self._home_key_h)

    def recognise(self, given: str) -> Principal:
        """The holder of a key or token. Raises Unauthenticated, or Unavailable where only the
        identity provider could tell and it is away."""
        if self.is_home_key(given):
            return HOME
        if self._provider is not None and looks_like_token(given):
            return self._provider.recognise(given)
        return self.keys.recognise(given)
