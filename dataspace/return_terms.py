"""What a return is asked for, and the terms it is offered under."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from connectors.government import View, parse_division
from contracts.profile import PROFILE
from contracts.transfer_strategy import PUSH
from dataspace.errors import InputRejected
from dataspace.store.tables import DatasetRow

LEAST_PERIOD_S: Final = 1.0


class ReturnAsked(BaseModel):
    """What goes back to whom, and how often; `rules` are more rules of a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    to: str = Field(min_length=1, max_length=300)
    division: str = Field(max_length=40)
    grid: str | None = Field(default=None, max_length=40)
    every_s: float = Field(ge=LEAST_PERIOD_S, le=366 * 86400.0)
    totals: str | None = Field(default=None, max_length=200)
    by: tuple[str, ...] = Field(default=(), max_length=8)
    least: int = Field(default=20, ge=1, le=10**9)
    rules: tuple[str, ...] = Field(default=(), max_length=100)
    purpose: str = Field(default="local-governance", min_length=1, max_length=200)
    not_after: datetime | None = None


def view_of(asked: ReturnAsked, dataset: DatasetRow) -> View:
    """What the bureau shall see. Raises InputRejected with the reason."""
    division = parse_division(asked.division)
    columns = dataset.blocks or {}
    if not columns.get("division"):
        raise InputRejected(
            f"dataset {dataset.id} has no column that is known to hold divisions",
            remedy="publish it with blocks: {division: COLUMN, grid: COLUMN}",
        )
    if dataset.division is not None:
        own = parse_division(dataset.division)
        if not division.is_within(own):
            raise InputRejected(
                f"division {division.code} is not in {own.code}, which the dataset is about",
                remedy="name a division below it",
            )
    return View(
        division=division,
        division_column=str(columns["division"]),
        grid_column=columns.get("grid"),
        grid=asked.grid,
        value=asked.totals,
        by=asked.by,
        least=asked.least,
    )


def policy_of(asked: ReturnAsked, rules: tuple[str, ...], *, personal: bool) -> dict[str, Any]:
    """The policy of a return, as its owner could have written it."""
    constraints: list[dict[str, Any]] = [
        {"leftOperand": "ds:computation", "operator": "isAnyOf", "rightOperand": [PUSH]},
        {"leftOperand": "purpose", "operator": "eq", "rightOperand": asked.purpose},
        {"leftOperand": "ds:release", "operator": "isAllOf", "rightOperand": list(rules)},
    ]
    if personal:
        constraints.append(
            {"leftOperand": "ds:consent", "operator": "eq", "rightOperand": "required"}
        )
    if asked.not_after is not None:
        until = asked.not_after.astimezone(UTC).isoformat(timespec="seconds")
        constraints.append({"leftOperand": "dateTime", "operator": "lteq", "rightOperand": until})
    return {"profile": PROFILE, "permission": [{"action": "use", "constraint": constraints}]}
