"""Commands about policies: make one, check it, compare two, and see what one would decide."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.authoring import parse_policy
from dataspace.cli.shared import (
    EXIT_REFUSED,
    HOME,
    HomeOption,
    JsonOption,
    reported,
    say,
    show,
)
from dataspace.client import Client
from dataspace.errors import InputRejected

app = typer.Typer(help="Make, check, compare policies; see what they decide.", no_args_is_help=True)

PolicyFile = Annotated[Path, typer.Argument(help="a policy in YAML or JSON")]
LanguageOption = Annotated[str, typer.Option("--lang", help="en or zh")]
MARKS = {"error": "✗", "warning": "!", "note": "·"}


@app.command()
@reported
def templates(
    lang: LanguageOption = "en", home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """The ready policies and their parameters."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/policies/templates")
    ending = _ending(lang)

    def render() -> None:
        for one in found:
            say(one[f"title{ending}"], head=one["name"], style="bold")
            say(f"  {one[f'description{ending}']}")
            for parameter in one["parameters"]:
                need = "" if parameter["required"] else " (optional)"
                say(
                    f"  {parameter['name']}: {parameter['kind']}{need}. "
                    f"{parameter[f'description{ending}']}"
                )

    show(found, as_json, render)


@app.command()
@reported
def new(
    use: Annotated[list[str], typer.Argument(help="ready policies to combine")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="a parameter, as NAME=VALUE; a list as NAME=A,B; repeatable"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the YAML here")] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Combine ready policies into one, in YAML.

    Example: dataspace policy new compute-only approval --set computations=private-sum/1
             --set purposes=research --set min_cohort=50 --set not_after=2027-06-30T16:00:00Z
    """
    with Client.of_home(home) as node:
        kinds = _parameter_kinds(node)
        parameters = dict(_parameter(text, kinds) for text in set_ or ())
        asked = {"policy": {"use": use, "with": parameters}}
        found = node.call("POST", "/api/policies/check", asked)
    if out is not None:
        out.write_text(found["yaml"], encoding="utf-8")

    def render() -> None:
        if out is None:
            say(found["yaml"].rstrip())
        for line in found["words"]:
            say(f"# {line}")
        _print_remarks(found["remarks"], "")

    show(found, as_json, render)


@app.command()
@reported
def check(
    policy: PolicyFile,
    lang: LanguageOption = "en",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """A policy in plain words, and what is wrong or odd about it. Ends with 3 for an error."""
    with Client.of_home(home) as node:
        found = node.call("POST", "/api/policies/check", {"policy": written(policy)})
    ending = _ending(lang)

    def render() -> None:
        for line in found[f"words{ending}"]:
            say(line)
        _print_remarks(found["remarks"], ending)

    show(found, as_json, render)
    if any(one["severity"] == "error" for one in found["remarks"]):
        raise typer.Exit(EXIT_REFUSED)


@app.command()
@reported
def compare(
    candidate: PolicyFile,
    reference: PolicyFile,
    lang: LanguageOption = "en",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Is the first policy at least as strict as the second? Ends with 3 if that is not so."""
    asked = {"candidate": written(candidate), "reference": written(reference)}
    with Client.of_home(home) as node:
        found = node.call("POST", "/api/policies/comparison", asked)
    ending = _ending(lang)

    def render() -> None:
        if found["at_least_as_strict"]:
            say("whatever the first allows, the second allows too", head="yes", style="green")
        else:
            say("what could not be shown:", head="no", style="red")
        for one in found["differences"]:
            say(f"  {one['path']}: {one[f'sentence{ending}']}")

    show(found, as_json, render)
    if not found["at_least_as_strict"]:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
@reported
def explain(
    policy: Annotated[
        Path | None, typer.Option(help="a policy in YAML or JSON, not yet published")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="a dataset of this node")] = None,
    agreement: Annotated[str | None, typer.Option(help="an agreement of this node")] = None,
    purpose: Annotated[str | None, typer.Option(help="what for")] = None,
    computation: Annotated[
        str | None, typer.Option(help="which computation, or HttpData-PULL for the rows")
    ] = None,
    min_cohort: Annotated[int | None, typer.Option(help="the cohort the order would ask")] = None,
    spatial: Annotated[str | None, typer.Option(help="the division it is about")] = None,
    recipient: Annotated[str | None, typer.Option(help="who would ask, by DID")] = None,
    kind: Annotated[str | None, typer.Option(help="what kind of participant asks")] = None,
    zone: Annotated[list[str] | None, typer.Option(help="where it belongs; repeatable")] = None,
    grade: Annotated[str | None, typer.Option(help="the grade of the data")] = None,
    consent: Annotated[bool | None, typer.Option(help="whether the people consented")] = None,
    approved: Annotated[bool | None, typer.Option(help="whether a person approved")] = None,
    approvers: Annotated[int | None, typer.Option(help="how many people approved")] = None,
    use_count: Annotated[int | None, typer.Option(help="uses before this one")] = None,
    at: Annotated[datetime | None, typer.Option(help="when; local time")] = None,
    lang: LanguageOption = "en",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """What a policy would decide about a use nobody has asked for yet, clause by clause.

    Ends with 3 where it would refuse. Nothing is counted or recorded.

    Example: dataspace policy explain --dataset residents --purpose marketing
             --computation private-sum/1 --min-cohort 20 --kind consumer
    """
    asked = {
        "policy": None if policy is None else written(policy),
        "dataset": dataset,
        "agreement": agreement,
        "purpose": purpose,
        "computation": computation,
        "min_cohort": min_cohort,
        "spatial": spatial,
        "recipient": recipient,
        "recipient_kind": kind,
        "recipient_zones": zone,
        "grade": grade,
        "consent": consent,
        "approved": approved,
        "approvers": approvers,
        "use_count": use_count,
        "at": at.astimezone().isoformat() if at is not None else None,
    }
    _ending(lang)
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/policies/decision?language={lang}", asked)

    def render() -> None:
        for line in found["outline"]:
            say(line)

    show(found, as_json, render)
    if not found["allowed"]:
        raise typer.Exit(EXIT_REFUSED)


def given(node: Client, policy: Path, set_: list[str] | None) -> dict[str, Any]:
    """The policy in a file, or a reference to one that a zone shares (`zone:ZONE/POLICY`) with its
    open parameters. Raises InputRejected."""
    named = str(policy)
    if not named.startswith("zone:"):
        if set_:
            raise InputRejected(
                "--set fills in a policy that a zone shares", remedy="write it into the file"
            )
        return written(policy)
    kinds = _parameter_kinds(node) if set_ else {}
    parameters = dict(_parameter(text, kinds) for text in set_ or ())
    return {"zone": named.removeprefix("zone:"), "with": parameters}


def _parameter_kinds(node: Client) -> dict[str, str]:
    return {
        parameter["name"]: parameter["kind"]
        for one in node.call("GET", "/api/policies/templates")
        for parameter in one["parameters"]
    }


def written(path: Path) -> dict[str, Any]:
    """What a policy file says, as the node takes it. Raises InputRejected."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise InputRejected(f"the policy file {path} cannot be read") from err
    return parse_policy(text)


def _parameter(text: str, kinds: dict[str, str]) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InputRejected(
            f"--set {text}: expected NAME=VALUE", remedy="see: dataspace policy templates"
        )
    if kinds.get(name) == "list of texts":
        return name, [one for one in value.split(",") if one]
    if kinds.get(name) == "whole number":
        try:
            return name, int(value)
        except ValueError as err:
            raise InputRejected(f"--set {name}: expected a whole number") from err
    return name, value


def _print_remarks(remarks: list[dict[str, str]], ending: str) -> None:
    for one in remarks:
        say(f"{MARKS[one['severity']]} {one['path']}: {one[f'sentence{ending}']}")


def _ending(lang: str) -> str:
    if lang not in ("en", "zh"):
        raise InputRejected("--lang: expected en or zh")
    return "" if lang == "en" else "_zh"
