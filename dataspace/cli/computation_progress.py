"""What the command line shows while a computation runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dataspace.cli.shared import err, say

# Between two lines about the same step, where there is no terminal.
LINE_S = 5.0

Tell = Callable[[dict[str, Any]], None]


@contextmanager
def telling(kind: str) -> Iterator[Tell]:
    """What to call with each event: a bar on a terminal, now and then a line elsewhere.

    Who is interrupted while it waits is told that the computation goes on, and how to end it.
    """
    begun = ""

    def remember(tell: Tell) -> Tell:
        def told(event: dict[str, Any]) -> None:
            nonlocal begun
            begun = event["id"]
            tell(event)

        return told

    try:
        if err.is_terminal:
            with _bar() as bar:
                yield remember(_moves(bar, kind))
        else:
            yield remember(_lines(kind))
    except KeyboardInterrupt:
        if begun:
            say(f"it goes on; to end it: dataspace computation cancel {begun}", console=err)
        raise


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        # No markup: what a step is called is not for us to say.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TimeElapsedColumn(),
        console=err,
    )


def _moves(bar: Progress, kind: str) -> Tell:
    task = bar.add_task(kind, total=None, pace="")

    def tell(event: dict[str, Any]) -> None:
        bar.update(
            task,
            description=f"{kind}: {event['step']}",
            completed=event["done_units"],
            total=event["total_units"] or None,
            pace=pace(event),
        )

    return tell


def pace(event: dict[str, Any]) -> str:
    """How far, how fast, and how long yet, as far as that is known."""
    parts = []
    if event["total_units"]:
        parts.append(f"{event['done_units']:,} of {event['total_units']:,}")
    if event["rate_per_s"]:
        parts.append(f"{event['rate_per_s']:,.0f}/s")
    if event["seconds_left"] is not None:
        parts.append(f"{_duration(event['seconds_left'])} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lines(kind: str) -> Tell:
    said_at, said = 0.0, ""

    def tell(event: dict[str, Any]) -> None:
        nonlocal said_at, said
        now = time.monotonic()
        if event["step"] == said and now - said_at < LINE_S:
            return
        said_at, said = now, event["step"]
        told = pace(event)
        say(f"{kind}: {said}{', ' if told else ''}{told}", console=err)

    return tell
