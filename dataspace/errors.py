"""The node's own errors: four kinds, and two that only a server has.

Every message is one sentence for the person who can act on it, and `remedy` says how. None carries
a row value, a key or a token. `dataspace.web.problems` maps these, and the libraries' errors, to
HTTP in one table.
"""

from connectors.errors import ConnectorError
from contracts.errors import ContractError
from ledger.errors import LedgerError
from privacy.errors import PrivacyError


class NodeError(Exception):
    """What went wrong, in one sentence, and what to do about it."""

    def __init__(self, sentence: str, *, remedy: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy


class InputRejected(NodeError):
    """The caller asked for something that cannot be done as asked."""


class Denied(NodeError):
    """A policy refused; `clause` is the path of the clause that did, where one did."""

    def __init__(
        self, sentence: str, *, remedy: str | None = None, clause: str | None = None
    ) -> None:
        super().__init__(sentence, remedy=remedy)
        self.clause = clause


class ProtocolViolation(NodeError):
    """A peer sent what the protocol does not allow here."""


class Unavailable(NodeError):
    """Something this needs is away for the moment; trying again may help.

    `after_s` is how long to wait first, where whoever is away said so.
    """

    def __init__(
        self, sentence: str, *, remedy: str | None = None, after_s: float | None = None
    ) -> None:
        super().__init__(sentence, remedy=remedy)
        self.after_s = after_s


class TooManyRequests(NodeError):
    """The caller asks more often than `limit` allows; in `after_s` seconds it may again."""

    def __init__(
        self, sentence: str, *, limit: str, after_s: float, remedy: str | None = None
    ) -> None:
        super().__init__(sentence, remedy=remedy)
        self.limit = limit
        self.after_s = after_s


class Unsupported(NodeError):
    """What was asked for is allowed by a protocol, and not offered here."""


class NotFound(NodeError):
    """Nothing by that name, or nothing this caller may know of: the two look the same."""


class Unauthenticated(NodeError):
    """The caller did not prove who it is."""


class TokenSpent(Unauthenticated):
    """The token was used before: it is replayed, or its request came twice on its way."""


class TokenUntimely(Unauthenticated):
    """The token's time, or its credential's, has not come or is over: a clock may be wrong."""


class SessionClosed(NodeError):
    """A frame for a computation that has already ended here."""


class Superseded(NodeError):
    """A frame or notice of an earlier attempt at a computation that has been begun again."""


# Every error made to be shown: its text is a sentence for people and holds no data. What is not
# among these stays inside the node.
SHOWN = (NodeError, ConnectorError, ContractError, LedgerError, PrivacyError)
