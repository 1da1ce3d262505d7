"""Commands that keep a node alive: back it up, verify and restore the backup, examine it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dataspace.cli.shared import EXIT_ERROR, HOME, HomeOption, JsonOption, reported, say, show
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.secret_files import node_passphrase, passphrase_in_file

app = typer.Typer()
backup_app = typer.Typer(help="Back a node up while it runs, and verify backups.")

PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="a file with the backup's passphrase"),
]


@backup_app.callback(invoke_without_command=True)
@reported
def backup(
    context: typer.Context,
    to: Annotated[Path | None, typer.Option(help="a file, or the directory for one")] = None,
    passphrase_file: PassphraseOption = None,
    unencrypted: Annotated[
        bool, typer.Option("--unencrypted", help="whoever has the file has the node's keys")
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of a node, running or not: database, keys, settings, what it received.

    It is sealed under the passphrase in --passphrase-file, else under the node's own
    (DATASPACE_PASSPHRASE_FILE).
    """
    if context.invoked_subcommand is not None:
        return
    if to is None:
        raise InputRejected("where to?", remedy="give --to FILE or --to DIRECTORY")
    passphrase = _passphrase(passphrase_file)
    if unencrypted and passphrase_file is not None:
        raise InputRejected("sealed or not?", remedy="give --passphrase-file or --unencrypted")
    if passphrase is None and not unencrypted:
        raise InputRejected(
            "a backup holds the node's keys, so it is sealed under a passphrase",
            remedy="give --passphrase-file FILE, or --unencrypted to leave the keys readable",
        )
    from dataspace.backups.making import make_backup

    made = make_backup(Home(home), to, None if unencrypted else passphrase)
    manifest = made.manifest

    def render() -> None:
        say(str(made.path), head="made", style="green")
        say(f"  {made.size:,} bytes, {len(manifest.files)} files, sealed: {not unencrypted}")
        if manifest.log:
            say(f"  evidence {manifest.log.size} entries, {manifest.log.anchored} anchored")
        for one in manifest.left_out:
            say(f"  left out: {one.path}: {one.why}")

    show({"file": str(made.path), "size": made.size, **_told(manifest)}, as_json, render)


@backup_app.command("verify")
@reported
def backup_verify(
    file: Annotated[Path, typer.Argument(help="the backup")],
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a backup from end to end, offline: seal, digests, signature, and what it holds."""
    from dataspace.backups.restoring import verify_backup

    opened = verify_backup(file, _passphrase(passphrase_file))
    manifest = opened.manifest

    def render() -> None:
        say(f"{file} is whole", head="ok", style="green")
        say(f"  {manifest.name} ({manifest.kind}) {manifest.did}")
        say(f"  made {manifest.made_at} by version {manifest.product}")
        say(f"  schema {manifest.schema_revision}, {len(manifest.files)} files")
        say(f"  signed with the key {opened.key}")
        if manifest.log:
            say(f"  evidence {manifest.log.size} entries, {manifest.log.anchored} anchored")
        if not opened.sealed:
            say("  it is not sealed: whoever has it has the node's keys")

    told = {**_told(manifest), "key": opened.key, "sealed": opened.sealed}
    show(told, as_json, render)


@app.command()
@reported
def restore(
    file: Annotated[Path, typer.Argument(help="the backup")],
    home: Annotated[Path, typer.Option("--home", help="the home to make; empty or not there")],
    database: Annotated[
        str | None, typer.Option(help="address of an empty PostgreSQL database for a dump")
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node's home of a backup, once all of it was verified.

    Never while the node runs elsewhere. Says whether the chain has more of the log than the backup.
    """
    from dataspace.backups.restoring import restore_backup
    from dataspace.rewind import REMEDY

    restored = restore_backup(file, home, _passphrase(passphrase_file), database=database)
    standing = restored.standing

    def render() -> None:
        say(str(restored.home.path), head="restored", style="green")
        say(f"  as it was {restored.manifest.made_at}")
        if standing is None:
            say("  the chain was not asked whether the log is older than its anchors")
        elif standing.sound:
            say(f"  {standing.sentence()}")
        else:
            say(f"  {standing.sentence()}", head="rewound", style="bold red")
            say(f"  remedy: {REMEDY}")

    told: dict[str, Any] = {
        "home": str(restored.home.path),
        "backup": _told(restored.manifest),
        "log": None
        if standing is None
        else {
            "verdict": standing.verdict,
            "sentence": standing.sentence(),
            "remedy": None if standing.sound else REMEDY,
        },
    }
    show(told, as_json, render)


def _passphrase(file: Path | None) -> str | None:
    return passphrase_in_file(file) if file is not None else node_passphrase()


def _told(manifest: Any) -> dict[str, Any]:
    told: dict[str, Any] = manifest.model_dump(mode="json")
    return told


@app.command()
@reported
def doctor(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Examine a node, running or not: keys, database, evidence, sources, files, what others see.

    Writes nothing. Ends with 1 where anything is in error.
    """
    from dataspace.doctor.examination import examine
    from dataspace.doctor.finding import Level

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
    found = []
    for one in examine(home):
        found.append(one)
        if not as_json:
            say(f"{one.check}: {one.sentence}", head=one.level.value, style=styles[one.level])
            if one.remedy:
                say(f"  remedy: {one.remedy}")
    worst = [one for one in found if one.level is Level.ERROR]
    if as_json:
        told = {"ok": not worst, "findings": [one.to_json() for one in found]}
        show(told, as_json, lambda: None)
    if worst:
        raise typer.Exit(EXIT_ERROR)
