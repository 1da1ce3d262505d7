"""Objects in an S3-compatible bucket as sources: `s3://bucket/key.csv?endpoint=…&secret=…`.

A key with `*`, or one that ends in `/`, is all objects it fits, read in the order of their keys as
one table. Parquet is read in place, of each object only the columns asked for; everything else is
copied to a private file while it is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from connectors.addresses import Address, parse_address
from connectors.conditions import Where, columns_read, filtered, verify_readable
from connectors.errors import InputRejected, Unavailable
from connectors.files import BATCH_ROWS, open_path
from connectors.names import verify_columns, verify_distinct
from connectors.spooled import file_name, spooled
from connectors.spreadsheet import OPTIONS as SHEET_OPTIONS

# More are listed, and asked about one by one for the version, in no reasonable time.
MAX_OBJECTS: Final = 10_000
CONNECT_S: Final = 10.0
REQUEST_S: Final = 60.0
ATTEMPTS: Final = 3
_COPY_BYTES: Final = 4 * 1024 * 1024
# Batches read ahead; Arrow's own sixteen would hold a million rows.
_READ_AHEAD: Final = 4
_AWS_ERROR: Final = re.compile(r"AWS Error ([A-Z_]+)")
_FORBIDDEN: Final = frozenset(
    {
        "ACCESS_DENIED",
        "INVALID_ACCESS_KEY_ID",
        "SIGNATURE_DOES_NOT_MATCH",
        "INVALID_CLIENT_TOKEN_ID",
    }
)
_MISSING: Final = frozenset({"NO_SUCH_KEY", "RESOURCE_NOT_FOUND"})


@dataclass(frozen=True)
class Stored:
    """One object: its key, and what its store says of its content."""

    key: str
    size: int
    etag: str | None


class Bucket:
    """One bucket and how it is reached. The secret is read when it is."""

    def __init__(self, address: Address) -> None:
        if not address.host:
            raise InputRejected("an s3: address names no bucket; write s3://bucket/key.parquet")
        if address.user is not None or address.parts.port is not None:
            raise InputRejected(
                "an s3: address is s3://bucket/key; the server stands in endpoint=, keys in secret="
            )
        self.name = address.host
        self._address = address
        _verify_endpoint(address.options.get("endpoint"))
        if address.options.get("addressing", "path") not in ("path", "virtual"):
            raise InputRejected("addressing= takes path or virtual")

    def connect(self) -> pafs.S3FileSystem:
        """Raises InputRejected for a secret that is missing or no ACCESS_KEY:SECRET_KEY."""
        options = self._address.options
        # Never the credentials of the environment or of the machine: the owner named none.
        access: dict[str, Any] = {"anonymous": True}
        secret = self._address.secret()
        if secret is not None:
            key, _, rest = secret.partition(":")
            secret_key, _, token = rest.partition(":")
            if not key or not secret_key:
                raise InputRejected(
                    f"{self.name}: the secret of a bucket is ACCESS_KEY:SECRET_KEY (and, for "
                    "temporary ones, :TOKEN)"
                )
            access = {"access_key": key, "secret_key": secret_key, "session_token": token or None}
        endpoint = options.get("endpoint")
        if endpoint is not None:
            parts = urlsplit(endpoint)
            access |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
        with self.reading(self.name):
            return pafs.S3FileSystem(
                region=options.get("region", "us-east-1"),
                connect_timeout=CONNECT_S,
                request_timeout=REQUEST_S,
                retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
                force_virtual_addressing=options.get("addressing") == "virtual",
                tls_ca_file_path=options.get("ca"),
                **access,
            )

    def path(self, key: str) -> str:
        return f"{self.name}/{key}"

    def stat(self, store: pafs.S3FileSystem, key: str) -> Stored:
        with self.reading(key), store.open_input_file(self.path(key)) as file:
            told = {name.lower(): value for name, value in (file.metadata() or {}).items()}
            etag = told.get("etag", b"").decode("ascii", "replace")
            return Stored(key, file.size(), etag or None)

    def keys(self, store: pafs.S3FileSystem, pattern: str) -> list[str]:
        """The keys that `pattern` fits, in order; one that is no pattern is taken at its word.

        Raises InputRejected where there is none, or more than MAX_OBJECTS.
        """
        if "*" not in pattern and not pattern.endswith("/"):
            return [pattern]
        fixed = pattern.partition("*")[0].rpartition("/")[0]
        below = pafs.FileSelector(self.path(fixed).rstrip("/"), recursive=True)
        with self.reading(pattern):
            found = [one for one in store.get_file_info(below) if one.type == pafs.FileType.File]
        fits = fitting(pattern)
        keys = sorted(
            key for one in found if fits(key := one.path.removeprefix(f"{self.name}/")) and one.size
        )
        if not 1 <= len(keys) <= MAX_OBJECTS:
            raise InputRejected(
                f"{self.path(pattern)} fits {len(keys) or 'no'} objects that are not empty; name "
                f"1 to {MAX_OBJECTS}"
            )
        return keys

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn errors of the store into ours, naming the object."""
        try:
            yield
        except FileNotFoundError as err:
            raise InputRejected(f"there is no object {what} in the bucket {self.name}") from err
        except (pa.ArrowException, OSError) as err:
            if isinstance(err, OSError) and err.errno is not None:
                raise Unavailable(f"{what} could not be read: {err.strerror}") from err
            raise self._translated(err, what) from err

    def _translated(self, err: Exception, what: str) -> InputRejected | Unavailable:
        found = _AWS_ERROR.search(str(err))
        code = found[1] if found else ""
        if code in _FORBIDDEN:
            return InputRejected(
                f"the store refuses access to {what} in the bucket {self.name}; check secret= "
                "(ACCESS_KEY:SECRET_KEY) and what it may read"
            )
        if code == "NO_SUCH_BUCKET":
            return InputRejected(f"there is no bucket {self.name} at this endpoint; check both")
        if code in _MISSING:
            return InputRejected(
                f"{what} is no longer in the bucket {self.name}; what was read of it is not all"
            )
        if code or "curl" in str(err).lower():
            return Unavailable(
                f"the store of the bucket {self.name} cannot be reached or failed on {what} "
                f"({code.lower().replace('_', ' ') or 'network'}); try again later"
            )
        return InputRejected(
            f"{what} is not a readable Parquet file; write it again, or name it by what it is"
        )


