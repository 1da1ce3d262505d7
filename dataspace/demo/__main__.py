"""`./run demo`: see `--help`."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from dataspace.client import ApiError, Failed, Refused
from dataspace.demo.anvil import chain_for
from dataspace.demo.example_data import generate_residents
from dataspace.demo.own_files import OwnFiles, tell_own_files
from dataspace.demo.screen import Screen
from dataspace.demo.space import LocalSpace
from dataspace.demo.story import tell_city
from dataspace.errors import SHOWN, InputRejected

ERRORS = (ApiError, Failed, Refused, TimeoutError, OSError, *SHOWN)


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; 0 when everything came out as it must, 1 otherwise."""
    options = _parse(arguments)
    # A polite kill ends the nodes as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=options.json == "-")
    directory = _directory(options.keep)
    begun = time.monotonic()
    try:
        told = _run(options, directory, Screen(console), console)
    except ERRORS as err:
        console.print(f"\n[bold red]error[/] {err}", highlight=False, soft_wrap=True)
        if remedy := getattr(err, "remedy", None):
            console.print(f"  remedy: {remedy}", highlight=False, soft_wrap=True)
        if isinstance(err, Refused) and err.clause:
            console.print(f"  clause: {err.clause}", highlight=False)
        if any(directory.glob("*/node.toml")):
            console.print(f"  the nodes' logs are in {directory}", highlight=False, soft_wrap=True)
        elif options.keep is None:
            shutil.rmtree(directory)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; the nodes have ended")
        return 130
    told["timings"]["total"] = round(time.monotonic() - begun, 3)
    _write_json(options.json, told)
    for wrong in told["wrong"]:
        console.print(f"[bold red]wrong[/] {wrong}")
    if told["wrong"]:
        console.print(f"  the nodes' logs are in {directory}", highlight=False)
        return 1
    if options.keep is None:
        shutil.rmtree(directory)
    console.print(f"\n[bold green]everything agrees[/], in {told['timings']['total']:.1f} s")
    console.print(
        "Where to look next: README.md (a node of your own in five minutes), docs/, and\n"
        "./run demo --keep DIR --stay, which leaves the nodes running with their API at /docs.",
        highlight=False,
    )
    return 0


def _run(
    options: argparse.Namespace, directory: Path, screen: Screen, console: Console
) -> dict[str, Any]:
    own = _own_files(options)
    if own is not None:
        own.verify()
    with chain_for(options.chain, directory) as chain, LocalSpace(directory, chain=chain) as space:
        if own is not None:
            told = tell_own_files(space, own, screen)
        else:
            data = directory / "data"
            generate_residents(data)
            told = tell_city(space, data, screen)
        if options.stay:
            console.print("\nthe nodes run until Ctrl-C; their API is at /docs of each address")
            for node in space.nodes.values():
                console.print(f"  {node.name}: {node.url}  home {node.home.path}", highlight=False)
            signal.pause()
    return told.to_json()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="A government, an enterprise and a personal node compute together under "
        "contract, on this machine, and a regulator verifies it. With --left and --right: a "
        "private sum over your own two files.",
    )
    parser.add_argument("--json", metavar="FILE", help="write what happened as JSON (- for stdout)")
    parser.add_argument("--keep", metavar="DIR", help="keep the nodes' homes and logs here")
    parser.add_argument("--stay", action="store_true", help="leave the nodes running until Ctrl-C")
    parser.add_argument(
        "--chain",
        default="embedded",
        help="embedded (default), anvil, or the JSON-RPC address of a chain",
    )
    own = parser.add_argument_group("your own files (CSV or Parquet)")
    own.add_argument("--left", metavar="FILE", help="the first party's file")
    own.add_argument("--left-id", metavar="COLUMN", help="its identifier column")
    own.add_argument("--right", metavar="FILE", help="the second party's file")
    own.add_argument("--right-id", metavar="COLUMN", help="its identifier column")
    own.add_argument("--right-value", metavar="COLUMN", help="the column to sum")
    own.add_argument("--decimals", type=int, default=0, help="decimal digits of the value to keep")
    own.add_argument("--min-cohort", type=int, default=20, help="least number of shared people")
    own.add_argument(
        "--canonicaliser",
        default="text/1",
        help="form of the identifiers: text/1 (default), resident-id/1, mobile/1, uscc/1",
    )
    return parser.parse_args(arguments)


def _own_files(options: argparse.Namespace) -> OwnFiles | None:
    given = {
        "--left": options.left,
        "--left-id": options.left_id,
        "--right": options.right,
        "--right-id": options.right_id,
        "--right-value": options.right_value,
    }
    if not any(given.values()):
        return None
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise InputRejected(
            f"your own files need all of {', '.join(given)}",
            remedy=f"give also {', '.join(missing)}",
        )
    return OwnFiles(
        left=Path(options.left),
        left_id=options.left_id,
        right=Path(options.right),
        right_id=options.right_id,
        right_value=options.right_value,
        canonicaliser=options.canonicaliser,
        decimals=options.decimals,
        min_cohort=options.min_cohort,
    )


def _directory(keep: str | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="dataspace-demo-"))
    path = Path(keep).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_json(target: str | None, told: dict[str, Any]) -> None:
    if target is None:
        return
    text = json.dumps(told, ensure_ascii=False, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
