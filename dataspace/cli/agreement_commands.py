"""Commands about agreements: what is in force, its proof for others, its end and its renewal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, in_words, reported, say, show
from dataspace.cli.signed_files import (
    WHOSE,
    KeysOption,
    LocalOption,
    OnlineOption,
    known_keys,
    write_json,
)
from dataspace.client import Client

app = typer.Typer(help="Show, prove, end, renew agreements.", no_args_is_help=True)

AgreementArgument = Annotated[str, typer.Argument(help="the agreement's id")]
_STYLES = {"in force": "green", "not yet": "yellow"}


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every agreement, newest first, and whether it can be used."""
    with Client.of_home(home) as node:
        found = node.agreements()

    def render() -> None:
        if not found:
            say("there are no agreements")
        for one in found:
            _print(one)

    show(found, as_json, render)


@app.command("show")
@reported
def show_(
    agreement: AgreementArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """One agreement: its terms in plain words, who has signed it, how it stands."""
    with Client.of_home(home) as node:
        found = node.call("GET", _path(agreement))

    def render() -> None:
        _print(found)
        _print_terms(found["document"])
        say(f"  signed by: {', '.join(found['signed_by']) or 'nobody'}")
        if found["signed_post_quantum_by"]:
            say(f"  with a post-quantum key too: {', '.join(found['signed_post_quantum_by'])}")
        if found["renews"]:
            say(f"  renews: {found['renews']}")
        if found["role"] == "PROVIDER":
            say(f"  uses permitted: {found['use_count']}")
        say(f"  sha256: {found['sha256']}")

    show(found, as_json, render)


@app.command()
@reported
def deed(
    agreement: AgreementArgument,
    file: Annotated[Path | None, typer.Option("--out", help="write it to this file")] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """The agreement with both signatures as one file that anybody can verify offline.

    Example: dataspace agreement deed urn:uuid:… --out residents.deed.json
    """
    with Client.of_home(home) as node:
        found = node.call("GET", _path(agreement, "/deed"))
    if file is None:
        show(found, True, lambda: None)
        return
    write_json(file, found)
    show(
        {"file": str(file)},
        as_json,
        lambda: say(f"{file}; verify it: dataspace agreement verify {file}", head="written to"),
    )


@app.command()
@reported
def verify(
    file: Annotated[Path, typer.Argument(help="a deed's file")],
    key: KeysOption = None,
    second: Annotated[
        list[str] | None,
        typer.Option(
            "--post-quantum-key",
            help="a second key that must have signed too, as DID=THUMBPRINT; repeatable",
        ),
    ] = None,
    online: OnlineOption = False,
    local: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a deed, with no node and without --online no network. Ends with 1 if it does not hold.

    Example: dataspace agreement verify residents.deed.json --key did:web:bureau.example=THUMBPRINT
    """
    from dataspace.deeds import verify_deed

    found = verify_deed(
        file,
        known_keys(key, online=online, local=local),
        online=online,
        local=local,
        post_quantum=known_keys(second, online=online, local=local),
    ).to_json()

    def render() -> None:
        say("both parties signed exactly this agreement", head="valid:", style="green")
        say(f"  {found['agreement']['@id']} about {found['agreement']['target']}")
        _print_terms(found["agreement"])
        for signer in found["signers"]:
            say(f"  {signer['party']}: {signer['did']}")
            say(f"    key: {signer['thumbprint']}, {WHOSE[signer['key_known_by']]}")
            hybrid = signer["post_quantum"]
            if hybrid is None:
                say("    signed with this key only, and no post-quantum one")
            else:
                told = WHOSE[hybrid["key_known_by"]]
                say(f"    post-quantum key: {hybrid['thumbprint']}, {told}")
        say("  whether it was ended since, a deed does not say: ask the parties")

    show(found, as_json, render)


@app.command()
@reported
def end(
    agreement: AgreementArgument,
    reason: Annotated[str, typer.Option(help="a sentence for the other side")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """End an agreement before its time: no use from now on, what runs under it ends too."""
    with Client.of_home(home) as node:
        found = node.call("POST", _path(agreement, "/end"), {"reason": reason})
    show(found, as_json, lambda: _print(found))


@app.command()
@reported
def renew(
    agreement: AgreementArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Negotiate the dataset's present offer and print the new agreement's id.

    The old agreement stays as it is. Ends with 3 when refused, and with 4 when a person of either
    side has to decide first.
    """
    with Client.of_home(home) as node:
        begun = node.call("POST", _path(agreement, "/renewal"))
        renewed = node.agreement_of(begun["id"])
    show({"agreement": renewed}, as_json, lambda: print(renewed))


def _path(agreement: str, tail: str = "") -> str:
    return f"/api/agreements/{quote(agreement, safe='')}{tail}"


def _print(one: dict[str, Any]) -> None:
    provides = one["role"] == "PROVIDER"
    other = f"for {one['consumer']}" if provides else f"of {one['provider']}"
    style = _STYLES.get(one["state"], "red")
    say(f"{one['id']}  {one['dataset']}  {other}", head=one["state"], style=style)
    if one["state"] != "in force":
        say(f"  {one['standing']}")
    elif one["expires_at"]:
        say(f"  until {one['expires_at']}")
    if one["covers_versions"] is not None:
        say(f"  of the data as they were in {', '.join(one['covers_versions']) or 'no version'}")


def _print_terms(document: dict[str, Any]) -> None:
    for line in in_words(document):
        say(f"  {line}")
