"""Defects to plant into a space after its storm, to see that the verdict names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, text

from tests.faults.plan import CONSUMER
from tests.faults.space import FaultySpace


@dataclass(frozen=True)
class Defect:
    """What is done to which node's database, and the rule that must find it."""

    node: str
    rule: str
    plant: Callable[[Connection], None]


def _statement(sql: str) -> Callable[[Connection], None]:
    def plant(database: Connection) -> None:
        done = database.execute(text(sql))
        if done.rowcount < 1:
            raise LookupError("the storm left nothing that this defect could be planted into")

    return plant


DEFECTS: dict[str, Defect] = {
    "evidence-dropped": Defect(
        CONSUMER,
        "log-gaps",
        _statement("DELETE FROM entry WHERE position = (SELECT max(position) FROM entry)"),
    ),
    "result-altered": Defect(
        CONSUMER,
        "result-wrong",
        _statement(
            "UPDATE computation SET value = '{\"count\": 1}' WHERE id = (SELECT id FROM"
            " computation WHERE status = 'COMPLETED' AND kind != 'aggregate/2' LIMIT 1)"
        ),
    ),
    "side-changed": Defect(
        CONSUMER,
        "sides-differ",
        _statement(
            "UPDATE transfer SET state = 'TERMINATED' WHERE pid = (SELECT pid FROM transfer"
            " WHERE state = 'COMPLETED' LIMIT 1)"
        ),
    ),
    "use-forgotten": Defect(
        "insurer",
        "uses-counted",
        _statement("UPDATE agreement SET use_count = use_count + 1 WHERE role = 'PROVIDER'"),
    ),
    "work-left": Defect(
        "insurer",
        "process-waits",
        _statement(
            "UPDATE process SET state = 'ready', lease_until = 0, due_at = due_at + 100000"
            " WHERE id = (SELECT max(id) FROM process WHERE kind = 'deliver')"
        ),
    ),
}


def plant(space: FaultySpace, name: str) -> Defect:
    """Plant the defect `name`. Raises LookupError where the storm left nothing to spoil."""
    defect = DEFECTS[name]
    engine = create_engine(space[defect.node].database)
    try:
        with engine.begin() as database:
            defect.plant(database)
    finally:
        engine.dispose()
    return defect
