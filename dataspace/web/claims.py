"""Routes of the Decentralized Claims Protocol 1.0, and what the owner sees of it.

A token is good for one request, refused or not: it is spent in the transaction of what is done, and
by itself where nothing is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

import contracts.errors
from dataspace.access.permissions import Caller, Permission
from dataspace.claims import BASE, CREDENTIAL_SERVICE, ISSUER_SERVICE
from dataspace.claims.issuer import Issuer
from dataspace.claims.jwts import id_of, peek_jwt
from dataspace.claims.messages import (
    CredentialMessage,
    CredentialOfferMessage,
    CredentialRequestMessage,
    Message,
    PresentationQueryMessage,
    parse,
)
from dataspace.claims.token_service import parse_token_request
from dataspace.errors import (
    NotFound,
    ProtocolViolation,
    Unauthenticated,
)
from dataspace.identity.tokens import Claims
from dataspace.node import Node
from dataspace.rates import PRESENTATIONS
from dataspace.web.access import CurrentNode, For, Needs

router = APIRouter(tags=["Decentralized Claims Protocol"])
owner_router = APIRouter(prefix="/api/credentials", tags=["owner's API"])

JSON = "application/json"
Name = Annotated[str, InPath(min_length=1, max_length=512)]
Did = Annotated[str, Field(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]

# What is done with a message in the transaction that spends its token.
Act = Callable[[Session], Response]


class CredentialsWanted(BaseModel):
    """Credentials to ask an issuer for; the operator of the space where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Did | None = None
    types: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=lambda: ["MembershipCredential"], min_length=1, max_length=16
    )


def _act(node: Node, request: Request, verify: Callable[[Claims], Act]) -> Response:
    """Who sent this, then `verify` what came, then act on it: the last in one transaction with the
    spent token."""
    claims = node.peers.recognise_claims(request.headers.get("authorization"))
    try:
        node.rates.take(PRESENTATIONS, claims.did)
        act = verify(claims)
        with node.store.transaction() as tx:
            node.peers.spend_claims(tx, claims)
            return act(tx)
    except Unauthenticated:
        raise
    except Exception:
        with node.store.transaction() as tx:
            node.peers.spend_claims(tx, claims)
        raise


