"""What every route declares, and the OpenAPI document that says so.

The table of the tests is made of it: every address times every kind of caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from starlette.routing import Route

from dataspace.access.permissions import HOLDABLE, RULES, Caller
from dataspace.web.access import (
    MEMBER_SCHEME,
    OWNER_SCHEME,
    PERSON_SCHEME,
    TRANSFER_SCHEME,
    ActGuard,
    Announced,
    Declaration,
    Guard,
)

SCHEMES: Mapping[Caller, str | None] = MappingProxyType(
    {
        Caller.OWNER_SIDE: OWNER_SCHEME.scheme_name,
        Caller.MEMBER: MEMBER_SCHEME.scheme_name,
        Caller.REGULATOR: MEMBER_SCHEME.scheme_name,
        Caller.OPERATOR: MEMBER_SCHEME.scheme_name,
        Caller.DID: MEMBER_SCHEME.scheme_name,
        Caller.PERSON: PERSON_SCHEME.scheme_name,
        Caller.TRANSFER: TRANSFER_SCHEME.scheme_name,
        Caller.REPLICA: None,
        Caller.ANYBODY: None,
    }
)

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
        if isinstance(each.call, Announced | Guard | ActGuard)
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


# The Dataspace Protocol has an error message of its own for each of its parts.
PROTOCOL_ERROR: Mapping[str, Any] = MappingProxyType(
    {
        "description": "CatalogError, ContractNegotiationError or TransferError",
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["@context", "@type", "code", "reason"]}
            }
        },
    }
)


def describe_access(app: FastAPI, declared: Mapping[tuple[str, str], Declaration]) -> None:
    """Have the OpenAPI document say of every route whom it is for, what it needs, and how it
    refuses."""

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
        refused = _problem("what was sent is not what is expected here")
        answers.setdefault("400", dict(PROTOCOL_ERROR) if path.startswith("/dsp/") else refused)
    # Whatever else is wrong, such as what is not there, is told in one form.
    answers.setdefault(
        "default", dict(PROTOCOL_ERROR) if path.startswith("/dsp/") else _problem("refused")
    )
    if scheme is None:
        return
    if declared.permission is not None:
        operation["x-permission"] = declared.permission.value
        operation["x-roles"] = sorted(RULES[declared.permission].roles)
    if declared.permission in HOLDABLE:
        answers.setdefault("202", {"description": "it waits for a second person (`two_persons`)"})
    if not path.startswith("/dsp/"):
        answers.setdefault("401", _problem("who is calling was not proved"))
        answers.setdefault("403", _problem("the caller may not do this"))
        answers.setdefault("429", _problem("too many failures from this address"))
