"""Identifiers in one spelling, so that the same person is the same string at every participant.

A canonicaliser is a pure function with a versioned name: two parties that agreed on `resident-id/1`
compare equal strings or none. A changed rule is a new name. Values that cannot be an identifier
are refused with a reason and never guessed: a wrong match is worse than a missing one.

A key of several columns joins their names and their canonicalisers: `name+born` by `name/1+date/1`.
"""

from connectors.identifiers.columns import (
    MAX_EXAMPLES_PER_REASON,
    ColumnReader,
    QualityReport,
    canonicalise_column,
    require_identifiers,
)
from connectors.identifiers.registry import (
    InvalidIdentifier,
    canonicalise,
    canonicalisers,
    columns_of,
    parts_of,
    verify_key,
)
from connectors.identifiers.spelling import MAX_VALUE_CHARACTERS, Reason

__all__ = [
    "MAX_EXAMPLES_PER_REASON",
    "MAX_VALUE_CHARACTERS",
    "ColumnReader",
    "InvalidIdentifier",
    "QualityReport",
    "Reason",
    "canonicalise",
    "canonicalise_column",
    "canonicalisers",
    "columns_of",
    "parts_of",
    "require_identifiers",
    "verify_key",
]
