"""The catalogue page by page: which datasets a page has, and where the next one begins.

Datasets stand in the order in which they were published. A page is a stretch of that order with
those left out that the reader may not see or did not ask for. A **cursor** names a boundary in the
order; it may name a dataset the reader does not see, so it is sealed: encrypted, authenticated, and
good for the one reader it was made for. It carries no right: what a page shows is decided anew.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import JsonValue
from sqlalchemy import ColumnElement
from sqlmodel import and_, col, or_, select

from contracts.messages import Dataset
from dataspace.errors import ProtocolViolation
from dataspace.store.engine import Store
from dataspace.store.tables import DatasetRow

# A dataset takes a few kilobytes, so that a page is a fraction of a megabyte and a reader of ten
# thousand datasets asks a hundred times.
PAGE_DATASETS: Final = 100
# Datasets with many group values are larger; a page stays well below what readers take in (4 MiB).
PAGE_BYTES: Final = 1024 * 1024
# Rows looked at for one page, half a second's work. A page that ends there may be short or empty.
MAX_LOOKED_AT: Final = 2000
BATCH_ROWS: Final = 200
# A filter of 2,048 bytes and two names, sealed and in base64.
MAX_CURSOR_LETTERS: Final = 4096
_NONCE_BYTES: Final = 12


@dataclass(frozen=True)
class Place:
    """A dataset's place in the order."""

    created_at: float
    id: str

    @classmethod
    def of(cls, row: DatasetRow) -> Place:
        return cls(row.created_at, row.id)


@dataclass(frozen=True)
class Cursor:
    """The datasets after `place` or, `backwards`, those up to and with it, by the same filter."""

    place: Place
    backwards: bool
    filter: tuple[JsonValue, ...]


@dataclass(frozen=True)
class Page:
    """Datasets in their order, and the boundaries where the pages beside this one begin."""

    datasets: tuple[Dataset, ...]
    next: Place | None
    previous: Place | None


class CursorSeal:
    """Makes and opens cursors under a key drawn from `secret`, so that they outlive a restart."""

    def __init__(self, secret: str) -> None:
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"city-dataspace/cursor/1")
        self._key = AESGCM(kdf.derive(secret.encode()))

    def seal(self, cursor: Cursor, *, reader: str) -> str:
        """The cursor as text for an address, for this reader (a DID) only."""
        place = cursor.place
        fields = [cursor.backwards, place.created_at, place.id, cursor.filter]
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._key.encrypt(nonce, body.encode(), reader.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str, *, reader: str) -> Cursor:
        """What `seal` sealed for this reader. Raises ProtocolViolation for anything else."""
        try:
            if len(text) > MAX_CURSOR_LETTERS:
                raise ValueError("too long")
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            body = self._key.decrypt(nonce, rest, reader.encode())
        except (ValueError, binascii.Error, InvalidTag) as err:
            raise ProtocolViolation(
                "continuationToken: it is not one that this catalogue gave you",
                remedy="ask for the catalogue from its beginning",
            ) from err
        # Sealed by us, so it is in the form we gave it.
        backwards, created_at, id_, filter_ = json.loads(body)
        return Cursor(Place(created_at, id_), backwards, tuple(filter_))


def read_page(
    store: Store,
    show: Callable[[DatasetRow], Dataset | None],
    *,
    place: Place | None,
    backwards: bool,
) -> Page:
    """The page that begins at the boundary `place` (None: at the very beginning).

    `show` gives a dataset as the reader sees it, or None where it does not. Rows are read in
    batches, each in a transaction of its own, so that a long look holds up nobody who writes.
    """
    found: list[Dataset] = []
    size_bytes = 0
    end, beyond = place, None
    for number, row in enumerate(_rows(store, place, backwards=backwards)):
        shown = show(row) if number < MAX_LOOKED_AT else None
        size_bytes += 0 if shown is None else len(shown.to_bytes())
        full = shown is not None and (len(found) == PAGE_DATASETS or size_bytes > PAGE_BYTES)
        # A dataset larger than a page has one to itself.
        if number == MAX_LOOKED_AT or (full and found):
            beyond = Place.of(row)
            break
        if shown is not None:
            found.append(shown)
        end = Place.of(row)
    if backwards:
        return Page(tuple(reversed(found)), next=place, previous=beyond)
    return Page(tuple(found), next=end if beyond else None, previous=place)


def _rows(store: Store, place: Place | None, *, backwards: bool) -> Iterator[DatasetRow]:
    """Every dataset on offer from the boundary on, nearest first."""
    columns = (col(DatasetRow.created_at), col(DatasetRow.id))
    order = [column.desc() for column in columns] if backwards else list(columns)
    beyond = None if place is None else _beyond(place, backwards=backwards, inclusive=backwards)
    while True:
        wanted = select(DatasetRow).where(col(DatasetRow.withdrawn_at).is_(None))
        if beyond is not None:
            wanted = wanted.where(beyond)
        with store.transaction() as tx:
            batch = tx.exec(wanted.order_by(*order).limit(BATCH_ROWS)).all()
        yield from batch
        if len(batch) < BATCH_ROWS:
            return
        beyond = _beyond(Place.of(batch[-1]), backwards=backwards, inclusive=False)


def _beyond(place: Place, *, backwards: bool, inclusive: bool) -> ColumnElement[bool]:
    """Rows on the far side of `place`; the first comparison lets the database use its index."""
    time, id_ = col(DatasetRow.created_at), col(DatasetRow.id)
    same = time == place.created_at
    if backwards:
        nearer = id_ <= place.id if inclusive else id_ < place.id
        return and_(time <= place.created_at, or_(time < place.created_at, and_(same, nearer)))
    return and_(time >= place.created_at, or_(time > place.created_at, and_(same, id_ > place.id)))
