"""Datasets as people read them on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.vocabulary import CLASSES, FREQUENCIES, LEGAL_BASES, THEMES, Term
from dataspace.cli.shared import in_words, say


def print_published(dataset: str, made: dict[str, Any]) -> None:
    """What came of a publication: quality, classes, remarks."""
    say(dataset, head="published", style="green")
    for report in made["quality"] or []:
        say(
            f"  {report['column']}: {report['valid']} of {report['rows']} usable, "
            f"{report['blank']} blank, {report['duplicates']} repeated, "
            f"invalid {report['invalid'] or 'none'}",
        )
    print_classes(made["classes"])
    if made["dataset"].get("ds:classification") == "proposed":
        say("  a person has yet to confirm them: dataspace dataset confirm")
    print_remarks(made["remarks"])


def print_classes(classes: list[dict[str, Any]]) -> None:
    """What each column holds, what was proposed, and why."""
    for one in classes:
        proposed = one["proposed"] or {}
        why = f" ({proposed['reason']})" if proposed.get("class") == one["class"] else ""
        if proposed and not why:
            why = f", {proposed['class']} was proposed: {proposed['reason']}"
        by = f", confirmed by {one['confirmed_by']}" if one["confirmed_by"] else ""
        say(f"  {one['column']}: {one['class']}{why}{by}")


def print_remarks(remarks: list[dict[str, str]]) -> None:
    """Remarks, one a line."""
    for remark in remarks:
        say(f"  {remark['severity']}: {remark['sentence']}")


def print_datasets(datasets: list[dict[str, Any]]) -> None:
    """Datasets as a catalogue has them, and their terms in plain words."""
    if not datasets:
        say("nothing is offered")
    for one in datasets:
        say(_texts(one.get("dct:title")), head=one["@id"], style="bold")
        about = ", ".join(_about(one))
        if about:
            say(f"  {about}")
        for column in one.get("ds:columns", []):
            form = column.get("ds:canonicaliser")
            note = f" ({form})" if form else ""
            held = column.get("ds:class")
            also = f", {_label(held, CLASSES)}" if held and held != column["ds:role"] else ""
            say(f"  column {column['ds:name']}: {column['ds:role']}{note}{also}")
        for figures in one.get("ds:quality", []):
            say(
                f"  {figures['ds:name']}: about {figures['ds:valid']} of {figures['ds:rows']} rows "
                "usable"
            )
        for raw in one.get("hasPolicy", []):
            for line in in_words(raw):
                say(f"  {line}")


def _about(dataset: dict[str, Any]) -> list[str]:
    """What a dataset says of itself, each as people call it in both languages."""
    found = [
        _label(dataset.get("dcat:theme"), THEMES),
        dataset.get("dct:spatial"),
        _label(dataset.get("dct:accrualPeriodicity"), FREQUENCIES),
        f"graded {dataset['ds:grade']}" if dataset.get("ds:grade") else None,
        f"classes {dataset['ds:classification']}" if dataset.get("ds:classification") else None,
        _label(dataset.get("ds:legalBasis"), LEGAL_BASES),
    ]
    return [one for one in found if isinstance(one, str)]


def _label(word: object, known: Mapping[str, Term]) -> str | None:
    term = known.get(word) if isinstance(word, str) else None
    if term is None:
        return word if isinstance(word, str) else None
    return f"{term.label_en} {term.label_zh}"


def _texts(written_texts: object) -> str:
    """A text of JSON-LD in every language it is in."""
    if isinstance(written_texts, str):
        return written_texts
    if isinstance(written_texts, list):
        return " · ".join(
            str(one.get("@value", "")) if isinstance(one, dict) else str(one)
            for one in written_texts
        )
    return ""
