"""An agreement signed by both sides, over the same bytes.

Each side makes a compact JWS (RFC 7515) whose payload is the RFC 8785 form of the agreement. The
two have the same payload, so they join into one document in the general JSON form of RFC 7515
§7.2.1, the deed, which any JOSE library verifies without this software (`contracts.deed`).

A side that has a post-quantum key makes a second JWS over the same payload with it. Neither
signature stands in for the other: the first is always of an elliptic curve, the second never.
"""

from collections.abc import Callable
from typing import Final

import rfc8785

from contracts.errors import InputRejected, ProtocolViolation
from contracts.jws import (
    POST_QUANTUM_ALGORITHMS,
    READ_ALGORITHMS,
    WRITTEN_ALGORITHMS,
    open_compact,
    read_compact,
    sign_compact,
)
from contracts.keys import SignatureKey
from contracts.odrl import Agreement

TYPE: Final = "usage-agreement+jwt"
# The bounds of a policy keep an agreement well below this.
LIMIT_BYTES: Final = 1024 * 1024

__all__ = [
    "POST_QUANTUM_ALGORITHMS",
    "READ_ALGORITHMS",
    "TYPE",
    "WRITTEN_ALGORITHMS",
    "agreement_bytes",
    "key_id",
    "sign_agreement",
    "verify_agreement_signature",
    "verify_post_quantum_signature",
]


def agreement_bytes(agreement: Agreement) -> bytes:
    """What is signed: the agreement in canonical JSON (RFC 8785).

    Raises ProtocolViolation where a property we do not know holds what has no such form, such as a
    whole number above 2^53.
    """
    try:
        return rfc8785.dumps(agreement.to_json())
    except rfc8785.CanonicalizationError as err:
        raise ProtocolViolation(
            "agreement: expected values that canonical JSON (RFC 8785) can hold"
        ) from err


def sign_agreement(agreement: Agreement, key: SignatureKey, kid: str, alg: str) -> str:
    """A compact JWS over `agreement` with a party's private `key`; `kid` is a DID URL of it.

    Raises InputRejected where `kid` belongs to neither party or the key does not sign `alg`, and
    ProtocolViolation for an agreement without a canonical form.
    """
    if kid.partition("#")[0] not in (agreement.assigner, agreement.assignee):
        raise InputRejected("expected a key id of one of the agreement's two parties")
    return sign_compact(agreement_bytes(agreement), key, kid, alg, typ=TYPE, limit=LIMIT_BYTES)


def verify_agreement_signature(
    jws: str, agreement: Agreement, signer: str, key_of: Callable[[str], SignatureKey]
) -> None:
    """`jws` must be the signature of the party `signer` (a DID) over exactly `agreement`.

    `key_of` gives the public key of a key id and raises LookupError when there is none. Raises
    ProtocolViolation otherwise.
    """
    _verify(jws, agreement, signer, key_of, READ_ALGORITHMS)


def verify_post_quantum_signature(
    jws: str, agreement: Agreement, signer: str, key_of: Callable[[str], SignatureKey]
) -> None:
    """The same of the second signature, which a post-quantum key has made."""
    _verify(jws, agreement, signer, key_of, POST_QUANTUM_ALGORITHMS)


def key_id(jws: str) -> str:
    """The id of the key that an agreement's signature names. Raises ProtocolViolation."""
    header, _ = read_compact(
        jws,
        typ=TYPE,
        what="agreement signature",
        limit=LIMIT_BYTES,
        algorithms=READ_ALGORITHMS | POST_QUANTUM_ALGORITHMS,
    )
    return header["kid"]


def _verify(
    jws: str,
    agreement: Agreement,
    signer: str,
    key_of: Callable[[str], SignatureKey],
    algorithms: frozenset[str],
) -> None:
    payload = open_compact(
        jws,
        signer,
        key_of,
        typ=TYPE,
        what="agreement signature",
        limit=LIMIT_BYTES,
        algorithms=algorithms,
    )
    if payload != agreement_bytes(agreement):
        raise ProtocolViolation("agreement signature: it is over another text than the agreement")
