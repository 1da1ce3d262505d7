"""What a query over joined sources may say, read from DuckDB's own syntax tree before it runs.

The engine is locked as well (`connectors.joined`); this also keeps out what is no file access but
would make the same sources give other rows: the clock, chance, settings, samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import duckdb

from connectors.errors import InputRejected

MAX_SQL_CHARACTERS: Final = 100_000
# Table functions that read nothing.
_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series"})
# Functions whose value depends on when, where and as whom they are asked.
_CHANGING: Final = frozenset(
    "age ago now today user session_user transaction_timestamp getvariable currval nextval setval "
    "random setseed uuid uuidv4 uuidv7 gen_random_uuid sleep_ms write_log stats version".split()
)
_CHANGING_STARTS: Final = ("current_", "get_current_", "pg_", "inet_", "has_", "txid_", "duckdb_")
# Parts of FROM that are neither a table nor a function; `describe` and `summarize` are others.
_FROM: Final = frozenset({"JOIN", "SUBQUERY", "EXPRESSION_LIST", "EMPTY", "EMPTY_FROM"})


class Query:
    """One SELECT over `members`, each with its columns. Raises InputRejected for anything else."""

    def __init__(self, sql: str, members: Mapping[str, Sequence[str]]) -> None:
        self.sql = sql
        self._members = members
        self._nodes = list(_walk(_tree(sql)))
        self._named = {name.casefold() for name in members}
        self._defined = {
            str(entry["key"]).casefold()
            for node in self._nodes
            for entry in (node.get("cte_map") or {}).get("map", [])
        }
        for node in self._nodes:
            self._verify(node)

    def columns_of(self, member: str) -> list[str]:
        """Which columns of `member` can matter: all, where the query may mean columns that it does
        not name."""
        present = list(self._members[member])
        if self._may_mean_any():
            return present
        named: set[str] = set()
        for node in self._nodes:
            for key in ("column_names", "using_columns"):
                named.update(str(part).casefold() for part in node.get(key) or ())
        # Without any, the rows are still counted.
        return [name for name in present if name.casefold() in named] or present[:1]

    def _may_mean_any(self) -> bool:
        tables = self._named | {
            str(node["alias"]).casefold() for node in self._nodes if "column_name_alias" in node
        } - {""}
        return any(
            node.get("class") in ("STAR", "POSITIONAL_REFERENCE")
            or node.get("ref_type") in ("NATURAL", "POSITIONAL")
            or node.get("column_name_alias")
            # The name of a table as a value is its whole row.
            or any(str(part).casefold() in tables for part in (node.get("column_names") or ())[-1:])
            for node in self._nodes
        )

    def _verify(self, node: Mapping[str, Any]) -> None:
        if node.get("sample"):
            raise InputRejected("sql=: a sample is another one every time; leave it out")
        if "table_name" in node:
            self._verify_table(node)
        elif "function" in node and isinstance(node["function"], Mapping):
            function = str(node["function"].get("function_name", "")).casefold()
            if function not in _TABLE_FUNCTIONS:
                raise _refused(f"the table function {function[:100]}")
        elif "sample" in node and "alias" in node and node.get("type") not in _FROM:
            raise _refused("that kind of table")
        if node.get("class") == "FUNCTION":
            self._verify_function(str(node.get("function_name", "")))
        names = node.get("column_names") or []
        if len(names) == 1 and self._is_changing(str(names[0])) and not self._is_column(names[0]):
            self._verify_function(str(names[0]))

    def _verify_table(self, node: Mapping[str, Any]) -> None:
        name = str(node["table_name"])
        known = name.casefold() in self._named | self._defined
        if not known or node.get("schema_name") or node.get("catalog_name"):
            raise InputRejected(
                f"sql= reads {name[:100]}, which is none of its sources; they are "
                f"{', '.join(self._members)}"
            )

    def _verify_function(self, name: str) -> None:
        if self._is_changing(name):
            raise InputRejected(
                f"sql=: {name[:100]} depends on when or by whom it is asked; the same sources must "
                "give the same rows"
            )

    def _is_changing(self, name: str) -> bool:
        folded = name.casefold()
        return folded in _CHANGING or folded.startswith(_CHANGING_STARTS)

    def _is_column(self, name: object) -> bool:
        present = {one.casefold() for columns in self._members.values() for one in columns}
        return str(name).casefold() in present


def _tree(sql: str) -> dict[str, Any]:
    if len(sql) > MAX_SQL_CHARACTERS or "\0" in sql:
        raise InputRejected(f"sql= takes at most {MAX_SQL_CHARACTERS} characters")
    with _parser().cursor() as parser:
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    parsed = json.loads(row[0]) if row else {}
    statements = parsed.get("statements") or []
    if parsed.get("error") or len(statements) != 1:
        raise InputRejected(
            "sql= takes one SELECT, in the SQL of DuckDB; nothing that writes, and no second "
            "statement"
        )
    tree: dict[str, Any] = statements[0]
    return tree


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An engine that holds nothing and runs nothing, kept because it takes long to start."""
    settings: dict[str, Any] = {"enable_external_access": False, "threads": 1}
    return duckdb.connect(":memory:", config=settings)


def _walk(tree: object) -> Iterator[dict[str, Any]]:
    """All objects of the tree; DuckDB's parser bounds its depth."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _refused(what: str) -> InputRejected:
    return InputRejected(f"sql= may not use {what}; it reads its sources and nothing else")
