"""Policies that members of a zone share: checked when they are put there, filled when used.

A dataset is offered under the policy as it was then. What is put in its place later changes no
offer; `outdated` tells which of ours follow an older one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import rfc8785
from sqlmodel import Session, col, select

from contracts.authoring import policy_from
from contracts.lint import Severity
from contracts.templates import PARAMETERS, TEMPLATES, Kind
from contracts.transfer_strategy import RAW_FORMATS
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected
from dataspace.publication import PolicyChange, Publication, remarks_on
from dataspace.store.tables import DatasetRow, FollowingRow
from dataspace.zones.asking import OperatorsZones
from dataspace.zones.documents import MAX_POLICY_BYTES, SharedPolicy, open_policy
from privacy.kinds import KINDS

if TYPE_CHECKING:
    from dataspace.node import Node

# How a policy says that it is one a zone shares: {"zone": "qianhai-ftz/standard", "with": {…}}.
REFERENCE: Final = frozenset({"zone", "with"})

Asked = TypeVar("Asked", Publication, PolicyChange)


@dataclass(frozen=True)
class Followed:
    """Which shared policy an offer was made of, as it was then."""

    zone: str
    policy: str
    number: int
    document_h: str


# ---- the documents ------------------------------------------------------------------------------


def open_parameters(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that whoever publishes under it has to give."""
    given = _given(document)
    needed = (
        name
        for template in _templates(document)
        for name in TEMPLATES[template].required
        if given.get(name) is None
    )
    return tuple(dict.fromkeys(needed))


