"""The command line. Every command teaches by --help, prints JSON with --json, and ends with 0, or
with 1 and one sentence and its remedy on stderr; 2 is a wrong command line, 3 a refused use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import httpx2
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dataspace import __version__
from dataspace.client import ApiError, Client, Refused
from dataspace.errors import SHOWN, InputRejected
from dataspace.settings import Home, ParticipantKind, create_home, free_port

EXIT_ERROR, EXIT_REFUSED = 1, 3

app = typer.Typer(
    name="dataspace",
    help="A node of a trusted city data space: publish data under contract, compute together "
    "without showing it, and prove what was done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
dataset_app = typer.Typer(help="Publish data under an offer.", no_args_is_help=True)
log_app = typer.Typer(help="This node's evidence log.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")
app.add_typer(log_app, name="log")

out = Console()
err = Console(stderr=True)

HomeOption = Annotated[
    Path,
    typer.Option("--home", help="the node's directory", envvar="DATASPACE_HOME", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
HOME = Path("node")

P = ParamSpec("P")
R = TypeVar("R")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn known errors into one sentence with its remedy and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Refused as refusal:
            _complain("refused", refusal.sentence, refusal.remedy)
            if refusal.clause:
                err.print(f"  clause: {refusal.clause}", markup=False, highlight=False)
            if refusal.refused_by:
                err.print(f"  by: {refusal.refused_by}", markup=False, highlight=False)
            raise typer.Exit(EXIT_REFUSED) from refusal
        except (ApiError, TimeoutError, *SHOWN) as error:
            _complain("error", str(error), getattr(error, "remedy", None))
            raise typer.Exit(EXIT_ERROR) from error

    return run


def _complain(what: str, sentence: str, remedy: str | None) -> None:
    err.print(f"{what}: {sentence}", markup=False, highlight=False, soft_wrap=True)
    if remedy:
        err.print(f"  remedy: {remedy}", markup=False, highlight=False, soft_wrap=True)


def _show(value: Any, as_json: bool, render: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    else:
        render()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out.print(context.get_help())
        raise typer.Exit


@app.command()
@reported
def init(
    name: Annotated[str, typer.Option(help="what people call this participant")],
    kind: Annotated[ParticipantKind, typer.Option(help="what it is in the space")],
    home: HomeOption = HOME,
    port: Annotated[
        int | None, typer.Option(help="port to listen on; a free one is chosen otherwise")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="address peers use; http://127.0.0.1:PORT otherwise")
    ] = None,
    found: Annotated[
        bool, typer.Option("--found", help="found a new space: this node is its operator too")
    ] = False,
    operator: Annotated[
        str | None, typer.Option(help="address of the operator of the space to join")
    ] = None,
    invitation: Annotated[
        str | None, typer.Option(help="the operator's invitation (or - to read it from stdin)")
    ] = None,
    chain: Annotated[
        str | None, typer.Option(help="with --found: use this EVM JSON-RPC, not our own chain")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node's home: its settings, its keys (0600) and its identity.

    The founder:      dataspace init --home bureau --name "Civil Affairs" --kind government --found
    Everybody else:   dataspace init --home firm --name "Insurer" --kind enterprise
                      --operator http://127.0.0.1:8001 --invitation CODE
    """
    if not found and operator is None:
        raise InputRejected(
            "a node joins a space by its operator, or founds one",
            remedy="give --operator URL --invitation CODE, or --found",
        )
    regulator = kind is ParticipantKind.REGULATOR
    port = None if regulator else port or free_port()
    values: dict[str, Any] = {
        "name": name,
        "kind": kind.value,
        "url": None if regulator else (url or f"http://127.0.0.1:{port}"),
        "port": port,
        "founder": found,
        "operator": operator,
        "chain": chain,
    }
    code = sys.stdin.readline().strip() if invitation == "-" else invitation
    made = create_home(home, values, invitation=code)
    did = _did(made)
    if regulator:
        from dataspace.auditing import join_as_regulator

        with httpx2.Client(trust_env=False) as http:
            join_as_regulator(made, http)

    def render() -> None:
        out.print(f"[green]made[/] {made.path}")
        out.print(f"  identity {did}", highlight=False)
        serve_it = f"dataspace serve --home {home}"
        next_step = f"dataspace audit --home {home} --help" if regulator else serve_it
        out.print(f"  next     {next_step}", highlight=False)

    _show({"home": str(made.path), "did": did, "url": made.settings.url}, as_json, render)


