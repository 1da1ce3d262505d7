"""How a node stands, read from its database: the source of its metrics and of its status.

Everything is counted by closed sets: kinds, states, roles, operands. Only the outbox is by peer,
and is bounded.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy
from sqlalchemy import func
from sqlmodel import Session, col, select

from contracts.profile import OPERANDS
from contracts.transfer_strategy import RAW_FORMATS
from dataspace.evidence import ANCHOR
from dataspace.identity import tokens
from dataspace.protocol.delivery import DELIVER
from dataspace.store.tables import (
    AgreementRow,
    CheckpointRow,
    ComputationRow,
    DatasetRow,
    LogStateRow,
    NegotiationRow,
    ParticipantRow,
    ProcessRow,
    Setting,
    TransferRow,
    WitnessedRow,
)
from privacy.kinds import KINDS

# Peers whose outboxes are told apart, those that wait longest first; the others are one.
MAX_PEERS = 20
OTHERS = "others"
# Different (agreement, clause) pairs that are looked up for the name of their operand.
MAX_REFUSALS = 500
_CONSTRAINT = re.compile(r"(permission|prohibition)\[(\d{1,4})\](?:\.constraint\[(\d{1,4})\])?")
_FORMATS: Final = frozenset({*KINDS, *RAW_FORMATS})

Counts = Mapping[tuple[str, ...], int]


@dataclass(frozen=True)
class Waiting:
    """Processes of one kind and state: how many, and when the first was due."""

    kind: str
    state: str
    count: int
    due_at: float


@dataclass(frozen=True)
class Outbox:
    """Messages that wait for one peer, and since when the oldest does."""

    peer: str
    count: int
    since: float
    last_error: str | None


@dataclass(frozen=True)
class Standing:
    """A node at one moment. Times are UNIX seconds; mappings are by the labels they name."""

    at: float
    processes: tuple[Waiting, ...]
    outbox: tuple[Outbox, ...]
    # By role and state.
    negotiations: Counts
    waiting_for_person: int
    # By role, format and state.
    transfers: Counts
    # By kind and status.
    computations: Counts
    # By what was refused and the operand or rule that refused.
    refusals: Counts
    datasets: int
    agreements: int
    entries: int
    anchored: int
    # Since when there are entries that no anchor covers; None where there are none.
    unanchored_since: float | None
    witnesses: int
    cosignatures_missing: int
    # At the operator's node only.
    members: int | None
    credential_ends_at: float | None


def read_standing(tx: Session) -> Standing:
    """Read all of it from one state of the database."""
    entries = tx.get(LogStateRow, 1)
    size = entries.size if entries else 0
    newest, anchored, anchored_at = _checkpoints(tx)
    witnesses = tx.exec(select(WitnessedRow.cosigned_size)).all()
    members = tx.exec(select(func.count()).select_from(ParticipantRow)).one()
    return Standing(
        at=time.time(),
        processes=_processes(tx),
        outbox=read_outbox(tx),
        negotiations=_counted(tx, NegotiationRow.role, NegotiationRow.state),
        waiting_for_person=_number(tx, NegotiationRow, col(NegotiationRow.waiting).is_not(None)),
        transfers=_with_known_formats(
            _counted(tx, TransferRow.role, TransferRow.format, TransferRow.state), 1
        ),
        computations=_with_known_formats(
            _counted(tx, ComputationRow.kind, ComputationRow.status), 0
        ),
        refusals=_refusals(tx),
        datasets=_number(tx, DatasetRow, col(DatasetRow.withdrawn_at).is_(None)),
        agreements=_number(tx, AgreementRow, col(AgreementRow.ended_at).is_(None)),
        entries=size,
        anchored=anchored,
        unanchored_since=_unanchored_since(tx, anchored_at) if size > anchored else None,
        witnesses=len(witnesses),
        cosignatures_missing=sum(cosigned < newest for cosigned in witnesses),
        members=members or None,
        credential_ends_at=credential_end(tx),
    )


def read_outbox(tx: Session) -> tuple[Outbox, ...]:
    """The peers that messages wait for, the longest first; beyond some, all others as one."""
    waiting = (
        select(
            ProcessRow.target,
            func.count(),
            func.min(ProcessRow.created_at),
            func.max(ProcessRow.last_error),
        )
        .where(ProcessRow.kind == DELIVER, ProcessRow.state == "ready")
        .group_by(ProcessRow.target)
        .order_by(func.min(ProcessRow.created_at))
    )
    found = [Outbox(*row) for row in tx.exec(waiting).all()]
    shown, others = found[:MAX_PEERS], found[MAX_PEERS:]
    if others:
        count, since = sum(one.count for one in others), min(one.since for one in others)
        shown.append(Outbox(OTHERS, count, since, None))
    return tuple(shown)


def credential_end(tx: Session) -> float | None:
    """When this node's membership credential ends; None before it has joined."""
    row = tx.get(Setting, "membership")
    if row is None:
        return None
    return tokens.credential_end(row.value)


