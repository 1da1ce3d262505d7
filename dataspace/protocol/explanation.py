"""Why a process was ended, in the `reason` of a termination: a sentence, and what goes with it.

The protocol leaves the members of `reason` open. Ours are the sentence, then an object with the
clause that refused and what could be done; a peer of another make shows the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue


@dataclass(frozen=True)
class Explanation:
    """A sentence, and where a clause refused, its path and the remedy."""

    sentence: str
    clause: str | None = None
    remedy: str | None = None

    def to_reason(self) -> tuple[JsonValue, ...]:
        """The members of a termination's `reason`."""
        detail: dict[str, JsonValue] = {
            name: value
            for name, value in (("clause", self.clause), ("remedy", self.remedy))
            if value
        }
        return (self.sentence, detail) if detail else (self.sentence,)


def explanation_of(reason: Sequence[Any], code: str | None = None) -> Explanation:
    """What a peer's termination says; foreign text, so every part is cut to a length."""
    sentence = str(reason[0])[:500] if reason else ""
    detail = reason[1] if len(reason) > 1 and isinstance(reason[1], dict) else {}
    clause, remedy = detail.get("clause"), detail.get("remedy")
    return Explanation(
        sentence or (code or "the peer ended it without saying why")[:500],
        str(clause)[:200] if clause else None,
        str(remedy)[:500] if remedy else None,
    )
