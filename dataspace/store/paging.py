"""Lists of what grows for as long as a node lives are read in pages, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

# What a person scrolls through, and a few megabytes.
MAX_LISTED: Final = 1000

Statement = TypeVar("Statement", bound=Any)


@dataclass(frozen=True)
class Page:
    """At most `limit` rows, after the first `offset` of them."""

    limit: int = MAX_LISTED
    offset: int = 0

    def of(self, statement: Statement) -> Statement:
        """The statement for this page of what `statement` finds in its order."""
        found: Statement = statement.limit(self.limit).offset(self.offset)
        return found


FIRST: Final = Page()
