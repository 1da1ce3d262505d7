"""What others see and hold: the chain's anchors, the node's DID document, clocks, data sources.

Whoever does not answer is told as such and makes no node ill.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from sqlalchemy import Connection, text
from sqlmodel import Session, col, select

from connectors.errors import ConnectorError
from connectors.source import open_source
from dataspace.backups.databases import settings_in
from dataspace.doctor.finding import Finding, Findings, error, ok, warning
from dataspace.errors import NodeError, Unavailable
from dataspace.home import Home
from dataspace.identity.did import did_of_url, url_of_did
from dataspace.outbound import UNREACHABLE, ask
from dataspace.rewind import REMEDY, stand_on_chain
from dataspace.store.tables import DatasetRow
from dataspace.versions import verify_schema

ASK_S = 5.0
MAX_PEERS, MAX_SOURCES = 5, 200
MAX_DOCUMENT_BYTES = 256 * 1024
# Tokens are refused beyond 30 seconds.
SKEW_WARNING_S, SKEW_ERROR_S = 5.0, 25.0


def is_running(home: Home, http: httpx2.Client) -> bool:
    """Whether a node answers at this home's address as this home's node."""
    answered = _get(http, f"{home.url}/health")
    if answered is None:
        return False
    return bool(answered[1].get("did") == did_of_url(home.url))


def look_outside(home: Home, connection: Connection, http: httpx2.Client) -> Findings:
    yield _anchors(home, connection)
    yield _document(home, http)
    yield _clock(home, connection, http)


def look_at_sources(connection: Connection) -> Findings:
    """Every published source can be opened and has the columns it was published with."""
    offered = select(DatasetRow).where(col(DatasetRow.withdrawn_at).is_(None)).limit(MAX_SOURCES)
    with Session(bind=connection) as session:
        rows = session.exec(offered).all()
    broken = False
    for row in rows:
        try:
            verify_schema(row, open_source(row.source))
        except (ConnectorError, NodeError) as err:
            broken = True
            remedy = getattr(err, "remedy", None) or "put the source back, or withdraw the dataset"
            yield error("sources", f"dataset {row.id}: {err}", remedy)
    if not broken:
        yield ok("sources", f"{len(rows)} datasets can be read as they were published")


def _anchors(home: Home, connection: Connection) -> Finding:
    try:
        standing = stand_on_chain(connection, home)
    except Unavailable:
        return warning(
            "anchors", "the chain does not answer, so the log is not compared", "try again later"
        )
    if standing is None:
        return ok("anchors", "nothing is anchored before the node has joined a space")
    if standing.sound:
        return ok("anchors", standing.sentence())
    return error("anchors", standing.sentence(), REMEDY)


def _document(home: Home, http: httpx2.Client) -> Finding:
    """The document that others fetch lists the key this node signs with."""
    answered = _get(http, f"{home.url}/.well-known/did.json")
    if answered is None:
        return warning(
            "identity",
            f"no DID document is served at {home.url}",
            "start the node; check that its address is reachable from outside",
        )
    _, document = answered
    did = did_of_url(home.url)
    wanted = {name: home.signing_key().jwk.as_dict(private=False)[name] for name in ("crv", "x")}
    listed = document.get("verificationMethod") if isinstance(document, dict) else None
    keys = [one.get("publicKeyJwk") for one in listed or [] if isinstance(one, dict)]
    found = any(
        isinstance(key, dict) and {name: key.get(name) for name in wanted} == wanted for key in keys
    )
    if not isinstance(document, dict) or document.get("id") != did:
        return error(
            "identity",
            f"what is served at {home.url} is not the DID document of {did}",
            "check the proxy and the setting `url`",
        )
    if not found:
        return error(
            "identity",
            "the served DID document does not list the key of this home",
            "another node or an older one answers at this address: stop it",
        )
    return ok("identity", "the DID document that others fetch lists this home's key")


def _clock(home: Home, connection: Connection, http: httpx2.Client) -> Finding:
    """The clock against the `Date` of whoever answers: the operator, then peers."""
    space = settings_in(connection, "space.")
    addresses = [one for one in (home.settings.operator,) if one]
    addresses += _peers(connection, home, space.get("operator"))
    for address in addresses[:MAX_PEERS]:
        if address == home.url:
            continue
        before = time.time()
        answered = _get(http, f"{address}/health")
        if answered is None or answered[0] is None:
            continue
        # A `Date` has whole seconds, and was written somewhere between asking and the answer.
        skew_s = max(0.0, abs(answered[0] - (before + time.time()) / 2) - 1.0)
        told = f"the clock is within {skew_s:.0f} seconds of that of {address}"
        if skew_s > SKEW_ERROR_S:
            return error("clock", told, "set the clock: peers refuse tokens 30 seconds apart")
        if skew_s > SKEW_WARNING_S:
            return warning("clock", told, "set the clock, and keep it by NTP")
        return ok("clock", told)
    return ok("clock", "there was no other node to compare the clock with")


def _peers(connection: Connection, home: Home, operator: str | None) -> list[str]:
    known = connection.execute(text("SELECT peer FROM witnessed ORDER BY peer")).scalars().all()
    found = []
    for did in [operator, *known]:
        if did is None or did == did_of_url(home.url):
            continue
        try:
            found.append(url_of_did(did, local=home.settings.local))
        except NodeError:
            continue
    return found


def _get(http: httpx2.Client, url: str) -> tuple[float | None, dict[str, Any]] | None:
    """The `Date` of an answer as seconds, and its JSON; None where nobody answers so."""
    try:
        answer = ask(http, "GET", url, most=MAX_DOCUMENT_BYTES, timeout_s=ASK_S)
        told = answer.headers.get("date")
        return parsedate_to_datetime(told).timestamp() if told else None, answer.json()
    except (*UNREACHABLE, NodeError, ValueError):
        return None
