"""Commands about data that is not published yet: what a source holds, and what of it could match.

They run without a node, and nothing they read leaves this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataspace.cli.shared import JsonOption, err, reported, say, show
from dataspace.errors import InputRejected

if TYPE_CHECKING:
    import pyarrow as pa

    from connectors.classification import ClassProposal, GradeProposal
    from connectors.preview import MatchPreview
    from connectors.quality import ColumnReport, IdentifierReport, TableReport
    from connectors.source import Source
    from connectors.use import Use

app = typer.Typer(
    help="Look at data before anything of it is published; no node is needed.", no_args_is_help=True
)
_VALUE = "value"


@app.command()
@reported
def inspect(
    url: Annotated[str, typer.Argument(help="a file, or a source by its URL")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME:CANONICALISER for an identifier (name+born:name/1+date/1 for a key), "
            "NAME:value for numbers; repeatable"
        ),
    ] = None,
    publication: Annotated[
        Path | None, typer.Option(help="write a publication to begin with into this file")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a source holds, how it is kept, and how good it is, column by column.

    Identifiers, classes and a grade are proposed; a person confirms them when publishing.

    Example: dataspace source inspect residents.csv --column amount:value
             --publication residents.yaml
    """
    from connectors import quality
    from connectors.classification import propose_classes, propose_grade
    from connectors.source import open_source

    named = _named_columns(column or [])
    source = open_source(url)
    use = _own_use("inspection")
    cells = quality.sample(source, use)
    proposed = quality.propose_canonicalisers(cells)
    told = {name: what for name, what in named.items() if what != _VALUE}
    identifiers = {name: what for name, what in proposed.items() if name not in named} | told
    values = [name for name, what in named.items() if what == _VALUE]
    with _progress(source.name) as progress:
        report = quality.inspect(source, identifiers, values=values, use=use, progress=progress)
    classes = propose_classes(source.schema(), cells, today=use.at.date())
    grade = propose_grade(classes, rows=report.rows)
    if publication is not None:
        _save_publication(publication, url, source, cells, classes, grade, identifiers)
    kept = dict(source.description())

    found = report.to_json() | {
        "kept": kept,
        "proposed": proposed,
        "classes": {name: one.to_json() for name, one in classes.items()},
        "grade": grade.to_json(),
    }
    show(found, as_json, lambda: _render(report, kept, proposed, classes, grade))


