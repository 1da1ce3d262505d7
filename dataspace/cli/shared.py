"""What every command shares: options, output, and errors as one sentence with its remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from dataspace.client import ApiError, Refused
from dataspace.errors import SHOWN

EXIT_ERROR, EXIT_REFUSED = 1, 3

out = Console()
err = Console(stderr=True)

HomeOption = Annotated[
    Path,
    typer.Option("--home", help="the node's directory", envvar="DATASPACE_HOME", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
HOME = Path("node")

P = ParamSpec("P")
R = TypeVar("R")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn known errors into one sentence with its remedy and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Refused as refusal:
            _complain("refused", refusal.sentence, refusal.remedy)
            if refusal.clause:
                err.print(f"  clause: {refusal.clause}", markup=False, highlight=False)
            if refusal.refused_by:
                err.print(f"  by: {refusal.refused_by}", markup=False, highlight=False)
            raise typer.Exit(EXIT_REFUSED) from refusal
        except (ApiError, TimeoutError, *SHOWN) as error:
            _complain("error", str(error), getattr(error, "remedy", None))
            raise typer.Exit(EXIT_ERROR) from error

    return run


def _complain(what: str, sentence: str, remedy: str | None) -> None:
    err.print(f"{what}: {sentence}", markup=False, highlight=False, soft_wrap=True)
    if remedy:
        err.print(f"  remedy: {remedy}", markup=False, highlight=False, soft_wrap=True)


def show(value: Any, as_json: bool, render: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    else:
        render()
