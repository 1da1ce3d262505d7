"""GeoJSON geometries as text: well-known text, or GeoJSON again; and where a point lies.

Coordinates are texts, the digits as the server wrote them.
"""

from __future__ import annotations

from typing import Any, Final

from connectors.errors import InputRejected

# How deep the lists of coordinates of each kind are: a position is one list.
_DEPTHS: Final = {
    "Point": 1,
    "MultiPoint": 2,
    "LineString": 2,
    "MultiLineString": 3,
    "Polygon": 3,
    "MultiPolygon": 4,
}
_MAX_COLLECTIONS: Final = 4


def well_known_text(geometry: Any, *, what: str) -> str | None:
    """WKT (OGC 06-103r4) of a geometry; None of null. Raises InputRejected for anything else."""
    return None if geometry is None else _wkt(geometry, what, _MAX_COLLECTIONS)


def geojson_text(geometry: Any, *, what: str) -> str | None:
    """GeoJSON (RFC 7946) of a geometry, type and coordinates only; None of null."""
    return None if geometry is None else _geojson(geometry, what, _MAX_COLLECTIONS)


def lon_lat(geometry: Any, *, what: str) -> tuple[str | None, str | None]:
    """Longitude and latitude of a point; nothing of any other geometry."""
    if not isinstance(geometry, dict) or geometry.get("type") != "Point":
        return None, None
    position = _coordinates(geometry, what)
    return (position[0], position[1]) if len(position) >= 2 else (None, None)


def _wkt(geometry: Any, what: str, depth: int) -> str:
    kind = _kind(geometry, what)
    if kind == "GeometryCollection":
        parts = [_wkt(one, what, depth - 1) for one in _parts(geometry, what, depth)]
        return f"GEOMETRYCOLLECTION ({', '.join(parts)})" if parts else "GEOMETRYCOLLECTION EMPTY"
    coordinates = _coordinates(geometry, what)
    if not coordinates:
        return f"{kind.upper()} EMPTY"
    flat = coordinates
    for _ in range(_DEPTHS[kind] - 1):
        flat = flat[0]
    with_height = " Z" if len(flat) == 3 else ""
    if kind == "Point":
        return f"POINT{with_height} ({' '.join(coordinates)})"
    return f"{kind.upper()}{with_height} {_wkt_list(coordinates, kind == 'MultiPoint')}"


def _wkt_list(coordinates: list[Any], points: bool) -> str:
    if isinstance(coordinates[0], str):
        return f"({' '.join(coordinates)})" if points else " ".join(coordinates)
    return f"({', '.join(_wkt_list(one, points) for one in coordinates)})"


def _geojson(geometry: Any, what: str, depth: int) -> str:
    kind = _kind(geometry, what)
    if kind == "GeometryCollection":
        parts = [_geojson(one, what, depth - 1) for one in _parts(geometry, what, depth)]
        return f'{{"type": "{kind}", "geometries": [{", ".join(parts)}]}}'
    inner = _geojson_list(_coordinates(geometry, what))
    return f'{{"type": "{kind}", "coordinates": {inner}}}'


def _geojson_list(value: Any) -> str:
    return value if isinstance(value, str) else f"[{', '.join(map(_geojson_list, value))}]"


def _kind(geometry: Any, what: str) -> str:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind != "GeometryCollection" and kind not in _DEPTHS:
        raise _malformed(what)
    return str(kind)


def _parts(geometry: dict[str, Any], what: str, depth: int) -> list[Any]:
    parts = geometry.get("geometries")
    if not isinstance(parts, list) or depth == 0:
        raise _malformed(what)
    return parts


def _coordinates(geometry: dict[str, Any], what: str) -> list[Any]:
    coordinates = geometry.get("coordinates")
    if not isinstance(coordinates, list) or (
        coordinates and not _well_formed(coordinates, _DEPTHS[geometry["type"]])
    ):
        raise _malformed(what)
    return coordinates


def _well_formed(value: Any, depth: int) -> bool:
    if not isinstance(value, list) or not value:
        return False
    if depth == 1:
        return 2 <= len(value) <= 4 and all(_is_number(one) for one in value)
    return all(_well_formed(one, depth - 1) for one in value)


def _is_number(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _malformed(what: str) -> InputRejected:
    return InputRejected(f"{what}: a geometry is not GeoJSON; give geometry=none to leave them out")
