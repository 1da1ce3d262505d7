"""Files on the web as sources: `https://host/path/data.csv`, copied here while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa

from connectors.addresses import Address, parse_address
from connectors.conditions import Where
from connectors.errors import InputRejected
from connectors.fetching import OPTIONS, Site, strong_etag
from connectors.files import open_path
from connectors.source import Source
from connectors.spooled import file_name, spooled
from connectors.spreadsheet import OPTIONS as SHEET_OPTIONS


class WebFile:
    """One file at an address. Every scan copies it anew; the schema is that of the first look."""

    def __init__(self, site: Site, address: Address) -> None:
        self._site = site
        path, options = address.path, address.options
        self._options = {name: options[name] for name in SHEET_OPTIONS if name in options}
        self._file_name = file_name(path)
        self._known: tuple[pa.Schema, Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        return self._file_name

    def schema(self) -> pa.Schema:
        return self._look()[0]

    def description(self) -> Mapping[str, str]:
        return self._look()[1]

    def version(self) -> str:
        """Of the server's strong ETag where it gives one, which promises equal bytes; otherwise of
        the bytes, which are read for it."""
        with self._site.session() as session:
            tag = strong_etag(session.headers(self._site.url))
        if tag is not None:
            digest = hashlib.sha256(f"etag {self._site.url} {tag}".encode())
            return f"sha256:{digest.hexdigest()}"
        with self._copy() as (file, _):
            return file.version()

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        # A generator, so that the copy is made, and removed, with the reading of the rows; what is
        # wrong with the request is found on the copy.
        with self._copy() as (file, _):
            yield from file.scan(columns, where)

    def _look(self) -> tuple[pa.Schema, Mapping[str, str]]:
        if self._known is None:
            with self._copy() as (file, headers):
                self._known = file.schema(), {**file.description(), **self._words(headers)}
        return self._known

    def _words(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        tag = strong_etag(headers)
        return {
            "content type": headers.get("content-type", "not told")[:100],
            "size": headers.get("content-length", "not told")[:20],
            "transport": "TLS" if self._site.encrypted else "not encrypted",
            "version": "of the bytes" if tag is None else f"of the ETag {tag[:100]}",
        }

    @contextmanager
    def _copy(self) -> Iterator[tuple[Source, Mapping[str, str]]]:
        headers: dict[str, str] = {}

        def write(file: BinaryIO) -> None:
            with self._site.session() as session:
                headers.update(session.download(self._site.url, file))

        with spooled(self._file_name, write) as path:
            yield open_path(path, self._options), headers


def open_web_file(url: str) -> WebFile:
    """The file at an `https:` or `http:` address; nothing is asked of the server yet.

    Raises InputRejected for unknown options and for an ending that is of no known format.
    """
    address = parse_address(url, known=(*OPTIONS, *SHEET_OPTIONS), in_fragment=True)
    if not address.parts.path.strip("/"):
        raise InputRejected(
            "an https: source is a file, such as https://host/path/data.csv; an API is opened as "
            "json+https:, a portal as ckan+https:, sensors as sta+https:, features as ogc+https:"
        )
    return WebFile(Site(address, scheme=address.scheme), address)
