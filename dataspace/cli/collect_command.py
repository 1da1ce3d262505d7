"""The command that collects a stream of messages into windows."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataspace.cli.shared import JsonOption, err, reported, say, show

if TYPE_CHECKING:
    from connectors.collector import Progress

app = typer.Typer()


@app.command()
@reported
def collect(
    url: Annotated[str, typer.Argument(help="an mqtt: or mqtts: address with into=/folder")],
    as_json: JsonOption = False,
) -> None:
    """Receive the messages of a stream and write them into windows, until Ctrl-C.

    What came is kept when this ends, however it does; start it again to go on. The windows are
    read as a source by the same address.

    Example: dataspace source collect 'mqtt://broker/city/air/#?into=/data/air&window=60'
    """
    from connectors.collector import collect as run

    stop = threading.Event()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in before:
        signal.signal(one, lambda *_: stop.set())
    try:
        end = run(url, stop, tell=_line if err.is_terminal else _changes())
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        if err.is_terminal:
            err.print()
    show(_value(end), as_json, lambda: say(_words(end)))


def _line(progress: Progress) -> None:
    """One line that is written over."""
    err.print(f"{_words(progress):<100}", end="\r", markup=False, highlight=False)


def _changes() -> Any:
    """A line whenever a window was closed, or the broker came or went."""
    last: list[tuple[int, bool]] = []

    def tell(progress: Progress) -> None:
        now = progress.closed, progress.connected
        if [now] != last:
            last[:] = [now]
            say(_words(progress), console=err)

    return tell


def _value(progress: Progress) -> dict[str, Any]:
    return {
        "received": progress.received,
        **{str(outcome): count for outcome, count in progress.outcomes.items()},
        "retained": progress.retained,
        "windows_closed": progress.closed,
        "windows_open": progress.open,
    }


def _words(progress: Progress) -> str:
    counts = {str(outcome): count for outcome, count in progress.outcomes.items()}
    stored = counts.pop("stored", 0)
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    place = "" if progress.connected else "not connected; "
    return (
        f"{place}{stored} of {progress.received} messages stored{others}; "
        f"{progress.closed} windows closed, {progress.open} open"
    )
