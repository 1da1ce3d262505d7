"""Columns whose values lie sealed where the node has a passphrase."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator

from dataspace.sealed_rows import RowSealing, is_sealed_value


class SealedJson(TypeDecorator[Any]):
    """A JSON column. The database's `Store` says by its dialect with which keys (`use_sealing`);
    `column` is authenticated with each value, so that values stay in their column."""

    impl = JSON
    # A statement that was compiled for one node's column is good for another's.
    cache_ok = True

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = column

    @property
    def should_evaluate_none(self) -> bool:  # type: ignore[override]
        """None is kept as JSON keeps it."""
        return True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        sealing = _sealing(dialect)
        if value is None or sealing is None or not sealing.seals:
            return value
        return sealing.seal_value(value, self.column)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        sealing = _sealing(dialect)
        # Without keys the value stays as it lies there: who moves rows need not read them.
        return value if sealing is None else sealing.open_value(value, self.column)


def use_sealing(dialect: Dialect, sealing: RowSealing) -> None:
    """From now on seal and open the columns of this database so."""
    dialect.row_sealing = sealing  # type: ignore[attr-defined]


def _sealing(dialect: Dialect) -> RowSealing | None:
    return getattr(dialect, "row_sealing", None)


__all__ = ["SealedJson", "is_sealed_value", "use_sealing"]
