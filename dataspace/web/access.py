"""Who may call. Every route names its caller, and those for the owner's side their permission:

    router = APIRouter(prefix="/compute", dependencies=[For(Caller.MEMBER)])
    @router.post("/datasets", dependencies=[Needs(Permission.DATASET_PUBLISH)])

`Needs` refuses whoever lacks the permission. `For` only declares: members, people and holders of a
transfer's token prove themselves to the parameter that needs to know them (`CurrentMember`, …).
A route that declares nothing, or twice, keeps the application from being made
(`dataspace.web.declarations`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, cast

import structlog
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import event
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from dataspace.access.acts import Act
from dataspace.access.attempts import MINUTE_S
from dataspace.access.gate import Access
from dataspace.access.holding import Approved, Asked, Held
from dataspace.access.permissions import RULES, Caller, Permission, is_act, may
from dataspace.access.principal import HOME, Principal
from dataspace.errors import Denied, NotFound, Unauthenticated
from dataspace.identity.tokens import Member
from dataspace.kinds import Right
from dataspace.kinds import may as may_do
from dataspace.node import Node
from dataspace.operator import Operator
from dataspace.protocol import BASE
from dataspace.rates import CATALOGUES, MESSAGES
from dataspace.store.engine import Store
from dataspace.web.limits import FRAMES, address_of

log = structlog.get_logger("dataspace.access")

# Pages of the catalogue cost more than a message; the description of one dataset does not.
CATALOGUE = f"{BASE}/catalog/request"


def _bearer(name: str, description: str) -> HTTPBearer:
    return HTTPBearer(scheme_name=name, description=description, auto_error=False)


OWNER_SCHEME = _bearer(
    "accessKey", "a key of this node, or an access token of its identity provider"
)
MEMBER_SCHEME = _bearer("memberToken", "a participant's self-issued token, good for one request")
PERSON_SCHEME = _bearer("accessCode", "the access code of a person in a vault")
TRANSFER_SCHEME = _bearer("transferToken", "the token in a transfer's data address")

_Given = HTTPAuthorizationCredentials | None
OwnerCredentials = Annotated[_Given, Depends(OWNER_SCHEME)]
MemberCredentials = Annotated[_Given, Depends(MEMBER_SCHEME)]
PersonCredentials = Annotated[_Given, Depends(PERSON_SCHEME)]
TransferCredentials = Annotated[_Given, Depends(TRANSFER_SCHEME)]


async def node_of(request: Request) -> Node:
    # Not a plain function: for that one FastAPI would change threads with every request.
    return cast(Node, request.app.state.node)


CurrentNode = Annotated[Node, Depends(node_of)]


@dataclass(frozen=True)
class Declaration:
    """Whom a route is for, and what an owner's side needs for it."""

    caller: Caller
    permission: Permission | None = None


@dataclass(frozen=True)
class Announced:
    """The dependency of a route that only says whom it is for."""

    declaration: Declaration

    async def __call__(self) -> None:
        return None


@dataclass(frozen=True)
class Guard:
    """Lets in whoever has the permission."""

    declaration: Declaration

    async def __call__(
        self, request: Request, node: CurrentNode, credentials: OwnerCredentials
    ) -> None:
        assert self.declaration.permission is not None
        await admit(request, node, credentials, self.declaration.permission)


@dataclass(frozen=True)
class ActGuard:
    """As `Guard`, for what is recorded with the person who does it: in the transaction of the first
    change, or alone where there is none in the node's database. What needs two persons is held."""

    declaration: Declaration

    async def __call__(
        self, request: Request, node: CurrentNode, credentials: OwnerCredentials
    ) -> AsyncIterator[None]:
        permission, access = self.declaration.permission, node.access
        assert permission is not None
        principal = await admit(request, node, credentials, permission)
        approved = approved_in(request)
        act = Act(
            principal,
            permission,
            request.method,
            request.url.path,
            approved_by=approved.approver.person if approved else None,
        )
        if permission in access.two_persons and approved is None:
            asked = await asked_in(request)
            raise Held(await run_in_threadpool(access.requests.hold, act, asked))
        recorder = _Recorder(access, act, approved)
        with node.store.accompanied(recorder):
            yield
        if not recorder.recorded:
            await run_in_threadpool(recorder.record_alone, node.store)


class _Recorder:
    """Writes an act once, whichever transaction of its request is the first to be committed."""

    def __init__(self, access: Access, act: Act, approved: Approved | None) -> None:
        self.recorded = False
        self._access = access
        self._act = act
        self._approved = approved

    def __call__(self, tx: Session) -> None:
        if self.recorded:
            return
        self._access.acts.write(tx, self._act)
        if self._approved is not None:
            self._access.requests.settle(tx, self._approved)
        event.listen(tx, "after_commit", self._committed, once=True)

    def record_alone(self, store: Store) -> None:
        with store.transaction() as tx:
            self(tx)

    def _committed(self, _: object) -> None:
        self.recorded = True


