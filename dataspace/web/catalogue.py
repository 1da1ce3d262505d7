"""Routes of the catalogue: as peers see it (Dataspace Protocol 2025-1), and as its owner does."""

from __future__ import annotations

import gzip
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contracts import messages as dsp
from contracts.filters import MAX_CONDITIONS
from dataspace.access.permissions import Caller, Permission
from dataspace.catalog import CatalogPage
from dataspace.catalog_pages import MAX_CURSOR_LETTERS
from dataspace.classes import Confirmation
from dataspace.protocol import BASE
from dataspace.protocol.catalogues import fetch_catalog
from dataspace.publication import PolicyChange, Publication
from dataspace.web.access import CurrentMember, CurrentNode, For, Needs
from dataspace.web.protocol import JSON, MAX_MESSAGE_BYTES, Body

REQUEST_PATH = f"{BASE}/catalog/request"
# Below this a packet is saved at most.
MIN_GZIP_BYTES = 2048

router = APIRouter(prefix=BASE, tags=["Dataspace Protocol"], dependencies=[For(Caller.MEMBER)])
owner_router = APIRouter(prefix="/api", tags=["owner's API"])

_CURSOR = Query(alias="continuationToken", max_length=MAX_CURSOR_LETTERS)


class CatalogQuery(BaseModel):
    """Which node's catalogue to look at, and for what: a filter in that node's own language."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(min_length=1, max_length=300)
    filter: tuple[JsonValue, ...] = Field(default=(), max_length=MAX_CONDITIONS)


@router.post("/catalog/request")
def catalog(
    node: CurrentNode,
    peer: CurrentMember,
    request: Request,
    body: Body,
    cursor: Annotated[str | None, _CURSOR] = None,
) -> Response:
    """A page of the catalogue: CatalogRequestMessage, at this address or at a page's link."""
    message = dsp.parse(dsp.CatalogRequestMessage, body, limit_bytes=MAX_MESSAGE_BYTES)
    return _page(request, node.home.url, node.datasets.catalog(peer, message.filter, cursor))


@router.get("/catalog/request")
def catalog_page(
    node: CurrentNode, peer: CurrentMember, request: Request, cursor: Annotated[str, _CURSOR]
) -> Response:
    """A page of the catalogue by its link alone; the filter is the one the link was made for."""
    return _page(request, node.home.url, node.datasets.catalog(peer, cursor=cursor))


@router.get("/catalog/datasets/{dataset_id}")
def dataset(node: CurrentNode, peer: CurrentMember, request: Request, dataset_id: str) -> Response:
    """One dataset, if this peer may see it."""
    return _answer(request, node.datasets.shown(peer, dataset_id))


@owner_router.get("/datasets", dependencies=[Needs(Permission.DATASET_READ)])
def datasets(node: CurrentNode) -> list[dict[str, Any]]:
    """What this node offers and has offered, and from which kinds of peers it is hidden."""
    return [node.datasets.overview(row) for row in node.datasets.all()]


@owner_router.post("/datasets", status_code=201, dependencies=[Needs(Permission.DATASET_PUBLISH)])
def publish(node: CurrentNode, publication: Publication) -> dict[str, Any]:
    """Publish a dataset; answers with its entry, its quality, and remarks on its policy."""
    return node.datasets.publish(publication)


@owner_router.put("/datasets/{dataset_id}/policy", dependencies=[Needs(Permission.DATASET_POLICY)])
def change_policy(node: CurrentNode, dataset_id: str, change: PolicyChange) -> dict[str, Any]:
    """Offer a dataset under another policy; agreements keep theirs."""
    return node.datasets.change_policy(dataset_id, change)


@owner_router.post(
    "/datasets/{dataset_id}/classification", dependencies=[Needs(Permission.DATASET_CLASSIFY)]
)
def confirm(node: CurrentNode, dataset_id: str, asked: Confirmation) -> dict[str, Any]:
    """A person confirms the classes of a dataset's columns, some of them changed."""
    return node.datasets.confirm(dataset_id, asked)


@owner_router.post(
    "/datasets/{dataset_id}/withdrawal", dependencies=[Needs(Permission.DATASET_WITHDRAW)]
)
def withdraw(node: CurrentNode, dataset_id: str) -> dict[str, str]:
    """Offer a dataset no longer; agreements about it go on."""
    node.datasets.withdraw(dataset_id)
    return {"withdrawn": dataset_id}


@owner_router.get("/datasets/{dataset_id}/versions", dependencies=[Needs(Permission.DATASET_READ)])
def versions(node: CurrentNode, dataset_id: str) -> list[dict[str, Any]]:
    """The states of a dataset that were noticed, the newest first."""
    return node.versions.versions(dataset_id)


@owner_router.post("/datasets/{dataset_id}/check", dependencies=[Needs(Permission.DATASET_CHECK)])
def check(node: CurrentNode, dataset_id: str) -> dict[str, Any]:
    """Look at a dataset's source now: has it changed, and is it still what was published?"""
    return node.versions.check(dataset_id)


@owner_router.post("/catalog", dependencies=[Needs(Permission.CATALOGUE_ASK)])
def peer_catalog(node: CurrentNode, query: CatalogQuery) -> dict[str, Any]:
    """The catalogue of another node, as it shows it to this one."""
    return fetch_catalog(node.peers, query.url, query.filter).to_json()


def _page(request: Request, url: str, page: CatalogPage) -> Response:
    """A page with its links (RFC 8288), as the protocol's binding wants them."""
    response = _answer(request, page.catalog)
    for relation, cursor in (("previous", page.previous), ("next", page.next)):
        if cursor is not None:
            target = f"{url}{REQUEST_PATH}?continuationToken={cursor}"
            response.headers.append("link", f'<{target}>; rel="{relation}"')
    return response


def _answer(request: Request, message: dsp.Document) -> Response:
    body = message.to_bytes()
    headers = {"vary": "accept-encoding"}
    if len(body) >= MIN_GZIP_BYTES and _takes_gzip(request.headers.get("accept-encoding", "")):
        body = gzip.compress(body, compresslevel=5, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, media_type=JSON, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and not as what is refused (q=0)."""
    for one in accepted.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() == "gzip":
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False