@app.command()
@reported
def join(
    invitation: Annotated[str, typer.Option(help="the operator's invitation (- for stdin)")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Join the space of a running node's operator, where init was not given the invitation."""
    code = sys.stdin.readline().strip() if invitation == "-" else invitation
    with Client.of_home(home) as node:
        node.join(code)
    _show({"joined": True}, as_json, lambda: print("joined"))


@app.command()
@reported
def serve(home: HomeOption = HOME) -> None:
    """Run the node until Ctrl-C. Its API documentation is at URL/docs."""
    from dataspace.server import serve_home

    serve_home(Home(home))


@app.command()
@reported
def invite(
    kind: Annotated[ParticipantKind, typer.Option(help="what the invited participant is")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Operator only: a code with which one participant of this kind can join the space."""
    with Client.of_home(home) as node:
        code = node.invite(kind)
    _show({"invitation": code}, as_json, lambda: print(code))


@app.command()
@reported
def status(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Who this node is, how its evidence stands, and what waits for what."""
    with Client.of_home(home) as node:
        found, computations = node.status(), node.call("GET", "/api/computations")

    def render() -> None:
        out.print(f"[bold]{found['name']}[/] ({found['kind']})  {found['did']}", highlight=False)
        out.print(f"  joined {'yes' if found['joined'] else 'not yet'}")
        log = found["log"]
        out.print(f"  evidence {log['size']} entries, {log['anchored']} anchored")
        for one in computations:
            out.print(f"  {one['kind']} {one['id']} {one['status']}", highlight=False)
        for process in found["processes"]:
            why = process["last_error"] or "due"
            out.print(f"  waiting: {process['kind']} ({process['state']}): {why}", highlight=False)

    _show({**found, "computations": computations}, as_json, render)


@app.command()
@reported
def kinds(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """The computations there are, and what each party learns in them."""
    with Client.of_home(home) as node:
        found = node.kinds()

    def render() -> None:
        for kind in found:
            out.print(f"[bold]{kind['name']}[/]  {kind['title']}", highlight=False)
            for role, learns in kind["leakage"].items():
                out.print(f"  {role}: {learns}", highlight=False)

    _show(found, as_json, render)


@dataset_app.command("add")
@reported
def dataset_add(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue, such as residents")],
    source: Annotated[
        str, typer.Argument(help="a CSV, Parquet or JSON-lines file, or a source URL")
    ],
    purpose: Annotated[list[str], typer.Option(help="a purpose it may be used for; repeatable")],
    allow: Annotated[list[str], typer.Option(help="a computation to allow; see: dataspace kinds")],
    id_column: Annotated[
        list[str] | None,
        typer.Option(
            "--id", help="identifier column, as NAME or NAME=CANONICALISER (resident-id/1)"
        ),
    ] = None,
    value_column: Annotated[
        list[str] | None,
        typer.Option("--value", help="whole-number column, as NAME or NAME=DECIMALS to scale by"),
    ] = None,
    group_column: Annotated[
        list[str] | None, typer.Option("--group", help="public group column, such as district")
    ] = None,
    title: Annotated[str | None, typer.Option(help="what people see")] = None,
    description: Annotated[str, typer.Option(help="what is in it")] = "",
    grade: Annotated[str, typer.Option(help="general, important or core (GB/T 43697)")] = "general",
    min_cohort: Annotated[int, typer.Option(help="no result about fewer people than this")] = 20,
    days: Annotated[int, typer.Option(help="for how many days from now")] = 365,
    max_uses: Annotated[int | None, typer.Option(help="how many computations a contract")] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(help="kinds of participants who may use it; repeatable")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish a dataset: checks the data, makes the offer, puts it into the catalogue.

    The rows stay where they are; the catalogue shows columns and terms.

    Example: dataspace dataset add residents residents.csv --id resident_id=resident-id/1
             --group district --allow psi-cardinality/1 --purpose public-health-research
    """
    columns = [
        *_columns(id_column, "identifier", "canonicaliser"),
        *_columns(value_column, "value", "scale"),
        *_columns(group_column, "group", None),
    ]
    if not columns:
        raise InputRejected(
            "a dataset is published with at least one column",
            remedy="give --id, --value or --group",
        )
    terms = {
        "computations": allow,
        "purposes": purpose,
        "min_cohort": min_cohort,
        "not_after": (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"),
        "max_uses": max_uses,
        "recipient_kinds": recipient or [],
    }
    location = (
        source if "://" in source or source.startswith("personal+") else Path(source).resolve()
    )
    with Client.of_home(home) as node:
        made = node.publish(
            dataset,
            location,
            columns,
            title=title,
            description=description,
            grade=grade,
            terms=terms,
        )

    def render() -> None:
        out.print(f"[green]published[/] {dataset}", highlight=False)
        for report in made["quality"] or []:
            out.print(
                f"  {report['column']}: {report['valid']} of {report['rows']} usable, "
                f"{report['blank']} blank, {report['duplicates']} repeated, "
                f"invalid {report['invalid'] or 'none'}",
                highlight=False,
            )

    _show(made, as_json, render)


@dataset_app.command("list")
@reported
def dataset_list(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """What this node offers."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/datasets")
    _show(found, as_json, lambda: _print_datasets(found))


@app.command()
@reported
def catalog(
    url: Annotated[str, typer.Argument(help="address of the node to look at")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """The catalogue of another node: its datasets, what they allow, in plain words."""
    with Client.of_home(home) as node:
        found = node.catalog(url)
    _show(found, as_json, lambda: _print_datasets(found.get("dataset", [])))


@app.command()
@reported
def negotiate(
    provider: Annotated[str, typer.Argument(help="the provider's node, by URL or DID")],
    dataset: Annotated[str, typer.Argument(help="the dataset's id in its catalogue")],
    offer: Annotated[str | None, typer.Option(help="which offer, where there are several")] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Negotiate an agreement on a dataset's offer and print the agreement's id."""
    with Client.of_home(home) as node:
        agreement = node.negotiate(provider, dataset, offer=offer)
    _show({"agreement": agreement}, as_json, lambda: print(agreement))


@app.command()
@reported
def agreements(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every agreement this node has, as consumer or provider."""
    with Client.of_home(home) as node:
        found = node.agreements()

    def render() -> None:
        for one in found:
            out.print(
                f"{one['id']}  {one['dataset']}  {one['role'].lower()}  {one['provider']}",
                highlight=False,
            )

    _show(found, as_json, render)


@app.command()
@reported
def compute(
    kind: Annotated[str, typer.Argument(help="what to compute; see: dataspace kinds")],
    agreement: Annotated[
        list[str], typer.Option(help="an agreement's id; one for each provider, in order")
    ],
    purpose: Annotated[str, typer.Option(help="what for: the contract is asked about it")],
    min_cohort: Annotated[
        int | None, typer.Option(help="no result about fewer people; the contracts' own otherwise")
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="your own file, where you take part with data")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="the identifier column of your own file")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="a group to total; the published ones otherwise")
    ] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the result")] = 600.0,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Order a computation across parties and print what you may learn. Ends with 3 when refused.

    Example: dataspace compute private-sum/1 --agreement A --agreement B --purpose research
    """
    if (input_file is None) != (id_column is None):
        raise InputRejected(
            "your own file needs its identifier column", remedy="give both --input and --id"
        )
    own = (input_file, id_column) if input_file is not None and id_column is not None else None
    with (
        Client.of_home(home) as node,
        Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err
        ) as bar,
    ):
        task = bar.add_task(kind)

        def show(one: dict[str, Any]) -> None:
            bar.update(task, description=f"{kind}: {one['progress']['step']}")

        result = node.compute(
            kind,
            agreement,
            purpose=purpose,
            min_cohort=min_cohort,
            groups=group or (),
            own=own,
            timeout_s=timeout,
            on_progress=show,
        )
    value = {
        "id": result.id,
        "kind": result.kind,
        "value": result.value,
        "seconds": result.seconds,
        "transcript_sha256": result.transcript_sha256,
        "order_sha256": result.order_sha256,
    }

    def render() -> None:
        out.print_json(data=result.value)
        out.print(f"  in {result.seconds:.2f} s, transcript {result.transcript_sha256}")

    _show(value, as_json, render)


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

    _show(report.to_json(), as_json, render)
    if not report.ok:
        raise typer.Exit(EXIT_ERROR)


@log_app.command("show")
@reported
def log_show(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
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

    _show(bodies, as_json, render)


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
    _show(
        {"directory": str(directory), "entries": size},
        as_json,
        lambda: out.print(f"{size} entries in {directory}"),
    )


def _did(home: Home) -> str:
    from dataspace.identity.did import did_of_key, did_of_url

    if home.settings.url is None:
        return did_of_key(home.signing_key().public_key())
    return did_of_url(home.settings.url)


def _columns(named: list[str] | None, role: str, option: str | None) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = []
    for text in named or []:
        name, _, value = text.partition("=")
        column: dict[str, Any] = {"name": name, "role": role}
        if value and option is not None:
            column[option] = value
        columns.append(column)
    return columns


def _print_datasets(datasets: list[dict[str, Any]]) -> None:
    from contracts.odrl import Offer
    from contracts.templates import describe

    if not datasets:
        out.print("nothing is offered")
    for one in datasets:
        out.print(f"[bold]{one['@id']}[/]  {one.get('dct:title') or ''}", highlight=False)
        for column in one.get("ds:columns", []):
            form = column.get("ds:canonicaliser")
            note = f" ({form})" if form else ""
            out.print(f"  column {column['ds:name']}: {column['ds:role']}{note}", highlight=False)
        for raw in one.get("hasPolicy", []):
            try:
                words = describe(Offer.model_validate(raw))
            except ValidationError:
                words = ["its policy cannot be read by this version"]
            for line in words:
                out.print(f"  {line}", highlight=False)


def main() -> None:
    """Entry point of the `dataspace` command."""
    app()


if __name__ == "__main__":
    main()
