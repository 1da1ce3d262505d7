"""Routes for the node's owner: publish, look, negotiate, compute, and see what happened."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement
from sqlmodel import and_, col, not_, or_, select

from dataspace import __version__
from dataspace.access.permissions import Permission
from dataspace.computing.ordering import ComputationRequest
from dataspace.computing.spools import result_name
from dataspace.errors import NotFound
from dataspace.evidence import read_space
from dataspace.identity.tokens import MAX_ZONES
from dataspace.node import Node
from dataspace.operations.status import condition_of
from dataspace.rewind import REMEDY
from dataspace.sealed_rows import pieces
from dataspace.settings import ParticipantKind
from dataspace.store.paging import MAX_LISTED, Page
from dataspace.store.tables import (
    ComputationRow,
    ProcessRow,
)
from dataspace.web.access import CurrentNode, CurrentOperator, Needs
from dataspace.web.positions import Index, Limit, Position
from privacy.kinds import KINDS

# Housekeeping that always waits for its time is nothing an owner has to know of.
IN_THE_BACKGROUND = (
    "look-after-status-lists",
    "use-signing-key",
    "retire-signing-key",
    "list-participants",
)
PLANNED = ("tidy", "renew-membership", "look-at-dataset", "look-after-zones", *IN_THE_BACKGROUND)

router = APIRouter(prefix="/api", tags=["owner's API"])


class InvitationRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ParticipantKind
    zones: tuple[str, ...] = Field(default=(), max_length=MAX_ZONES)


class JoinRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    invitation: str = Field(min_length=16, max_length=128)


@router.get("/status", dependencies=[Needs(Permission.STATUS_READ)])
def status(node: CurrentNode) -> dict[str, Any]:
    """Who this node is, whether it has joined, how its evidence stands, what waits and why."""
    with node.store.transaction() as tx:
        space = read_space(tx)
        joined = node.member(tx)
        waiting = tx.exec(
            select(ProcessRow).where(_waits_or_failed()).order_by(col(ProcessRow.due_at)).limit(100)
        ).all()
    return {
        "version": __version__,
        "did": node.did,
        "kind": node.home.settings.kind,
        "name": node.home.settings.name,
        "url": node.home.url,
        "joined": joined,
        "account": node.account_address,
        "space": None
        if space is None
        else {
            "operator": space.operator,
            "rpc_url": space.rpc_url,
            "contract": space.contract,
            "chain_id": space.chain_id,
        },
        "log": {
            "origin": node.evidence.origin,
            "size": node.evidence.size(),
            "anchored": node.evidence.anchored_size(),
            "vkey": node.evidence.vkey,
            "post_quantum_vkey": node.evidence.post_quantum_vkey,
            "rotating": node.rotation.in_progress(),
            "standing": _standing(node),
        },
        "datasets_in_trouble": node.versions.troubles(),
        "processes": [
            {
                "id": row.id,
                "kind": row.kind,
                "subject": row.subject,
                "state": row.state,
                "attempts": row.attempts,
                "due_in_s": round(row.due_at - time.time(), 1),
                "last_error": row.last_error,
            }
            for row in waiting
        ],
        **condition_of(node),
    }


def _standing(node: Node) -> dict[str, Any]:
    """How the log stands to what the chain and the witnesses hold of it; unknown until the chain
    has answered once."""
    found = node.rewind.standing
    if found is None:
        return {"verdict": "unknown", "sentence": None, "remedy": None, "holder": None}
    return {
        "verdict": found.verdict,
        "sentence": found.sentence(),
        "remedy": None if found.sound else REMEDY,
        "holder": found.head.holder if found.head else None,
    }


@router.post("/join", status_code=202, dependencies=[Needs(Permission.SPACE_JOIN)])
def join(node: CurrentNode, asked: JoinRequest) -> dict[str, str]:
    """Join the space with an operator's invitation; `joined` in the status tells when it has."""
    node.join(asked.invitation)
    return {"status": "joining"}


@router.get("/kinds", dependencies=[Needs(Permission.STATUS_READ)])
def kinds(node: CurrentNode) -> list[dict[str, Any]]:
    """The computations this node can take part in, and what each party learns in them."""
    return [
        {
            "name": kind.name,
            "title": kind.title,
            "title_zh": kind.title_zh,
            "leakage": dict(kind.leakage),
            "columns": {role: list(names) for role, names in kind.columns.items()},
            "optional": {role: list(names) for role, names in kind.optional.items()},
            "settings": list(kind.settings),
            "adds_noise": kind.adds_noise,
        }
        for kind in KINDS.values()
    ]


@router.post("/computations", status_code=202, dependencies=[Needs(Permission.COMPUTATION_ORDER)])
def compute(node: CurrentNode, asked: ComputationRequest) -> dict[str, Any]:
    """Order a computation; poll the answer's id until its status is final."""
    return _computation(node, node.computations.order(asked))


@router.get("/computations", dependencies=[Needs(Permission.COMPUTATION_READ)])
def computations(
    node: CurrentNode, limit: Limit = MAX_LISTED, offset: Position = 0
) -> list[dict[str, Any]]:
    """Computations this node takes part in, newest first."""
    page = Page(limit, offset)
    return [_computation(node, row) for row in node.computations.newest(page)]


