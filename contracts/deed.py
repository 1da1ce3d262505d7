"""The deed of an agreement: one file with both signatures that verifies offline.

It is a JWS in the general JSON form (RFC 7515 §7.2.1): one payload, the agreement, and a signature
of each party with its public key in the unprotected header. Any JOSE library verifies it. A key in
the file proves that its holder signed; whose key it is, a verifier has to know from elsewhere: from
the party's DID document, or pinned by its thumbprint (RFC 7638).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey

from contracts.errors import InputRejected, ProtocolViolation
from contracts.jws import decode_segment, open_compact, read_compact
from contracts.odrl import Agreement
from contracts.signature import LIMIT_BYTES, TYPE, agreement_bytes
from contracts.wire import read_json, read_model

_WHAT: Final = "deed"
# The members that make a public key (RFC 7638 §3.2), of the two kinds of keys that sign here.
_KEY_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "OKP": frozenset({"kty", "crv", "x"}),
    "EC": frozenset({"kty", "crv", "x", "y"}),
}


@dataclass(frozen=True)
class Signer:
    """A party that signed: its DID, the id of its key, and the key's thumbprint (RFC 7638).

    `pinned` says whether the verifier knew that thumbprint. Where it did not, the signature proves
    that the holder of the key signed, and not that the key is the party's.
    """

    did: str
    kid: str
    thumbprint: str
    pinned: bool


@dataclass(frozen=True)
class Deed:
    """An agreement both of whose parties signed exactly this text."""

    agreement: Agreement
    provider: Signer
    consumer: Signer

    @property
    def signers(self) -> tuple[Signer, Signer]:
        return self.provider, self.consumer


def public_jwk(key: Key) -> dict[str, Any]:
    """What makes the public `key`, and nothing its owner or its DID document says beside that."""
    known = key.as_dict(private=False)
    return {name: known[name] for name in sorted(_KEY_MEMBERS[str(known["kty"])])}


def make_deed(signatures: Sequence[str], key_of: Callable[[str], Key]) -> dict[str, Any]:
    """Join compact JWS over the same agreement; `key_of` gives the public key of a key id.

    Nothing is verified and nothing is serialised again. Raises InputRejected where their payloads
    differ, ProtocolViolation for what is no signature of an agreement.
    """
    payloads = set()
    joined = []
    for text in signatures:
        header, _ = read_compact(text, typ=TYPE, what=_WHAT, limit=LIMIT_BYTES)
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


def open_deed(document: bytes, pinned: Mapping[str, str] | None = None) -> Deed:
    """The deed in `document`, both signatures verified with the keys it brings.

    `pinned` maps a DID to the thumbprint its key must have; every DID in it must have signed.
    Raises ProtocolViolation for anything that is not an agreement signed by exactly its two
    parties.
    """
    body = read_json(document, limit_bytes=4 * LIMIT_BYTES)
    parts = body.get("signatures")
    # Exactly these everywhere, so that nothing in the file is left unverified.
    if body.keys() != {"payload", "signatures"} or not isinstance(parts, list) or len(parts) != 2:
        raise ProtocolViolation("deed: expected exactly a payload and two signatures")
    signers: dict[str, Signer] = {}
    for part in parts:
        text, key = _compact(body["payload"], part)
        header, content = read_compact(text, typ=TYPE, what=_WHAT, limit=LIMIT_BYTES)
        did = header["kid"].partition("#")[0]
        open_compact(text, did, _only(key), typ=TYPE, what=_WHAT, limit=LIMIT_BYTES)
        thumbprint = key.thumbprint()
        signers[did] = Signer(did, header["kid"], thumbprint, _is_pinned(did, thumbprint, pinned))
    agreement = read_model(Agreement, read_json(content, limit_bytes=LIMIT_BYTES))
    if content != agreement_bytes(agreement):
        raise ProtocolViolation("deed: expected the agreement in canonical JSON (RFC 8785)")
    if signers.keys() != {agreement.assigner, agreement.assignee}:
        raise ProtocolViolation("deed: expected one signature of each of the agreement's parties")
    for did in pinned or {}:
        # A pin for somebody else would look like a check and be none.
        if did not in signers:
            raise ProtocolViolation(f"deed: {did}, whose key is pinned, has not signed it")
    return Deed(agreement, signers[agreement.assigner], signers[agreement.assignee])


def _is_pinned(did: str, thumbprint: str, pinned: Mapping[str, str] | None) -> bool:
    if pinned is None or did not in pinned:
        return False
    if pinned[did] != thumbprint:
        raise ProtocolViolation(f"deed: the key of {did} is not the pinned one")
    return True


def _compact(payload: object, part: object) -> tuple[str, OKPKey | ECKey]:
    """One signature as a compact JWS, with the public key that came beside it."""
    if not isinstance(part, dict) or part.keys() != {"protected", "signature", "header"}:
        raise ProtocolViolation("deed: expected of a signature protected, signature and header")
    protected, signature, header = part["protected"], part["signature"], part["header"]
    if not all(isinstance(text, str) for text in (payload, protected, signature)):
        raise ProtocolViolation("deed: expected payload, protected and signature as text")
    if not isinstance(header, dict) or header.keys() != {"jwk"}:
        raise ProtocolViolation("deed: expected exactly the signer's key (jwk) in the header")
    return f"{protected}.{payload}.{signature}", _public_key(header["jwk"])


def _public_key(jwk: object) -> OKPKey | ECKey:
    if isinstance(jwk, dict) and "d" in jwk:
        raise ProtocolViolation("deed: it carries a private key, which nobody must ever show")
    kty = jwk.get("kty") if isinstance(jwk, dict) else None
    members = _KEY_MEMBERS.get(kty) if isinstance(kty, str) else None
    if (
        not isinstance(jwk, dict)
        or members is None
        or jwk.keys() != members
        or not all(isinstance(value, str) for value in jwk.values())
    ):
        raise ProtocolViolation("deed: expected an Ed25519 or P-256 public key, and only that")
    for name in members & {"x", "y"}:
        # One text for one key, so that it has one thumbprint.
        decode_segment(jwk[name], _WHAT)
    try:
        return (OKPKey if kty == "OKP" else ECKey).import_key(dict(jwk))
    except (JoseError, ValueError, TypeError, KeyError) as err:
        raise ProtocolViolation("deed: expected an Ed25519 or P-256 key in header.jwk") from err


def _only(key: Key) -> Callable[[str], Key]:
    return lambda kid: key
