"""Scopes: which credentials somebody asks for or may see (§5.4.1.2).

    org.eclipse.dspace.dcp.vc.type:MembershipCredential:read
    org.eclipse.dspace.dcp.vc.id:urn:uuid:8247b87d-8d72-47e1-8128-9ce47e3d829d

The right at the end is what today's connectors write; without one, reading is meant, as the
protocol has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dataspace.claims import MEMBERSHIP
from dataspace.claims.messages import MAX_SCOPES
from dataspace.errors import ProtocolViolation

MAX_SCOPE_LETTERS: Final = 512
READ: Final = "read"
# Rights that include reading, and those that do not: none of them is part of a credential's name.
_READING: Final = frozenset({READ, "all", "*"})
_RIGHTS: Final = _READING | {"write"}


class Alias(StrEnum):
    """How a scope names a credential."""

    TYPE = "org.eclipse.dspace.dcp.vc.type"
    ID = "org.eclipse.dspace.dcp.vc.id"


@dataclass(frozen=True)
class Scope:
    """Credentials that may be read: all of one type, or the one with an id."""

    alias: Alias
    value: str

    def __str__(self) -> str:
        return f"{self.alias}:{self.value}:{READ}"

    def covers(self, types: Iterable[str], credential_id: str | None) -> bool:
        """Whether a credential of these types and this id is meant."""
        return self.value in types if self.alias is Alias.TYPE else self.value == credential_id


MEMBERSHIP_SCOPE: Final = Scope(Alias.TYPE, MEMBERSHIP)


def parse_scope(written: str) -> Scope | None:
    """The scope, or None for one that gives nothing to read here: of an alias we do not know, or
    for writing. Raises ProtocolViolation for what is no scope at all."""
    alias, colon, rest = written.partition(":")
    if not colon or not rest or len(written) > MAX_SCOPE_LETTERS or " " in written:
        raise ProtocolViolation("scope: expected ALIAS:CREDENTIAL or ALIAS:CREDENTIAL:RIGHT")
    named, _, right = rest.rpartition(":")
    if right not in _RIGHTS:
        named, right = rest, READ
    if alias not in set(Alias) or right not in _READING or not named:
        return None
    return Scope(Alias(alias), named)


def parse_scopes(written: Iterable[str]) -> frozenset[Scope]:
    """Those of the scopes that give something to read. Raises ProtocolViolation."""
    several = list(written)
    if len(several) > MAX_SCOPES:
        raise ProtocolViolation(f"scope: expected at most {MAX_SCOPES}, got {len(several)}")
    return frozenset(scope for one in several if (scope := parse_scope(one)) is not None)


def entitled(asked: frozenset[Scope], granted: frozenset[Scope]) -> frozenset[Scope]:
    """What is shown: never more than was granted. Who asks for more gets less than it asked for,
    and no error (§5.4.1.2)."""
    return asked & granted
