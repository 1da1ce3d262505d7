"""Commands about computations that were ordered, here or by others: look, end, estimate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dataspace.cli.compute_command import (
    ColumnOption,
    DecimalsOption,
    EpsilonOption,
    GroupOption,
    IdOption,
    InputOption,
    OwnGroupOption,
    SettingsOption,
    ValueOption,
    chosen_columns,
    own_data,
)
from dataspace.cli.shared import (
    HOME,
    HomeOption,
    JsonOption,
    named_values,
    out,
    reported,
    say,
    show,
)
from dataspace.client import Client
from dataspace.errors import InputRejected
from dataspace.moments import utc_text

app = typer.Typer(help="Computations that run or have run, and what one would take.")

ComputationArgument = Annotated[str, typer.Argument(help="its id; see: dataspace computation list")]


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every computation this node has or had a part in, newest first."""
    with Client.of_home(home) as node:
        found = node.computations()

    def render() -> None:
        if not found:
            say("nothing has been computed")
        for one in found:
            at = utc_text(one["created_at"])
            say(f"{one['status'].lower():9}  {one['kind']}  {one['role']}  {at}", head=one["id"])

    show(found, as_json, render)


@app.command("show")
@reported
def show_(
    computation: ComputationArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """One computation: how far it is, its value, or why there is none."""
    with Client.of_home(home) as node:
        found = node.computation(computation)
    show(found, as_json, lambda: _print(found))


@app.command()
@reported
def identifiers(computation: ComputationArgument, home: HomeOption = HOME) -> None:
    """Print the identifiers of a result that is too long to be shown, one a line."""
    with Client.of_home(home) as node:
        for identifier in node.identifiers(computation):
            say(identifier)


@app.command()
@reported
def cancel(
    computation: ComputationArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """End a computation before its time, at every participant."""
    with Client.of_home(home) as node:
        found = node.cancel(computation)
    show(found, as_json, lambda: say(computation, head="cancelled", style="yellow"))


@app.command()
@reported
def estimate(
    kind: Annotated[str, typer.Argument(help="what to compute; see: dataspace kinds")],
    agreement: Annotated[
        list[str], typer.Option(help="ID=ROWS: an agreement and how many rows its dataset has")
    ],
    input_file: InputOption = None,
    id_column: IdOption = None,
    value_column: ValueOption = None,
    group_column: OwnGroupOption = None,
    decimals: DecimalsOption = 0,
    group: GroupOption = None,
    column: ColumnOption = None,
    settings: SettingsOption = None,
    epsilon: EpsilonOption = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """What a computation would take, and what each party would learn; nothing is ordered."""
    sizes = named_values(agreement)
    if any(type(rows) is not int for rows in sizes.values()):
        raise InputRejected("--agreement ID=ROWS expected", remedy="ROWS is a whole number")
    with Client.of_home(home) as node:
        found = node.estimate(
            kind,
            list(sizes),
            sizes=sizes,
            own=own_data(input_file, id_column, value_column, group_column, decimals),
            columns=chosen_columns(column, list(sizes)),
            groups=group or (),
            parameters=named_values(settings),
            epsilon=epsilon,
        )
    show(found, as_json, lambda: _print_estimate(found))


def _print(found: dict[str, Any]) -> None:
    say(f"{found['kind']} as {found['role']}, {found['status'].lower()}", head=found["id"])
    say(f"  for: {found['purpose']}")
    progress = found["progress"]
    if found["finished_at"] is None:
        say(f"  {progress['step']}")
    say(f"  sent {progress['sent_bytes']:,} bytes, received {progress['received_bytes']:,}")
    refusal = found["refusal"]
    if refusal:
        for name in ("reason", "clause", "remedy", "refused_by"):
            if refusal[name]:
                say(f"  {name.replace('_', ' ')}: {refusal[name]}")
    if found["value"] is not None:
        out.print_json(data=found["value"])


def _print_estimate(found: dict[str, Any]) -> None:
    say(f"about {found['seconds']:,.1f} s", head=found["kind"], style="bold")
    if found["again_s"] is not None:
        say(f"  from the second time on about {found['again_s']:,.1f} s")
    if found["epsilon"] is not None:
        say(f"  spends {found['epsilon']} of the privacy budget of every dataset")
    for role, party in found["parties"].items():
        say(
            f"  {role}: {party['seconds']:,.1f} s of work, sends {party['sent_bytes']:,} bytes, "
            f"receives {party['received_bytes']:,}, needs {party['memory_bytes'] / 1e6:,.0f} MB"
        )
        say(f"    learns: {party['learns']}")
    assumed = found["assumed"]
    say(
        f"  assuming {assumed['workers_here']} processors here, {assumed['workers_elsewhere']} "
        f"elsewhere, and {assumed['link_bytes_per_s'] / 1e6:,.0f} MB/s between"
    )
