"""The evidence log as others read it: checkpoint and tiles for everybody (C2SP tlog-tiles), entry
bodies for regulators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response

from dataspace.errors import NotFound
from dataspace.evidence import MAX_ENTRIES_A_PAGE
from dataspace.store.log_store import SqlNodeStore
from dataspace.web.access import CurrentNode, CurrentRegulator
from ledger.errors import InputRejected
from ledger.tiles import TILE_WIDTH, entry_bundle, parse_tile_path, tile_bytes

router = APIRouter(prefix="/tlog", tags=["evidence log"])


@router.get("/checkpoint", response_class=PlainTextResponse)
def checkpoint(node: CurrentNode) -> str:
    """The newest checkpoint, a signed note."""
    return node.evidence.checkpoint()


@router.get("/tile/{path:path}")
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


@router.get("/entries")
def entries(
    node: CurrentNode,
    caller: CurrentRegulator,
    start: Annotated[int, Query(ge=0)],
    end: Annotated[int, Query(ge=0)],
) -> list[dict[str, Any] | None]:
    """Bodies and salts of the entries start … end-1, at most a page; null where one was erased."""
    shown = node.evidence.entries(start, min(end, start + MAX_ENTRIES_A_PAGE))
    return [entry.to_json() if entry else None for entry in shown]
