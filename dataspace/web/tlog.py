"""The evidence log as others read it: checkpoint and tiles for everybody (C2SP tlog-tiles), entry
bodies for regulators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import PlainTextResponse, Response
from sqlmodel import select

from dataspace.access.permissions import Caller
from dataspace.errors import NotFound
from dataspace.evidence import MAX_ENTRIES_A_PAGE
from dataspace.kinds import Right, may
from dataspace.store.log_store import SqlNodeStore
from dataspace.store.tables import AgreementRow, ComputationRow, TransferRow
from dataspace.web.access import CurrentMember, CurrentNode, CurrentRegulator, For
from dataspace.web.positions import Index, Position
from ledger.entry import open_entry
from ledger.errors import InputRejected
from ledger.tiles import TILE_WIDTH, entry_bundle, parse_tile_path, tile_bytes

router = APIRouter(prefix="/tlog", tags=["evidence log"])


@router.get("/checkpoint", response_class=PlainTextResponse, dependencies=[For(Caller.ANYBODY)])
def checkpoint(node: CurrentNode) -> str:
    """The newest checkpoint, a signed note."""
    return node.evidence.checkpoint()


@router.get("/tile/{path:path}", dependencies=[For(Caller.ANYBODY)])
def tile(node: CurrentNode, path: str) -> Response:
    """A tile of hashes, or a bundle of entries, which are commitments of 32 bytes."""
    try:
        wanted = parse_tile_path(f"tile/{path}")
    except InputRejected as err:
        raise NotFound("there is no such tile", remedy="see the checkpoint for the size") from err
    if wanted.level is None:
        start = wanted.index * TILE_WIDTH
        commitments = node.evidence.commitments(start, start + wanted.width)
        if len(commitments) < wanted.width:
            raise NotFound("the log is not that long yet", remedy="see the checkpoint for the size")
        body = entry_bundle(commitments)
    else:
        with node.store.transaction() as tx:
            try:
                body = tile_bytes(SqlNodeStore(tx), wanted)
            except InputRejected as err:
                raise NotFound(
                    "the log is not that long yet", remedy="see the checkpoint for the size"
                ) from err
    return Response(body, media_type="application/octet-stream")


async def _witness_body(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/witness/add-checkpoint",
    response_class=PlainTextResponse,
    responses={"default": {"description": "why not", "content": {"text/plain": {}}}},
    dependencies=[For(Caller.ANYBODY)],
)
def add_checkpoint(node: CurrentNode, body: Annotated[bytes, Depends(_witness_body)]) -> Response:
    """Cosign another log's checkpoint (C2SP tlog-witness)."""
    answer = node.witnessing.add_checkpoint(body)
    return Response(answer.body, answer.status, media_type=answer.content_type)


@router.get(
    "/witness/{log_id}/checkpoint",
    response_class=PlainTextResponse,
    dependencies=[For(Caller.ANYBODY)],
)
def cosigned_checkpoint(
    node: CurrentNode, log_id: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
) -> str:
    """The newest checkpoint of another log that this node has cosigned (C2SP tlog-witness), by
    SHA-256 of the log's origin: so its owner, too, learns whether it went back."""
    note = node.witnessing.cosigned(log_id)
    if note is None:
        raise NotFound("this node has cosigned no checkpoint of that log")
    return note


@router.get("/proof/{index}", response_class=PlainTextResponse, dependencies=[For(Caller.ANYBODY)])
def proof(node: CurrentNode, index: Index) -> str:
    """Proof that an entry is in the log (c2sp.org/tlog-proof@v1), without its content."""
    return node.evidence.prove(index).proof.to_text()


@router.get("/entry/{index}", dependencies=[For(Caller.MEMBER)])
def entry(node: CurrentNode, caller: CurrentMember, index: Index) -> Any:
    """One entry with body and salt, for a regulator and for the participant it is about."""
    sealed = node.evidence.entry(index)
    about = open_entry(sealed.body, sealed.salt, sealed.commitment).peer
    if not may(caller.kind, Right.READ_ENTRIES) and about != caller.did:
        raise NotFound("the log shows you no such entry", remedy="verify with its proof")
    return sealed.to_json()


@router.get("/documents/{sha256}", dependencies=[For(Caller.REGULATOR)])
def document(
    node: CurrentNode,
    caller: CurrentRegulator,
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
) -> Any:
    """The agreement (JSON) or the signed order (JWS) that entries name by this hash."""
    with node.store.transaction() as tx:
        agreement = tx.exec(select(AgreementRow).where(AgreementRow.document_h == sha256)).first()
        if agreement is not None:
            return {"agreement": agreement.document}
        order = tx.exec(select(ComputationRow).where(ComputationRow.order_h == sha256)).first()
        if order is not None:
            return {"order": order.order_jws}
        refused = tx.exec(select(TransferRow).where(TransferRow.order_h == sha256)).first()
        if refused is not None:
            return {"order": refused.order_jws}
    raise NotFound("this node holds no such document")


@router.get("/entries", dependencies=[For(Caller.REGULATOR)])
def entries(
    node: CurrentNode,
    caller: CurrentRegulator,
    start: Position,
    end: Position,
) -> list[dict[str, Any] | None]:
    """Bodies and salts of the entries start … end-1, at most a page; null where one was erased."""
    shown = node.evidence.entries(start, min(end, start + MAX_ENTRIES_A_PAGE))
    return [entry.to_json() if entry else None for entry in shown]
