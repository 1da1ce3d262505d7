"""What a verdict is about, and what it says: the pictures of all nodes, and findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from contracts.party import Party
from tests.faults.asking import Asked
from tests.faults.picture import Picture, Row
from tests.faults.plan import Kind

# As negotiations, agreements and transfers have it; computations have roles of their own.
PROVIDER = Party.PROVIDER.value
OVER = ("FINALIZED", "TERMINATED", "COMPLETED", "REFUSED", "FAILED")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    rule: str
    node: str
    sentence: str


@dataclass(frozen=True)
class Scene:
    """All pictures by name of their node, and what the owners asked for."""

    pictures: Mapping[str, Picture]
    asked: Sequence[Asked]
    # The kinds of faults that have struck.
    struck: frozenset[Kind] = frozenset()

    def by_did(self, did: str) -> Picture | None:
        return next((one for one in self.pictures.values() if one.did == did), None)


Rule = Callable[[Scene], Iterator[Finding]]


def counterpart(rows: Sequence[Row], row: Row) -> Row | None:
    """The other side's row of the same process."""
    for one in rows:
        if one["peer_pid"] == row["pid"] or one["pid"] == row["peer_pid"]:
            return one
    return None


def same(
    picture: Picture, rule: str, wanted: Counter[tuple[str, str]], found: Counter[tuple[str, str]]
) -> Iterator[Finding]:
    for key in sorted(wanted | found):
        if wanted[key] != found[key]:
            what = " ".join(part for part in key if part)
            sentence = f"{what}: {wanted[key]} happened, {found[key]} entries"
            yield Finding(rule, picture.name, sentence)
