"""Moments in text: UTC, to the second unless somebody needs more."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(seconds: float) -> str:
    """A moment (UNIX seconds) as owners read it: 2026-03-01T08:00:00+00:00."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def zulu_text(moment: datetime, timespec: str = "seconds") -> str:
    """An aware moment as signed documents and logs write it: 2026-03-01T08:00:00Z."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def zulu_at(seconds: float) -> str:
    """`zulu_text` of UNIX seconds."""
    return zulu_text(datetime.fromtimestamp(seconds, UTC))


def time_or_none(seconds: float | None) -> str | None:
    """`zulu_at` of a moment that may not have come."""
    return None if seconds is None else zulu_at(seconds)
