"""What all web APIs share: pages read one after another, checked, and turned into batches.

What differs between them (which requests to make, where rows stand in an answer) is an `Api`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, Protocol

import pyarrow as pa

from connectors.conditions import Where, columns_read, keep, verify_readable
from connectors.errors import InputRejected, Unavailable
from connectors.fetching import Answer, Session, Site
from connectors.json_rows import (
    Row,
    holds_lists,
    names_of,
    parse_document,
    text_batch,
    verify_same_shape,
)
from connectors.names import verify_distinct
from connectors.paging import Kind, Paging, Seen, first_url, following, settle

# The first rows tell which columns there are, on as many pages as it takes, up to:
SCHEMA_ROWS: Final = 1_000
SCHEMA_PAGES: Final = 5
# Pages are put together to batches of about this many rows.
BATCH_ROWS: Final = 16_384
# An API that never ends its pages is stopped here unless max_pages= says otherwise.
MAX_PAGES: Final = 10_000


@dataclass(frozen=True)
class Request:
    """What to ask for first and how the pages follow.

    `narrowed` where the server was told of conditions, so that no rows are no surprise.
    """

    url: str
    paging: Paging
    narrowed: bool = False


@dataclass(frozen=True)
class Page:
    """Rows of one answer, flattened; `what` names it in messages."""

    what: str
    number: int
    rows: list[Row]
    paging: Paging
    answer: Answer


class Api(Protocol):
    """One kind of web API."""

    @property
    def title(self) -> str:
        """What it is called."""

    @property
    def accept(self) -> str:
        """The media type asked for."""

    def request(self, session: Session, columns: Sequence[str] | None, where: Where) -> Request:
        """The first request; `columns` None asks for all. Conditions are told to the server only
        where it keeps every row that meets them: what comes is filtered again."""

    def rows(self, document: object, what: str) -> list[Row]:
        """The rows of an answer, flattened."""

    def types(self, session: Session) -> pa.Schema | None:
        """The columns, where the API itself tells them; None to take them from the first rows."""


class WebTable:
    """Rows of a web API. The schema is that of the first look; later ones must still have it."""

    def __init__(self, site: Site, api: Api, *, max_pages: int = MAX_PAGES) -> None:
        self._site, self._api, self._max_pages = site, api, max_pages
        self._known: tuple[pa.Schema, Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        return self._site.name

    def schema(self) -> pa.Schema:
        return self._look()[0]

    def description(self) -> Mapping[str, str]:
        return self._look()[1]

    def version(self) -> str:
        """SHA-256 over all rows in the order of the server, columns by name: reads everything."""
        digest = hashlib.sha256()
        with self._site.session() as session:
            for page in self._pages(session, None, ()):
                for row in self._telling(page) if holds_lists(page.rows) else page.rows:
                    text = json.dumps(row, ensure_ascii=False, sort_keys=True)
                    digest.update(text.encode("utf-8") + b"\n")
        return f"sha256:{digest.hexdigest()}"

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        verify_readable(columns, where, schema.names, source=self.name)
        return self._scan(list(columns), where, schema)

    def _scan(
        self, columns: list[str], where: Where, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        for batch in self._batches(columns_read(columns, where), where, schema):
            kept = keep(batch, where)
            if kept.num_rows:
                yield kept.select(columns)

    def _batches(
        self, names: list[str], where: Where, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        types = pa.schema([schema.field(name) for name in names])
        held: list[pa.RecordBatch] = []
        unseen = set(names)
        some = False
        with self._site.session() as session:
            narrowed, pages = self._told(session, names, where)
            for page in pages:
                if not page.rows:
                    continue
                some = True
                verify_same_shape(page.rows, schema.names, what=page.what)
                unseen -= {name for name in unseen if any(name in row for row in page.rows)}
                batch = text_batch(page.rows, names, partial(self._telling, page))
                held.append(_typed(batch, types, page.what))
                if sum(batch.num_rows for batch in held) >= BATCH_ROWS:
                    yield _together(held)
                    held = []
        if held:
            yield _together(held)
        if narrowed:
            return
        if not some:
            raise InputRejected(_no_rows(self.name))
        if unseen:
            raise InputRejected(
                f"{self.name} had a column {min(unseen)[:200]} when it was looked at and has none "
                "now; look at its columns again"
            )

    def _look(self) -> tuple[pa.Schema, Mapping[str, str]]:
        if self._known is None:
            with self._site.session() as session:
                self._known = self._first_look(session)
        return self._known

    def _first_look(self, session: Session) -> tuple[pa.Schema, Mapping[str, str]]:
        types = self._api.types(session)
        rows: list[Row] = []
        first: Page | None = None
        for page in self._pages(session, None, ()):
            first = first or page
            rows += page.rows
            if types is not None or len(rows) >= SCHEMA_ROWS or page.number == SCHEMA_PAGES:
                break
        assert first is not None, "there is always a first page"
        if types is None:
            types = pa.schema([(name, pa.string()) for name in names_of(rows, what=self.name)])
        if not types.names:
            raise InputRejected(_no_rows(self.name))
        verify_distinct(types.names, source=self.name)
        return types, self._words(first)

    def _words(self, first: Page) -> Mapping[str, str]:
        headers = first.answer.headers
        words = {
            "format": self._api.title,
            "paging": first.paging.words,
            "rows on the first page": str(len(first.rows)),
            "content type": headers.get("content-type", "not told")[:100],
            "compression": headers.get("content-encoding", "none")[:20],
            "transport": "TLS" if self._site.encrypted else "not encrypted",
            "version": "of all rows",
        }
        if "etag" in headers:
            words["ETag of the first page"] = headers["etag"][:100]
        return words

    def _pages(
        self, session: Session, columns: Sequence[str] | None, where: Where
    ) -> Iterator[Page]:
        return self._walk(session, self._api.request(session, columns, where))

    def _told(
        self, session: Session, names: Sequence[str], where: Where
    ) -> tuple[bool, Iterator[Page]]:
        """The pages, and whether the server chose among the rows."""
        request = self._api.request(session, names, where)
        if not request.narrowed:
            return False, self._walk(session, request)
        pages = self._walk(session, request)
        try:
            first = next(pages)
        except InputRejected:
            # A server may not know how to compare so, or refuse a value of another type; then it
            # gives all rows, and they are chosen here.
            return False, self._pages(session, names, ())
        return True, chain((first,), pages)

    def _walk(self, session: Session, request: Request) -> Iterator[Page]:
        """The pages in order. Raises InputRejected where they go round in a circle or never end."""
        url: str | None = first_url(request.paging, request.url)
        paging, number, so_far = request.paging, 0, 0
        been: set[str] = set()
        before = b""
        while url is not None:
            number += 1
            what = f"{self.name}, page {number}"
            if url in been:
                raise InputRejected(f"{what}: the pages go round in a circle; report it to the API")
            if number > self._max_pages:
                raise InputRejected(
                    f"{self.name} has more than {self._max_pages} pages; ask for larger ones, or "
                    "raise max_pages="
                )
            been.add(url)
            answer = self._ask(session, url, number, so_far)
            document = parse_document(answer.body, what=what)
            rows = self._api.rows(document, what)
            so_far += len(rows)
            seen = Seen(answer.url, document, answer.links, number, len(rows), so_far)
            paging = settle(paging, seen)
            if paging.kind in (Kind.PAGE, Kind.OFFSET) and rows:
                before = _verify_another_page(answer.body, before, what, paging)
            yield Page(what, number, rows, paging, answer)
            url = following(paging, seen)

    def _ask(self, session: Session, url: str, number: int, so_far: int) -> Answer:
        try:
            return session.page(url, accept=self._api.accept)
        except (Unavailable, InputRejected) as err:
            if number == 1:
                raise
            raise type(err)(
                f"page {number} of {err}. The {so_far} rows of the pages before are not all"
            ) from err

    def _telling(self, page: Page) -> list[Row]:
        """The rows of `page`, read again so that a list in them can be written as JSON."""
        document = parse_document(page.answer.body, what=page.what, telling=True)
        return self._api.rows(document, page.what)


def _verify_another_page(body: bytes, before: bytes, what: str, paging: Paging) -> bytes:
    """The digest of `body`. Raises InputRejected where it is the one of the page before."""
    digest = hashlib.sha256(body).digest()
    if digest == before:
        raise InputRejected(
            f"{what} is the one before it again; check whether the API knows the parameter "
            f"{paging.parameter}"
        )
    return digest


def _no_rows(name: str) -> str:
    return f"{name} has no rows; check the address and its parameters"


def _typed(batch: pa.RecordBatch, types: pa.Schema, what: str) -> pa.RecordBatch:
    if batch.schema == types:
        return batch
    arrays = []
    for cells, kind in zip(batch.columns, types, strict=True):
        try:
            arrays.append(cells.cast(kind.type))
        except pa.ArrowInvalid:
            # Arrow's own text holds the value.
            raise InputRejected(
                f"{what}: column {kind.name} is said to be {kind.type} and holds something else"
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=types)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
