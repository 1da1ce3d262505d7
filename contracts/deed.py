"""The deed of an agreement: one file with all signatures that verifies offline.

It is a JWS in the general JSON form (RFC 7515 §7.2.1): one payload, the agreement, and a signature
of each party with its public key in the unprotected header. Any JOSE library verifies it. A key in
the file proves that its holder signed; whose key it is, a verifier has to know from elsewhere: from
the party's DID document, or pinned by its thumbprint (RFC 7638).

A party with a post-quantum key has signed twice, and the deed of its agreement holds both. Whether
it had one, the file alone cannot say: who pins the post-quantum key demands its signature.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.errors import InputRejected, ProtocolViolation
from contracts.jws import (
    POST_QUANTUM_ALGORITHMS,
    READ_ALGORITHMS,
    decode_segment,
    open_compact,
    read_compact,
)
from contracts.keys import KEY_MEMBERS, SignatureKey, key_of_jwk
from contracts.odrl import Agreement
from contracts.signature import LIMIT_BYTES, TYPE, agreement_bytes
from contracts.wire import read_json, read_model

_WHAT: Final = "deed"
_ALGORITHMS: Final = READ_ALGORITHMS | POST_QUANTUM_ALGORITHMS
# Each of the two parties signs once, or with a post-quantum key besides.
_MOST_SIGNATURES: Final = 4


@dataclass(frozen=True)
class SigningKeyUsed:
    """A key that signed: its id, its thumbprint (RFC 7638), and whether the verifier knew that.

    Where it did not, the signature proves that the holder of the key signed, and not that the key
    is the party's.
    """

    kid: str
    thumbprint: str
    pinned: bool


@dataclass(frozen=True)
class Signer:
    """A party that signed, with what of its keys `SigningKeyUsed` says; `post_quantum` is the
    second one where it has signed with two."""

    did: str
    kid: str
    thumbprint: str
    pinned: bool
    post_quantum: SigningKeyUsed | None = None


@dataclass(frozen=True)
class Deed:
    """An agreement both of whose parties signed exactly this text."""

    agreement: Agreement
    provider: Signer
    consumer: Signer

    @property
    def signers(self) -> tuple[Signer, Signer]:
        return self.provider, self.consumer


def public_jwk(key: SignatureKey) -> dict[str, Any]:
    """What makes the public `key`, and nothing its owner or its DID document says beside that."""
    known: Mapping[str, Any] = key.as_dict(private=False)
    return {name: known[name] for name in sorted(KEY_MEMBERS[str(known["kty"])])}


def make_deed(signatures: Sequence[str], key_of: Callable[[str], SignatureKey]) -> dict[str, Any]:
    """Join compact JWS over the same agreement; `key_of` gives the public key of a key id.

    Nothing is verified and nothing is serialised again. Raises InputRejected where their payloads
    differ, ProtocolViolation for what is no signature of an agreement.
    """
    payloads = set()
    joined = []
    for text in signatures:
        header, _ = read_compact(
            text, typ=TYPE, what=_WHAT, limit=LIMIT_BYTES, algorithms=_ALGORITHMS
        )
        protected, payload, signature = text.split(".")
        payloads.add(payload)
        joined.append(
            {
                "protected": protected,
                "signature": signature,
                "header": {"jwk": public_jwk(key_of(header["kid"]))},
            }
        )
    if len(payloads) != 1:
        raise InputRejected("expected signatures over one and the same agreement")
    return {"payload": payloads.pop(), "signatures": joined}


def open_deed(
    document: bytes,
    pinned: Mapping[str, str] | None = None,
    post_quantum: Mapping[str, str] | None = None,
) -> Deed:
    """The deed in `document`, all signatures verified with the keys it brings.

    `pinned` maps a DID to the thumbprint its key must have, `post_quantum` to that of its second
    key; every DID in them must have signed so. Raises ProtocolViolation for anything that is not an
    agreement signed by exactly its two parties.
    """
    body = read_json(document, limit_bytes=4 * LIMIT_BYTES)
    parts = body.get("signatures")
    # Exactly these everywhere, so that nothing in the file is left unverified.
    if (
        body.keys() != {"payload", "signatures"}
        or not isinstance(parts, list)
        or not 2 <= len(parts) <= _MOST_SIGNATURES
    ):
        raise ProtocolViolation("deed: expected exactly a payload and two to four signatures")
    first: dict[str, SigningKeyUsed] = {}
    second: dict[str, SigningKeyUsed] = {}
    content = b""
    for part in parts:
        text, key = _compact(body["payload"], part)
        header, content = read_compact(
            text, typ=TYPE, what=_WHAT, limit=LIMIT_BYTES, algorithms=_ALGORITHMS
        )
        did = header["kid"].partition("#")[0]
        open_compact(
            text,
            did,
            _only(key),
            typ=TYPE,
            what=_WHAT,
            limit=LIMIT_BYTES,
            algorithms=_ALGORITHMS,
        )
        hybrid = header["alg"] in POST_QUANTUM_ALGORITHMS
        of_kind, pins = (second, post_quantum) if hybrid else (first, pinned)
        if did in of_kind:
            raise ProtocolViolation("deed: expected one signature of each kind from each party")
        thumbprint = key.thumbprint()
        known = _is_pinned(did, thumbprint, pins)
        of_kind[did] = SigningKeyUsed(header["kid"], thumbprint, known)
    agreement = read_model(Agreement, read_json(content, limit_bytes=LIMIT_BYTES))
    if content != agreement_bytes(agreement):
        raise ProtocolViolation("deed: expected the agreement in canonical JSON (RFC 8785)")
    parties = {agreement.assigner, agreement.assignee}
    if first.keys() != parties or not second.keys() <= parties:
        raise ProtocolViolation("deed: expected one signature of each of the agreement's parties")
    _verify_pins_met(pinned, first, "whose key is pinned, has not signed it")
    _verify_pins_met(
        post_quantum, second, "whose post-quantum key is pinned, has not signed it with that"
    )
    provider, consumer = (
        Signer(
            did,
            first[did].kid,
            first[did].thumbprint,
            first[did].pinned,
            post_quantum=second.get(did),
        )
        for did in (agreement.assigner, agreement.assignee)
    )
    return Deed(agreement, provider, consumer)


def _verify_pins_met(
    pins: Mapping[str, str] | None, signed: Mapping[str, SigningKeyUsed], what: str
) -> None:
    for did in pins or {}:
        # A pin for somebody else would look like a check and be none.
        if did not in signed:
            raise ProtocolViolation(f"deed: {did}, {what}")


def _is_pinned(did: str, thumbprint: str, pinned: Mapping[str, str] | None) -> bool:
    if pinned is None or did not in pinned:
        return False
    if pinned[did] != thumbprint:
        raise ProtocolViolation(f"deed: the key of {did} is not the pinned one")
    return True


def _compact(payload: object, part: object) -> tuple[str, SignatureKey]:
    """One signature as a compact JWS, with the public key that came beside it."""
    if not isinstance(part, dict) or part.keys() != {"protected", "signature", "header"}:
        raise ProtocolViolation("deed: expected of a signature protected, signature and header")
    protected, signature, header = part["protected"], part["signature"], part["header"]
    if not all(isinstance(text, str) for text in (payload, protected, signature)):
        raise ProtocolViolation("deed: expected payload, protected and signature as text")
    if not isinstance(header, dict) or header.keys() != {"jwk"}:
        raise ProtocolViolation("deed: expected exactly the signer's key (jwk) in the header")
    return f"{protected}.{payload}.{signature}", _public_key(header["jwk"])


def _public_key(jwk: object) -> SignatureKey:
    if isinstance(jwk, dict) and jwk.keys() & {"d", "priv"}:
        raise ProtocolViolation("deed: it carries a private key, which nobody must ever show")
    kty = jwk.get("kty") if isinstance(jwk, dict) else None
    members = KEY_MEMBERS.get(kty) if isinstance(kty, str) else None
    if (
        not isinstance(jwk, dict)
        or members is None
        or jwk.keys() != members
        or not all(isinstance(value, str) for value in jwk.values())
    ):
        raise ProtocolViolation("deed: expected a public key of a kind known here, and only that")
    for name in members & {"x", "y"}:
        # One text for one key, so that it has one thumbprint.
        decode_segment(jwk[name], _WHAT)
    try:
        return key_of_jwk(jwk)
    except ProtocolViolation as err:
        raise ProtocolViolation("deed: expected a public key that is one in header.jwk") from err


def _only(key: SignatureKey) -> Callable[[str], SignatureKey]:
    return lambda kid: key
