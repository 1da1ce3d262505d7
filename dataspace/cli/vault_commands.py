"""Commands of a trustee about a vault: make it, fill it, enrol and erase its people."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.cli.signed_files import (
    WHOSE,
    KeysOption,
    LocalOption,
    OnlineOption,
    known_keys,
    write_json,
)
from dataspace.client import Client
from dataspace.errors import InputRejected
from dataspace.secret_files import write_secret

app = typer.Typer(help="Records of people under a key of each one's own.", no_args_is_help=True)
erasure_app = typer.Typer(help="Certificates that a person's key was destroyed.")

FolderArgument = Annotated[Path, typer.Argument(help="the vault's folder")]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", help="where the key is: env:NAME or file:/path; its file vault.key"),
]


@app.command()
@reported
def create(
    folder: FolderArgument,
    subject: Annotated[str, typer.Option(help="the column with the person's identifier")],
    canonicaliser: Annotated[str, typer.Option(help="how it is read")] = "resident-id/1",
    sensitive: Annotated[
        list[str] | None,
        typer.Option(help="a column that needs separate consent; repeatable; names tell others"),
    ] = None,
    born: Annotated[str | None, typer.Option(help="the column with the day of birth")] = None,
    died: Annotated[str | None, typer.Option(help="the column that says who has died")] = None,
    regulator_key: Annotated[
        str | None, typer.Option(help="file with the regulator's public key; traces go to it too")
    ] = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty vault. Keep its key file apart from copies of its database.

    Example: dataspace vault create /srv/vault --subject resident_id --regulator-key regulator.pub
    """
    from connectors.vault_making import create_vault

    public = None if regulator_key is None else _text(Path(regulator_key)).strip()
    vault = create_vault(
        folder,
        subject=subject,
        canonicaliser=canonicaliser,
        sensitive=sensitive or (),
        birth_column=born,
        death_column=died,
        regulator_key=public,
        key_reference=key,
    )
    source = f"vault:{vault.folder}" + (f"?secret={key}" if key else "")
    show(
        {"source": source, "key": key or str(vault.folder / "vault.key")},
        as_json,
        lambda: say(f"{source}; fill it: dataspace vault import {folder} FILE", head="made"),
    )


