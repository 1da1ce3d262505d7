"""Routes for the people whose records a trustee holds: each with the access code as bearer token.

GET  /api/people/me                                  my records, and what holds of me
GET  /api/people/me/export                           my records as a file to take with me
GET  /api/people/me/consents                         my consents
POST /api/people/me/consents                         give one
POST /api/people/me/consents/{receipt}/withdrawal    end one
GET  /api/people/me/uses                             who used my data
GET  /api/people/me/requests                         who would use it, if I consent
POST /api/people/me/erasure                          destroy what is held of me
GET  /api/people/erasures/{certificate}              a certificate with its proof, for anybody
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict

from connectors.vault_import import PersonalExport
from connectors.vault_people import PersonalRecord
from dataspace.access.permissions import Caller
from dataspace.consents import ConsentTerms, consent_json
from dataspace.errors import InputRejected
from dataspace.web.access import CurrentNode, For
from dataspace.web.guests import CurrentGuest


def _for_one_only(response: Response) -> None:
    """What is answered is one person's: nobody on the way keeps it."""
    response.headers["cache-control"] = "no-store"


router = APIRouter(prefix="/api/people", tags=["people"], dependencies=[Depends(_for_one_only)])
_OWN = [For(Caller.PERSON)]


class ErasureAsked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # It cannot be undone, so nobody does it by calling a wrong address.
    confirm: bool = False


@router.get("/me", dependencies=_OWN)
def me(node: CurrentNode, guest: CurrentGuest) -> dict[str, Any]:
    """Everything that is held of me."""
    return record_json(node.vaults.record(guest))


@router.get("/me/export", dependencies=_OWN)
def export(node: CurrentNode, guest: CurrentGuest) -> dict[str, Any]:
    """My records in the form in which any vault imports them."""
    return exported(node.vaults.record(guest))


@router.get("/me/consents", dependencies=_OWN)
def consents(node: CurrentNode, guest: CurrentGuest) -> list[dict[str, Any]]:
    """My consents, those that have ended too, each with its signed file."""
    held = node.vaults.consents(guest.vault, guest.access)
    return [consent_json(one, node.vaults.file_of(one)) for one in held]


@router.post("/me/consents", status_code=201, dependencies=_OWN)
def give(node: CurrentNode, guest: CurrentGuest, given: ConsentTerms) -> dict[str, Any]:
    """Consent; the signed receipt is mine to keep."""
    kept = node.vaults.give(guest.vault, guest.access, given.given("person"))
    return consent_json(kept, node.vaults.file_of(kept))


@router.post("/me/consents/{receipt}/withdrawal", dependencies=_OWN)
def withdraw(node: CurrentNode, guest: CurrentGuest, receipt: str) -> dict[str, str]:
    """End a consent of mine: no reading from now on sees my record through it."""
    signed = node.vaults.withdraw(guest.vault, receipt, by=guest.access)
    return {"withdrawn": receipt, "signed": signed}


@router.get("/me/uses", dependencies=_OWN)
def uses(node: CurrentNode, guest: CurrentGuest) -> list[dict[str, Any]]:
    """Who used my data, when, for what, under which agreement; the newest first."""
    return [one.model_dump(mode="json") for one in node.vaults.uses(guest)]


@router.get("/me/requests", dependencies=_OWN)
def requests(node: CurrentNode, guest: CurrentGuest) -> list[dict[str, Any]]:
    """Who would use my data under an agreement in force, if I consent."""
    return [asdict(one) for one in node.vaults.asked(guest)]


@router.post("/me/erasure", dependencies=_OWN)
def erase(node: CurrentNode, guest: CurrentGuest, asked: ErasureAsked) -> dict[str, Any]:
    """Destroy the key of my records. What is answered is the signed certificate; keep it."""
    if not asked.confirm:
        raise InputRejected(
            "an erasure cannot be undone and needs to be confirmed", remedy='send {"confirm": true}'
        )
    return node.vaults.erase(guest.vault, guest.access)


@router.get("/erasures/{certificate}", dependencies=[For(Caller.ANYBODY)])
def erasure(node: CurrentNode, certificate: str) -> dict[str, Any]:
    """A certificate of erasure with the entry of the evidence that names it, and its proof."""
    return node.vaults.certificate(certificate)


def record_json(record: PersonalRecord) -> dict[str, Any]:
    return {
        "pseudonym": record.pseudonym,
        "subject": record.subject,
        "provenance": record.provenance,
        "sensitive_columns": list(record.sensitive),
        "standing": asdict(record.standing),
        "records": [dict(zip(record.columns, row, strict=True)) for row in record.rows],
    }


def exported(record: PersonalRecord) -> dict[str, Any]:
    rows = tuple(dict(zip(record.columns, row, strict=True)) for row in record.rows)
    export = PersonalExport(
        subject=record.subject, provenance=record.provenance[:500], records=rows
    )
    return export.model_dump(mode="json")
