"""What every command shares: options, output, and errors as one sentence with its remedy."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from dataspace.client import ApiError, Failed, HeldBack, Refused, Waiting
from dataspace.errors import SHOWN, InputRejected

KEY_VARIABLE = "DATASPACE_API_KEY"
EXIT_ERROR, EXIT_REFUSED, EXIT_WAITING = 1, 3, 4

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)
# What moves the cursor or changes colours: foreign text must not command the owner's terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

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
                say(f"  clause: {refusal.clause}", console=err)
            if refusal.refused_by:
                say(f"  by: {refusal.refused_by}", console=err)
            raise typer.Exit(EXIT_REFUSED) from refusal
        except Waiting as waiting:
            say(f"waiting: {waiting.sentence}", console=err)
            say(f"  look again: dataspace negotiation show {waiting.negotiation}", console=err)
            raise typer.Exit(EXIT_WAITING) from waiting
        except HeldBack as held:
            say(f"waiting: {held.sentence}", console=err)
            say(
                f"  another owner or approver: dataspace access approve {held.request}", console=err
            )
            raise typer.Exit(EXIT_WAITING) from held
        except (ApiError, Failed, TimeoutError, *SHOWN) as error:
            _complain("error", str(error), getattr(error, "remedy", None))
            raise typer.Exit(EXIT_ERROR) from error

    return run


def say(text: str, *, head: str = "", style: str = "", console: Console = out) -> None:
    """Print one line as it is: no markup, no emoji, no control characters of a peer's making.

    `head` comes before it in `style`.
    """
    line = Text(_CONTROL.sub("\ufffd", head), style=style)
    line.append(_CONTROL.sub("\ufffd", f" {text}" if head else text), style="not bold default")
    console.print(line, soft_wrap=True, highlight=False)


def _complain(what: str, sentence: str, remedy: str | None) -> None:
    say(f"{what}: {sentence}", console=err)
    if remedy:
        say(f"  remedy: {remedy}", console=err)


def named_values(texts: list[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE options; a VALUE that is JSON is what it says, any other one a text.

    Raises InputRejected for one without a name, and for a name given twice.
    """
    named: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not name or not equals or name in named:
            raise InputRejected(
                f"NAME=VALUE expected, each name once, got {text[:80]!r}",
                remedy="for example: --set valueBits=32",
            )
        try:
            named[name] = json.loads(value)
        except ValueError:
            named[name] = value
    return named


def use_key_file(context: typer.Context, path: Path) -> None:
    """Have the command use the key in a file in place of the home's own."""
    before = os.environ.get(KEY_VARIABLE)

    def restore() -> None:
        if before is None:
            os.environ.pop(KEY_VARIABLE, None)
        else:
            os.environ[KEY_VARIABLE] = before

    try:
        os.environ[KEY_VARIABLE] = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, ValueError):
        _complain("error", f"the key file {path} cannot be read", "check its name and permissions")
        raise typer.Exit(EXIT_ERROR) from None
    # Commands may run one after the other in one process.
    context.call_on_close(restore)


def show(value: Any, as_json: bool, render: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    else:
        render()


def in_words(policy: dict[str, Any]) -> list[str]:
    """A policy's terms as sentences; one that says so where this version cannot read it."""
    from contracts.odrl import Agreement, Offer
    from contracts.plain_words import describe

    model = Agreement if policy.get("@type") == "Agreement" else Offer
    try:
        return describe(model.model_validate(policy))
    except ValidationError:
        return ["its policy cannot be read by this version"]
