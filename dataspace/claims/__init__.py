"""The Decentralized Claims Protocol 1.0: how credentials are asked for, kept, shown and verified.

`messages`, `scopes`, `access`, `credentials`, `presentations` and `documents` are functions of
values. `fetching`, `verifier`, `holder`, `issuer` and `token_service` act: each is one part that a
node plays in the protocol. Sections named here and there are those of the protocol's version 1.0.
"""

from typing import Final

# Below this address are the credential service and, at an operator, the issuer service.
BASE: Final = "/claims"
CREDENTIAL_SERVICE: Final = f"{BASE}/holder"
ISSUER_SERVICE: Final = f"{BASE}/issuer"

MEMBERSHIP: Final = "MembershipCredential"
