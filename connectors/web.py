"""JSON APIs as sources: `json+https://host/path?query#options`.

The query belongs to the server. The options say where the rows stand (`items=`), how pages follow
one another (connectors.paging) and how to authenticate; what can be found out need not be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from connectors.addresses import Address, parse_address
from connectors.conditions import Where
from connectors.errors import InputRejected
from connectors.fetching import OPTIONS, Session, Site
from connectors.json_rows import MISSING, Row, at_path, find_items, flat_rows, items_at
from connectors.paging import OPTIONS as PAGING_OPTIONS
from connectors.paging import Paging, parse_paging
from connectors.web_table import MAX_PAGES, Request, WebTable

MOST_PAGES: Final = 1_000_000


class JsonApi:
    """An API that answers with JSON of its own making."""

    title = "JSON API"
    accept = "application/json"

    def __init__(self, url: str, paging: Paging, items: str | None, columns: str | None) -> None:
        self._url, self._paging, self._items = url, paging, items
        self._columns = columns.split(",") if columns else []

    def request(self, session: Session, columns: Sequence[str] | None, where: Where) -> Request:
        return Request(self._url, self._paging)

    def rows(self, document: object, what: str) -> list[Row]:
        # Each page is looked at anew, because the last one may be an empty list of another place.
        path = find_items(document, what=what) if self._items is None else self._items
        if at_path(document, path) is MISSING:
            raise InputRejected(f"{what}: there is nothing at {path}; check items=")
        return flat_rows(items_at(document, path, what=what), what=what)

    def types(self, session: Session) -> pa.Schema | None:
        if not self._columns:
            return None
        return pa.schema([(name, pa.string()) for name in self._columns])


def open_json(url: str) -> WebTable:
    """The API at `json+https:` or `json+http:`; nothing is asked of it yet.

    Raises InputRejected for options that are unknown, malformed or contradict each other.
    """
    address = parse_address(
        url,
        known=(*OPTIONS, *PAGING_OPTIONS, "items", "columns", "max_pages"),
        in_fragment=True,
    )
    site = Site(address, scheme=address.scheme.removeprefix("json+"))
    api = JsonApi(
        site.url,
        parse_paging(address.options),
        address.options.get("items"),
        address.options.get("columns"),
    )
    return WebTable(site, api, max_pages=max_pages(address))


def max_pages(address: Address) -> int:
    """The option `max_pages=`. Raises InputRejected where it is no number in bounds."""
    text = address.options.get("max_pages", str(MAX_PAGES))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputRejected("max_pages= takes a whole number")
    if not 1 <= int(text) <= MOST_PAGES:
        raise InputRejected(f"max_pages= takes a number from 1 to {MOST_PAGES}")
    return int(text)
