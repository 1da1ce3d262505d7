"""What every node holds at one moment, read from its database, its home, its log and the chain.

The verdict is a function of these pictures and of what was asked (`verdict`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlmodel import Session

from dataspace.errors import NotFound
from dataspace.operations.why import why
from dataspace.store import tables
from tests.faults.space import FaultyNode

Row = Mapping[str, Any]
# More of a log is not read for the verdict; a node of a run writes far less.
MAX_LOG_BYTES = 64 * 1024 * 1024
# Directories of a home in which nothing stays behind.
PASSING = ("spool", "outgoing")


@dataclass(frozen=True)
class Picture:
    """One node: rows as its tables hold them, opened entries in order, its log's lines."""

    name: str
    did: str
    origin: str
    negotiations: Sequence[Row] = ()
    agreements: Sequence[Row] = ()
    transfers: Sequence[Row] = ()
    computations: Sequence[Row] = ()
    processes: Sequence[Row] = ()
    deliveries: Sequence[Row] = ()
    checkpoints: Sequence[Row] = ()
    entries: Sequence[Row] = ()
    consents: Sequence[Row] = ()
    log_size: int = 0
    log_lines: Sequence[str] = ()
    leftovers: Sequence[str] = ()
    # What `dataspace why` says of everything that is not done, by id.
    explained: Mapping[str, Row] = field(default_factory=dict)
    # Sizes of this log that the chain holds, in the order of the chain.
    anchors: Sequence[int] = field(default=())


def engine_of(database: str) -> Engine:
    if database.startswith("sqlite:///"):
        path = database.removeprefix("sqlite:///")
        database = f"sqlite:///file:{path}?mode=ro&uri=true"
    return create_engine(database, poolclass=NullPool)


def peer_pid(database: str, peer: str, pid: str) -> str | None:
    """The node's own name for the negotiation that its peer calls `pid`, once it has it."""
    table: Any = tables.NegotiationRow.__table__  # type: ignore[attr-defined]
    wanted = select(table.c.pid).where(table.c.peer == peer, table.c.peer_pid == pid)
    try:
        with engine_of(database).connect() as connection:
            return connection.execute(wanted).scalar()
    except SQLAlchemyError:
        # The database is away at the moment; whoever asks looks again.
        return None


def take(node: FaultyNode, *, anchors: Sequence[int] = (), consents: Path | None = None) -> Picture:
    """Everything the verdict wants to know of a node. Raises SQLAlchemyError while it cannot be
    read."""
    with engine_of(node.database).connect() as connection, Session(connection) as session:

        def rows(model: Any, *order: str) -> list[Row]:
            table = model.__table__
            found = select(table).order_by(*(table.c[name] for name in order))
            return [dict(row) for row in connection.execute(found).mappings()]

        size = connection.execute(select(tables.LogStateRow.__table__.c.size)).scalar() or 0  # type: ignore[attr-defined]
        bodies = rows(tables.EntryRow, "position")
        work = {
            name: rows(model, "created_at")
            for name, model in (
                ("negotiations", tables.NegotiationRow),
                ("transfers", tables.TransferRow),
                ("computations", tables.ComputationRow),
            )
        }
        return Picture(
            name=node.name,
            did=node.did,
            origin=f"{node.url.removeprefix('http://')}/tlog",
            agreements=rows(tables.AgreementRow, "finalized_at"),
            processes=rows(tables.ProcessRow, "id"),
            deliveries=rows(tables.DeliveryRow, "transfer", "number"),
            checkpoints=rows(tables.CheckpointRow, "size"),
            entries=[
                {"position": row["position"], **json.loads(row["body"])}
                for row in bodies
                if row["body"] is not None
            ],
            consents=list(_receipts(consents)) if consents else (),
            log_size=size,
            log_lines=_lines(node.log),
            leftovers=tuple(_leftovers(node.home.path)),
            anchors=tuple(anchors),
            explained=dict(_explained(session, [one for each in work.values() for one in each])),
            **work,
        )


def _explained(session: Session, work: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in work:
        name, state = row.get("pid", row.get("id")), row.get("state", row.get("status"))
        if state not in ("FINALIZED", "COMPLETED"):
            with suppress(NotFound):
                yield str(name), why(session, str(name)).to_json()


def _receipts(path: Path) -> Iterator[Row]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _lines(path: Path) -> list[str]:
    with path.open("rb") as log:
        return log.read(MAX_LOG_BYTES).decode("utf-8", "replace").splitlines()


def _leftovers(home: Path) -> Iterator[str]:
    for name in PASSING:
        directory = home / name
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                yield f"{name}/{path.name}"
    for path in sorted(home.rglob("*")):
        if path.suffix in (".part", ".tmp") or path.name.endswith("~"):
            yield str(path.relative_to(home))
