"""What commands share that write signed statements to files, and verify them with no node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dataspace.errors import InputRejected

KeysOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="a key you know, as DID=THUMBPRINT (RFC 7638); repeatable"),
]
OnlineOption = Annotated[
    bool, typer.Option("--online", help="look keys up in their owners' DID documents")
]
LocalOption = Annotated[
    bool, typer.Option("--local", help="with --online: their owners are on this machine")
]

# By how the verifier knows whose a key is.
WHOSE: Final = {
    "pinned": "the one you named",
    "did-document": "which its DID document lists now",
    None: "its own only by the word of this file; compare it with --key or --online",
}


def known_keys(keys: list[str] | None, *, online: bool, local: bool) -> dict[str, str]:
    """Thumbprints by DID. Raises InputRejected for another form, and for options at odds."""
    if local and not online:
        raise InputRejected("--local says where to look things up", remedy="add --online")
    pins: dict[str, str] = {}
    for text in keys or []:
        did, equals, thumbprint = text.rpartition("=")
        if not equals or not did.startswith("did:") or not thumbprint:
            raise InputRejected(
                "a key is given as its owner's DID, an equals sign and the key's thumbprint",
                remedy="for example --key did:web:bureau.example=THUMBPRINT",
            )
        if did in pins:
            raise InputRejected(f"two keys are given for {did}", remedy="give one for each owner")
        pins[did] = thumbprint
    return pins


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a statement's file. Raises InputRejected where that cannot be done."""
    from dataspace.statements import as_text

    try:
        path.write_text(as_text(content), encoding="utf-8")
    except OSError as err:
        raise InputRejected(f"{path} cannot be written", remedy="name another file") from err
