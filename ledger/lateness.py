"""How long entries waited for their anchor: the time a record states against its block's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.anchors import Anchor
from ledger.marks import when_words


class Lateness:
    """Follows a log's records in order; tells of each anchor that came too late for its oldest.

    What is told is (index of the oldest record, why). Nothing is without a `max_delay_s`.
    """

    def __init__(self, anchors: Sequence[Anchor], max_delay_s: float | None, after: int) -> None:
        self._anchors = [anchor for anchor in anchors if anchor.size > after]
        self._max_delay_s = max_delay_s
        self._at = 0
        # Times of records are of one format, so that they order as texts.
        self._oldest: tuple[str, int] | None = None

    def note(self, index: int, ts: str) -> list[tuple[int, str]]:
        """A record with its time; what the anchors that end before it came too late for."""
        if self._max_delay_s is None:
            return []
        late = self.close(index)
        if self._oldest is None or (ts, index) < self._oldest:
            self._oldest = (ts, index)
        return late

    def close(self, size: int) -> list[tuple[int, str]]:
        """What the anchors of up to `size` entries came too late for, once all was noted."""
        late = []
        while self._at < len(self._anchors) and self._anchors[self._at].size <= size:
            anchor, self._at = self._anchors[self._at], self._at + 1
            late += self._told(anchor.timestamp, f"was anchored {when_words(anchor)}")
            self._oldest = None
        return late

    def unanchored(self, now_s: float | None) -> list[tuple[int, str]]:
        """What has waited too long by now for an anchor that has not come."""
        return [] if now_s is None else self._told(now_s, "is not anchored yet")

    def _told(self, moment_s: float, words: str) -> list[tuple[int, str]]:
        if self._oldest is None or self._max_delay_s is None:
            return []
        ts, index = self._oldest
        delay_s = moment_s - datetime.fromisoformat(ts).timestamp()
        if delay_s <= self._max_delay_s:
            return []
        return [
            (
                index,
                f"entry {index} of {ts} {words}, {delay_s:.0f} s after it was written, at most "
                f"{self._max_delay_s:.0f} s are allowed",
            )
        ]
