"""Passwords, keys and tokens of sources: named in an address, kept elsewhere.

An address is stored in the node's database and printed in messages, so it never holds a secret. Its
option `secret=` says where the secret is: `env:NAME`, a variable of the environment, or
`file:/absolute/path`, a file that only its owner may read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from connectors.errors import InputRejected
from connectors.files import reading, verify_is_file

# The node's own settings, its passphrase among them, are nothing to send to a source.
_NODES_OWN: Final = "DATASPACE_"
MAX_SECRET_BYTES: Final = 8192


def secret_at(reference: str) -> str:
    """The secret that `env:NAME` or `file:/path` names, without the line end of a file.

    Raises InputRejected for another form, a variable that is not set or is the node's own, a file
    that is missing, too long, empty, or readable by others, and for a secret of more than one line
    (it may become a line of a request); no message holds the secret.
    """
    kind, _, where = reference.partition(":")
    if kind == "env" and where:
        return _one_line(_from_environment(where), f"the variable {where[:100]}")
    if kind == "file" and where.startswith("/"):
        return _one_line(_from_file(Path(where)), Path(where).name)
    # What came instead may be the secret itself.
    raise InputRejected(
        "secret= takes env:NAME (a variable of the environment) or file:/absolute/path (a file "
        "only its owner may read); a secret itself never stands in an address"
    )


def _one_line(secret: str, where: str) -> str:
    if any(mark < " " or mark == "\x7f" for mark in secret):
        raise InputRejected(
            f"{where} holds more than one line, or a null character or the like; write the secret "
            "and nothing else"
        )
    return secret


def _from_environment(name: str) -> str:
    if name.upper().startswith(_NODES_OWN):
        raise InputRejected(
            f"secret=env: the variable {name[:100]} is one of the node's own settings; put the "
            "source's secret into a variable of another name"
        )
    value = os.environ.get(name)
    if not value:
        raise InputRejected(
            f"secret=env: the variable {name[:100]} is not set where the program runs; set it, "
            "or use secret=file:"
        )
    return value


def _from_file(path: Path) -> str:
    verify_is_file(path)
    with reading(path), path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise InputRejected(
                f"{path.name} holds a secret and may be read by others (mode {mode:04o}); run: "
                f"chmod 600 {path}"
            )
        secret = file.read(MAX_SECRET_BYTES + 1)
    if len(secret) > MAX_SECRET_BYTES:
        raise InputRejected(
            f"{path.name} is longer than {MAX_SECRET_BYTES} bytes; name a file that holds the "
            "secret and nothing else"
        )
    try:
        text = secret.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise InputRejected(f"{path.name} is not UTF-8 text; write the secret as text") from None
    if not text:
        raise InputRejected(f"{path.name} is empty; write the secret into it")
    return text
