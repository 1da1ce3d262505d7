"""How connections to a database are encrypted: PostgreSQL's names, for all of them."""

from __future__ import annotations

from typing import Final

from connectors.addresses import Address
from connectors.errors import InputRejected

_MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_this_machine(address: Address) -> bool:
    """Whether rows stay on this machine, where nobody else listens."""
    return address.host in _THIS_MACHINE


def sslmode_of(address: Address, default: str) -> str:
    """The option `sslmode=`. Raises InputRejected for one that is not known, and for one that
    checks the server's certificate without `sslrootcert=` to check it with."""
    mode = address.options.get("sslmode", default)
    if mode not in _MODES:
        raise InputRejected(f"{address.scheme}: sslmode= takes one of {', '.join(_MODES)}")
    if mode.startswith("verify") and "sslrootcert" not in address.options:
        raise InputRejected(
            f"{address.scheme}: sslmode={mode} needs sslrootcert=/path, the certificate that "
            "signed the server's"
        )
    return mode
