"""What the claims protocol adds to a DID document: its services (§5.2, §6.2), and which of the keys
sign its tokens (§4.3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dataspace.claims import CREDENTIAL_SERVICE, ISSUER_SERVICE
from dataspace.claims.messages import CONTEXT
from dataspace.identity.did import Use


def describe(document: Mapping[str, Any], *, url: str, issues: bool) -> dict[str, Any]:
    """The document of the node at `url`, with what verifiers and issuers look for in it."""
    did = document["id"]
    services: Final = [
        {
            "id": f"{did}#credential-service",
            "type": "CredentialService",
            "serviceEndpoint": f"{url}{CREDENTIAL_SERVICE}",
        }
    ]
    if issues:
        services.append(
            {
                "id": f"{did}#issuer-service",
                "type": "IssuerService",
                "serviceEndpoint": f"{url}{ISSUER_SERVICE}",
            }
        )
    return {
        **document,
        "@context": [*document["@context"], CONTEXT],
        Use.INVOCATION.value: list(document[Use.AUTHENTICATION.value]),
        "service": [*document["service"], *services],
    }
