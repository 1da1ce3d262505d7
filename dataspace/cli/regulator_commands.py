"""Commands about evidence: audit logs, and look at one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dataspace.cli.shared import EXIT_ERROR, HOME, HomeOption, JsonOption, out, reported, show
from dataspace.client import Client
from dataspace.errors import InputRejected
from dataspace.settings import Home

app = typer.Typer()
log_app = typer.Typer(help="This node's evidence log.", no_args_is_help=True)


@app.command()
@reported
def audit(
    rpc: Annotated[str | None, typer.Option(help="JSON-RPC address of the space's chain")] = None,
    contract: Annotated[
        str | None, typer.Option(help="address of its AnchorRegistry contract")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="ask this operator for both, where you trust it for that")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="a log's URL or exported directory; every registered log otherwise"),
    ] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="a regulator's home, to be shown entry bodies")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify evidence logs against the chain, trusting no server. Ends with 1 on any finding.

    Example: dataspace audit --rpc http://127.0.0.1:8001/chain --contract 0x… --home regulator
    """
    from dataspace.auditing import audit_space, find_space

    if space is not None:
        rpc, contract = find_space(space)
    if rpc is None or contract is None:
        raise InputRejected(
            "an audit begins from the chain's address and the contract's",
            remedy="give --rpc URL --contract 0x…, or --space OPERATOR_URL",
        )
    report = audit_space(rpc, contract, log or [], Home(home) if home else None)

    def render() -> None:
        table = Table("log", "entries", "opened", "anchored", "anchors")
        for one in report.logs:
            table.add_row(
                one.origin,
                str(one.size),
                str(one.entries_opened),
                str(one.anchored_size),
                str(one.anchors),
            )
        out.print(table)
        for finding in report.findings:
            out.print(f"[red]{finding.code}[/] {finding.origin}: {finding.sentence}")
        out.print("[green]all consistent[/]" if report.ok else f"{len(report.findings)} finding(s)")

    show(report.to_json(), as_json, render)
    if not report.ok:
        raise typer.Exit(EXIT_ERROR)


@log_app.command("show")
@reported
def logshow(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """This node's own evidence entries."""
    from ledger.entry import SealedEntry

    with Client.of_home(home) as node:
        sealed = node.call("GET", "/api/log")
    bodies = [json.loads(SealedEntry.parse(one).body) if one else None for one in sealed]

    def render() -> None:
        for index, body in enumerate(bodies):
            words = (
                "erased"
                if body is None
                else " ".join(
                    str(body.get(key, ""))
                    for key in ("ts", "type", "kind", "decision", "clause", "outcome", "peer")
                )
            )
            out.print(f"{index:5} {words}", highlight=False, markup=False)

    show(bodies, as_json, render)


@log_app.command("export")
@reported
def log_export(
    directory: Annotated[Path, typer.Argument(help="where to write the copy")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a copy of this node's log, bodies included, that can be audited from disk."""
    from dataspace.auditing import export_node_log

    with Client.of_home(home) as node:
        size = export_node_log(node, directory)
    show(
        {"directory": str(directory), "entries": size},
        as_json,
        lambda: out.print(f"{size} entries in {directory}"),
    )
