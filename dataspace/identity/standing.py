"""A member's standing with the operator of its space: active, suspended, revoked.

Revocation is final: its bit in the list is never cleared, so whoever has seen it need not ask
again. A participant that is let in anew joins under another identifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dataspace.errors import InputRejected
from dataspace.identity.status_list import StatusPurpose


class Standing(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class StandingAct(StrEnum):
    SUSPEND = "suspend"
    REINSTATE = "reinstate"
    REVOKE = "revoke"


_S, _A = Standing, StandingAct
NEXT: Final[Mapping[tuple[Standing, StandingAct], Standing]] = MappingProxyType(
    {
        (_S.ACTIVE, _A.SUSPEND): _S.SUSPENDED,
        (_S.ACTIVE, _A.REINSTATE): _S.ACTIVE,
        (_S.ACTIVE, _A.REVOKE): _S.REVOKED,
        (_S.SUSPENDED, _A.SUSPEND): _S.SUSPENDED,
        (_S.SUSPENDED, _A.REINSTATE): _S.ACTIVE,
        (_S.SUSPENDED, _A.REVOKE): _S.REVOKED,
        (_S.REVOKED, _A.REVOKE): _S.REVOKED,
    }
)

# Which list a standing shows in. A revoked member need not be in that of the suspended.
SHOWN_IN: Final[Mapping[StatusPurpose, Standing]] = MappingProxyType(
    {
        StatusPurpose.REVOCATION: _S.REVOKED,
        StatusPurpose.SUSPENSION: _S.SUSPENDED,
    }
)


def next_standing(standing: Standing, act: StandingAct) -> Standing:
    """Raises InputRejected for what is not undone: a revoked membership."""
    found = NEXT.get((standing, act))
    if found is None:
        raise InputRejected(
            f"this membership is {standing.value}, which cannot be undone",
            remedy="invite the participant again under another address",
        )
    return found
