"""What a vault keeps of a person beside the records: who it is, life's dates, consents held.

A head is sealed under the person's key, and read before any record is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pydantic_core import from_json

from connectors.people import (
    CHILD_BELOW_YEARS,
    LONGEST_LIFE_YEARS,
    day_of,
    last_birthday_of_age,
)


@dataclass(frozen=True)
class ConsentHeld:
    """A consent as the vault keeps it beside the person; times in milliseconds since 1970."""

    receipt: str
    terms: int
    given_ms: int
    expires_ms: int
    withdrawn: bool
    guardian: bool


@dataclass(frozen=True)
class Head:
    """What of a person is read before the records: sealed under the person's key."""

    subject: str
    born: date | None
    died: date | None
    provenance: str
    consents: tuple[ConsentHeld, ...]


def read_heads(packed: Sequence[bytes]) -> list[Head]:
    """Heads as they were written by `write_head`."""
    # One document of them all: a parser called once for each of thousands costs more than it reads.
    return [
        Head(
            subject,
            _day(born),
            _day(died),
            provenance,
            tuple(ConsentHeld(*consent) for consent in consents),
        )
        for subject, born, died, provenance, consents in from_json(b"[" + b",".join(packed) + b"]")
    ]


def written_head(head: Head) -> bytes:
    """What `read_heads` reads."""
    return json.dumps(
        [
            head.subject,
            None if head.born is None else head.born.toordinal(),
            None if head.died is None else head.died.toordinal(),
            head.provenance,
            [
                [one.receipt, one.terms, one.given_ms, one.expires_ms, one.withdrawn, one.guardian]
                for one in head.consents
            ],
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


class Coverage:
    """Decides about one use whether people's consents cover it, from heads as they are written."""

    def __init__(self, fitting: frozenset[int], at: datetime) -> None:
        self._fitting, today = fitting, day_of(at)
        self._at_ms = int(at.timestamp() * 1000)
        # The rule of `connectors.people.standing` as comparisons of days, for it is asked for
        # every person of a city.
        self._today = today.toordinal()
        self._fourteen = last_birthday_of_age(CHILD_BELOW_YEARS, today).toordinal()
        self._oldest = last_birthday_of_age(LONGEST_LIFE_YEARS, today).toordinal()

    def of(self, packed: Sequence[bytes]) -> list[bool]:
        """For each head whether one of its consents is among the fitting ones and in force, of
        somebody who lives, and for a child by a guardian."""
        heads = from_json(b"[" + b",".join(packed) + b"]")
        return [self._covers(born, died, consents) for _, born, died, _, consents in heads]

    def _covers(
        self,
        born: int | None,
        died: int | None,
        consents: Sequence[tuple[str, int, int, int, bool, bool]],
    ) -> bool:
        if (died is not None and died <= self._today) or (born or self._today) <= self._oldest:
            return False
        grown = born is None or born <= self._fourteen
        at_ms, fitting = self._at_ms, self._fitting
        for _, terms, given_ms, expires_ms, withdrawn, guardian in consents:
            if (
                terms in fitting
                and given_ms <= at_ms < expires_ms
                and not withdrawn
                and (grown or guardian)
            ):
                return True
        return False


def _day(ordinal: int | None) -> date | None:
    return None if ordinal is None else date.fromordinal(ordinal)


def bound(vault_id: bytes, kind: str, *parts: bytes) -> bytes:
    """Binds a sealed text to its place; every part has one length for each kind."""
    return b"\0".join((kind.encode(), vault_id, *parts))


def head_bound(vault_id: bytes, pseudonym: bytes, number: int) -> bytes:
    return bound(vault_id, "head", pseudonym, number.to_bytes(8))


def record_bound(prefix: bytes, columns: bytes, number: int, seq: int) -> bytes:
    """What a record is sealed beside: whose it is (`prefix`), which columns, import and place."""
    return b"%b\0%b\0%b%b" % (prefix, columns, number.to_bytes(8), seq.to_bytes(4))
