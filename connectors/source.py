"""The port every data source implements, and the registry that opens one by its URL.

A new kind of source is one file with an `open_…(url)` function, and its scheme in `OPENERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from connectors.errors import InputRejected
from connectors.files import open_file
from connectors.personal import open_personal_file

# One letter and a colon is a Windows drive, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


class Source(Protocol):
    """Rows somewhere. Opening one reads nothing; a source may be scanned any number of times."""

    @property
    def name(self) -> str:
        """What messages call it, such as a file's name: no directories, no credentials."""

    def schema(self) -> pa.Schema:
        """Column names and types. Raises InputRejected where there is no readable table."""

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows, with `columns` in that order, in bounded memory.

        Raises InputRejected naming a missing column, the columns there are and the nearest one;
        naming the row and the remedy where the data are malformed; and for a table without rows.
        """

    def version(self) -> str:
        """`sha256:` and 64 hex digits that change whenever the content does."""


OPENERS: Mapping[str, Callable[[str], Source]] = {
    "file": open_file,
    "personal+file": open_personal_file,
}


def open_source(url: str) -> Source:
    """Open a source by its URL; a plain path such as `data/x.csv` is a file.

    Raises InputRejected for an unknown scheme (naming the known ones), for malformed options, and
    for a file that is missing, not a file or of an unknown format.
    """
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    opener = OPENERS.get(scheme)
    if opener is None:
        raise InputRejected(
            f"no data source is known for the scheme {scheme}:; use one of "
            f"{', '.join(f'{known}:' for known in OPENERS)} or a plain path"
        )
    return opener(url)
