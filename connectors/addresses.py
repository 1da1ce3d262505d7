"""Addresses of sources that are not files of this machine: `scheme://user@host:port/path?options`.

Where the query of an address belongs to the server (web APIs), the options stand in the fragment,
which is never sent: `json+https://host/items?kind=1#items=data`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from connectors.credentials import secret_at
from connectors.errors import InputRejected


@dataclass(frozen=True)
class Address:
    """An address taken apart; `options` are ours, each given once and known to the source."""

    scheme: str
    parts: SplitResult
    options: dict[str, str]

    @property
    def host(self) -> str | None:
        return self.parts.hostname

    @property
    def port(self) -> int | None:
        return self.parts.port

    @property
    def user(self) -> str | None:
        return None if self.parts.username is None else unquote(self.parts.username)

    @property
    def path(self) -> str:
        """Without percent escapes; with its leading slash."""
        return unquote(self.parts.path)

    def secret(self) -> str | None:
        """What the option `secret=` leads to, read anew on every call; None without it."""
        reference = self.options.get("secret")
        return None if reference is None else secret_at(reference)


def parse_address(url: str, *, known: Collection[str], in_fragment: bool = False) -> Address:
    """Take `url` apart; its options, in query or fragment, must be among `known`.

    Raises InputRejected for an address that is malformed or holds a password, and for an option
    that is unknown or given twice.
    """
    try:
        parts = urlsplit(url)
        # Only asking for it tells whether the port is a number.
        _ = parts.port
    except ValueError:
        raise InputRejected(
            "the address of a source is malformed; write scheme://host:port/path"
        ) from None
    if parts.password is not None:
        raise InputRejected(
            f"{parts.scheme}: an address must not hold a password, it is stored and shown; keep it "
            "in a file (secret=file:/path) or a variable (secret=env:NAME)"
        )
    pairs = parse_qsl(parts.fragment if in_fragment else parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InputRejected(f"{parts.scheme}: an option is given twice; give each once")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputRejected(
            f"{parts.scheme}: there is no option {unknown[0][:100]}; it takes "
            f"{', '.join(sorted(known))}"
        )
    return Address(parts.scheme.lower(), parts, options)
