"""Making an order: from what the node's owner asks to a document every participant can judge.

What can be seen to be wrong here is refused here, before any provider is asked.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from contracts import messages as dsp
from contracts.evaluation import required_min_cohort
from contracts.odrl import Agreement
from contracts.order import ComputationOrder, OrderParticipant
from contracts.party import Party
from dataspace.computing.parameters import parameters_of
from dataspace.errors import InputRejected, NotFound
from dataspace.protocol.catalogues import fetch_dataset
from dataspace.protocol.transfer_rows import refusal_of
from dataspace.store.tables import AgreementRow
from privacy.kinds import CONSUMER, Kind
from privacy.paillier import PublicKey

if TYPE_CHECKING:
    from dataspace.node import Node


class OwnInput(BaseModel):
    """The consumer's own rows, for a kind in which it takes part with data.

    `decimals` is how many decimal digits a value keeps (2: 12.50 → 1250).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=2000, description="a file this node can read")
    identifier: str = Field(min_length=1, max_length=200, description="its identifier column")
    value: str | None = Field(default=None, min_length=1, max_length=200)
    group: str | None = Field(default=None, min_length=1, max_length=200)
    decimals: int = Field(default=0, ge=0, le=9)


class ComputationRequest(BaseModel):
    """What the owner of a consumer's node asks for.

    `agreements` are in the order of the kind's provider roles (left, right; provider-1, …).
    `columns` gives, for each agreement, the column to use in a role where the dataset publishes
    more than one. `min_cohort` defaults to the largest any agreement demands. `spatial` is the
    administrative division (GB/T 2260 code) the use is about, where an agreement wants to know.
    `parameters` are those of the kind; `epsilon` the privacy loss the noise in the result is to
    have; `deadline_s` how long it may take, in place of the node's own setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    agreements: tuple[str, ...] = Field(min_length=1, max_length=16)
    purpose: str = Field(min_length=1, max_length=200)
    min_cohort: int | None = Field(default=None, ge=0, le=1_000_000)
    spatial: str | None = Field(default=None, pattern=r"^[0-9]{2,12}$")
    columns: dict[str, dict[str, str]] = Field(default_factory=dict)
    groups: tuple[str, ...] = Field(default=(), max_length=256)
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=32)
    epsilon: str | None = Field(default=None, max_length=20)
    deadline_s: float | None = Field(default=None, ge=5, le=86400)
    own: OwnInput | None = None


@dataclass(frozen=True)
class Part:
    """One provider's part while an order is being made."""

    agreement: AgreementRow
    policy: Agreement
    columns: dict[str, dsp.Column]


def find_part(node: Node, kind: Kind, agreement_id: str, asked: ComputationRequest) -> Part:
    """The agreement of one provider, and the columns of its dataset this order will use."""
    with node.store.transaction() as tx:
        agreement = tx.get(AgreementRow, agreement_id)
    if agreement is None or agreement.role != Party.CONSUMER.value:
        raise NotFound(
            f"this node holds no agreement {agreement_id[:80]!r} as consumer",
            remedy="negotiate one first: dataspace negotiate PROVIDER DATASET",
        )
    ended = refusal_of(agreement)
    if ended is not None:
        raise ended
    dataset = fetch_dataset(node.peers, agreement.provider, agreement.dataset)
    wanted = asked.columns.get(agreement_id, {})
    number = asked.agreements.index(agreement_id)
    role = [name for name in kind.roles(len(asked.agreements)) if name != CONSUMER][number]
    return Part(
        agreement=agreement,
        policy=Agreement.model_validate(agreement.document),
        columns=_choose_columns(kind, role, dataset, wanted),
    )


def make_order(
    node: Node,
    kind: Kind,
    asked: ComputationRequest,
    parts: list[Part],
    public_key: PublicKey | None,
) -> ComputationOrder:
    """The order, not yet signed. Raises InputRejected where the parts do not fit together."""
    now = datetime.now(UTC).replace(microsecond=0)
    participants = _participants(kind, parts)
    _verify_same_canonicaliser(participants)
    own = OrderParticipant(
        role=CONSUMER,
        did=node.did,
        canonicaliser=participants[0].canonicaliser if asked.own else None,
    )
    groups = asked.groups or tuple(
        sorted({value for part in parts for value in _group_values(part)})
    )
    demanded = max(required_min_cohort(part.policy) for part in parts)
    lasts_s = asked.deadline_s or node.home.settings.computation_deadline_s
    order = ComputationOrder(
        id=str(uuid.uuid4()),
        kind=kind.name,
        consumer=node.did,
        participants=(*participants, own),
        purpose=asked.purpose,
        min_cohort=demanded if asked.min_cohort is None else asked.min_cohort,
        spatial=asked.spatial,
        public_key=public_key.to_hex() if public_key else None,
        groups=groups if "group" in _all_columns(kind) else (),
        epsilon=asked.epsilon,
        parameters=settings_of(kind, parts, asked),
        nonce=secrets.token_urlsafe(16),
        issued_at=now,
        expires_at=now + timedelta(seconds=lasts_s),
    )
    kind.verify_parameters(parameters_of(order))
    return order