class Objects:
    """The objects a key or pattern fits, as one table with the columns of the first."""

    def __init__(self, bucket: Bucket, pattern: str, sheet: Mapping[str, str]) -> None:
        self._bucket, self._pattern, self._sheet = bucket, pattern, sheet
        if not pattern.endswith(("/", "*")):
            file_name(pattern)

    @property
    def name(self) -> str:
        return self._bucket.path(self._pattern)

    def schema(self) -> pa.Schema:
        store = self._bucket.connect()
        first = self._bucket.keys(store, self._pattern)[0]
        return self._schema_of(store, first)

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        store = self._bucket.connect()
        keys = self._bucket.keys(store, self._pattern)
        wanted: pa.Schema | None = None
        # What a text has is found on the copy that its rows are read from.
        if _is_parquet(keys[0]):
            schema = self._schema_of(store, keys[0])
            verify_readable(columns, where, schema.names, source=self.name)
            wanted = pa.schema([schema.field(name) for name in columns_read(columns, where)])
        return filtered(lambda names: self._batches(store, keys, names, wanted), columns, where)

    def version(self) -> str:
        """Of the keys, sizes and ETags of the objects; of the bytes of those without an ETag."""
        store = self._bucket.connect()
        digest = hashlib.sha256()
        for key in self._bucket.keys(store, self._pattern):
            stored = self._bucket.stat(store, key)
            content = stored.etag or self._hash(store, key)
            digest.update(f"{key}\n{stored.size}\n{content}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def description(self) -> Mapping[str, str]:
        store = self._bucket.connect()
        keys = self._bucket.keys(store, self._pattern)
        first = self._bucket.stat(store, keys[0])
        words = {
            "bucket": self._bucket.name,
            "objects": str(len(keys)),
            "ETag of the first": first.etag or "none",
            "version": "of keys, sizes and ETags" if first.etag else "of the bytes",
        }
        if _is_parquet(keys[0]):
            return {"format": "Parquet", **words}
        with self._copy(store, keys[0]) as file:
            return {**file.description(), **words}

    def _schema_of(self, store: pafs.S3FileSystem, key: str) -> pa.Schema:
        if not _is_parquet(key):
            with self._copy(store, key) as file:
                return file.schema()
        with self._bucket.reading(key):
            schema = self._dataset(store, key).schema
        verify_distinct(schema.names, source=key)
        return schema.remove_metadata()

    def _batches(
        self, store: pafs.S3FileSystem, keys: list[str], names: list[str], wanted: pa.Schema | None
    ) -> Iterator[pa.RecordBatch]:
        some = False
        for key in keys:
            before = self._bucket.stat(store, key)
            read = self._parquet if _is_parquet(key) else self._copied
            for batch in read(store, key, names):
                wanted = batch.schema if wanted is None else wanted
                if not batch.schema.equals(wanted):
                    raise _another_schema(key, batch.schema, wanted)
                if batch.num_rows:
                    some = True
                    yield batch
            if self._bucket.stat(store, key) != before:
                raise Unavailable(f"{key} was replaced while it was read; read it again")
        if not some:
            raise InputRejected(f"{self.name} has columns but no rows; fill it, or name another")

    def _parquet(
        self, store: pafs.S3FileSystem, key: str, names: list[str]
    ) -> Iterator[pa.RecordBatch]:
        with self._bucket.reading(key):
            table = self._dataset(store, key)
            verify_columns(names, table.schema.names, source=key)
            yield from table.to_batches(
                columns=names, batch_size=BATCH_ROWS, batch_readahead=_READ_AHEAD
            )

    def _copied(
        self, store: pafs.S3FileSystem, key: str, names: list[str]
    ) -> Iterator[pa.RecordBatch]:
        with self._copy(store, key) as file:
            yield from file.scan(names)

    def _dataset(self, store: pafs.S3FileSystem, key: str) -> ds.Dataset:
        return ds.dataset(self._bucket.path(key), filesystem=store, format="parquet")

    @contextmanager
    def _copy(self, store: pafs.S3FileSystem, key: str) -> Iterator[Any]:
        def write(file: BinaryIO) -> None:
            with self._bucket.reading(key), store.open_input_stream(self._bucket.path(key)) as body:
                while block := body.read(_COPY_BYTES):
                    file.write(block)

        with spooled(file_name(key), write) as path:
            yield open_path(path, self._sheet)

    def _hash(self, store: pafs.S3FileSystem, key: str) -> str:
        digest = hashlib.sha256()
        with self._bucket.reading(key), store.open_input_stream(self._bucket.path(key)) as body:
            while block := body.read(_COPY_BYTES):
                digest.update(block)
        return digest.hexdigest()


def open_objects(url: str) -> Objects:
    """The objects at an `s3:` address; nothing is asked of the store yet.

    Raises InputRejected for unknown options and an ending that is of no known format.
    """
    address = parse_address(
        url, known=("endpoint", "region", "secret", "addressing", "ca", *SHEET_OPTIONS)
    )
    if address.parts.fragment:
        raise InputRejected("a # in a key is written %23, and a ? is written %3F")
    key = address.path.lstrip("/")
    if not key:
        raise InputRejected("an s3: address names no object; write s3://bucket/key.parquet")
    options = address.options
    sheet = {name: options[name] for name in SHEET_OPTIONS if name in options}
    return Objects(Bucket(address), key, sheet)


def fitting(pattern: str) -> Callable[[str], bool]:
    """Whether a key fits: `*` is any text within one level, `**` any number of levels, and a
    pattern that ends in `/` all that lies below."""
    whole = pattern + "**" if pattern.endswith("/") else pattern
    pieces = re.split(r"(\*\*|\*)", whole)
    known = {"**": ".*", "*": "[^/]*"}
    expression = re.compile("".join(known.get(one, re.escape(one)) for one in pieces), re.DOTALL)
    return lambda key: expression.fullmatch(key) is not None


def _another_schema(key: str, schema: pa.Schema, wanted: pa.Schema) -> InputRejected:
    name = next(one.name for one in schema if one.type != wanted.field(one.name).type)
    return InputRejected(
        f"{key}: column {name} holds {schema.field(name).type}, in the first object "
        f"{wanted.field(name).type}; name objects of one schema"
    )


def _is_parquet(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() == ".parquet"


def _verify_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint)
        malformed = parts.scheme not in ("http", "https") or not parts.hostname
        malformed = malformed or parts.port == 0
    except ValueError:
        malformed = True
    if malformed or parts.username or parts.path.strip("/") or parts.query or parts.fragment:
        raise InputRejected("endpoint= takes https://host or https://host:port, without a path")
