"""Files from elsewhere, kept for as long as they are read in a directory nobody else may enter."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from connectors.errors import InputRejected, Unavailable
from connectors.files import FORMATS, ending_of, reading

_ODD = re.compile(r"[^\w.()+@ -]")
_LONGEST_NAME: Final = 120


@contextmanager
def spooled(name: str, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
    """A private copy (0600) of what `write` gives, named as the original so that messages can be.

    Removed when the block ends; a generator that is not read to its end ends its blocks when it is
    closed or forgotten. Raises Unavailable where the disk is full.
    """
    try:
        directory = tempfile.TemporaryDirectory(prefix="dataspace-")
    except OSError as err:
        raise Unavailable(f"{name}: no temporary file can be made ({err.strerror})") from err
    with directory as made:
        path = Path(made, name)
        with reading(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                write(file)
        yield path


def file_name(path: str) -> str:
    """The last part of a remote path, as a name that is safe here.

    Raises InputRejected where its ending is not one of a known format.
    """
    last = _ODD.sub("_", PurePosixPath(path).name)
    ending = ending_of(Path(last))
    if ending not in FORMATS:
        raise InputRejected(
            f"{last[:200] or 'the address'}: the format of a file is told by its ending; use one "
            f"of {', '.join(FORMATS)}"
        )
    return f"{last[: -len(ending)][:_LONGEST_NAME] or 'data'}{ending}"
