"""The person's page at /me: server-rendered, without scripts, in Chinese and English.

The access code is typed into a form and answered with a cookie for a quarter of an hour. Everything
the page does, `dataspace.web.people` does for programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import connectors.errors
from connectors.receipts import Guardian
from dataspace.access.permissions import Caller
from dataspace.consents import ConsentTerms
from dataspace.errors import SHOWN, InputRejected, Unauthenticated
from dataspace.node import Node
from dataspace.statements import as_text
from dataspace.web.access import CurrentNode, For
from dataspace.web.guests import (
    SESSION_S,
    CurrentDoor,
    Door,
    Session,
    admit,
    verify_own_page,
    verify_own_site,
)
from dataspace.web.page_words import LANGUAGES, WORDS
from dataspace.web.people import exported
from dataspace.web.problems import status_of

router = APIRouter(prefix="/me", tags=["people"], include_in_schema=False)
# What is shown before a code is; everything else is for the session that it began.
_FORM, _OWN = [For(Caller.ANYBODY)], [For(Caller.PERSON)]

COOKIE = "dataspace_person"
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_FIELDS = 1000
# A person with more rows takes them as a file.
ROWS_SHOWN, USES_SHOWN = 100, 200
_PAGES = Path(__file__).parent / "pages"
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_templates = Environment(
    loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.globals["zip"] = zip

Form = Mapping[str, list[str]]


async def form_of(request: Request) -> Form:
    """The fields of a form; `application/x-www-form-urlencoded` and nothing else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InputRejected("a form was expected", remedy="use the page at /me")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise InputRejected(f"a form of more than {MAX_FORM_BYTES} bytes")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError as err:
        raise InputRejected("the form cannot be read", remedy="use the page at /me") from err


Sent = Annotated[Form, Depends(form_of)]


def language_of(request: Request) -> str:
    """The language asked for in the address, else the browser's, else Chinese."""
    asked = request.query_params.get("lang")
    if asked in LANGUAGES:
        return str(asked)
    for wish in request.headers.get("accept-language", "").lower().split(","):
        if wish.strip().startswith(("zh", "en")):
            return "zh-CN" if wish.strip().startswith("zh") else "en"
    return "zh-CN"


Language = Annotated[str, Depends(language_of)]


def session_of(request: Request, door: CurrentDoor) -> Session | None:
    return door.sessions.of(request.cookies.get(COOKIE))


MaybeSession = Annotated[Session | None, Depends(session_of)]


def here(session: MaybeSession) -> Session:
    if session is None:
        # The time on the page has ended: a browser goes to the form for the code.
        raise HTTPException(303, "the time on this page has ended", {"location": "/me"})
    return session


CurrentSession = Annotated[Session, Depends(here)]


@router.get("/style.css", dependencies=_FORM)
def style() -> Response:
    content = (_PAGES / "style.css").read_bytes()
    return Response(content, media_type="text/css", headers={"cache-control": "max-age=3600"})


@router.get("", dependencies=_FORM)
def page(
    request: Request,
    node: CurrentNode,
    door: CurrentDoor,
    session: MaybeSession,
    language: Language,
) -> Response:
    """The person's page, or the form for the access code."""
    if session is None:
        return _page("login.html", language, error=None)
    try:
        return _home(node, session, language)
    except connectors.errors.InputRejected:
        # Erased or enrolled anew since: the code that opened this session is nobody's now.
        shown = _page("login.html", language, error=WORDS[language]["wrong_code"])
        return _left(request, door, shown)


@router.post("/login", dependencies=_FORM)
def login(
    request: Request, node: CurrentNode, door: CurrentDoor, language: Language, form: Sent
) -> Response:
    """Show the access code; the answer's cookie is the session."""
    # Nobody is to be entered into another's page without noticing.
    verify_own_site(request)
    try:
        guest = admit(request, node, door, _one(form, "code"))
    except Unauthenticated:
        return _page("login.html", language, status=401, error=WORDS[language]["wrong_code"])
    except HTTPException as err:
        return _page(
            "login.html", language, status=err.status_code, error=WORDS[language]["too_many"]
        )
    answer = _back(language)
    answer.set_cookie(
        COOKIE,
        door.sessions.begin(guest),
        max_age=int(SESSION_S),
        path="/me",
        httponly=True,
        samesite="strict",
        secure=node.home.url.startswith("https:"),
    )
    return answer


@router.post("/logout", dependencies=_OWN)
def logout(
    request: Request, door: CurrentDoor, session: CurrentSession, language: Language, form: Sent
) -> Response:
    verify_own_page(request, session, _one(form, "csrf"))
    return _left(request, door, _back(language))


@router.post("/consents", dependencies=_OWN)
def consent(
    request: Request, node: CurrentNode, session: CurrentSession, language: Language, form: Sent
) -> Response:
    verify_own_page(request, session, _one(form, "csrf"))
    try:
        given = _terms(form, language).given("person")
        node.vaults.give(session.guest.vault, session.guest.access, given)
    except SHOWN as err:
        return _home(node, session, language, error=err)
    return _back(language)