@app.command()
@reported
def preview(
    url: Annotated[str, typer.Argument(help="your own file, or a source by its URL")],
    identifier: Annotated[str, typer.Option("--id", help="the column to match by, or a+b")],
    canonicaliser: Annotated[
        str, typer.Option("--as", help="how it is made canonical: that of the dataset")
    ],
    theirs: Annotated[
        str | None, typer.Option(help="the canonicaliser the dataset is published by")
    ] = None,
    their_identifiers: Annotated[
        int | None, typer.Option(min=0, help="how many identifiers the dataset is said to have")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How much of your own column could match a dataset, before you ask for anything.

    Only your own rows are read, and nobody is told.

    Example: dataspace source preview patients.csv --id resident_id --as resident-id/1
    """
    from connectors.preview import Published
    from connectors.preview import preview as preview_of
    from connectors.source import open_source

    source = open_source(url)
    with _progress(source.name) as progress:
        seen = preview_of(
            source,
            identifier,
            canonicaliser,
            Published(theirs, their_identifiers),
            use=_own_use("preview"),
            progress=progress,
        )
    show(seen.to_json(), as_json, lambda: _render_preview(seen))


def _save_publication(
    path: Path,
    url: str,
    source: Source,
    cells: pa.Table,
    classes: Mapping[str, ClassProposal],
    grade: GradeProposal,
    canonicalisers: Mapping[str, str],
) -> None:
    from connectors.source import ConsentedSource
    from dataspace.cli.dataset_commands import located
    from dataspace.cli.publication_draft import Seen, save_draft

    seen = Seen(
        location=located(url),
        schema=source.schema(),
        sample=cells,
        classes=classes,
        grade=grade,
        canonicalisers=canonicalisers,
        keeps_consents=isinstance(source, ConsentedSource),
    )
    save_draft(path, seen, now=datetime.now(UTC))


def _own_use(purpose: str) -> Use:
    from connectors.use import Use

    return Use(purpose=purpose, recipient="owner", at=datetime.now(UTC))


def _named_columns(texts: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in texts:
        # A column's name may hold a colon; what it is made canonical by does not.
        name, _, what = text.rpartition(":")
        if not name or not what or name in named:
            raise InputRejected(
                f"NAME:CANONICALISER expected, each column once, got {text[:80]!r}",
                remedy="for example: --column resident_id:resident-id/1 --column amount:value",
            )
        named[name] = what
    return named


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int], None] | None]:
    if not err.is_terminal:
        yield None
        return
    with err.status(f"reading {name}") as status:
        yield lambda rows: status.update(f"reading {name}: {rows:,} rows")


def _render(
    report: TableReport,
    kept: Mapping[str, str],
    proposed: Mapping[str, str],
    classes: Mapping[str, ClassProposal],
    grade: GradeProposal,
) -> None:
    from dataspace.bounds import allowances

    say(", ".join(kept.values()), head=report.source, style="bold")
    say(f"{report.rows:,} rows")
    identifiers = {one.quality.column: one for one in report.identifiers}
    for column in report.columns:
        say(_in_short(column), head=f"\n{column.column}", style="bold")
        found = classes[column.column]
        say(f"  class proposed: {found.column_class} ({found.reason})")
        _render_numbers(column)
        if column.column in identifiers:
            _render_identifier(identifiers.pop(column.column), proposed)
    for key in identifiers.values():
        say("key of several columns", head=f"\n{key.quality.column}", style="bold")
        _render_identifier(key, proposed)
    say(f"\ngrade proposed: {grade.grade} ({grade.reason})")
    for sentence, _ in allowances(grade.grade, (one.column_class for one in classes.values())):
        say(f"  {sentence}")


def _in_short(column: ColumnReport) -> str:
    different = f"{'' if column.exact else 'at least '}{column.distinct:,} different"
    group = "; could be a group" if column.groups else ""
    return f"{column.type}, {column.blank:,} blank, {different}{group}"


def _render_numbers(column: ColumnReport) -> None:
    if column.numbers is None:
        return
    numbers = column.numbers
    scale = f" (publish with scale {numbers.scale})" if numbers.scale else ""
    say(f"  numbers: {numbers.whole:,} whole, {numbers.decimal:,} with decimals{scale}")
    for odd in numbers.others:
        say(f"  no number: {odd.kind}, {_rows(odd.count, odd.rows)}")


def _render_identifier(one: IdentifierReport, proposed: Mapping[str, str]) -> None:
    found = one.quality
    head = (
        "identifier, proposed"
        if proposed.get(found.column) == found.canonicaliser
        else "identifier"
    )
    _render_quality(found.to_json(), head)
    again = ", ".join(f"row {row} repeats row {earlier}" for row, earlier in one.repeated)
    if again:
        say(f"  {again}{'…' if found.duplicates > len(one.repeated) else ''}")
    if not one.exact:
        say("  too many rows to compare all of them; there may be more repetitions")


def _render_quality(found: Mapping[str, Any], head: str) -> None:
    say(
        f"  {head}: {found['canonicaliser']}, {found['valid']:,} usable, {found['blank']:,} blank, "
        f"{sum(found['invalid'].values()):,} invalid, {found['duplicates']:,} repeated"
    )
    for reason, count in found["invalid"].items():
        say(f"  wrong {reason}: {count:,}")
    for example in found["examples"]:
        say(f"    {example}")


def _rows(count: int, rows: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, rows))
    return f"{count:,} cells: row {listed}{'…' if count > len(rows) else ''}"


def _render_preview(seen: MatchPreview) -> None:
    say(f"{seen.quality.rows:,} rows", head=seen.quality.column, style="bold")
    _render_quality(seen.quality.to_json(), "read as")
    for form, count in seen.forms.items():
        say(f"  written: {form}, {count:,} cells")
    say(f"at most {seen.at_most:,} of {seen.identifiers:,} different identifiers can match")
    for warning in seen.warnings:
        say(warning, head="warning:", style="yellow")
