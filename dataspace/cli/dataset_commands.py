"""Commands about datasets: publish them, say what their columns hold, find those of others."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import contracts.errors
from contracts.authoring import parse_policy
from contracts.vocabulary import CLASSES, FREQUENCIES, LEGAL_BASES, THEMES
from dataspace.cli.dataset_words import (
    print_classes,
    print_datasets,
    print_published,
    print_remarks,
)
from dataspace.cli.policy_commands import given
from dataspace.cli.shared import (
    HOME,
    HomeOption,
    JsonOption,
    reported,
    say,
    show,
)
from dataspace.client import Client
from dataspace.errors import InputRejected

app = typer.Typer()
dataset_app = typer.Typer(help="Publish data under an offer.", no_args_is_help=True)

SettingOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="a parameter that a zone's policy leaves open, as NAME=VALUE"),
]
ZoneOption = Annotated[
    list[str] | None,
    typer.Option(help="only for members of this zone; repeatable, one of them is enough"),
]

_COMPARISONS: Final = {
    "=": "eq",
    "!=": "neq",
    "^=": "startsWith",
    "<": "lt",
    "<=": "lteq",
    ">": "gt",
    ">=": "gteq",
}
_CONDITION: Final = re.compile(r"(.+?)(\^=|!=|<=|>=|=|<|>)(.+)", re.DOTALL)


@app.command()
@reported
def publish(
    file: Annotated[Path, typer.Option(help="a publication in YAML or JSON")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish the dataset that a file describes; a relative source is one beside the file.

    The file has the fields of POST /api/datasets; `dataspace source inspect --publication` writes
    one to begin with.

    Example: dataspace publish --file residents.yaml
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as err:
        raise InputRejected(f"the publication {file} cannot be read") from err
    try:
        body = parse_policy(text)
    except contracts.errors.InputRejected as err:
        # The reader is the one of policies, and says so.
        raise InputRejected(f"{file.name}{str(err).removeprefix('policy')}") from err
    if isinstance(body.get("source"), str):
        body["source"] = located(body["source"], beside=file.parent)
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/datasets", body)
    show(made, as_json, lambda: print_published(str(body.get("id", "")), made))


@dataset_app.command("add")
@reported
def dataset_add(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue, such as residents")],
    source: Annotated[
        str, typer.Argument(help="a CSV, Parquet or JSON-lines file, or a source URL")
    ],
    purpose: Annotated[
        list[str] | None, typer.Option(help="a purpose it may be used for; repeatable")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="a computation to allow; see: dataspace kinds")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="a policy in YAML or JSON, instead of the options that say what is allowed; or "
            "zone:ZONE/POLICY, one that a zone shares"
        ),
    ] = None,
    set_: SettingOption = None,
    zone: ZoneOption = None,
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
    title_zh: Annotated[str, typer.Option(help="the same in Chinese")] = "",
    description: Annotated[str, typer.Option(help="what is in it")] = "",
    description_zh: Annotated[str, typer.Option(help="the same in Chinese")] = "",
    theme: Annotated[str | None, typer.Option(help=f"its field: {', '.join(THEMES)}")] = None,
    division: Annotated[
        str | None, typer.Option(help="the division it is about (GB/T 2260), such as 440305")
    ] = None,
    frequency: Annotated[
        str | None, typer.Option(help=f"how often it changes: {', '.join(FREQUENCIES)}")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="only rows with COLUMN=VALUE (!= < <= > >= ^= begins with); repeatable"),
    ] = None,
    division_column: Annotated[
        str | None, typer.Option(help="the column with the code of a row's division")
    ] = None,
    grid_column: Annotated[
        str | None, typer.Option(help="the column with the code of a row's grid cell")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help=f"what a column holds, as COLUMN={'|'.join(CLASSES)}"),
    ] = None,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="a person has looked at the classes of the columns")
    ] = False,
    legal_basis: Annotated[
        str | None,
        typer.Option(help=f"why personal data may be processed: {', '.join(LEGAL_BASES)}"),
    ] = None,
    grade: Annotated[str, typer.Option(help="general, important or core (GB/T 43697)")] = "general",
    pin_version: Annotated[
        bool,
        typer.Option("--pin-version", help="each agreement covers the data as they are then alone"),
    ] = False,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="let the rows leave: HttpData-PULL, HttpData-PUSH"),
    ] = None,
    min_cohort: Annotated[int, typer.Option(help="no result about fewer people than this")] = 20,
    days: Annotated[int, typer.Option(help="for how many days from now", min=1, max=36500)] = 365,
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
    Example: dataspace dataset add parks parks.csv --id name --class name=open --confirmed
             --policy open.yaml --format HttpData-PULL
    Example: dataspace dataset add orders orders.csv --id firm
             --policy zone:qianhai-ftz/standard --set purposes=supply-chain
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
    if (policy is None) != bool(allow and purpose):
        raise InputRejected(
            "what is allowed is said by --allow and --purpose, or by --policy",
            remedy="give both --allow and --purpose, or --policy FILE",
        )
    terms = {
        "computations": allow,
        "purposes": purpose,
        "min_cohort": min_cohort,
        "not_after": (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"),
        "max_uses": max_uses,
        "recipient_kinds": recipient or [],
    }
    blocks = {"division": division_column, "grid": grid_column}
    columns = _with_classes(columns, class_)
    conditions = [_condition(text) for text in where or ()]
    with Client.of_home(home) as node:
        made = node.publish(
            dataset,
            located(source),
            columns,
            title=title,
            description=description,
            grade=grade,
            formats=format_ or (),
            terms=None if policy is not None else terms,
            policy=None if policy is None else given(node, policy, set_),
            zones=zone or [],
            title_zh=title_zh,
            description_zh=description_zh,
            theme=theme,
            division=division,
            frequency=frequency,
            where=conditions,
            blocks=blocks if division_column or grid_column else None,
            confirmed=confirmed,
            legal_basis=legal_basis,
            pin_version=pin_version,
        )
    show(made, as_json, lambda: print_published(dataset, made))


@dataset_app.command("classes")
@reported
def dataset_classes(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """What a dataset's columns hold, what was proposed, and why."""
    with Client.of_home(home) as node:
        offered = node.call("GET", "/api/datasets")
    found = [one for one in offered if one["@id"] == dataset]
    if not found:
        raise InputRejected(
            f"there is no dataset {dataset!r} here", remedy="see: dataspace dataset list"
        )
    show(found[0]["classes"], as_json, lambda: print_classes(found[0]["classes"]))