def settings_of(kind: Kind, parts: list[Part], asked: ComputationRequest) -> dict[str, Any]:
    """The kind's parameters: those asked for, and what follows from the columns where it was not
    said: whose the groups are, the public values of a second group, the decimals of the values."""
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in asked.parameters.items()
    }
    providers = [name for name in kind.roles(len(parts)) if name != CONSUMER]
    implied: dict[str, Any] = {}
    across = {v for part in parts if (c := part.columns.get("across")) for v in c.values}
    if across:
        implied["across"] = tuple(sorted(across))
    grouped = [n for n, part in zip(providers, parts, strict=True) if "group" in part.columns]
    if asked.own is not None and asked.own.group is not None:
        grouped.append(CONSUMER)
    if len(grouped) == 1:
        implied["groupsOf"] = grouped[0]
    scales = {c.scale or 0 for part in parts if (c := part.columns.get("value"))}
    if asked.own is not None and asked.own.value is not None:
        scales.add(asked.own.decimals)
    if len(scales) == 1 and scales != {0}:
        implied["decimals"] = scales.pop()
    return {name: value for name, value in implied.items() if name in kind.settings} | settings


def _participants(kind: Kind, parts: list[Part]) -> list[OrderParticipant]:
    providers = [name for name in kind.roles(len(parts)) if name != CONSUMER]
    return [
        OrderParticipant(
            role=name,
            did=part.agreement.provider,
            agreement=part.agreement.id,
            dataset=part.agreement.dataset,
            columns={role: column.name for role, column in part.columns.items()},
            canonicaliser=_canonicaliser(part),
        )
        for name, part in zip(providers, parts, strict=True)
    ]


def _all_columns(kind: Kind) -> set[str]:
    named = (*kind.columns.values(), *kind.optional.values())
    return {column for columns in named for column in columns}


def _group_values(part: Part) -> tuple[str, ...]:
    column = part.columns.get("group")
    return column.values if column else ()


def verify_counts(kind: Kind, asked: ComputationRequest) -> None:
    least, most = kind.providers
    if not least <= len(asked.agreements) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InputRejected(
            f"{kind.name} takes {wanted} agreements, got {len(asked.agreements)}",
            remedy="name one agreement for each provider",
        )
    if len(set(asked.agreements)) != len(asked.agreements):
        raise InputRejected("an agreement is named twice", remedy="name each provider once")
    takes_own = bool(kind.columns_of(CONSUMER))
    if takes_own and asked.own is None:
        raise InputRejected(
            f"in {kind.name} the consumer takes part with its own identifiers",
            remedy="give your own file and its identifier column (--input FILE --id COLUMN)",
        )
    if asked.own is None:
        return
    if not takes_own:
        raise InputRejected(
            f"in {kind.name} the consumer has no data of its own", remedy="leave the input out"
        )
    for column in kind.columns_of(CONSUMER):
        if getattr(asked.own, column) is None:
            raise InputRejected(
                f"in {kind.name} the consumer brings a {column} column", remedy=f"name own.{column}"
            )
    for column in ("value", "group"):
        takes = (*kind.columns_of(CONSUMER), *kind.optional_columns_of(CONSUMER))
        if getattr(asked.own, column) is not None and column not in takes:
            raise InputRejected(
                f"in {kind.name} the consumer brings no {column} column",
                remedy=f"leave own.{column} out",
            )


def _choose_columns(
    kind: Kind, role: str, dataset: dsp.Dataset, wanted: Mapping[str, str]
) -> dict[str, dsp.Column]:
    chosen: dict[str, dsp.Column] = {}
    optional = [name for name in kind.optional_columns_of(role) if name in wanted]
    for needed in (*kind.columns_of(role), *optional):
        # The second group of a table is a group like the first.
        published_as = "group" if needed == "across" else needed
        published = [column for column in dataset.columns if column.role == published_as]
        name = wanted.get(needed)
        fitting = [column for column in published if name in (None, column.name)]
        if len(fitting) != 1:
            names = ", ".join(column.name for column in published)
            raise InputRejected(
                f"{kind.name} needs one {needed} column of dataset {dataset.id!r}",
                remedy=f"name it; published as {published_as}: {names or 'none'}",
            )
        chosen[needed] = fitting[0]
    return chosen


def _canonicaliser(part: Part) -> str | None:
    column = part.columns.get("identifier")
    return column.canonicaliser if column else None


def _verify_same_canonicaliser(participants: list[OrderParticipant]) -> None:
    named = {part.canonicaliser for part in participants if part.columns.get("identifier")}
    if len(named) > 1:
        raise InputRejected(
            "the datasets name their identifiers differently: "
            + ", ".join(sorted(str(name) for name in named)),
            remedy="choose datasets with the same canonicaliser",
        )
