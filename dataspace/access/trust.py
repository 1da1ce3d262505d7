"""Which identity provider the owner trusts, and what its roles mean at this node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dataspace.access.permissions import Role


@dataclass(frozen=True)
class Trust:
    """Whose tokens count, for whom they must be, and what their roles mean here."""

    issuer: str
    audience: str
    # A claim, or the way to one: `realm_access.roles` is `roles` within `realm_access`.
    roles_claim: str
    roles: Mapping[str, Role]
