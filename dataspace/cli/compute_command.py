"""The command that computes, and the options it shares with the one that estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from dataspace.cli.computation_progress import telling
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

app = typer.Typer()

InputOption: TypeAlias = Annotated[
    Path | None, typer.Option("--input", help="your own file, where you take part with data")
]
IdOption: TypeAlias = Annotated[
    str | None, typer.Option("--id", help="the identifier column of your own file")
]
ValueOption: TypeAlias = Annotated[
    str | None, typer.Option("--value", help="the value column of your own file")
]
OwnGroupOption: TypeAlias = Annotated[
    str | None, typer.Option("--own-group", help="the group column of your own file")
]
DecimalsOption: TypeAlias = Annotated[
    int, typer.Option(min=0, max=9, help="decimal digits kept of your own values")
]
GroupOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="a group to total; the published ones otherwise")
]
ColumnOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="N:ROLE=COLUMN, the column to use of the N-th agreement, as 1:group=district"
    ),
]
SettingsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", help="a parameter of the kind, NAME=VALUE; VALUE may be JSON"),
]
EpsilonOption: TypeAlias = Annotated[
    str | None, typer.Option(help="add noise of this privacy loss, such as 0.5")
]


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
    spatial: Annotated[
        str | None, typer.Option(help="the division it is about (GB/T 2260), such as 4403")
    ] = None,
    input_file: InputOption = None,
    id_column: IdOption = None,
    value_column: ValueOption = None,
    group_column: OwnGroupOption = None,
    decimals: DecimalsOption = 0,
    group: GroupOption = None,
    column: ColumnOption = None,
    settings: SettingsOption = None,
    epsilon: EpsilonOption = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="seconds the parties may take; this node's setting otherwise"),
    ] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the result")] = 600.0,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Order a computation across parties and print what you may learn. Ends with 3 when refused.

    Example: dataspace compute private-sum/1 --agreement A --agreement B --purpose research
    """
    own = own_data(input_file, id_column, value_column, group_column, decimals)
    with Client.of_home(home) as node, telling(kind) as tell:
        result = node.compute(
            kind,
            agreement,
            purpose=purpose,
            min_cohort=min_cohort,
            spatial=spatial,
            columns=chosen_columns(column, agreement),
            groups=group or (),
            own=own,
            parameters=named_values(settings),
            epsilon=epsilon,
            deadline_s=deadline,
            timeout_s=timeout,
            on_progress=tell,
        )
    value = {
        "id": result.id,
        "kind": result.kind,
        "value": result.value,
        "report": result.report,
        "seconds": result.seconds,
        "transcript_sha256": result.transcript_sha256,
        "order_sha256": result.order_sha256,
    }

    def render() -> None:
        out.print_json(data=result.value)
        if result.attached:
            say(f"  all identifiers: dataspace computation identifiers {result.id}")
        say(f"  in {result.seconds:.2f} s, transcript {result.transcript_sha256}")

    show(value, as_json, render)


def own_data(
    file: Path | None,
    identifier: str | None,
    value: str | None,
    group: str | None,
    decimals: int,
) -> dict[str, Any] | None:
    """The own data of an order; None where there is none. Raises InputRejected for half of it."""
    if file is None and (identifier, value, group) == (None, None, None):
        return None
    if file is None or identifier is None:
        raise InputRejected(
            "your own file needs its identifier column", remedy="give both --input and --id"
        )
    named = {"identifier": identifier, "value": value, "group": group}
    return {"source": file, "decimals": decimals, **{k: v for k, v in named.items() if v}}


def chosen_columns(texts: list[str] | None, agreements: list[str]) -> dict[str, dict[str, str]]:
    """Read N:ROLE=COLUMN options, agreements counted from 1. Raises InputRejected."""
    columns: dict[str, dict[str, str]] = {}
    for text in texts or []:
        number, _, rest = text.partition(":")
        role, _, name = rest.partition("=")
        if not role or not name or not number.isdecimal() or not 0 < int(number) <= len(agreements):
            raise InputRejected(
                f"N:ROLE=COLUMN expected with N from 1 to {len(agreements)}, got {text[:80]!r}",
                remedy="for example: --column 1:group=district",
            )
        columns.setdefault(agreements[int(number) - 1], {})[role] = name
    return columns
