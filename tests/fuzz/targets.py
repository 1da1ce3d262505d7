"""Every target, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.fuzz import on_contracts, on_identity, on_ledger, on_messages, on_rows
from tests.fuzz.target import Target

TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        target.name: target
        for part in (on_ledger, on_contracts, on_identity, on_messages, on_rows)
        for target in part.TARGETS
    }
)
