"""Commands of those who verify: whole logs against the chain, or one record from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from dataspace.cli.shared import EXIT_ERROR, JsonOption, out, reported, say, show
from dataspace.errors import InputRejected
from dataspace.home import Home
from ledger.audit_state import AuditState

app = typer.Typer(invoke_without_command=True)


@app.callback()
@reported
def audit(
    context: typer.Context,
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
    require_witnesses: Annotated[
        int, typer.Option(help="cosignatures every checkpoint must have", min=0)
    ] = 0,
    max_anchor_delay: Annotated[
        float | None, typer.Option(help="seconds within which every entry must be anchored")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="a file to go on from: a second audit reads only what is new"),
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--out", help="write a report for people here (HTML)")
    ] = None,
    language: Annotated[
        Literal["en", "zh"], typer.Option("--lang", help="the language of that report")
    ] = "en",
    as_json: JsonOption = False,
) -> None:
    """Verify evidence logs against the chain, trusting no server. Ends with 1 on any finding.

    A single record that somebody handed out is verified by: dataspace audit verify

    Example: dataspace audit --rpc http://127.0.0.1:8001/chain --contract 0x… --home regulator
    """
    from dataspace.auditing import AuditPolicy, audit_space, find_space
    from ledger.report_html import render as render_html

    if context.invoked_subcommand is not None:
        return
    if space is not None:
        rpc, contract = find_space(space)
    if rpc is None or contract is None:
        raise InputRejected(
            "an audit begins from the chain's address and the contract's",
            remedy="give --rpc URL --contract 0x…, or --space OPERATOR_URL",
        )
    report = audit_space(
        rpc,
        contract,
        log or [],
        Home(home) if home else None,
        policy=AuditPolicy(require_witnesses, max_anchor_delay),
        state=_load_state(state),
    )
    if state is not None and report.state is not None:
        state.write_text(json.dumps(report.state.to_json()), encoding="utf-8")
    if report_file is not None:
        report_file.write_text(render_html(report, language=language), encoding="utf-8")

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
            say(f"{finding.origin}: {finding.sentence}", head=finding.code, style="red")
        say("all consistent" if report.ok else f"{len(report.findings)} finding(s)")

    show(report.to_json(), as_json, render)
    if not report.ok:
        raise typer.Exit(EXIT_ERROR)


def _load_state(path: Path | None) -> AuditState | None:
    if path is None or not path.exists():
        return None
    try:
        return AuditState.parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as err:
        raise InputRejected(
            f"{path} is not the state of an audit", remedy="name another file, or remove it"
        ) from err


@app.command()
@reported
def verify(
    proof: Annotated[Path, typer.Argument(help="the .tlog-proof file")],
    entry: Annotated[Path, typer.Option(help="the entry's JSON file")],
    vkey: Annotated[
        str | None, typer.Option(help="the log's key, name+id+base64, if you know it: offline")
    ] = None,
    rpc: Annotated[str | None, typer.Option(help="or take the key from this chain")] = None,
    contract: Annotated[str | None, typer.Option(help="and this contract")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify one record from its proof file, offline when you know the log's key.

    Example: dataspace audit verify entry-7.tlog-proof --entry entry-7.json --vkey KEY
    """
    from dataspace.auditing import verify_record

    if vkey is None and (rpc is None or contract is None):
        raise InputRejected(
            "a proof is only as good as the key it is verified with",
            remedy="give --vkey, or --rpc and --contract to take the key from the chain",
        )
    record = verify_record(proof, entry, vkey=vkey, rpc_url=rpc, contract=contract)

    def render() -> None:
        say(f"entry {record.index} of {record.origin}", head="verified", style="green")
        say(f"  covered by the checkpoint of {record.size} entries")
        if record.block is not None:
            say(f"  whose root the chain holds since block {record.block}")
        out.print_json(record.body)

    show({**record.to_json(), "entry": json.loads(record.body)}, as_json, render)
