"""CKAN open-data portals as sources.

`ckan+https://portal#resource=UUID` reads a table of the portal's DataStore, page by page;
`ckan+https://portal#dataset=NAME&format=CSV` the file of that format among a dataset's resources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa

from connectors.addresses import Address, parse_address
from connectors.conditions import Comparison, Condition, Where
from connectors.errors import InputRejected
from connectors.fetching import OPTIONS, Session, Site, verify_same_origin
from connectors.json_rows import Row, at_path, flat_rows, items_at, json_text, parse_document
from connectors.paging import Kind, Paging, below, joined, with_parameters
from connectors.source import Source
from connectors.spreadsheet import OPTIONS as SHEET_OPTIONS
from connectors.web import max_pages
from connectors.web_files import WebFile
from connectors.web_table import Request, WebTable

# Portals give at most 32,000 rows at once unless their operator changed that.
PER_PAGE: Final = 10_000
# The DataStore numbers its rows itself; that is not part of the data.
_ROW_NUMBER: Final = "_id"
# Numbers of any precision and points in time stay text, as they are written.
_TYPES: Final[Mapping[str, pa.DataType]] = {
    **dict.fromkeys(("int", "int2", "int4", "int8", "integer", "bigint"), pa.int64()),
    **dict.fromkeys(("float", "float4", "float8", "double precision"), pa.float64()),
    **dict.fromkeys(("bool", "boolean"), pa.bool_()),
}
# What CKAN calls an API token stands in this header, without a word before it.
_AUTH: Final = "header:Authorization"
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


class DataStore:
    """One table of a portal's DataStore."""

    title = "CKAN DataStore"
    accept = "application/json"

    def __init__(self, portal: str, resource: str, per: int) -> None:
        self._url = with_parameters(
            below(portal, "/api/3/action/datastore_search"), {"resource_id": resource}
        )
        self._per = per
        self._kinds: dict[str, str] = {}

    def request(self, session: Session, columns: Sequence[str] | None, where: Where) -> Request:
        added = {"sort": _ROW_NUMBER}
        if columns and not any("," in name or '"' in name for name in columns):
            added["fields"] = ",".join(columns)
        filters = self._filters(where)
        if filters:
            added["filters"] = json_text(filters)
        return Request(
            with_parameters(self._url, added),
            Paging(
                Kind.OFFSET, parameter="offset", size="limit", per=self._per, total="result.total"
            ),
            narrowed=bool(filters),
        )

    def rows(self, document: object, what: str) -> list[Row]:
        rows = flat_rows(_records(document, what), what=what)
        for row in rows:
            row.pop(_ROW_NUMBER, None)
        return rows

    def types(self, session: Session) -> pa.Schema | None:
        answer = session.page(with_parameters(self._url, {"limit": "0"}))
        document = parse_document(answer.body, what=self.title)
        fields = items_at(document, "result.fields", what=self.title)
        self._kinds = {
            str(one["id"]): str(one.get("type", "text")).lower()
            for one in fields
            if isinstance(one, dict) and "id" in one and one["id"] != _ROW_NUMBER
        }
        return pa.schema(
            [(name, _TYPES.get(kind, pa.string())) for name, kind in self._kinds.items()]
        )

    def _filters(self, where: Where) -> dict[str, Any]:
        """Equalities the portal decides as we do. It refuses a value that is none of the type."""
        filters: dict[str, Any] = {}
        for one in where:
            if one.column in filters or not self._decidable(one):
                continue
            filters[one.column] = list(one.values)
        return filters

    def _decidable(self, one: Condition) -> bool:
        if one.comparison not in (Comparison.EQ, Comparison.IS_ANY_OF):
            return False
        kind = self._kinds.get(one.column)
        if kind is not None and _TYPES.get(kind) == pa.int64():
            return all(_WHOLE.fullmatch(value) for value in one.values)
        return kind == "text"


class PortalFile:
    """The only file of one format among the resources of a dataset."""

    def __init__(self, site: Site, address: Address, dataset: str, file_format: str) -> None:
        self._site, self._address = site, address
        self._dataset, self._format = dataset, file_format
        self._file: WebFile | None = None

    @property
    def name(self) -> str:
        return f"{self._dataset} ({self._format})"

    def schema(self) -> pa.Schema:
        return self._found().schema()

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        return self._found().scan(columns, where)

    def version(self) -> str:
        """As that of the file: of its ETag or its bytes."""
        return self._found().version()

    def description(self) -> Mapping[str, str]:
        return {"portal": self._site.name, **self._found().description()}

    def _found(self) -> WebFile:
        if self._file is None:
            with self._site.session() as session:
                self._file = self._find(session)
        return self._file

    def _find(self, session: Session) -> WebFile:
        asked = below(self._site.url, "/api/3/action/package_show")
        answer = session.page(with_parameters(asked, {"id": self._dataset}))
        document = parse_document(answer.body, what=self.name)
        resources = [
            one
            for one in items_at(document, "result.resources", what=self.name)
            if isinstance(one, dict) and str(one.get("format", "")).casefold() == self._format
        ]
        if len(resources) != 1:
            raise InputRejected(
                f"the dataset {self._dataset[:100]} has {len(resources)} resources of the format "
                f"{self._format[:20]}; open one by its own address (https:) or as resource="
            )
        url = joined(self._site.url, str(resources[0].get("url", "")))
        verify_same_origin(url, self._site.url, self._site.name)
        parts = urlsplit(url)
        address = Address(self._address.scheme, parts, self._address.options)
        return WebFile(Site(address, scheme=parts.scheme, auth=_AUTH), address)


def open_ckan(url: str) -> Source:
    """The table or file at `ckan+https:`; nothing is asked of the portal yet.

    Raises InputRejected unless either `resource` or both `dataset` and `format` are given.
    """
    address = parse_address(
        url,
        known=(*OPTIONS, *SHEET_OPTIONS, "resource", "dataset", "format", "per", "max_pages"),
        in_fragment=True,
    )
    options = address.options
    site = Site(address, scheme=address.scheme.removeprefix("ckan+"), auth=_AUTH)
    if options.keys() >= {"dataset", "format"} and "resource" not in options:
        return PortalFile(site, address, options["dataset"], options["format"].casefold())
    if not options.get("resource") or options.keys() & {"dataset", "format"}:
        raise InputRejected(
            "a ckan: source is either resource=UUID, a table of the DataStore, or dataset=NAME and "
            "format=CSV, a file"
        )
    per = page_size(options, PER_PAGE, 32_000)
    return WebTable(
        site, DataStore(site.url, options["resource"], per), max_pages=max_pages(address)
    )


def page_size(options: Mapping[str, str], default: int, most: int) -> int:
    """The option `per=`, rows a page. Raises InputRejected where it is no number in bounds."""
    text = options.get("per", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and 1 <= int(text) <= most):
        raise InputRejected(f"per= takes a number of rows from 1 to {most}")
    return int(text)


def _records(document: object, what: str) -> list[Any]:
    if at_path(document, "success") is False:
        raise InputRejected(f"{what}: the portal refuses the request; check resource=")
    return items_at(document, "result.records", what=what)
