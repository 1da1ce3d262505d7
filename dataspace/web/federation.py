"""Routes of the federated catalogue: what all participants of the space show this node."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contracts.filters import MAX_CONDITIONS
from dataspace.access.permissions import Permission
from dataspace.federation.searching import MAX_SHOWN, Search
from dataspace.settings import ParticipantKind
from dataspace.web.access import CurrentNode, Needs

router = APIRouter(prefix="/api/federation", tags=["owner's API"])


class SearchQuery(BaseModel):
    """What to look for: a filter as for a catalogue, and of which participants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: tuple[JsonValue, ...] = Field(default=(), max_length=MAX_CONDITIONS)
    kinds: tuple[ParticipantKind, ...] = Field(default=(), max_length=len(ParticipantKind))
    providers: tuple[Annotated[str, Field(max_length=300)], ...] = Field(
        default=(), max_length=MAX_SHOWN
    )
    offset: int = Field(default=0, ge=0, le=100_000)
    limit: int = Field(default=20, ge=1, le=MAX_SHOWN)


@router.post("/search", dependencies=[Needs(Permission.DATASET_READ)])
def search(node: CurrentNode, asked: SearchQuery) -> dict[str, Any]:
    """The datasets that fit, of all participants, as each showed them to this node last."""
    return node.federation.search(
        Search(
            filter=asked.filter,
            kinds=tuple(kind.value for kind in asked.kinds),
            providers=asked.providers,
            offset=asked.offset,
            limit=asked.limit,
        )
    )


@router.get("/nodes", dependencies=[Needs(Permission.DATASET_READ)])
def nodes(node: CurrentNode) -> dict[str, Any]:
    """Whose catalogues are read, when that was last done, and what went wrong."""
    return node.federation.nodes()


@router.post("/refreshes", status_code=202, dependencies=[Needs(Permission.CATALOGUE_ASK)])
def refresh(node: CurrentNode) -> dict[str, float]:
    """Read every catalogue now. What was read since `since` (UNIX seconds) is new."""
    return {"since": node.federation.refresh()}
