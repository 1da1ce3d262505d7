"""Joining a space: what an applicant sends to the operator, and what comes back."""

from __future__ import annotations

import time

import httpx2
from pydantic import BaseModel, ConfigDict, Field

from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.identity.did import did_of_url
from dataspace.identity.tokens import Identity, issue_token
from dataspace.outbound import UNREACHABLE, ask
from dataspace.settings import ParticipantKind

TIMEOUT_S = 20.0
MAX_ADMISSION_BYTES = 64 * 1024


class Application(BaseModel):
    """What a node sends to join a space. A participant without a server leaves the log out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1, max_length=200)
    kind: ParticipantKind
    invitation: str = Field(min_length=16, max_length=128)
    url: str | None = Field(default=None, max_length=300)
    log_origin: str | None = Field(default=None, max_length=300)
    log_vkey: str | None = Field(default=None, max_length=300)
    account: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")


class Admission(BaseModel):
    """What the operator answers: the credential and where the space's chain is."""

    model_config = ConfigDict(frozen=True)

    credential: str
    operator: str
    rpc_url: str
    contract: str
    chain_id: int


def apply_for_membership(
    http: httpx2.Client, operator_url: str, identity: Identity, application: Application
) -> Admission:
    """Ask the operator at `operator_url` for membership. Raises Unavailable or InputRejected."""
    return _ask(http, f"{operator_url}/operator/participants", operator_url, identity, application)


def renew_membership(http: httpx2.Client, operator_url: str, identity: Identity) -> Admission:
    """Ask the operator for a fresh credential. Raises Unavailable or InputRejected."""
    return _ask(http, f"{operator_url}/operator/renewals", operator_url, identity, None)


def _ask(
    http: httpx2.Client,
    url: str,
    operator_url: str,
    identity: Identity,
    application: Application | None,
) -> Admission:
    token = issue_token(
        identity, audience=did_of_url(operator_url), now=int(time.time()), membership=None
    )
    try:
        answer = ask(
            http,
            "POST",
            url,
            most=MAX_ADMISSION_BYTES,
            timeout_s=TIMEOUT_S,
            content=application.model_dump_json().encode() if application else b"",
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
    except UNREACHABLE as err:
        raise Unavailable(
            f"the operator at {operator_url} cannot be reached",
            remedy="check the setting 'operator' and that the operator's node is running",
        ) from err
    if answer.status >= 500:
        raise Unavailable(f"the operator answered {answer.status}: {answer.reason()}")
    if answer.status >= 300:
        raise InputRejected(f"the operator refused: {answer.reason()}")
    try:
        return Admission.model_validate_json(answer.body)
    except ValueError as err:
        raise ProtocolViolation("the operator's answer is not an admission") from err
