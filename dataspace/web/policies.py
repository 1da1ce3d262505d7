"""The owner's routes for policies: ready ones, remarks, comparisons, decisions on trial."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from contracts import strictness
from contracts.authoring import policy_from, write_policy
from contracts.plain_words import describe
from contracts.templates import PARAMETERS, TEMPLATES
from contracts.transfer_strategy import RAW_FORMATS
from contracts.wording import Language, outline
from dataspace.access.permissions import Permission
from dataspace.explaining import UseOnTrial, decide_on_trial
from dataspace.publication import remarks_json, remarks_on
from dataspace.web.access import CurrentNode, Needs

router = APIRouter(prefix="/api/policies", tags=["owner's API"])


class PolicyGiven(BaseModel):
    """A policy: ODRL, or ready policies as `use`, `with` and `also`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: dict[str, Any]


class Comparison(BaseModel):
    """Is `candidate` at least as strict as `reference`?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: dict[str, Any]
    reference: dict[str, Any]


@router.get("/templates", dependencies=[Needs(Permission.POLICY_TRY)])
def templates() -> list[dict[str, Any]]:
    """The ready policies and the parameters of each, in English and Chinese."""
    return [
        {
            "name": name,
            "title": one.title_en,
            "title_zh": one.title_zh,
            "description": one.description_en,
            "description_zh": one.description_zh,
            "parameters": [
                {
                    "name": parameter,
                    "kind": PARAMETERS[parameter].kind,
                    "required": parameter in one.required,
                    "default": dict(one.defaults).get(parameter),
                    "description": PARAMETERS[parameter].doc_en,
                    "description_zh": PARAMETERS[parameter].doc_zh,
                }
                for parameter in (*one.required, *one.optional)
            ],
        }
        for name, one in TEMPLATES.items()
    ]


@router.post("/check", dependencies=[Needs(Permission.POLICY_TRY)])
def check(given: PolicyGiven) -> dict[str, Any]:
    """The policy as ODRL, YAML and plain words, and everything that is wrong or odd about it."""
    policy = policy_from(given.policy, offer_id="offer:checked")
    # Which data it will be for is not known yet: they may be personal, and rows may leave.
    remarks = remarks_on(policy, RAW_FORMATS, personal=True, now=datetime.now(UTC))
    return {
        "policy": policy.to_json(),
        "yaml": write_policy(policy),
        "words": describe(policy),
        "words_zh": describe(policy, "zh"),
        "remarks": remarks_json(remarks),
    }


@router.post("/comparison", dependencies=[Needs(Permission.POLICY_TRY)])
def compare(given: Comparison) -> dict[str, Any]:
    """Whether the candidate is at least as strict as the reference, and if not, why not."""
    found = strictness.compare(
        policy_from(given.candidate, offer_id="offer:candidate"),
        policy_from(given.reference, offer_id="offer:reference"),
    )
    return {
        "at_least_as_strict": found.holds,
        "differences": [
            {"path": one.path, "sentence": one.sentence, "sentence_zh": one.sentence_zh}
            for one in found.reasons
        ],
    }


@router.post("/decision", dependencies=[Needs(Permission.POLICY_TRY)])
def decision(node: CurrentNode, asked: UseOnTrial, language: Language = "en") -> dict[str, Any]:
    """What a policy would decide about a use that nobody has asked for yet; nothing is counted."""
    decided = decide_on_trial(node, asked)
    return {**decided.to_json(language), "outline": outline(decided, language)}
