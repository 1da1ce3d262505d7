"""docs/threats.md: every attacker of the design has a chapter, and every row a test or a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "threats.md"
# Who attacks, by the design, and words that the chapter's title must have.
ATTACKERS = {
    "a peer uses data beyond the contract": "peer uses data beyond the contract",
    "a peer sends malformed, huge, replayed, out-of-order frames": "malformed, huge, replayed",
    "a peer probes single people": "probes single people",
    "the node's owner edits, drops or rewinds its log": "edits, drops or rewinds",
    "the operator": "operator",
    "an outsider forges identity, replays tokens, SSRF": "outsider",
    "crash, power cut, full disk, chain or peer gone": "Crashes",
}
# How a row says that no test shows it, and why.
HONEST = re.compile(
    r"nothing (can|prevents)|not yet|by construction|tried with|whoever has the token"
)
_REFERENCE = re.compile(r"`([\w/.]*\.py)?(?:::(\w+))?`")


@dataclass(frozen=True)
class Reference:
    path: str
    name: str


@dataclass(frozen=True)
class Row:
    chapter: str
    text: str

    def references(self) -> Iterator[Reference]:
        """The tests a row names; one without a file is in the file named before it."""
        path = ""
        for match in _REFERENCE.finditer(self.text):
            path = match[1] or path
            if match[1] or match[2]:
                yield Reference(path, match[2] or "")


@cache
def rows() -> tuple[Row, ...]:
    found, chapter = [], ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            chapter = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| answer |", "| tries |", "| what |")):
            found.append(Row(chapter, line))
    return tuple(found)


@cache
def source(path: str) -> str:
    return (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_every_test_that_is_named_is_there() -> None:
    named = [(row, one) for row in rows() for one in row.references()]
    missing = [
        f"{one.path}::{one.name}"
        for _, one in named
        if not one.path
        or not (ROOT / "tests" / one.path).exists()
        or (one.name and f"def {one.name}(" not in source(one.path))
    ]
    assert missing == []
    assert len(named) > 100


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    bare = [row.text for row in rows() if not any(row.references()) and not HONEST.search(row.text)]
    assert bare == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_attacker_of_the_design_has_a_chapter_with_tests(attacker: str) -> None:
    chapters = {row.chapter for row in rows() if any(row.references())}
    assert any(ATTACKERS[attacker] in chapter for chapter in chapters)


def test_what_is_not_answered_is_counted_here_so_that_it_does_not_grow_unseen() -> None:
    open_ones = [row.text for row in rows() if "not yet" in row.text]
    assert len(open_ones) <= 3, open_ones
