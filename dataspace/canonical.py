"""The name of a JSON document: the SHA-256 of its canonical form (RFC 8785)."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785


def canonical_hash(document: dict[str, Any]) -> str:
    """Hex SHA-256 of the document's canonical JSON."""
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