def For(caller: Caller) -> Any:
    """Declares whom a route is for."""
    return Depends(Announced(Declaration(caller)))


def Needs(permission: Permission) -> Any:
    """Declares what a route for the owner's side needs, and refuses who lacks it."""
    declaration = Declaration(Caller.OWNER_SIDE, permission)
    if is_act(permission):
        # It ends before the answer is sent: what could not be recorded was not done.
        return Depends(ActGuard(declaration), scope="function")
    return Depends(Guard(declaration))


async def admit(
    request: Request,
    node: Node,
    credentials: HTTPAuthorizationCredentials | None,
    permission: Permission,
) -> Principal:
    """Who calls, once that and their permission are verified.

    Raises Unauthenticated, Denied, or 429 for an address that has failed too often. Whoever proves
    who they are is let in however often others at the same address have failed.
    """
    approved = approved_in(request)
    if approved is not None:
        principal = approved.asker
    else:
        given = credentials.credentials if credentials else ""
        try:
            # The home's own key, the one that programs use, costs no thread and no query.
            at_home = node.access.is_home_key(given)
            principal = HOME if at_home else await run_in_threadpool(node.access.recognise, given)
        except Unauthenticated as err:
            _count_failure(request, node, err)
            raise
    request.state.principal = principal
    verify_permission(principal, permission)
    return principal


def _count_failure(request: Request, node: Node, err: Unauthenticated) -> None:
    address = address_of(request.scope, node.home.settings.trusted_proxies)
    attempts = node.access.attempts
    log.info("a caller was not recognised", address=address, reason=err.sentence)
    if not attempts.allow(address):
        raise HTTPException(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too many wrong keys from this address; wait a minute",
            {"retry-after": str(int(MINUTE_S))},
        ) from err
    attempts.failed(address)


def verify_permission(principal: Principal, permission: Permission) -> None:
    """Raises Denied unless one of the caller's roles has the permission."""
    if not may(principal.roles, permission):
        having = ", ".join(sorted(RULES[permission].roles))
        raise Denied(
            f"this needs the permission {permission}, which your role does not have",
            remedy=f"ask somebody who has one of the roles: {having}",
        )


# Where a request is carried out that somebody else approved. Only this process can put it there:
# a scope is made by the server, and headers have their own place in it.
APPROVED = "dataspace.approved"


def approved_in(request: Request) -> Approved | None:
    """The approval under which a held request is carried out; None for a call from outside."""
    found = request.scope.get(APPROVED)
    return found if isinstance(found, Approved) else None


async def asked_in(request: Request) -> Asked:
    """The request as it came, to be carried out later."""
    return Asked(
        method=request.method,
        path=request.scope["path"],
        query=request.scope["query_string"].decode("latin-1"),
        content_type=request.headers.get("content-type", ""),
        body=await request.body(),
    )


async def principal_of(request: Request) -> Principal:
    return cast(Principal, request.state.principal)


def member(request: Request, node: CurrentNode, _: MemberCredentials) -> Member:
    """A member of the space, by a self-issued token with its membership credential."""
    caller = node.peers.authenticate(request.headers.get("authorization"))
    path = request.url.path
    if not path.startswith(FRAMES):
        node.rates.take(CATALOGUES if path.startswith(CATALOGUE) else MESSAGES, caller.did)
    return caller


def holder(request: Request, node: CurrentNode, _: MemberCredentials) -> str:
    """A DID, proved by a token; its holder need not be a member."""
    did = node.peers.authenticate_did(request.headers.get("authorization"))
    node.rates.take(MESSAGES, did)
    return did


def regulator(caller: Annotated[Member, Depends(member)]) -> Member:
    """A member that its operator's credential calls a regulator."""
    if not may_do(caller.kind, Right.READ_ENTRIES):
        raise Denied(
            f"entry bodies are shown to regulators, not to participants of kind {caller.kind}",
            remedy="verify with the commitments, which are public",
        )
    return caller


def operator_of(node: CurrentNode) -> Operator:
    if node.operator is None:
        raise NotFound("this node is not the operator of a space", remedy="ask the operator's node")
    return node.operator


CurrentMember = Annotated[Member, Depends(member)]
CurrentDid = Annotated[str, Depends(holder)]
CurrentRegulator = Annotated[Member, Depends(regulator)]
CurrentOperator = Annotated[Operator, Depends(operator_of)]
# Only on a route that `Needs` a permission.
CurrentPrincipal = Annotated[Principal, Depends(principal_of)]