@app.command("import")
@reported
def import_(
    folder: FolderArgument,
    source: Annotated[str, typer.Argument(help="a file or any source; .export.json: one person's")],
    key: KeyOption = None,
    progress: Annotated[bool, typer.Option("--progress", help="say how far it is")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring records into a vault: all of them or, on an error, none. Again, it changes nothing.

    A person's records replace those that were there of the same person; others stay.
    """
    from connectors.source import Source, open_source
    from connectors.vault_import import import_records, read_export

    vault = _vault(folder, key)
    records: Source
    if source.endswith(".export.json"):
        with vault.store.reading() as db:
            subject = vault.opened(db).settings.subject
        records = read_export(_text(Path(source)).encode(), subject=subject)
    else:
        records = open_source(source)

    def told(rows: int) -> None:
        sys.stderr.write(f"\r{rows} rows")

    report = import_records(vault, records, datetime.now(UTC), progress=told if progress else None)
    if progress:
        sys.stderr.write("\n")
    found = vars(report)

    def render() -> None:
        if report.unchanged:
            say("the vault holds this import already", head="unchanged:")
            return
        say(
            f"{report.records} records of {report.people_added} new people and "
            f"{report.people_replaced} known ones",
            head="imported",
        )
        for name in ("children", "minors", "deceased", "erased_left_out"):
            if found[name]:
                say(f"  {name.replace('_', ' ')}: {found[name]}")
        if report.sensitive:
            say(f"  only by separate consent: {', '.join(report.sensitive)}")
        invalid, blank = report.quality["invalid"], report.quality["blank"]
        if invalid or blank:
            say(f"  not kept, without a valid identifier: {blank} blank, {json.dumps(invalid)}")
            for example in report.quality["examples"]:  # type: ignore[attr-defined]
                say(f"    {example}")

    show(found, as_json, render)


@app.command()
@reported
def enrol(folder: FolderArgument, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Give a person an access code. The identifier is read from stdin; the code is shown once.

    It is kept nowhere. An earlier code ends, and the traces that were for it stay unread.
    """
    from connectors.vault_people import VaultPeople

    code = VaultPeople(_vault(folder, key)).enrol(identifier_from_stdin())
    show({"access_code": code}, as_json, lambda: say(code))


@app.command()
@reported
def people(folder: FolderArgument, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """How many people, records and uses there are; never who."""
    from connectors.vault_people import VaultPeople

    counts = VaultPeople(_vault(folder, key)).counts()
    lines = [f"{count:9} {name}" for name, count in counts.items()]
    show(counts, as_json, lambda: say("\n".join(lines)))


@app.command()
@reported
def traces(
    folder: FolderArgument,
    regulator_key_file: Annotated[
        Path, typer.Option(help="the regulator's private key, as regulator-key made it")
    ],
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """For the regulator: every use, with the pseudonyms that receipts name people by."""
    from connectors.vault_people import VaultPeople

    private = _private_key(regulator_key_file)
    found = [
        {**one.use.model_dump(mode="json"), "people": list(one.people)}
        for one in VaultPeople(_vault(folder, key)).regulators_uses(private)
    ]

    def render() -> None:
        for one in found:
            say(
                f"{one['at']} {one['recipient']} {one['purpose']} {one['computation']} "
                f"{one['agreement']}: {len(one['people'])} people"
            )

    show(found, as_json, render)


@app.command("regulator-key")
@reported
def regulator_key(
    file: Annotated[Path, typer.Argument(help="where to write the private key")],
    as_json: JsonOption = False,
) -> None:
    """For the regulator: make a key pair. FILE stays with the regulator, FILE.pub goes out."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if file.exists():
        raise InputRejected(f"{file} exists already", remedy="name another file")
    key = X25519PrivateKey.generate()
    write_secret(file, key.private_bytes_raw().hex())
    public = file.with_name(f"{file.name}.pub")
    public.write_text(key.public_key().public_bytes_raw().hex() + "\n", encoding="ascii")
    show({"private": str(file), "public": str(public)}, as_json, lambda: say(str(public)))


@app.command("rotate-key")
@reported
def rotate(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Wrap everything under a new vault.key. Copies made before open with the old key only."""
    from connectors.vault_making import rotate_key

    wrapped = rotate_key(_vault(folder, None))
    show({"people": wrapped}, as_json, lambda: say(f"{wrapped} people's keys wrapped anew"))


@app.command()
@reported
def erase(
    dataset: Annotated[str, typer.Argument(help="a dataset of the vault")],
    out: Annotated[Path, typer.Option(help="where to write the certificate")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Destroy a person's key and all records under it. The identifier is read from stdin.

    It cannot be undone. The certificate is for the person, and is in the node's evidence.
    """
    identifier = identifier_from_stdin()
    if not yes:
        typer.confirm("Destroy this person's key? It cannot be undone", abort=True)
    with Client.of_home(home) as node:
        body = {"subject": identifier}
        certificate = node.call("POST", f"/api/datasets/{dataset}/people/erasure", body)
    write_json(out, certificate)
    show({"file": str(out)}, as_json, lambda: say(str(out)))


@erasure_app.command("verify")
@reported
def verify_erasure(
    file: Annotated[Path, typer.Argument(help="a certificate's file")],
    key: KeysOption = None,
    online: OnlineOption = False,
    local: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a certificate of erasure, with no node. Ends with 1 if it does not hold."""
    from dataspace.statements import verify_statements

    found = verify_statements(
        file, known_keys(key, online=online, local=local), online=online, local=local
    ).to_json()
    certificate = found["certificate"]
    if certificate is None:
        raise InputRejected(
            "this is a consent's file", remedy=f"run: dataspace consent verify {file}"
        )

    def render() -> None:
        say(
            f"{found['did']} destroyed the key {certificate['key_commitment'][:16]}… of "
            f"{certificate['pii_principal_id']}, with {certificate['records']} records, at "
            f"{certificate['erased_at']}",
            head="valid:",
            style="green",
        )
        say(f"  key: {found['thumbprint']}, {WHOSE[found['key_known_by']]}")
        place = certificate["evidence"]
        proved = "proved here" if found["in_evidence"] else "not in this file; ask the trustee"
        say(f"  evidence: entry {place['index']} of {place['origin']}, {proved}")

    show(found, as_json, render)


def identifier_from_stdin() -> str:
    """It stands in no command line, and so in no shell's history."""
    if sys.stdin.isatty():
        return str(typer.prompt("identifier of the person", hide_input=True))
    return sys.stdin.readline().strip()


def _vault(folder: Path, key: str | None) -> Any:
    from connectors.vault import Vault

    vault = Vault(folder.expanduser().resolve(), key)
    vault.store.verify()
    return vault


def _private_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from dataspace.secret_files import read_secret

    try:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(read_secret(path)))
    except ValueError:
        raise InputRejected(
            f"{path.name} is no private key", remedy="make one: dataspace vault regulator-key FILE"
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InputRejected(f"{path} cannot be read as text", remedy="check the path") from err
