"""Who may do what at their own node: one table, pure.

Every address of a node names exactly one `Caller`; those for the owner's side also name exactly one
`Permission`, and `RULES` says which roles have it. There is no other place where a role is looked
at. An act (`Nature.ACT`) is recorded with the person who did it; a use is recorded as what it is (a
negotiation, an order) and is the everyday work of programs; reading is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """What a person, or a program of theirs, is at this node."""

    OWNER = "owner"
    STEWARD = "steward"
    APPROVER = "approver"
    AUDITOR = "auditor"


class Caller(StrEnum):
    """Whom an address is for."""

    OWNER_SIDE = "owner side"
    MEMBER = "member"
    REGULATOR = "regulator"
    OPERATOR = "operator of the space"
    # Proves its DID; it need not be a member yet.
    DID = "holder of a DID"
    PERSON = "person in a vault"
    # Holds the token of one transfer.
    TRANSFER = "party of a transfer"
    # Another process of this node, on the same database.
    REPLICA = "replica of this node"
    ANYBODY = "anybody"


class Nature(StrEnum):
    """What a call does to the node."""

    READ = "read"
    USE = "use"
    ACT = "act"


class Permission(StrEnum):
    """One thing that can be allowed. The value is its name in settings, documents and acts."""

    STATUS_READ = "status.read"
    METRICS_READ = "metrics.read"
    DATASET_READ = "dataset.read"
    DATASET_PUBLISH = "dataset.publish"
    DATASET_POLICY = "dataset.policy"
    DATASET_CLASSIFY = "dataset.classify"
    DATASET_WITHDRAW = "dataset.withdraw"
    DATASET_CHECK = "dataset.check"
    POLICY_TRY = "policy.try"
    CATALOGUE_ASK = "catalogue.ask"
    CONSENT_READ = "consent.read"
    CONSENT_RECORD = "consent.record"
    CONSENT_WITHDRAW = "consent.withdraw"
    PERSON_COUNT = "person.count"
    PERSON_ENROL = "person.enrol"
    PERSON_ERASE = "person.erase"
    NEGOTIATION_READ = "negotiation.read"
    NEGOTIATION_ASK = "negotiation.ask"
    NEGOTIATION_OFFER = "negotiation.offer"
    NEGOTIATION_DECIDE = "negotiation.decide"
    NEGOTIATION_COUNTER = "negotiation.counter"
    NEGOTIATION_END = "negotiation.end"
    AGREEMENT_READ = "agreement.read"
    AGREEMENT_RENEW = "agreement.renew"
    AGREEMENT_END = "agreement.end"
    TRANSFER_READ = "transfer.read"
    TRANSFER_BEGIN = "transfer.begin"
    TRANSFER_STEER = "transfer.steer"
    TRANSFER_END = "transfer.end"
    RETURN_READ = "return.read"
    RETURN_GIVE = "return.give"
    RETURN_STEER = "return.steer"
    RETURN_END = "return.end"
    COMPUTATION_READ = "computation.read"
    COMPUTATION_ORDER = "computation.order"
    COMPUTATION_CANCEL = "computation.cancel"
    EVIDENCE_READ = "evidence.read"
    EVIDENCE_ERASE = "evidence.erase"
    KEY_ROTATE = "key.rotate"
    SPACE_JOIN = "space.join"
    CREDENTIAL_READ = "credential.read"
    CREDENTIAL_ASK = "credential.ask"
    MEMBER_READ = "member.read"
    MEMBER_INVITE = "member.invite"
    MEMBER_REVOKE = "member.revoke"
    ZONE_READ = "zone.read"
    ZONE_REFRESH = "zone.refresh"
    ZONE_CREATE = "zone.create"
    ZONE_MEMBERS = "zone.members"
    ZONE_POLICY = "zone.policy"
    ACCESS_READ = "access.read"
    ACCESS_GRANT = "access.grant"
    ACCESS_REVOKE = "access.revoke"
    REQUEST_READ = "request.read"
    REQUEST_DECIDE = "request.decide"
    REQUEST_DECLINE = "request.decline"
    ACT_READ = "act.read"
    SELF_READ = "self.read"


@dataclass(frozen=True)
class Rule:
    """Who has a permission, and what using it is."""

    roles: frozenset[Role]
    nature: Nature


_OWNER: Final = (Role.OWNER,)
_STEWARDS: Final = (Role.OWNER, Role.STEWARD)
_APPROVERS: Final = (Role.OWNER, Role.APPROVER)
_AUDITORS: Final = (Role.OWNER, Role.AUDITOR)
_DATA: Final = (Role.OWNER, Role.STEWARD, Role.AUDITOR)
_ALL: Final = tuple(Role)


def _rules() -> dict[Permission, Rule]:
    by_nature: dict[Nature, dict[tuple[Role, ...], tuple[Permission, ...]]] = {
        Nature.READ: {
            _ALL: (
                Permission.STATUS_READ,
                Permission.DATASET_READ,
                Permission.POLICY_TRY,
                Permission.NEGOTIATION_READ,
                Permission.AGREEMENT_READ,
                Permission.TRANSFER_READ,
                Permission.RETURN_READ,
                Permission.CREDENTIAL_READ,
                Permission.MEMBER_READ,
                Permission.ZONE_READ,
                Permission.REQUEST_READ,
                Permission.SELF_READ,
            ),
            # Results, and how many people a vault holds: for the work on data and its audit.
            _DATA: (
                Permission.COMPUTATION_READ,
                Permission.CONSENT_READ,
                Permission.PERSON_COUNT,
            ),
            _AUDITORS: (
                Permission.METRICS_READ,
                Permission.EVIDENCE_READ,
                Permission.ACCESS_READ,
                Permission.ACT_READ,
            ),
        },
        Nature.USE: {
            # An approver looks at a peer's offer; an auditor does not make the node call others.
            (Role.OWNER, Role.STEWARD, Role.APPROVER): (Permission.CATALOGUE_ASK,),
            _STEWARDS: (
                Permission.NEGOTIATION_ASK,
                Permission.AGREEMENT_RENEW,
                Permission.TRANSFER_BEGIN,
                Permission.COMPUTATION_ORDER,
                Permission.COMPUTATION_CANCEL,
                Permission.DATASET_CHECK,
                Permission.ZONE_REFRESH,
            ),
        },
        Nature.ACT: {
            _OWNER: (
                Permission.EVIDENCE_ERASE,
                Permission.KEY_ROTATE,
                Permission.SPACE_JOIN,
                Permission.CREDENTIAL_ASK,
                Permission.MEMBER_INVITE,
                Permission.MEMBER_REVOKE,
                Permission.ZONE_CREATE,
                Permission.ZONE_MEMBERS,
                Permission.ACCESS_GRANT,
                Permission.ACCESS_REVOKE,
            ),
            _STEWARDS: (
                Permission.DATASET_PUBLISH,
                Permission.DATASET_POLICY,
                Permission.DATASET_CLASSIFY,
                Permission.DATASET_WITHDRAW,
                Permission.CONSENT_RECORD,
                Permission.CONSENT_WITHDRAW,
                Permission.PERSON_ENROL,
                Permission.PERSON_ERASE,
                Permission.NEGOTIATION_OFFER,
                Permission.AGREEMENT_END,
                Permission.TRANSFER_STEER,
                Permission.TRANSFER_END,
                Permission.RETURN_GIVE,
                Permission.RETURN_STEER,
                Permission.RETURN_END,
                Permission.ZONE_POLICY,
            ),
            _APPROVERS: (
                Permission.NEGOTIATION_DECIDE,
                Permission.NEGOTIATION_COUNTER,
                Permission.REQUEST_DECIDE,
            ),
            # Whoever asked may take it back.
            (Role.OWNER, Role.STEWARD, Role.APPROVER): (
                Permission.NEGOTIATION_END,
                Permission.REQUEST_DECLINE,
            ),
        },
    }
    return {
        permission: Rule(frozenset(roles), nature)
        for nature, by_roles in by_nature.items()
        for roles, permissions in by_roles.items()
        for permission in permissions
    }


RULES: Final[Mapping[Permission, Rule]] = MappingProxyType(_rules())
# A word about what waits is what makes two people of one: it does not wait itself.
NEVER_HELD: Final = frozenset(
    {
        Permission.REQUEST_DECIDE,
        Permission.REQUEST_DECLINE,
        Permission.NEGOTIATION_DECIDE,
        Permission.NEGOTIATION_COUNTER,
        Permission.NEGOTIATION_END,
    }
)
# What a setting may ask two persons for.
HOLDABLE: Final = frozenset(
    permission
    for permission, rule in RULES.items()
    if rule.nature is Nature.ACT and permission not in NEVER_HELD
)


def may(roles: Iterable[Role], permission: Permission) -> bool:
    """Whether somebody with these roles has the permission."""
    return not RULES[permission].roles.isdisjoint(roles)


def is_act(permission: Permission) -> bool:
    """Whether using the permission is recorded with the person who did."""
    return RULES[permission].nature is Nature.ACT
