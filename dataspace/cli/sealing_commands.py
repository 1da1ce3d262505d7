"""Commands about what lies sealed at rest: seal a home, change its passphrase, open a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import node_passphrase, passphrase_in_file

app = typer.Typer()


@app.command()
@reported
def seal(
    passphrase_file: Annotated[Path, typer.Option(help="a file with the new passphrase")],
    old_passphrase_file: Annotated[
        Path | None, typer.Option(help="a file with the present one, where there is one")
    ] = None,
    suite: Annotated[
        SealingSuite | None, typer.Option(help="seal with this; with what the home has otherwise")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Seal a home under a passphrase, or give a sealed one another. The node must not run.

    Keys, received rows, long results, results and data addresses in the database. Afterwards every
    command needs the new passphrase: DATASPACE_PASSPHRASE_FILE.
    """
    from dataspace.doctor.outside import is_running
    from dataspace.outbound import outbound_client
    from dataspace.sealing_homes import seal_home

    opened = Home(home)
    if opened.settings.url is not None:
        with outbound_client(opened.settings.tls_ca) as http:
            if is_running(opened, http):
                raise InputRejected("the node runs", remedy="stop it, seal its home, start it")
    old = passphrase_in_file(old_passphrase_file) if old_passphrase_file else node_passphrase()
    done = seal_home(opened, old, passphrase_in_file(passphrase_file), suite)
    sentence = f"{done.keys} keys, {done.files} files and {done.values} values lie sealed"
    told = {"keys": done.keys, "files": done.files, "values": done.values}
    show(told, as_json, lambda: say(sentence))


@app.command("open")
@reported
def open_file(
    file: Annotated[Path, typer.Argument(help="a file in received/ or results/ of the home")],
    out: Annotated[
        Path | None, typer.Option(help="where to write it, 0600; to standard output otherwise")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the content of a sealed file of rows; one that is not sealed as it is."""
    from dataspace.sealed_rows import RowSealing, pieces

    if as_json and out is None:
        raise InputRejected("the content is no JSON", remedy="give --out FILE with --json")
    path, opened = file.expanduser().resolve(), Home(home)
    # In its place in the home a file must be what its name says; a copy elsewhere may be any.
    inside = path.is_relative_to(opened.path)
    name = str(path.relative_to(opened.path)) if inside else None
    sealing = RowSealing(opened.key_files.root(), seals=True)
    with sealing.opened(path, name) as reading:
        if out is None:
            for piece in pieces(reading):
                sys.stdout.buffer.write(piece)
            return
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            for piece in pieces(reading):
                target.write(piece)
    show({"file": str(out)}, as_json, lambda: say(str(out)))
