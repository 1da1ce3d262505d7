"""Commands that find data of others: in one node's catalogue, and in those of the whole space."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from dataspace.cli.dataset_words import print_datasets
from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.errors import Unavailable
from dataspace.settings import ParticipantKind

app = typer.Typer()

# A catalogue that does not come in a minute is given up by the node itself.
REFRESH_S: Final = 90.0
# The operator lists participants at once, or is away.
LISTED_WITHIN_S: Final = 20.0
LOOK_S: Final = 0.2

TextOption = Annotated[
    str | None, typer.Option(help="words in title, description, id or columns, any language")
]
ThemeOption = Annotated[
    list[str] | None, typer.Option(help="its field, such as health; repeatable")
]
DivisionOption = Annotated[
    str | None, typer.Option(help="about this division or a part of it: 4403 finds 440305")
]
GradeOption = Annotated[str | None, typer.Option(help="graded so, or less grave")]
FrequencyOption = Annotated[
    list[str] | None, typer.Option(help="how often it changes, such as daily; repeatable")
]
ClassOption = Annotated[
    list[str] | None, typer.Option("--class", help="has a column that holds this; repeatable")
]
LegalBasisOption = Annotated[list[str] | None, typer.Option(help="on this legal basis; repeatable")]
KindOption = Annotated[
    list[str] | None, typer.Option(help="offered for this computation or format; repeatable")
]


@app.command()
@reported
def catalog(
    url: Annotated[str, typer.Argument(help="address of the node to look at")],
    text: TextOption = None,
    theme: ThemeOption = None,
    division: DivisionOption = None,
    grade: GradeOption = None,
    frequency: FrequencyOption = None,
    class_: ClassOption = None,
    legal_basis: LegalBasisOption = None,
    kind: KindOption = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """The catalogue of another node: its datasets, what they allow, in plain words.

    Of an option that is given several times one value is enough; all options must fit.

    Example: dataspace catalog http://127.0.0.1:8001 --theme health --division 4403 --text 就诊
    """
    conditions = _conditions(
        text=text,
        theme=theme,
        division=division,
        grade=grade,
        frequency=frequency,
        class_=class_,
        legal_basis=legal_basis,
        kind=kind,
    )
    with Client.of_home(home) as node:
        found = node.catalog(url, conditions)
    show(found, as_json, lambda: print_datasets(found.get("dataset", [])))


@app.command()
@reported
def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="words in title, description, id or columns, any language"),
    ] = None,
    theme: ThemeOption = None,
    division: DivisionOption = None,
    grade: GradeOption = None,
    frequency: FrequencyOption = None,
    class_: ClassOption = None,
    legal_basis: LegalBasisOption = None,
    kind: KindOption = None,
    of: Annotated[
        list[ParticipantKind] | None,
        typer.Option(help="only of participants of this kind; repeatable"),
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="only of this participant (its DID); repeatable")
    ] = None,
    offset: Annotated[int, typer.Option(help="leave out so many of the best", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="show so many", min=1, max=100)] = 20,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="read every catalogue of the space first")
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Find data in the catalogues of all participants of the space.

    The node reads them now and then; --refresh does it first. Only what a provider shows this node
    is found.

    Example: dataspace search 就诊 --theme health --division 4403
    Example: dataspace search orders --of enterprise --refresh
    """
    conditions = _conditions(
        text=" ".join(words or ()),
        theme=theme,
        division=division,
        grade=grade,
        frequency=frequency,
        class_=class_,
        legal_basis=legal_basis,
        kind=kind,
    )
    with Client.of_home(home) as node:
        if refresh or node.participants()["listed_at"] is None:
            _refresh(node)
        found = node.search(
            conditions, kinds=of or (), providers=provider or (), offset=offset, limit=limit
        )
        unread = [one for one in node.participants()["nodes"] if one["error"] is not None]
    show({**found, "unread": unread}, as_json, lambda: _print_found(found, unread, offset))


def _refresh(node: Client) -> None:
    """Wait until every participant's catalogue was read, or could not be, since now."""
    since: float = node.call("POST", "/api/federation/refreshes")["since"]
    began = time.monotonic()
    while (gone := time.monotonic() - began) < REFRESH_S:
        found = node.participants()
        listed = (found["listed_at"] or 0.0) >= since
        if listed and all((one["tried_at"] or 0.0) >= since for one in found["nodes"]):
            return
        if not listed and gone > LISTED_WITHIN_S:
            raise Unavailable(
                "the space's operator does not answer, so who takes part is not known anew",
                remedy="search without --refresh for what was read, or try again",
            )
        time.sleep(LOOK_S)
    raise Unavailable(
        f"the catalogues of the space were not all read within {REFRESH_S:.0f} seconds",
        remedy="search without --refresh for what was read, or try again",
    )


def _print_found(found: dict[str, Any], unread: list[dict[str, Any]], offset: int) -> None:
    for hit in found["hits"]:
        say(f"{hit['url']} ({hit['provider_kind']})", head=hit["provider_name"], style="cyan")
        print_datasets([hit["dataset"]])
    shown = len(found["hits"])
    total = f"{found['total']}" if found["complete"] else f"at least {found['total']}"
    say(f"{shown} of {total}" + (f", from {offset + 1} on" if offset else ""))
    for name, counts in found["facets"].items():
        if len(counts) > 1 and shown < found["total"]:
            say(f"  by {name}: " + ", ".join(f"{one} {count}" for one, count in counts.items()))
    for one in unread:
        say(f"  not read lately: {one['name']} ({one['error']})")


def _conditions(
    *,
    text: str | None,
    theme: list[str] | None,
    division: str | None,
    grade: str | None,
    frequency: list[str] | None,
    class_: list[str] | None,
    legal_basis: list[str] | None,
    kind: list[str] | None,
) -> list[dict[str, Any]]:
    """The options as a filter of `contracts.filters`."""
    asked: list[tuple[str, str, str | list[str] | None]] = [
        ("dcat:theme", "isAnyOf", theme),
        ("dct:spatial", "isPartOf", division),
        ("ds:grade", "lteq", grade),
        ("dct:accrualPeriodicity", "isAnyOf", frequency),
        ("ds:class", "isAnyOf", class_),
        ("ds:legalBasis", "isAnyOf", legal_basis),
        ("format", "isAnyOf", kind),
        ("ds:text", "hasPart", text),
    ]
    return [
        {"leftOperand": left, "operator": operator, "rightOperand": right}
        for left, operator, right in asked
        if right
    ]
