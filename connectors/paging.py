"""How the pages of a web API follow one another: a rule read from options or seen on a page.

Pure: from a page that came to the address of the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from connectors.errors import InputRejected
from connectors.json_rows import MISSING, at_path

OPTIONS: Final = ("next", "cursor", "send", "page", "first", "offset", "size", "per", "total")
# Where APIs commonly put the address of the next page.
_USUAL_LINKS: Final = (
    "next", "links.next", "links.next.href", "_links.next", "_links.next.href", "paging.next",
    "pagination.next", "meta.next", "@odata.nextLink", "@iot.nextLink", "nextLink", "next_url",
)  # fmt: skip
# Where they say how many rows there are.
_USUAL_TOTALS: Final = (
    "total", "count", "total_count", "totalCount", "numberMatched", "meta.total", "meta.count",
    "paging.total", "pagination.total", "data.total", "result.total", "data.totalCount",
)  # fmt: skip


class Kind(StrEnum):
    """What leads to the next page; the value is how it is shown."""

    HEADER = "Link header"
    BODY = "next link"
    CURSOR = "cursor"
    PAGE = "page number"
    OFFSET = "offset"
    NONE = "one page"
    FOUND = "found on the first page"


@dataclass(frozen=True)
class Paging:
    """The rule. `where` is a dotted path in the body, `parameter` one of the query; `size` names
    the parameter that asks for `per` rows; `total` is the path of the number of rows."""

    kind: Kind
    where: str = ""
    parameter: str = ""
    first: int = 0
    size: str = ""
    per: int = 0
    total: str = ""

    @property
    def words(self) -> str:
        place = {Kind.BODY: self.where, Kind.CURSOR: self.where}.get(self.kind, self.parameter)
        return f"{self.kind}{f' ({place})' if place else ''}"


@dataclass(frozen=True)
class Seen:
    """A page that came: its number from 1, how many rows it and all up to it had."""

    url: str
    document: object
    links: Mapping[str, str]
    number: int
    rows: int
    rows_so_far: int


def parse_paging(options: Mapping[str, str]) -> Paging:
    """Raises InputRejected where options contradict each other or lack their partner."""
    kinds = [name for name in ("next", "cursor", "page", "offset") if name in options]
    if len(kinds) > 1:
        raise InputRejected(f"give only one of {' and '.join(kinds)}: how do the pages follow?")
    if ("per" in options) != ("size" in options):
        raise InputRejected(
            "size= names the parameter for the rows a page and per= their number; give both"
        )
    sized = Paging(
        Kind.FOUND,
        size=options.get("size", ""),
        per=_number(options, "per", 1, 1_000_000) if "per" in options else 0,
        total=options.get("total", ""),
    )
    kind = kinds[0] if kinds else ""
    if ("send" in options) != (kind == "cursor"):
        raise InputRejected(
            "cursor= is the place of the cursor in the body and send= the parameter it is sent in; "
            "give both"
        )
    if kind == "next":
        return replace(sized, kind=Kind.BODY, where=options["next"])
    if kind == "cursor":
        return replace(sized, kind=Kind.CURSOR, where=options["cursor"], parameter=options["send"])
    if kind == "page":
        first = _number(options, "first", 0, 1_000_000) if "first" in options else 1
        return replace(sized, kind=Kind.PAGE, parameter=options["page"], first=first)
    if "first" in options:
        raise InputRejected("first= is the number of the first page and belongs to page=")
    if kind == "offset":
        return replace(sized, kind=Kind.OFFSET, parameter=options["offset"])
    return sized


def first_url(paging: Paging, url: str) -> str:
    """The address of the first page."""
    added: dict[str, str] = {}
    if paging.size:
        added[paging.size] = str(paging.per)
    if paging.kind is Kind.PAGE:
        added[paging.parameter] = str(paging.first)
    if paging.kind is Kind.OFFSET:
        added[paging.parameter] = "0"
    return with_parameters(url, added) if added else url


def settle(paging: Paging, page: Seen) -> Paging:
    """The rule itself, where it is to be found on the first page.

    Raises InputRejected where that page says it is not all, but not how the next one is got.
    """
    if paging.kind is not Kind.FOUND:
        return paging
    if page.links.get("next"):
        return replace(paging, kind=Kind.HEADER)
    for path in _USUAL_LINKS:
        if isinstance(at_path(page.document, path), str):
            return replace(paging, kind=Kind.BODY, where=path)
    for path in (paging.total, *_USUAL_TOTALS):
        total = _count(page.document, path) if path else None
        if total is not None and total > page.rows:
            raise InputRejected(
                f"the server gives {page.rows} of {total} rows ({path}) and no link to the next "
                "page; say how its pages follow: page=, offset=, cursor= or next="
            )
    return replace(paging, kind=Kind.NONE)


def following(paging: Paging, page: Seen) -> str | None:
    """The address of the page after `page`; None after the last one.

    Pages by number or offset end with an empty one, or when all rows that `total` tells have come:
    a short page may only mean that the server caps the size. Raises InputRejected where the link or
    cursor is not a text.
    """
    if paging.kind is Kind.NONE:
        return None
    if paging.kind is Kind.HEADER:
        link = page.links.get("next")
        return joined(page.url, link) if link else None
    if paging.kind in (Kind.BODY, Kind.CURSOR):
        found = at_path(page.document, paging.where)
        if found in (MISSING, None, "", False):
            return None
        if not isinstance(found, str):
            raise InputRejected(f"what stands at {paging.where} is no text; name the place itself")
        if paging.kind is Kind.BODY:
            return joined(page.url, found)
        return with_parameters(page.url, {paging.parameter: found})
    total = _count(page.document, paging.total) if paging.total else None
    if page.rows == 0 or (total is not None and page.rows_so_far >= total):
        return None
    place = page.rows_so_far if paging.kind is Kind.OFFSET else paging.first + page.number
    return with_parameters(page.url, {paging.parameter: str(place)})


def with_parameters(url: str, added: Mapping[str, str]) -> str:
    """`url` with these parameters of its query replaced or added; the others stay as they are."""
    parts = urlsplit(url)
    kept = [
        pair
        for pair in parts.query.split("&")
        if pair and not set(dict(parse_qsl(pair, keep_blank_values=True))) & set(added)
    ]
    query = "&".join((*kept, *((urlencode(added, safe="$,:/()"),) if added else ())))
    return urlunsplit(parts._replace(query=query))


def joined(url: str, link: str) -> str:
    """What `link`, named by the server on the page at `url`, leads to. Raises InputRejected."""
    try:
        return urljoin(url, link)
    except ValueError:
        raise InputRejected("the server points at a malformed address") from None


def below(url: str, path: str) -> str:
    """The address of `path` (with a leading slash, escaped) below `url`, whose query it keeps."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))


def _count(document: object, path: str) -> int | None:
    found = at_path(document, path)
    return int(found) if isinstance(found, str) and found.isdecimal() and len(found) < 19 else None


def _number(options: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = options[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InputRejected(f"{name}= takes a whole number from {least} to {most}")
    return int(text)
