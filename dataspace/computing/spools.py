"""Files of computations: what a run keeps while it lasts, what outlives it, and long results.

    home/spool/ORDER/         one running computation; gone when it has ended
    home/cache/AGREEMENT/     what the runs under one agreement share, secrets sealed
    home/results/ORDER.jsonl  identifiers too many to be shown, one JSON text a line

All of it is readable by the node's user alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dataspace.sealed_rows import RowSealing
from privacy.spool import Cache, Sealing

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
ORDER = re.compile(r"[0-9a-f-]{36}")
_KEY_INFO = b"city-dataspace/computation-cache/1"


class DirectorySpool:
    """A `privacy.spool.Spool` in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appended: set[str] = set()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, name: str, content: bytes) -> None:
        path = self._file(name)
        # What is put may say that what was appended is whole: then that lies on the disk first.
        while self._appended:
            _sync(self._file(self._appended.pop()))
        # Two runs under one agreement share a cache, and may write at once.
        fresh = path.with_name(f".{name}.{secrets.token_hex(4)}")
        self._write(fresh, content, os.O_TRUNC)
        fresh.replace(path)
        _sync(self._path)

    def append(self, name: str, content: bytes) -> None:
        self._appended.add(name)
        self._write(self._file(name), content, os.O_APPEND, sync=False)

    def get(self, name: str) -> bytes | None:
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        return (entry.name for entry in os.scandir(self._path) if NAME.fullmatch(entry.name))

    def _file(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"a spool has no file {name!r}")
        return self._path / name

    def _write(self, path: Path, content: bytes, flag: int, *, sync: bool = True) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())


class Spools:
    """The directories of a node's computations, under its home."""

    def __init__(self, home: Path, secret: bytes, rows: RowSealing | None = None) -> None:
        """`secret` is the node's own; what is sealed in caches opens only with it. `rows` seals
        long results."""
        self._rows = rows
        self._spools, self._caches, self._results = (
            home / name for name in ("spool", "cache", "results")
        )
        self._key = HKDF(SHA256(), 32, salt=None, info=_KEY_INFO).derive(secret)

    def open(self, order_id: str) -> DirectorySpool:
        return DirectorySpool(self._spools / _checked(order_id))

    def find(self, order_id: str) -> DirectorySpool | None:
        """The spool of an order that has one."""
        path = self._spools / _checked(order_id)
        return DirectorySpool(path) if path.is_dir() else None

    def discard(self, order_id: str) -> None:
        shutil.rmtree(self._spools / _checked(order_id), ignore_errors=True)

    def leftovers(self) -> list[str]:
        """Orders that have a spool."""
        if not self._spools.is_dir():
            return []
        return [entry.name for entry in os.scandir(self._spools) if ORDER.fullmatch(entry.name)]

    def cache(self, agreement_id: str, version: str | None) -> Cache:
        """What the runs under this agreement share; `version` is that of the own rows now."""
        path = self._cache_path(agreement_id)
        return Cache(DirectorySpool(path), Sealing.under(self._key, path.name.encode()), version)

    def forget(self, agreement_id: str) -> None:
        """Remove the cache of an agreement: with its keys goes what could link old queries."""
        shutil.rmtree(self._cache_path(agreement_id), ignore_errors=True)

    def _cache_path(self, agreement_id: str) -> Path:
        return self._caches / hashlib.sha256(agreement_id.encode()).hexdigest()[:40]

    def keep_result(self, order_id: str, name: str) -> None:
        """Keep the file `name` of a spool as the result of its order."""
        self._results.mkdir(mode=0o700, parents=True, exist_ok=True)
        spooled, fresh = self._spools / _checked(order_id) / name, self._results / f".{order_id}"
        _sync(spooled)
        # The spool keeps its own name of it: until the end is stored, the run may begin again.
        fresh.unlink(missing_ok=True)
        fresh.hardlink_to(spooled)
        if self._rows is not None and self._rows.seals:
            self._rows.seal_file(fresh, result_name(order_id))
        fresh.replace(self.result(order_id))
        # Two names of one file stay two, whichever is to replace the other.
        fresh.unlink(missing_ok=True)
        _sync(self._results)

    def result(self, order_id: str) -> Path:
        """Where the long result of an order lies, if it has one."""
        return self._results.parent / result_name(order_id)


def result_name(order_id: str) -> str:
    """The name of a long result in the home."""
    return f"results/{_checked(order_id)}.jsonl"


def _sync(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk. One that is gone needs none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(order_id: str) -> str:
    if not ORDER.fullmatch(order_id):
        raise ValueError("an order's id is a UUID")
    return order_id
