"""OGC services as sources: API Features (`ogc+https:`) and SensorThings (`sta+https:`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from connectors.addresses import parse_address
from connectors.ckan import page_size
from connectors.conditions import Comparison, Condition, Where
from connectors.errors import InputRejected, Unavailable
from connectors.fetching import OPTIONS, Session, Site
from connectors.geometry import geojson_text, lon_lat, well_known_text
from connectors.json_rows import Row, at_path, flat_rows, items_at, parse_document
from connectors.paging import Kind, Paging, below, with_parameters
from connectors.web import max_pages
from connectors.web_table import Request, WebTable

PER_PAGE: Final = 1_000
MOST_PER_PAGE: Final = 100_000
# A condition is told to the server in the address, which must not grow without bound.
MOST_TOLD: Final = 20

_GEOMETRIES: Final[Mapping[str, Callable[..., str | None] | None]] = {
    "wkt": well_known_text,
    "geojson": geojson_text,
    "none": None,
}
# What features have beside their properties; a property of such a name gives way.
_OWN: Final = ("id", "geometry", "lon", "lat")
# Parameters of a request of features, which no property can be asked for by.
_RESERVED: Final = frozenset(
    "limit offset bbox bbox-crs crs datetime f filter filter-lang filter-crs sortby properties "
    "skipgeometry q token apikey".split()
)


class Features:
    """One collection of an OGC API Features server, as GeoJSON."""

    title = "OGC API Features"
    accept = "application/geo+json, application/json;q=0.9"

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self._collection = below(root, f"/collections/{quote(options['collection'], safe='')}")
        self._asked = {name: options[name] for name in ("bbox", "datetime") if name in options}
        self._per = page_size(options, PER_PAGE, MOST_PER_PAGE)
        chosen = options.get("geometry", "wkt")
        if chosen not in _GEOMETRIES:
            raise InputRejected("geometry= takes wkt, geojson or none")
        self._geometry = _GEOMETRIES[chosen]
        self._queryables: Collection[str] | None = None

    def request(self, session: Session, columns: Sequence[str] | None, where: Where) -> Request:
        told = self._told(session, where)
        asked = {"limit": str(self._per), **self._asked, **told}
        url = with_parameters(below(self._collection, "/items"), asked)
        return Request(url, Paging(Kind.BODY, where="next"), narrowed=bool(told))

    def rows(self, document: object, what: str) -> list[Row]:
        """Raises InputRejected where this is no collection of features.

        The link to the next page is put where the rule of paging looks for it.
        """
        features = items_at(document, "features", what=what)
        assert isinstance(document, dict), "there is a list at features"
        document["next"] = _next_link(document)
        return [self._row(one, f"{what}, feature {n}") for n, one in enumerate(features, start=1)]

    def types(self, session: Session) -> pa.Schema | None:
        return None

    def _row(self, feature: Any, what: str) -> Row:
        if not isinstance(feature, dict) or not isinstance(feature.get("properties"), dict | None):
            raise InputRejected(f"{what} is not a GeoJSON feature")
        row: Row = {"id": feature.get("id")}
        if self._geometry is not None:
            geometry = feature.get("geometry")
            row["geometry"] = self._geometry(geometry, what=what)
            row["lon"], row["lat"] = lon_lat(geometry, what=what)
        for name, value in flat_rows([feature.get("properties") or {}], what=what)[0].items():
            row[f"properties.{name}" if name in _OWN else name] = value
        return row

    def _told(self, session: Session, where: Where) -> dict[str, str]:
        """Equalities of properties that the server says it can be asked for."""
        equal = {one.column: one.values[0] for one in where if one.comparison is Comparison.EQ}
        if not equal:
            return {}
        asked = self._queryable(session)
        return {
            name: value
            for name, value in equal.items()
            if name in asked and name not in _OWN and name.lower() not in _RESERVED
        }

    def _queryable(self, session: Session) -> Collection[str]:
        if self._queryables is None:
            try:
                answer = session.page(
                    below(self._collection, "/queryables"),
                    accept="application/schema+json, application/json;q=0.9",
                )
                document = parse_document(answer.body, what=f"{self.title}: queryables")
            except (InputRejected, Unavailable):
                # Servers need not have any; then nothing is told, and all is filtered here.
                self._queryables = ()
            else:
                names = at_path(document, "properties")
                self._queryables = frozenset(names) if isinstance(names, dict) else ()
        return self._queryables


class SensorThings:
    """One kind of entity of a SensorThings server (OGC 18-088)."""

    title = "OGC SensorThings"
    accept = "application/json"
    # Conditions on these can be told: they are texts, by the standard.
    _TEXTS: Final = frozenset({"name", "description", "observationType", "encodingType"})

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self._url = below(root, f"/{quote(options['entity'], safe='()/')}")
        self._asked = {"$top": str(page_size(options, PER_PAGE, MOST_PER_PAGE))}
        if "expand" in options:
            self._asked["$expand"] = options["expand"]
        self._filter = options.get("filter")
        if "orderby" in options:
            self._asked["$orderby"] = options["orderby"]

    def request(self, session: Session, columns: Sequence[str] | None, where: Where) -> Request:
        told = [text for one in where if (text := self._told(one)) is not None][:MOST_TOLD]
        asked = dict(self._asked)
        filters = [f"({self._filter})"] if self._filter else []
        if filters or told:
            asked["$filter"] = " and ".join((*filters, *told))
        return Request(
            with_parameters(self._url, asked),
            Paging(Kind.BODY, where="@iot.nextLink"),
            narrowed=bool(told),
        )

    def rows(self, document: object, what: str) -> list[Row]:
        return [
            _without_links(row)
            for row in flat_rows(items_at(document, "value", what=what), what=what)
        ]

    def types(self, session: Session) -> pa.Schema | None:
        return None

    def _told(self, one: Condition) -> str | None:
        if one.column.rpartition(".")[2] not in self._TEXTS or len(one.values) > MOST_TOLD:
            return None
        path = one.column.replace(".", "/")
        values = [f"'{value.replace(chr(39), chr(39) * 2)}'" for value in one.values]
        if one.comparison is Comparison.STARTS_WITH:
            return f"startswith({path},{values[0]})"
        if one.comparison in (Comparison.EQ, Comparison.IS_ANY_OF):
            return f"({' or '.join(f'{path} eq {value}' for value in values)})"
        return None


def open_features(url: str) -> WebTable:
    """The collection at `ogc+https://host/root#collection=…`; nothing is asked yet."""
    address = parse_address(
        url,
        known=(*OPTIONS, "collection", "bbox", "datetime", "geometry", "per", "max_pages"),
        in_fragment=True,
    )
    if not address.options.get("collection"):
        raise InputRejected("an ogc: source needs collection=NAME, one of those at /collections")
    site = Site(address, scheme=address.scheme.removeprefix("ogc+"))
    return WebTable(site, Features(site.url, address.options), max_pages=max_pages(address))


def open_sensor_things(url: str) -> WebTable:
    """The entities at `sta+https://host/v1.1#entity=Observations`; nothing is asked yet."""
    address = parse_address(
        url,
        known=(*OPTIONS, "entity", "expand", "filter", "orderby", "per", "max_pages"),
        in_fragment=True,
    )
    if not address.options.get("entity"):
        raise InputRejected("an sta: source needs entity=NAME, such as Observations or Things")
    site = Site(address, scheme=address.scheme.removeprefix("sta+"))
    return WebTable(site, SensorThings(site.url, address.options), max_pages=max_pages(address))


def _next_link(document: Mapping[str, Any]) -> str | None:
    links = document.get("links")
    for link in links if isinstance(links, list) else ():
        if (
            isinstance(link, dict)
            and link.get("rel") == "next"
            and isinstance(link.get("href"), str)
        ):
            return str(link["href"])
    return None


def _without_links(row: Row) -> Row:
    """Ids by their plain name, addresses of the server's own left out."""
    return {
        name.replace("@iot.id", "id"): value
        for name, value in row.items()
        if "@iot." not in name or name.endswith("@iot.id")
    }
