"""The port every data source implements, and the registry that opens one by its URL.

A new kind of source is one file with an `open_…(url)` function, and its scheme in `OPENERS`. The
file is imported when its scheme is first used: most nodes need few of the drivers there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Final, Protocol, cast, runtime_checkable

import pyarrow as pa

from connectors.conditions import Where
from connectors.errors import InputRejected
from connectors.use import Use

# One letter and a colon is a Windows drive, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


class Source(Protocol):
    """Rows somewhere. Opening one reads nothing; a source may be scanned any number of times."""

    @property
    def name(self) -> str:
        """What messages call it, such as a file's name: no directories, no credentials."""

    def schema(self) -> pa.Schema:
        """Column names and types. Raises InputRejected where there is no readable table."""

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        """Yield the rows that meet `where`, with `columns` in that order, in bounded memory.

        Raises InputRejected naming a missing column, the columns there are and the nearest one;
        naming the row and the remedy where the data are malformed; and for a table without rows
        (not for one where none meets `where`). Raises Unavailable where the source stops answering
        on the way: what came until then is not all.
        """

    def version(self) -> str:
        """`sha256:` and 64 hex digits that change whenever the content does."""

    def description(self) -> Mapping[str, str]:
        """How the rows are kept, for their owner to check: format, encoding, delimiter, table…"""


@runtime_checkable
class ConsentedSource(Source, Protocol):
    """A source whose rows are only read under consent: `scan` refuses, `scan_consented` reads."""

    def scan_consented(
        self, columns: Sequence[str], use: Use, where: Where = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield `columns` of those people only whose consent covers exactly this use."""


# Where each scheme is opened: module and function.
OPENERS: Final[Mapping[str, str]] = {
    "sqlite": "connectors.database_sqlite:open_sqlite",
    "postgresql": "connectors.database_postgresql:open_postgresql",
    **dict.fromkeys(("mysql", "mariadb"), "connectors.database_mysql:open_mysql"),
    # With a dialect of SQLAlchemy after it: sql+oracle+oracledb:
    "sql": "connectors.database_sqlalchemy:open_other",
    "joined": "connectors.joined:open_joined",
    "file": "connectors.files:open_file",
    "personal+file": "connectors.personal:open_personal_file",
    "vault": "connectors.vault:open_vault",
    **dict.fromkeys(("http", "https"), "connectors.web_files:open_web_file"),
    **dict.fromkeys(("json+http", "json+https"), "connectors.web:open_json"),
    **dict.fromkeys(("ckan+http", "ckan+https"), "connectors.ckan:open_ckan"),
    **dict.fromkeys(("ogc+http", "ogc+https"), "connectors.ogc:open_features"),
    **dict.fromkeys(("mqtt", "mqtts"), "connectors.stream:open_stream"),
    "s3": "connectors.objects:open_objects",
    **dict.fromkeys(("sta+http", "sta+https"), "connectors.ogc:open_sensor_things"),
}


def open_source(url: str) -> Source:
    """Open a source by its URL; a plain path such as `data/x.csv` is a file.

    Raises InputRejected for an unknown scheme (naming the known ones), for malformed options, and
    for a file that is missing, not a file or of an unknown format.
    """
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    if scheme.startswith("sql+"):
        scheme = "sql"
    if scheme not in OPENERS:
        raise InputRejected(
            f"no data source is known for the scheme {scheme}:; use one of "
            f"{', '.join(f'{known}:' for known in OPENERS)} or a plain path"
        )
    module, _, function = OPENERS[scheme].partition(":")
    opener = cast(Callable[[str], Source], getattr(import_module(module), function))
    return opener(url)
