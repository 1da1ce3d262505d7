"""Who may call. Every route names its caller, and those for the owner's side their permission:

    router = APIRouter(prefix="/compute", dependencies=[For(Caller.MEMBER)])
    @router.post("/datasets", dependencies=[Needs(Permission.DATASET_PUBLISH)])

`Needs` refuses whoever lacks the permission. `For` only declares: members, people and holders of a
transfer's token prove themselves to the parameter that needs to know them (`CurrentMember`, …).
A route that declares nothing, or twice, keeps the application from being made (`declarations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.routing import Route

from dataspace.access.permissions import RULES, Caller, Permission, may
from dataspace.access.principal import Principal
from dataspace.errors import Denied, NotFound
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.operator import Operator
from dataspace.settings import ParticipantKind


def _bearer(name: str, description: str) -> HTTPBearer:
    return HTTPBearer(scheme_name=name, description=description, auto_error=False)


_owner_side = _bearer(
    "accessKey", "a key of this node, or an access token of its identity provider"
)
_member = _bearer("memberToken", "a participant's self-issued token, good for one request")
_person = _bearer("accessCode", "the access code of a person in a vault")
_transfer = _bearer("transferToken", "the token in a transfer's data address")

SCHEMES: Mapping[Caller, str | None] = MappingProxyType(
    {
        Caller.OWNER_SIDE: _owner_side.scheme_name,
        Caller.MEMBER: _member.scheme_name,
        Caller.REGULATOR: _member.scheme_name,
        Caller.DID: _member.scheme_name,
        Caller.PERSON: _person.scheme_name,
        Caller.TRANSFER: _transfer.scheme_name,
        Caller.ANYBODY: None,
    }
)

_Given = HTTPAuthorizationCredentials | None
OwnerCredentials = Annotated[_Given, Depends(_owner_side)]
MemberCredentials = Annotated[_Given, Depends(_member)]
PersonCredentials = Annotated[_Given, Depends(_person)]
TransferCredentials = Annotated[_Given, Depends(_transfer)]


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
class _For:
    declaration: Declaration

    async def __call__(self) -> None:
        return None


@dataclass(frozen=True)
class _Guard:
    declaration: Declaration

    async def __call__(
        self, request: Request, node: CurrentNode, credentials: OwnerCredentials
    ) -> None:
        assert self.declaration.permission is not None
        principal = node.access.recognise(credentials.credentials if credentials else "")
        verify_permission(principal, self.declaration.permission)
        request.state.principal = principal


def For(caller: Caller) -> Any:
    """Declares whom a route is for."""
    return Depends(_For(Declaration(caller)))


def Needs(permission: Permission) -> Any:
    """Declares what a route for the owner's side needs, and refuses who lacks it."""
    return Depends(_Guard(Declaration(Caller.OWNER_SIDE, permission)))


def verify_permission(principal: Principal, permission: Permission) -> None:
    """Raises Denied unless one of the caller's roles has the permission."""
    if not may(principal.roles, permission):
        having = ", ".join(sorted(RULES[permission].roles))
        raise Denied(
            f"this needs the permission {permission}, which your role does not have",
            remedy=f"ask somebody who has one of the roles: {having}",
        )


async def principal_of(request: Request) -> Principal:
    return cast(Principal, request.state.principal)


def member(request: Request, node: CurrentNode, _: MemberCredentials) -> Member:
    """A member of the space, by a self-issued token with its membership credential."""
    return node.peers.authenticate(request.headers.get("authorization"))


def regulator(caller: Annotated[Member, Depends(member)]) -> Member:
    """A member that its operator's credential calls a regulator."""
    if caller.kind is not ParticipantKind.REGULATOR:
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
CurrentRegulator = Annotated[Member, Depends(regulator)]
CurrentOperator = Annotated[Operator, Depends(operator_of)]
# Only on a route that `Needs` a permission.
CurrentPrincipal = Annotated[Principal, Depends(principal_of)]


# ---- what the routes declare ----------------------------------------------------------------

# The framework's own pages: the document that declares everything else, and its two readers.
DOCUMENTS = frozenset({"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})


class Undeclared(Exception):
    """A route does not say, or says twice, whom it is for. A slip in this program."""


def declarations(app: FastAPI) -> dict[tuple[str, str], Declaration]:
    """Method and path of every route with what it declares. Raises Undeclared, naming the routes
    that do not declare exactly one caller."""
    found: dict[tuple[str, str], Declaration] = {}
    wrong: list[str] = []
    for context in iter_route_contexts(app.routes):
        methods = sorted(context.methods or ())
        dependant: Dependant | None = getattr(context, "dependant", None)
        # As the OpenAPI document writes it: without the converters of its parameters.
        path = str(getattr(context, "path_format", None) or context.path)
        if dependant is None and isinstance(context.original_route, Route) and path in DOCUMENTS:
            declared = [Declaration(Caller.ANYBODY)]
        else:
            declared = [] if dependant is None else _declared(dependant)
        if len(declared) != 1:
            wrong.append(f"{'/'.join(methods)} {path} declares {len(declared)} callers")
            continue
        found |= {(method, path): declared[0] for method in methods}
    if wrong:
        raise Undeclared(
            "; ".join(wrong) + ": give each route one dependency Needs(Permission…) or For(Caller…)"
        )
    return found


def _declared(dependant: Dependant) -> list[Declaration]:
    return [
        each.call.declaration
        for each in dependant.dependencies
        if isinstance(each.call, _For | _Guard)
    ]


def _problem(sentence: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": sentence, "content": content}


PROBLEM_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Problem",
        "description": "RFC 9457 problem details, with what to do about it",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "remedy": {"type": "string"},
            "clause": {"type": "string"},
        },
    }
)


def describe_access(app: FastAPI) -> None:
    """Have the OpenAPI document say of every route whom it is for, what it needs, and how it
    refuses. Raises Undeclared for a route that says nothing."""
    declared = declarations(app)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            parts = made.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = dict(PROBLEM_SCHEMA)
            for path, methods in made["paths"].items():
                for method, operation in methods.items():
                    known = declared.get((method.upper(), path))
                    if known is not None:
                        _describe(operation, known, path)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], declared: Declaration, path: str) -> None:
    operation["x-callers"] = [declared.caller.value]
    scheme = SCHEMES[declared.caller]
    operation["security"] = [] if scheme is None else [{scheme: []}]
    answers = operation.setdefault("responses", {})
    # What comes is checked against its model, and answered as everything else that is refused.
    if answers.pop("422", None) is not None:
        answers.setdefault("400", _problem("what was sent is not what is expected here"))
    if scheme is None:
        return
    if declared.permission is not None:
        operation["x-permission"] = declared.permission.value
        operation["x-roles"] = sorted(RULES[declared.permission].roles)
    if not path.startswith("/dsp/"):
        answers.setdefault("401", _problem("who is calling was not proved"))
        answers.setdefault("403", _problem("the caller may not do this"))
        answers.setdefault("429", _problem("too many failures from this address"))
