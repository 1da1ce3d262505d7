"""Defects to plant into a space after its storm, to see that the verdict names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import create_engine, text

from connectors.personal import Consent, append_consent
from tests.faults.city import Data
from tests.faults.plan import CONSUMER
from tests.faults.space import FaultySpace


@dataclass(frozen=True)
class Defect:
    """What is done to which node, and the rule that must find it."""

    node: str
    rule: str
    plant: Callable[[str, Data], None]


def _statement(sql: str) -> Callable[[str, Data], None]:
    def plant(database: str, _: Data) -> None:
        engine = create_engine(database)
        try:
            with engine.begin() as connection:
                done = connection.execute(text(sql))
        finally:
            engine.dispose()
        if done.rowcount < 1:
            raise LookupError("the storm left nothing that this defect could be planted into")

    return plant


def _untold_consent(_: str, data: Data) -> None:
    now = datetime.now(UTC)
    consent = Consent(
        receipt_id="untold",
        subject="nobody",
        columns=("person",),
        purposes=("none",),
        recipients=("*",),
        given_at=now,
        expires_at=now + timedelta(days=1),
    )
    append_consent(data.consents, consent)


DEFECTS: dict[str, Defect] = {
    "consent-untold": Defect("health-trust", "evidence-consent", _untold_consent),
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


def plant(space: FaultySpace, data: Data, name: str) -> Defect:
    """Plant the defect `name`. Raises LookupError where the storm left nothing to spoil."""
    defect = DEFECTS[name]
    defect.plant(space[defect.node].database, data)
    return defect
