"""Routes for a trustee: consents as people give them on paper, enrolment, erasure.

People's identifiers come in bodies only: addresses are written into logs.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from dataspace.access.permissions import Permission
from dataspace.consents import ConsentGiven
from dataspace.web.access import CurrentNode, Needs

router = APIRouter(prefix="/api/datasets/{dataset}", tags=["people's records"])


class PersonNamed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field(min_length=1, max_length=256, description="the person's identifier")


@router.post("/consents", status_code=201, dependencies=[Needs(Permission.CONSENT_RECORD)])
def give_consent(node: CurrentNode, dataset: str, given: ConsentGiven) -> dict[str, Any]:
    """Record a person's consent; the receipt withdraws it. A vault signs a file for the person."""
    return node.consents.give(dataset, given)


@router.post("/consents/{receipt}/withdrawal", dependencies=[Needs(Permission.CONSENT_WITHDRAW)])
def withdraw_consent(node: CurrentNode, dataset: str, receipt: str) -> dict[str, Any]:
    """Withdraw a consent; it takes effect with the next use."""
    return node.consents.withdraw(dataset, receipt)


@router.post("/consents/search", dependencies=[Needs(Permission.CONSENT_READ)])
def consents_of(node: CurrentNode, dataset: str, person: PersonNamed) -> list[dict[str, Any]]:
    """The consents of one person in a vault, those that have ended too."""
    return node.consents.of(dataset, person.subject)


@router.get("/people", dependencies=[Needs(Permission.PERSON_COUNT)])
def people(node: CurrentNode, dataset: str) -> dict[str, int]:
    """How many people a vault holds; never who they are."""
    return node.vaults.counts(dataset)


@router.post("/people/enrolment", status_code=201, dependencies=[Needs(Permission.PERSON_ENROL)])
def enrol(node: CurrentNode, dataset: str, person: PersonNamed) -> dict[str, str]:
    """A new access code, for the person alone; it is kept nowhere, and an earlier one ends."""
    return {"access_code": node.vaults.enrol(dataset, person.subject)}


@router.post("/people/erasure", dependencies=[Needs(Permission.PERSON_ERASE)])
def erase(node: CurrentNode, dataset: str, person: PersonNamed) -> dict[str, Any]:
    """Destroy the person's key and all records under it; the signed certificate."""
    return node.vaults.erase(node.vaults.vault_of(dataset), person.subject)