@router.get("/computations/{computation}", dependencies=[Needs(Permission.COMPUTATION_READ)])
def computation(node: CurrentNode, computation: str) -> dict[str, Any]:
    return _computation(node, node.computations.get(computation))


@router.get(
    "/computations/{computation}/identifiers", dependencies=[Needs(Permission.COMPUTATION_READ)]
)
def computation_identifiers(node: CurrentNode, computation: str) -> StreamingResponse:
    """The identifiers of a result that is too long to be shown, one JSON text a line."""
    row = node.computations.get(computation)
    path = node.running.spools.result(row.id)
    if row.attachment is None or not path.is_file():
        raise NotFound("this computation has no long result", remedy="its value holds all there is")

    def opened() -> Iterator[bytes]:
        with node.rows.opened(path, result_name(row.id)) as reading:
            yield from pieces(reading)

    return StreamingResponse(opened(), media_type="application/jsonl")


@router.get("/log", dependencies=[Needs(Permission.EVIDENCE_READ)])
def log_entries(
    node: CurrentNode,
    start: Position = 0,
    end: Position = 1000,
) -> list[dict[str, Any] | None]:
    """This node's own evidence, as an auditor would be shown it."""
    return [entry.to_json() if entry else None for entry in node.evidence.entries(start, end)]


@router.get("/log/{index}", dependencies=[Needs(Permission.EVIDENCE_READ)])
def log_entry(node: CurrentNode, index: Index) -> dict[str, Any]:
    """One entry with its proof, to hand to somebody who verifies it without this node."""
    proved = node.evidence.prove(index)
    with node.store.transaction() as tx:
        space = read_space(tx)
    return {
        "entry": node.evidence.entry(index).to_json(),
        "proof": proved.proof.to_text(),
        "anchor": {
            "origin": node.evidence.origin,
            "vkey": node.evidence.vkey,
            "post_quantum_vkey": node.evidence.post_quantum_vkey,
            "size": proved.size,
            "root": proved.root,
            "block": proved.block,
            "transaction": proved.transaction,
            "contract": space.contract if space else None,
            "chain_id": space.chain_id if space else None,
        },
    }


@router.post("/log/{index}/erasure", dependencies=[Needs(Permission.EVIDENCE_ERASE)])
def erase_entry(node: CurrentNode, index: Index) -> dict[str, int]:
    """Destroy an entry's body and salt; its commitment and every proof stay."""
    node.evidence.erase(index)
    return {"erased": index}


@router.post("/log/rotation", status_code=202, dependencies=[Needs(Permission.KEY_ROTATE)])
def rotate_log_key(node: CurrentNode) -> dict[str, str]:
    """Give the log a new key; `rotating` in the status tells when the chain has it."""
    node.rotation.begin()
    return {"status": "rotating"}


@router.get("/chain", dependencies=[Needs(Permission.STATUS_READ)])
def chain_file(node: CurrentNode) -> StreamingResponse:
    """The embedded chain's file as it is now, for a backup: only the process that mines can read
    it. What is in it is public."""
    if node.chain is None:
        raise NotFound("this node runs no embedded chain")
    # Without a name once it is open: gone with the answer, however that ends.
    path = node.home.path / f".chain-{secrets.token_hex(8)}"
    try:
        node.chain.copy_to(path)
        file = path.open("rb")
    finally:
        path.unlink(missing_ok=True)

    def content() -> Iterator[bytes]:
        with file:
            yield from pieces(file)

    return StreamingResponse(content(), media_type="application/vnd.sqlite3")


@router.post("/invitations", status_code=201, dependencies=[Needs(Permission.MEMBER_INVITE)])
def invite(operator: CurrentOperator, asked: InvitationRequest) -> dict[str, str]:
    """A code with which one participant of this kind can join the space."""
    return {"invitation": operator.invite(asked.kind, asked.zones)}


def _waits_or_failed() -> ColumnElement[bool]:
    """What is due, was tried, or failed; not what is only planned for later."""
    waits = or_(col(ProcessRow.attempts) > 0, col(ProcessRow.due_at) <= time.time())
    planned = col(ProcessRow.kind).in_(PLANNED)
    return or_(
        col(ProcessRow.state) == "failed",
        and_(col(ProcessRow.state) == "ready", waits, not_(planned)),
    )


def _computation(node: Node, row: ComputationRow) -> dict[str, Any]:
    refusal = {
        "reason": row.reason,
        "clause": row.clause,
        "remedy": row.remedy,
        "refused_by": row.refused_by,
    }
    return {
        "id": row.id,
        "kind": row.kind,
        "role": row.role,
        "purpose": row.purpose,
        "status": row.status,
        "value": row.value,
        "refusal": refusal if row.reason else None,
        "own_input": None
        if row.local_input is None
        else {"rows": row.local_input["rows"], "excluded": row.local_input["excluded"]},
        "report": row.report,
        "attachment": row.attachment,
        "progress": node.computations.progress(row),
        "order_sha256": row.order_h,
        "transcript_sha256": row.transcript_h,
        "signatures": row.signatures,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }
