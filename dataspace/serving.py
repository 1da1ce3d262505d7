"""One process a home, or one a replica: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dataspace.errors import InputRejected
from dataspace.home import Home


@contextmanager
def serving_alone(home: Home, replica: str, *, shared: bool) -> Iterator[None]:
    """Hold the home, or with a database that replicas share only the name of this one, until the
    block ends. The kernel lets go when the process dies, however it does.

    Raises InputRejected where another process holds it.
    """
    path = home.path / (f"serving-{replica}.lock" if shared else "serving.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            what = f"replica {replica!r} of this home" if shared else "this home"
            raise InputRejected(
                f"{what} is served already, by process {holder}",
                remedy="stop that process, or give this one another name with the setting replica"
                if shared
                else "stop that process; several at once need PostgreSQL",
            ) from err
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(descriptor)