def _claimed(request: Request) -> dict[str, Any]:
    """What the bearer's token says, unverified: enough to turn strangers away before their DID
    document is fetched. Raises Unauthenticated."""
    scheme, _, token = (request.headers.get("authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("no bearer token came", remedy="send Authorization: Bearer TOKEN")
    try:
        return peek_jwt(token)
    except (ProtocolViolation, contracts.errors.ProtocolViolation) as err:
        raise Unauthenticated("the token is malformed") from err


def _issuer_of(node: Node) -> Issuer:
    if node.claims.issuer is None:
        raise NotFound("this node issues no credentials", remedy="ask the operator of the space")
    return node.claims.issuer


def _json(message: Message, status: int = 200) -> Response:
    return Response(message.to_bytes(), status, media_type=JSON)


# ---- the holder's credential service ------------------------------------------------------------


@router.post(f"{CREDENTIAL_SERVICE}/presentations/query", dependencies=[For(Caller.DID)])
async def query(request: Request, node: CurrentNode) -> Response:
    """PresentationQueryMessage: shows what the access token in the caller's token allows."""
    body = await request.body()
    return await run_in_threadpool(_query, node, request, body)


def _query(node: Node, request: Request, body: bytes) -> Response:
    claimed = _claimed(request)
    node.claims.holder.open_access(str(claimed.get("iss")), claimed.get("token"))

    def verify(claims: Claims) -> Act:
        message = parse(PresentationQueryMessage, body)
        return lambda tx: _json(node.claims.holder.show(tx, claims, message))

    return _act(node, request, verify)


@router.post(f"{CREDENTIAL_SERVICE}/credentials", dependencies=[For(Caller.DID)])
async def keep(request: Request, node: CurrentNode) -> Response:
    """CredentialMessage: an issuer answers what this node asked it for."""
    body = await request.body()
    return await run_in_threadpool(_keep, node, request, body)


def _keep(node: Node, request: Request, body: bytes) -> Response:
    _verify_writer(node, request)

    def verify(claims: Claims) -> Act:
        message = parse(CredentialMessage, body)
        credentials = node.claims.holder.open_answer(claims, message)

        def act(tx: Session) -> Response:
            node.claims.holder.keep(tx, claims, message, credentials)
            return Response(status_code=200)

        return act

    return _act(node, request, verify)


@router.post(f"{CREDENTIAL_SERVICE}/offers", dependencies=[For(Caller.DID)])
async def offer(request: Request, node: CurrentNode) -> Response:
    """CredentialOfferMessage: an issuer tells what this node could ask it for."""
    body = await request.body()
    return await run_in_threadpool(_offer, node, request, body)


def _offer(node: Node, request: Request, body: bytes) -> Response:
    _verify_writer(node, request)

    def verify(claims: Claims) -> Act:
        message = parse(CredentialOfferMessage, body)

        def act(tx: Session) -> Response:
            node.claims.holder.offered(tx, claims, message)
            return Response(status_code=200)

        return act

    return _act(node, request, verify)


def _verify_writer(node: Node, request: Request) -> None:
    writer = str(id_of(_claimed(request).get("iss")))
    with node.store.transaction() as tx:
        node.claims.holder.verify_writer(tx, writer)


# ---- the issuer's service -----------------------------------------------------------------------


@router.post(f"{ISSUER_SERVICE}/credentials", status_code=201, dependencies=[For(Caller.DID)])
async def ask(request: Request, node: CurrentNode) -> Response:
    """CredentialRequestMessage: a member asks for credentials, which are delivered later."""
    body = await request.body()
    return await run_in_threadpool(_ask, node, request, body)


def _ask(node: Node, request: Request, body: bytes) -> Response:
    issuer = _issuer_of(node)
    claimed = str(_claimed(request).get("iss"))
    with node.store.transaction() as tx:
        issuer.verify_member(tx, claimed)

    def verify(claims: Claims) -> Act:
        message = parse(CredentialRequestMessage, body)

        def act(tx: Session) -> Response:
            name = issuer.request(tx, claims, message)
            location = f"{node.home.url}{ISSUER_SERVICE}/requests/{name}"
            return Response(status_code=201, headers={"location": location})

        return act

    return _act(node, request, verify)


@router.get(f"{ISSUER_SERVICE}/requests/{{name}}", dependencies=[For(Caller.DID)])
def request_status(request: Request, node: CurrentNode, name: Name) -> Response:
    """How far a request has come, for the one that made it."""
    issuer = _issuer_of(node)
    return _act(node, request, lambda claims: lambda tx: _json(issuer.status(tx, claims, name)))


@router.get(f"{ISSUER_SERVICE}/metadata", dependencies=[For(Caller.ANYBODY)])
def metadata(node: CurrentNode) -> Response:
    """The credentials that can be asked for."""
    return _json(_issuer_of(node).metadata())


@router.get(f"{ISSUER_SERVICE}/schemas/{{kind}}", dependencies=[For(Caller.ANYBODY)])
def schema(node: CurrentNode, kind: Name) -> JSONResponse:
    """The JSON schema of what a credential of a type says of its subject."""
    return JSONResponse(_issuer_of(node).schema(kind), media_type="application/schema+json")


# ---- the secure token service -------------------------------------------------------------------


@router.post(f"{BASE}/token", dependencies=[For(Caller.ANYBODY)])
async def token(request: Request, node: CurrentNode) -> JSONResponse:
    """OAuth 2 client credentials: a self-issued token of this node, for its owner's programs."""
    body = await request.body()
    asked = parse_token_request(body)
    issued = await run_in_threadpool(node.claims.token_service.token, asked)
    answer = {
        "access_token": issued,
        "token_type": "Bearer",
        "expires_in": node.claims.token_service.lifetime_s,
    }
    return JSONResponse(answer, headers={"cache-control": "no-store"})


# ---- for the owner ------------------------------------------------------------------------------


@owner_router.get("", dependencies=[Needs(Permission.CREDENTIAL_READ)])
def credentials(node: CurrentNode) -> dict[str, Any]:
    """What this node holds, has asked for, and was offered."""
    with node.store.transaction() as tx:
        return {
            "held": node.claims.holder.held(tx),
            "requests": node.claims.holder.asked(tx),
            "offers": node.claims.holder.offers(tx),
        }


@owner_router.post("/requests", status_code=202, dependencies=[Needs(Permission.CREDENTIAL_ASK)])
def ask_issuer(node: CurrentNode, wanted: CredentialsWanted) -> dict[str, str]:
    """Ask an issuer for credentials; they come later, look at GET /api/credentials."""
    issuer = wanted.issuer or node.peers.operator()
    try:
        return {"request": node.claims.holder.ask(issuer, wanted.types), "issuer": issuer}
    except ProtocolViolation as err:
        raise NotFound(err.sentence, remedy="check the issuer's DID") from err
