"""Sizes at which a log's root is known from elsewhere: the chain's anchors, an earlier audit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ledger.anchors import Anchor


class Marks:
    """Roots to compare with while a log is read, in order of size.

    `seen` is the head an earlier audit saw, `after` the size that reading goes on from. `good` is
    the largest size at which the roots agreed, `broken` the first range after which they do not:
    its start, its end, and whose root it was.
    """

    def __init__(
        self, anchors: Sequence[Anchor], seen: tuple[int, bytes] | None, *, after: int
    ) -> None:
        marks = [(a.size, a.root, f"anchored {when_words(a)}") for a in anchors]
        if seen is not None:
            marks.append((*seen, "that an earlier audit saw signed"))
        marks.sort(key=lambda mark: mark[0])
        # An audit from the beginning compares the empty tree, too.
        self._marks = [mark for mark in marks if mark[0] > after or after == 0]
        self._at = 0
        self.good = after
        self.broken: tuple[int, int, str] | None = None

    @property
    def next_size(self) -> int | None:
        """The size to compare at next."""
        return self._marks[self._at][0] if self._at < len(self._marks) else None

    def compare(self, root: bytes) -> None:
        """Compare the log's root at `next_size`; after the first difference nothing is told."""
        size = self.next_size
        while self._at < len(self._marks) and self._marks[self._at][0] == size:
            mark_size, expected, words = self._marks[self._at]
            self._at += 1
            if self.broken is None and root != expected:
                self.broken = (self.good, mark_size, words)
        if self.broken is None and size is not None:
            self.good = size


def when_words(anchor: Anchor) -> str:
    """When and where an anchor was made."""
    moment = datetime.fromtimestamp(anchor.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"on {moment} in block {anchor.block}"


def range_words(start: int, end: int) -> str:
    """The entries start … end-1 as the subject of a sentence."""
    if end - start == 1:
        return f"entry {start} was"
    if end == start:
        return "the empty log was"
    return f"at least one of the entries {start} to {end - 1} was"
