"""The one table from exceptions to HTTP answers (RFC 9457 problem+json).

A protocol route (`/dsp/…`) answers with the protocol's error message instead; the status is the
same. Nothing internal goes to a peer: an unexpected error is logged and answered as such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import connectors.errors
import contracts.errors
import ledger.errors
import privacy.errors
from contracts import messages as dsp
from dataspace import errors
from dataspace.access.holding import Held
from dataspace.protocol import BASE, UNKNOWN_PID

log = structlog.get_logger("dataspace.web")

STATUS: Mapping[type[Exception], HTTPStatus] = {
    errors.InputRejected: HTTPStatus.BAD_REQUEST,
    errors.ProtocolViolation: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Denied: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Unsupported: HTTPStatus.NOT_IMPLEMENTED,
    errors.SessionClosed: HTTPStatus.GONE,
    errors.Superseded: HTTPStatus.CONFLICT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    connectors.errors.ConnectorError: HTTPStatus.BAD_REQUEST,
    connectors.errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    contracts.errors.InputRejected: HTTPStatus.BAD_REQUEST,
    contracts.errors.ProtocolViolation: HTTPStatus.BAD_REQUEST,
    privacy.errors.InputRejected: HTTPStatus.BAD_REQUEST,
    privacy.errors.ProtocolViolation: HTTPStatus.BAD_REQUEST,
    privacy.errors.Withheld: HTTPStatus.FORBIDDEN,
    ledger.errors.InputRejected: HTTPStatus.BAD_REQUEST,
    ledger.errors.ChainUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ledger.errors.ChainRefused: HTTPStatus.CONFLICT,
}
# "If the client is not authorized, the provider MUST return 404" (Dataspace Protocol 2025-1, HTTPS
# bindings of negotiation and transfer): whoever may not see a process learns of none.
HIDDEN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
TELLING = (errors.TokenSpent, errors.TokenUntimely)
# A name longer than any process has (`contracts.odrl.Text`) cannot be given back in an error.
MAX_PID_LETTERS = 2048
DEFAULT_REMEDY: Mapping[HTTPStatus, str] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "try again in a moment",
    HTTPStatus.NOT_FOUND: "check the address",
}


def status_of(err: Exception) -> HTTPStatus:
    """The status of the most specific known class of `err`, else 500."""
    for kind in type(err).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def install(app: FastAPI) -> None:
    """Answer every exception of every route by the table."""
    for kind in STATUS:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(ValidationError, _answer_validation)
    app.add_exception_handler(Held, _answer_held)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


def _answer(request: Request, err: Exception) -> Response:
    status = status_of(err)
    remedy = getattr(err, "remedy", None) or DEFAULT_REMEDY.get(status)
    extra = {"clause": err.clause} if isinstance(err, errors.Denied) and err.clause else {}
    headers = {}
    if isinstance(err, errors.TooManyRequests):
        extra["limit"] = err.limit
        headers["retry-after"] = str(math.ceil(err.after_s))
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if isinstance(err, TELLING) and request.url.path.startswith("/dsp/"):
        # Told before any process is looked for, so that it says nothing of one. Whose gateway sent
        # a request twice, or whose clock is wrong, has to learn that another token will do.
        return _protocol_error(request, status, str(err), headers, hidden=frozenset())
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        # Where a peer has said when it may be asked again, that is when we may.
        headers["retry-after"] = str(math.ceil(getattr(err, "after_s", None) or 1.0))
    return _problem(request, status, str(err), remedy, headers=headers, **extra)


def _answer_validation(request: Request, err: Exception) -> Response:
    assert isinstance(err, RequestValidationError | ValidationError)
    first = err.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    # `input` is left out: it may be the caller's data.
    sentence = f"{where}: {first['msg']}"
    return _problem(request, HTTPStatus.BAD_REQUEST, sentence, "correct the field and send again")


def _answer_held(request: Request, err: Exception) -> Response:
    """Not refused and not done: it waits for a second person."""
    assert isinstance(err, Held)
    body = {
        "status": "held",
        "request": err.request,
        "permission": err.permission,
        "expires_at": err.expires_at,
        "detail": err.sentence,
        "remedy": err.remedy,
    }
    return JSONResponse(body, HTTPStatus.ACCEPTED, headers={"held-request": err.request})


def _answer_http(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    status = HTTPStatus(err.status_code)
    headers = dict(err.headers or {})
    return _problem(request, status, str(err.detail), DEFAULT_REMEDY.get(status), headers=headers)


def _answer_nobody(request: Request, err: Exception) -> Response:
    """The caller left, or was too slow, before its body had come: nobody reads this answer."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def refusal(
    request: Request, status: HTTPStatus, sentence: str, remedy: str, headers: dict[str, str]
) -> Response:
    """The answer to a request that is refused before any route has seen it."""
    return _problem(request, status, sentence, remedy, headers=headers)


def _answer_unexpected(request: Request, err: Exception) -> Response:
    log.exception("unexpected error", path=request.url.path, exc_info=err)
    sentence = "an error inside this node; its log says more"
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, sentence, "tell the node's owner")


def _problem(
    request: Request,
    status: HTTPStatus,
    sentence: str,
    remedy: str | None,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    if request.url.path.startswith("/dsp/"):
        return _protocol_error(request, status, sentence, headers)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": sentence,
        **({"remedy": remedy} if remedy else {}),
        **extra,
    }
    return JSONResponse(
        body, status.value, media_type="application/problem+json", headers=dict(headers or {})
    )


def _protocol_error(
    request: Request,
    status: HTTPStatus,
    sentence: str,
    headers: Mapping[str, str] | None,
    *,
    hidden: frozenset[HTTPStatus] = HIDDEN,
) -> Response:
    part = request.url.path.removeprefix(f"{BASE}/").split("/")[0]
    pid = request.path_params.get("pid", UNKNOWN_PID)
    if len(pid) > MAX_PID_LETTERS:
        pid = UNKNOWN_PID
    if part in ("negotiations", "transfers") and status in hidden:
        status, sentence, headers = HTTPStatus.NOT_FOUND, "there is no such process", None
    error: dsp.CatalogError | dsp.ContractNegotiationError | dsp.TransferError
    if part == "negotiations":
        error = dsp.ContractNegotiationError(
            provider_pid=pid, consumer_pid=pid, code=str(status.value), reason=(sentence,)
        )
    elif part == "transfers":
        error = dsp.TransferError(
            provider_pid=pid, consumer_pid=pid, code=str(status.value), reason=(sentence,)
        )
    else:
        error = dsp.CatalogError(code=str(status.value), reason=(sentence,))
    return JSONResponse(error.to_json(), status.value, headers=dict(headers or {}))
