"""Commands of providers and consumers: publish, find, agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from dataspace.cli.policy_commands import written
from dataspace.cli.shared import (
    HOME,
    HomeOption,
    JsonOption,
    in_words,
    reported,
    say,
    show,
)
from dataspace.client import Client
from dataspace.errors import InputRejected

app = typer.Typer()
dataset_app = typer.Typer(help="Publish data under an offer.", no_args_is_help=True)


@app.command()
@reported
def kinds(as_json: JsonOption = False) -> None:
    """The computations there are, and what each party learns in them."""
    from privacy.kinds import KINDS

    def render() -> None:
        for kind in KINDS.values():
            say(kind.title, head=kind.name, style="bold")
            for role, learns in kind.leakage.items():
                say(f"  {role}: {learns}")
            if kind.settings:
                say(f"  --set: {', '.join(kind.settings)}")

    described = [
        {"name": kind.name, "title": kind.title, "leakage": dict(kind.leakage)}
        for kind in KINDS.values()
    ]
    show(described, as_json, render)


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
            help="a policy in YAML or JSON, instead of the options that say what is allowed"
        ),
    ] = None,
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
    Example: dataspace dataset add parks parks.csv --id name --policy open.yaml
             --format HttpData-PULL
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
            formats=format_ or (),
            terms=None if policy is not None else terms,
            policy=None if policy is None else written(policy),
        )

    def render() -> None:
        say(dataset, head="published", style="green")
        for report in made["quality"] or []:
            say(
                f"  {report['column']}: {report['valid']} of {report['rows']} usable, "
                f"{report['blank']} blank, {report['duplicates']} repeated, "
                f"invalid {report['invalid'] or 'none'}",
            )
        for remark in made["remarks"]:
            say(f"  {remark['severity']}: {remark['sentence']}")

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
    policy: Annotated[Path, typer.Argument(help="a policy in YAML or JSON")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a dataset under another policy; agreements keep theirs."""
    asked = {"policy": written(policy)}
    with Client.of_home(home) as node:
        found = node.call("PUT", f"/api/datasets/{dataset}/policy", asked)
    show(found, as_json, lambda: say(dataset, head="offered anew", style="green"))


@dataset_app.command("list")
@reported
def dataset_list(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """What this node offers."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/datasets")
    show(found, as_json, lambda: _print_datasets(found))


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
    show(found, as_json, lambda: _print_datasets(found.get("dataset", [])))


@app.command()
@reported
def negotiate(
    provider: Annotated[str, typer.Argument(help="the provider's node, by URL or DID")],
    dataset: Annotated[str, typer.Argument(help="the dataset's id in its catalogue")],
    offer: Annotated[str | None, typer.Option(help="which offer, where there are several")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="propose the terms of this file instead of the offer's")
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="take an agreement in force on the same terms, if there is one")
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Negotiate an agreement on a dataset's offer and print the agreement's id.

    Ends with 3 when refused, and with 4 when a person of either side has to decide first.
    """
    terms = written(policy) if policy is not None else None
    with Client.of_home(home) as node:
        agreement = node.negotiate(provider, dataset, offer=offer, policy=terms, reuse=reuse)
    show({"agreement": agreement}, as_json, lambda: print(agreement))


@app.command()
@reported
def agreements(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every agreement this node has, as consumer or provider."""
    with Client.of_home(home) as node:
        found = node.agreements()

    def render() -> None:
        for one in found:
            say(
                f"{one['id']}  {one['dataset']}  {one['role'].lower()}  {one['provider']}",
            )

    show(found, as_json, render)


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
    if not datasets:
        say("nothing is offered")
    for one in datasets:
        say(one.get("dct:title") or "", head=one["@id"], style="bold")
        for column in one.get("ds:columns", []):
            form = column.get("ds:canonicaliser")
            note = f" ({form})" if form else ""
            say(f"  column {column['ds:name']}: {column['ds:role']}{note}")
        for raw in one.get("hasPolicy", []):
            for line in in_words(raw):
                say(f"  {line}")
