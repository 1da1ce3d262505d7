"""What a dataset has for rules of a release (`connectors.release`) to work on."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from connectors.identifiers import columns_of
from connectors.release import Release, parse_rules
from connectors.source import Source
from contracts.odrl import Agreement, Offer
from contracts.planning import required_release
from dataspace.store.tables import DatasetRow


def published_columns(dataset: DatasetRow) -> list[str]:
    """The columns whose cells a dataset publishes, each once: one may be so in two roles."""
    present = [name for name, _ in dataset.source_schema]
    named = [columns_of(str(one["name"]), present or [str(one["name"])]) for one in dataset.columns]
    return list(dict.fromkeys(name for names in named for name in names))


def block_columns(dataset: DatasetRow) -> list[str]:
    """The columns that say in which division and grid cell a row belongs."""
    return [str(name) for name in (dataset.blocks or {}).values() if name]


def release_of(policy: Offer | Agreement, format_: str, dataset: DatasetRow) -> Release:
    """How rows of the dataset leave under this policy in this format.

    Rows may be chosen by the columns of division and grid cell, published or not. Raises
    `connectors`' InputRejected naming the rule that does not fit the columns, and the remedy.
    """
    rules = required_release(policy, format_)
    return parse_rules(rules, published_columns(dataset), filterable=block_columns(dataset))


def verify_release(
    policy: Offer | Agreement, formats: Iterable[str], dataset: DatasetRow, source: Source
) -> None:
    """Rows of the dataset can leave in these formats as the policy demands. Raises `connectors`'
    InputRejected naming the rule and the remedy."""
    for name in formats:
        release = release_of(policy, name, dataset)
        if release.rules:
            release.schema(schema_read(source, release))


def schema_read(source: Source, release: Release) -> pa.Schema:
    """The types of the columns that the release works on."""
    present = source.schema()
    return pa.schema([present.field(name) for name in release.reads])
