"""Column names: are the asked ones there, and which did the user probably mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from connectors.errors import InputRejected

# A message names no more columns than a person reads.
_MOST_NAMED = 40


def verify_columns(asked: Sequence[str], present: Sequence[str], *, source: str) -> None:
    """Raises InputRejected naming the first asked column that `source` does not have."""
    for name in asked:
        if name in present:
            continue
        folded = {column.casefold(): column for column in present}
        near = get_close_matches(name.casefold(), folded, n=1)
        hint = f"; did you mean {folded[near[0]]}?" if near else ""
        listed = ", ".join(present[:_MOST_NAMED])
        more = f" and {len(present) - _MOST_NAMED} more" if len(present) > _MOST_NAMED else ""
        raise InputRejected(
            f"{source} has no column {name[:200]}; its columns are {listed}{more}{hint}"
        )
    verify_distinct(asked, source=f"the request for {source}")


def verify_distinct(names: Sequence[str], *, source: str) -> None:
    """Raises InputRejected where a column name occurs twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputRejected(
            f"{source} names the column {twice[0]} more than once; give every column its own name"
        )
