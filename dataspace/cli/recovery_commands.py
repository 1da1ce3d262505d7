"""Commands for a log that was lost in part: keep copies of it, and bring entries back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.errors import InputRejected
from dataspace.home import Home

app = typer.Typer()


@app.command("mirror")
@reported
def log_mirror(
    url: Annotated[str, typer.Argument(help="the log's address, http://…/tlog")],
    directory: Annotated[Path, typer.Argument(help="where to keep the copy")],
    as_json: JsonOption = False,
) -> None:
    """Keep a copy of what is public of a log: enough to bring it back after its node lost it.

    Anybody may, and needs no key. Run it often, from another machine.
    """
    from dataspace.log_readers import HttpLog
    from dataspace.log_recovery import mirror_log
    from dataspace.outbound import outbound_client
    from dataspace.tls import ca_of_environment

    with outbound_client(ca_of_environment()) as http:
        size = mirror_log(HttpLog(http, url, None), directory)
    told = {"directory": str(directory), "entries": size}
    show(told, as_json, lambda: say(f"{size} entries in {directory}"))


@app.command("recover")
@reported
def log_recover(
    source: Annotated[str, typer.Option("--from", help="a copy: a directory, or an address")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Bring entries that a restored database lacks back from a copy of the log, verified against
    this node's key and the chain. The node must not run.
    """
    from dataspace.doctor.outside import is_running
    from dataspace.log_readers import open_log
    from dataspace.log_recovery import recover_log
    from dataspace.outbound import outbound_client

    opened = Home(home)
    with outbound_client(opened.settings.tls_ca) as http:
        if is_running(opened, http):
            raise InputRejected("the node runs", remedy="stop it, recover its log, start it")
        found = recover_log(opened, open_log(http, source, None))
    came = found.after - found.before
    told = {"before": found.before, "after": found.after, "with_content": found.with_content}
    sentence = f"{came} entries came back, {found.with_content} of them with their content"
    show(told, as_json, lambda: say(sentence))