def filled(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The policy with its open parameters filled in, and with such as it does not mention.

    Raises InputRejected for one that the policy itself sets, or where it has none.
    """
    if not given:
        return dict(document)
    if "use" not in document:
        raise InputRejected(
            "the zone's policy has no parameters", remedy="publish under it without any"
        )
    set_already = [name for name in given if _given(document).get(name) is not None]
    if set_already:
        raise InputRejected(
            f"the zone's policy sets {', '.join(sorted(set_already))[:200]} itself",
            remedy="leave that out, or publish under a policy of your own",
        )
    return {**document, "with": {**_given(document), **given}}


def verify_shareable(document: Mapping[str, Any], *, zone: str, now: datetime) -> None:
    """Raises InputRejected for a document that is no policy, or one that could never do what it
    says; open parameters are taken to be given sensibly."""
    try:
        size = len(rfc8785.dumps(dict(document)))
    except (rfc8785.CanonicalizationError, RecursionError) as err:
        raise InputRejected("policy: expected values that JSON has") from err
    if size > MAX_POLICY_BYTES:
        raise InputRejected(f"policy: expected at most {MAX_POLICY_BYTES} bytes; shorten it")
    samples = {name: _sample(name, zone, now) for name in open_parameters(document)}
    offer = policy_from(filled(document, samples), offer_id="offer:shared")
    for remark in remarks_on(offer, RAW_FORMATS, personal=True, now=now):
        if remark.severity is Severity.ERROR:
            raise InputRejected(
                f"{remark.path}: {remark.sentence}",
                remedy="change that part of the policy and put it again",
            )


def parse_reference(policy: Mapping[str, Any] | None) -> tuple[str, str, dict[str, Any]] | None:
    """Zone, name and given parameters of a reference to a shared policy; None for any other policy.

    Raises InputRejected for a reference that is none.
    """
    if policy is None or "zone" not in policy:
        return None
    named, given = policy["zone"], policy.get("with") or {}
    zone, slash, name = named.partition("/") if isinstance(named, str) else ("", "", "")
    if (
        policy.keys() - REFERENCE
        or not zone
        or not slash
        or not name
        or not isinstance(given, Mapping)
    ):
        raise InputRejected(
            "policy: expected zone as ZONE/POLICY, and with for its parameters; nothing else",
            remedy="for example: --policy zone:qianhai-ftz/standard",
        )
    return zone, name, dict(given)


def _templates(document: Mapping[str, Any]) -> list[str]:
    use = document.get("use")
    names = [use] if isinstance(use, str) else use if isinstance(use, list) else []
    # What is no template is refused where the policy is read, with a sentence about it.
    return [name for name in names if isinstance(name, str) and name in TEMPLATES]


def _given(document: Mapping[str, Any]) -> dict[str, Any]:
    given = document.get("with")
    return dict(given) if isinstance(given, Mapping) else {}


def _sample(name: str, zone: str, now: datetime) -> Any:
    named: Mapping[str, Callable[[], Any]] = {
        "computations": lambda: list(KINDS),
        "recipient_roles": lambda: ["enterprise"],
        "zones": lambda: [zone],
        "division": lambda: "4403",
        "recipient": lambda: "did:web:member.example",
        "release": lambda: ["name:drop"],
    }
    if name in named:
        return named[name]()
    kinds: Mapping[Kind, Any] = {
        Kind.TEXTS: ["sample"],
        Kind.TEXT: "sample",
        Kind.NUMBER: 1000,
        Kind.DECIMAL: "1",
        Kind.TIME: (now + timedelta(days=365)).isoformat(),
    }
    return kinds[PARAMETERS[name].kind]


# ---- a member's use of them ---------------------------------------------------------------------


class Sharing:
    """Shared policies at a node: fetched, verified, filled, and remembered for each dataset."""

    def __init__(self, node: Node, operators: OperatorsZones) -> None:
        self._node = node
        self._operators = operators

    def fetch(self, zone: str, policy: str) -> SharedPolicy:
        """The policy as it is now, with the operator's signature verified.

        Raises as `OperatorsZones` does, and ProtocolViolation for one that does not verify.
        """
        return open_policy(
            self._operators.signed_policy(zone, policy),
            zone=zone,
            policy=policy,
            operator=self._operators.did(),
            now=time.time(),
            key_of=self._node.key_of,
        )

    def resolved(self, asked: Asked) -> tuple[Asked, Followed | None]:
        """`asked` with the shared policy it refers to in place, and which that is; as it came where
        it refers to none. Raises as `fetch` does, and InputRejected for unfitting parameters."""
        reference = parse_reference(asked.policy)
        if reference is None:
            return asked, None
        zone, name, given = reference
        shared = self.fetch(zone, name)
        followed = Followed(zone, name, shared.number, canonical_hash(shared.document))
        policy = filled(shared.document, given)
        return asked.model_copy(update={"policy": policy}), followed

    def follow(self, tx: Session, dataset: str, followed: Followed | None) -> None:
        """Remember, in the caller's transaction, what a dataset's offer was made of now."""
        before = tx.get(FollowingRow, dataset)
        if followed is None:
            if before is not None:
                tx.delete(before)
            return
        tx.merge(
            FollowingRow(
                dataset=dataset,
                zone=followed.zone,
                policy=followed.policy,
                number=followed.number,
                document_h=followed.document_h,
                followed_at=time.time(),
            )
        )

    def outdated(self) -> list[dict[str, Any]]:
        """Every offered dataset that follows a shared policy, and whether that has changed since.

        Raises as `fetch` does.
        """
        offered = (
            select(FollowingRow)
            .join(DatasetRow, col(DatasetRow.id) == col(FollowingRow.dataset))
            .where(col(DatasetRow.withdrawn_at).is_(None))
            .order_by(col(FollowingRow.dataset))
        )
        with self._node.store.transaction() as tx:
            rows = tx.exec(offered).all()
        current = {
            (zone, policy): self.fetch(zone, policy)
            for zone, policy in sorted({(row.zone, row.policy) for row in rows})
        }
        return [
            {
                "dataset": row.dataset,
                "zone": row.zone,
                "policy": row.policy,
                "follows": row.number,
                "current": (now := current[row.zone, row.policy]).number,
                "outdated": canonical_hash(now.document) != row.document_h,
            }
            for row in rows
        ]
