"""What an auditor keeps of an opened record: the fields that are held against other records.

Records are many and mostly repeat the same names, so equal texts are kept once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ledger.entry import Entry, EntryType

MATCHED_TYPES = frozenset(
    {
        EntryType.NEGOTIATED,
        EntryType.ORDERED,
        EntryType.DECIDED,
        EntryType.COMPLETED,
        EntryType.REFUSED,
        EntryType.RELEASED,
    }
)


@dataclass(frozen=True, slots=True)
class Fact:
    """An opened record at its place. The fields are those of `ledger.entry.Entry`."""

    origin: str
    index: int
    type: EntryType
    ts: str
    actor: str
    peer: str | None
    corr: str | None
    agreement_h: str | None
    order_h: str | None
    transcript_h: str | None
    kind: str | None
    purpose: str | None
    decision: str | None
    clause: str | None
    outcome: str | None
    privacy_spend: float | None


_TEXTS = tuple(
    one.name for one in fields(Fact) if one.name not in ("origin", "index", "privacy_spend")
)


def fact_of(origin: str, index: int, entry: Entry, texts: dict[str, str]) -> Fact:
    """The fact in this record; `texts` has every text once and grows."""

    def once(text: str | None) -> str | None:
        return None if text is None else texts.setdefault(text, text)

    return Fact(
        origin=origin,
        index=index,
        type=entry.type,
        ts=entry.ts,
        actor=texts.setdefault(entry.actor, entry.actor),
        peer=once(entry.peer),
        corr=once(entry.corr),
        agreement_h=once(entry.agreement_h),
        order_h=once(entry.order_h),
        transcript_h=once(entry.transcript_h),
        kind=once(entry.kind),
        purpose=once(entry.purpose),
        decision=once(entry.decision),
        clause=once(entry.clause),
        outcome=once(entry.outcome),
        privacy_spend=entry.privacy_spend,
    )


def facts_to_json(facts: Iterable[Fact]) -> dict[str, Any]:
    """The facts of one log as rows of positions in a table of texts."""
    position: dict[str, int] = {}
    rows = [
        [
            fact.index,
            fact.privacy_spend,
            *(
                None if text is None else position.setdefault(text, len(position))
                for text in (getattr(fact, name) for name in _TEXTS)
            ),
        ]
        for fact in facts
    ]
    return {"texts": list(position), "rows": rows}


def facts_from_json(value: Mapping[str, Any], origin: str) -> list[Fact]:
    """The reverse of `facts_to_json`. Raises KeyError, TypeError, ValueError or IndexError."""
    texts: list[str] = value["texts"]
    facts = []
    for index, spend, *positions in value["rows"]:
        named: dict[str, Any] = {
            name: None if at is None else texts[at]
            for name, at in zip(_TEXTS, positions, strict=True)
        }
        named["type"] = EntryType(named["type"])
        facts.append(Fact(origin=origin, index=index, privacy_spend=spend, **named))
    return facts