@router.post("/consents/{receipt}/withdrawal", dependencies=_OWN)
def withdraw(
    request: Request,
    node: CurrentNode,
    session: CurrentSession,
    language: Language,
    form: Sent,
    receipt: str,
) -> Response:
    verify_own_page(request, session, _one(form, "csrf"))
    try:
        node.vaults.withdraw(session.guest.vault, receipt, by=session.guest.access)
    except SHOWN as err:
        return _home(node, session, language, error=err)
    return _back(language)


@router.get("/consents/{receipt}", dependencies=_OWN)
def receipt_file(node: CurrentNode, session: CurrentSession, receipt: str) -> Response:
    """The signed file of a consent, to keep."""
    for one in node.vaults.consents(session.guest.vault, session.guest.access):
        if one.receipt_id == receipt:
            return _file(node.vaults.file_of(one), f"consent-{receipt}.json")
    raise InputRejected("there is no consent of that receipt", remedy="open /me again")


@router.get("/export", dependencies=_OWN)
def export(node: CurrentNode, session: CurrentSession) -> Response:
    """My records, to take with me."""
    return _file(exported(node.vaults.record(session.guest)), "my-records.json")


@router.post("/erasure", dependencies=_OWN)
def erase(
    request: Request,
    node: CurrentNode,
    door: CurrentDoor,
    session: CurrentSession,
    language: Language,
    form: Sent,
) -> Response:
    """Erase; what is shown is the certificate, and the session is over."""
    verify_own_page(request, session, _one(form, "csrf"))
    if _one(form, "sure") != "yes":
        refused = InputRejected(WORDS[language]["tick_to_erase"])
        return _home(node, session, language, error=refused)
    certificate = node.vaults.erase(session.guest.vault, session.guest.access)
    shown = _page("erased.html", language, certificate=as_text(certificate))
    return _left(request, door, shown)


def _home(
    node: Node, session: Session, language: str, *, error: Exception | None = None
) -> Response:
    guest = session.guest
    record = node.vaults.record(guest)
    words = WORDS[language]
    said = None if error is None else str(error)
    return _page(
        "person.html",
        language,
        status=200 if error is None else int(status_of(error)),
        error=said,
        csrf=session.csrf,
        record=record,
        rows=record.rows[:ROWS_SHOWN],
        consents=[
            {
                "id": one.receipt_id,
                "terms": one.terms,
                "until": one.expires_at.date().isoformat(),
                "state": _state(one.withdrawal is not None, one.expires_at, words),
                "withdrawn": one.withdrawal is not None,
            }
            for one in reversed(node.vaults.consents(guest.vault, guest.access))
        ],
        uses=node.vaults.uses(guest)[:USES_SHOWN],
        asked=node.vaults.asked(guest),
    )


def _state(withdrawn: bool, until: datetime, words: Mapping[str, str]) -> str:
    if withdrawn:
        return words["withdrawn"]
    return words["expired"] if until <= datetime.now(UTC) else words["in_force"]


def _terms(form: Form, language: str) -> ConsentTerms:
    """What the form says. Raises InputRejected naming the field."""
    days = _one(form, "days") or "365"
    if not days.isdecimal() or not 1 <= int(days) <= 3650:
        raise InputRejected(WORDS[language]["days_wrong"])
    relationship, reference = _one(form, "guardian"), _one(form, "guardian_reference")
    try:
        return ConsentTerms(
            columns=tuple(form.get("column", ())),
            separate_consent=tuple(form.get("separate", ())),
            purposes=tuple(one.strip() for one in _one(form, "purposes").split(",") if one.strip()),
            recipients=tuple(
                one.strip() for one in _one(form, "recipients").split(",") if one.strip()
            ),
            expires_at=datetime.now(UTC) + timedelta(days=int(days)),
            guardian=Guardian(relationship=relationship, reference=reference)
            if relationship
            else None,
            language=language,
        )
    except ValidationError:
        raise InputRejected(WORDS[language]["form_incomplete"]) from None


def _one(form: Form, name: str) -> str:
    return form.get(name, [""])[0]


def _page(template: str, language: str, *, status: int = 200, **values: Any) -> Response:
    other = next(one for one in LANGUAGES if one != language)
    content = _templates.get_template(template).render(
        w=WORDS[language], lang=language, other=other, **values
    )
    return Response(content, status, _HEADERS, media_type="text/html; charset=utf-8")


def _back(language: str) -> Response:
    return RedirectResponse(f"/me?lang={language}", 303, _HEADERS)


def _left(request: Request, door: Door, answer: Response) -> Response:
    door.sessions.end(request.cookies.get(COOKIE))
    answer.delete_cookie(COOKIE, path="/me")
    return answer


def _file(content: Mapping[str, Any], name: str) -> Response:
    headers = {**_HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    return Response(text, headers=headers, media_type="application/json")
