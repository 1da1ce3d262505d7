"""Every relative link of the documents leads to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def anchor(heading: str) -> str:
    """A heading as GitHub names its place: letters, digits, _ and -; spaces are dashes."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return frozenset(anchor(one) for one in headings)


def broken(path: Path) -> list[str]:
    prose = _CODE.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))
    found = []
    for link in _LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, place = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (place and place not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)).replace("/", "-")
)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_a_link_to_what_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page · 页\n```sh\n# no heading\n```\n"
        "[here](#a-page--页) [gone](#no-heading) [x](other.md)\n",
        encoding="utf-8",
    )
    assert broken(page) == ["#no-heading", "other.md"]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in _LINK.findall(index)}
    pages = set((ROOT / "docs").glob("*.md")) | set((ROOT / "docs").glob("*/README.md"))
    assert pages - linked == {ROOT / "docs" / "README.md"}