@dataset_app.command("confirm")
@reported
def dataset_confirm(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue")],
    by: Annotated[str, typer.Option(help="the name of the person who looked at the classes")],
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help=f"what a column holds, as COLUMN={'|'.join(CLASSES)}"),
    ] = None,
    legal_basis: Annotated[
        str | None,
        typer.Option(help=f"why personal data may be processed: {', '.join(LEGAL_BASES)}"),
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Confirm the classes of a dataset's columns, after a look at them. It is in the evidence.

    Example: dataspace dataset confirm residents --class street=quasi-identifier --by "Li Lei"
    """
    asked = {"classes": _classes(class_), "by": by, "legal_basis": legal_basis}
    with Client.of_home(home) as node:
        made = node.call("POST", f"/api/datasets/{dataset}/classification", asked)

    def render() -> None:
        say(dataset, head="confirmed", style="green")
        print_classes(made["classes"])
        print_remarks(made["remarks"])

    show(made, as_json, render)


@dataset_app.command("withdraw")
@reported
def dataset_withdraw(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a dataset no longer. Agreements about it go on; end them one by one."""
    with Client.of_home(home) as node:
        node.withdraw(dataset)
    show({"withdrawn": dataset}, as_json, lambda: say(dataset, head="withdrawn", style="yellow"))


@dataset_app.command("policy")
@reported
def dataset_policy(
    dataset: Annotated[str, typer.Argument(help="its id in the catalogue")],
    policy: Annotated[
        Path,
        typer.Argument(
            help="a policy in YAML or JSON, or zone:ZONE/POLICY, one that a zone shares"
        ),
    ],
    set_: SettingOption = None,
    zone: ZoneOption = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="let the rows leave from now on in these formats alone"),
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a dataset under another policy; agreements keep theirs."""
    with Client.of_home(home) as node:
        asked = {"policy": given(node, policy, set_), "formats": format_, "zones": zone or []}
        found = node.call("PUT", f"/api/datasets/{dataset}/policy", asked)
    show(found, as_json, lambda: say(dataset, head="offered anew", style="green"))


@dataset_app.command("list")
@reported
def dataset_list(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """What this node offers."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/datasets")
    show(found, as_json, lambda: print_datasets(found))


def located(source: str, beside: Path = Path()) -> str:
    """A source as any directory knows it: a URL as it is, a path (in `beside`) made absolute."""
    # One letter and a colon is a Windows drive, not a scheme.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None:
        return source
    return str((beside / Path(source).expanduser()).resolve())


def _columns(named: list[str] | None, role: str, option: str | None) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = []
    for text in named or []:
        name, _, value = text.partition("=")
        column: dict[str, Any] = {"name": name, "role": role}
        if value and option is not None:
            column[option] = value
        columns.append(column)
    return columns


def _with_classes(columns: list[dict[str, Any]], classes: list[str] | None) -> list[dict[str, Any]]:
    stated = _classes(classes)
    unknown = sorted(stated.keys() - {column["name"] for column in columns})
    if unknown:
        raise InputRejected(
            f"--class {unknown[0]}: the dataset has no such column",
            remedy="name one that --id, --value or --group names",
        )
    return [
        {**column, "class": stated[column["name"]]} if column["name"] in stated else column
        for column in columns
    ]


def _classes(named: list[str] | None) -> dict[str, str]:
    stated: dict[str, str] = {}
    for text in named or []:
        name, sign, one = text.rpartition("=")
        if not sign or one not in CLASSES:
            raise InputRejected(
                f"--class {text[:80]}: expected COLUMN=CLASS",
                remedy=f"the classes are: {', '.join(CLASSES)}",
            )
        stated[name] = one
    return stated


def _condition(text: str) -> dict[str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise InputRejected(
            "--where: expected COLUMN=VALUE",
            remedy=f"a comparison is one of {' '.join(_COMPARISONS)}",
        )
    return {"column": match[1], "comparison": _COMPARISONS[match[2]], "values": [match[3]]}
