"""The recipient as the evidence of a decision tells it: its kind, then the zones it was taken for.

An auditor reads them back and must come to the same decision, so that nobody knew the zones is told
too: by a text that no zone can have as its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

UNKNOWN_KIND: Final = "unknown"
# Names of zones hold no space.
UNKNOWN_ZONES: Final = "zones unknown"


def told(kind: str | None, zones: Sequence[str] | None) -> tuple[str, ...]:
    """Kind and zones as an entry lists them; None where either could not be established."""
    return (kind or UNKNOWN_KIND, *((UNKNOWN_ZONES,) if zones is None else zones))


def zones_told(recipients: Sequence[str] | None) -> tuple[str, ...] | None:
    """The zones in what `told` made; None where they were not known."""
    if not recipients or tuple(recipients[1:]) == (UNKNOWN_ZONES,):
        return None
    return tuple(recipients[1:])
