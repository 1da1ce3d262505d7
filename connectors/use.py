"""A use of data, as consents and traces ask about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Use:
    """Who reads, why and when; `at` has a time zone.

    `agreement` is the id of the contract the use is under and `computation` the kind that runs, or
    the format in which rows leave; None where there is none, as when owners read their own.
    """

    purpose: str
    recipient: str
    at: datetime
    agreement: str | None = None
    computation: str | None = None