def clause_kind(clause: str, policy: Mapping[str, Any] | None) -> str:
    """Which of the known operands or rules a clause is, so that what a peer writes is no label.

    `clause` is a path into `policy` (`permission[0].constraint[1]`) or the name of a rule.
    """
    if clause in OPERANDS:
        return clause
    found = _CONSTRAINT.match(clause)
    if found is None:
        return "order" if clause.startswith("order.") else "other"
    rules, rule, constraint = found.groups()
    if constraint is None or policy is None:
        return rules
    try:
        operand = policy[rules][int(rule)]["constraint"][int(constraint)]["leftOperand"]
    except (KeyError, IndexError, TypeError):
        return rules
    return operand if operand in OPERANDS else rules


def _processes(tx: Session) -> tuple[Waiting, ...]:
    counted = (
        select(ProcessRow.kind, ProcessRow.state, func.count(), func.min(ProcessRow.due_at))
        .where(col(ProcessRow.state).in_(["ready", "failed"]))
        .group_by(ProcessRow.kind, ProcessRow.state)
    )
    return tuple(Waiting(*row) for row in tx.exec(counted).all())


def _checkpoints(tx: Session) -> tuple[int, int, float]:
    """Size of the newest checkpoint, of the newest anchored one, and when that was signed."""
    newest = tx.exec(select(func.max(CheckpointRow.size))).one() or 0
    confirmed = (
        select(CheckpointRow.size, CheckpointRow.created_at)
        .where(col(CheckpointRow.block).is_not(None))
        .order_by(col(CheckpointRow.size).desc())
        .limit(1)
    )
    found = tx.exec(confirmed).first()
    return newest, *(found or (0, 0.0))


def _unanchored_since(tx: Session, anchored_at: float) -> float:
    """A moment from which on all entries without an anchor are: the process that anchors them was
    scheduled with the first of them, or goes on from the anchor before."""
    began = tx.exec(
        select(func.min(ProcessRow.created_at)).where(
            ProcessRow.kind == ANCHOR, ProcessRow.state == "ready"
        )
    ).one()
    return max(anchored_at, began or 0.0)


def _counted(tx: Session, *columns: Any) -> Counts:
    # Of as many columns as are given, which the typed `select` does not know.
    counted: Any = sqlalchemy.select(*columns, func.count()).group_by(*columns)
    found = tx.connection().execute(counted).all()
    return {tuple(str(value) for value in row[:-1]): int(row[-1]) for row in found}


def _number(tx: Session, table: Any, condition: Any) -> int:
    return int(tx.exec(select(func.count()).select_from(table).where(condition)).one())


def _with_known_formats(counts: Counts, place: int) -> Counts:
    """The same, with what is no format of ours counted as one: a peer chose its name."""
    known: Counter[tuple[str, ...]] = Counter()
    for labels, count in counts.items():
        name = labels[place] if labels[place] in _FORMATS else "other"
        known[(*labels[:place], name, *labels[place + 1 :])] += count
    return known


def _refusals(tx: Session) -> Counts:
    counts: Counter[tuple[str, ...]] = Counter()
    refused = (
        select(TransferRow.agreement, TransferRow.clause, func.count())
        .where(col(TransferRow.clause).is_not(None))
        .group_by(TransferRow.agreement, col(TransferRow.clause))
        .limit(MAX_REFUSALS)
    )
    for agreement, clause, count in tx.exec(refused).all():
        row = tx.get(AgreementRow, agreement)
        counts["transfer", clause_kind(clause or "", row.document if row else None)] += count
    for what, table in (("negotiation", NegotiationRow), ("computation", ComputationRow)):
        clauses = (
            select(table.clause, func.count())
            .where(col(table.clause).is_not(None))
            .group_by(col(table.clause))
            .limit(MAX_REFUSALS)
        )
        for clause, count in tx.exec(clauses).all():
            counts[what, clause_kind(clause or "", None)] += count
    return counts
