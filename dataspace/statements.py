"""Statements that a trustee signs for a person, as files that verify offline.

A file holds the statement, a compact JWS, beside the public key it verifies with. The key proves
that its holder signed; whose key it is, a verifier has to know: pinned by its thumbprint (RFC
7638), or looked up in the trustee's DID document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.receipts import (
    ERASURE_TYPE,
    MAX_STATEMENT_BYTES,
    RECEIPT_TYPE,
    WITHDRAWAL_TYPE,
    ConsentReceipt,
    ErasureCertificate,
    Signer,
    Withdrawal,
    parsed_statement,
)
from contracts.deed import public_jwk
from contracts.jws import open_compact, read_compact, sign_compact
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.identity.addresses import AddressPolicy
from dataspace.identity.did import Resolver
from dataspace.identity.keys import VerificationKey, read_jwk
from dataspace.identity.tokens import Identity
from dataspace.outbound import outbound_client
from dataspace.tls import ca_of_environment
from ledger.checkpoint import verify_checkpoint
from ledger.entry import EntryType, SealedEntry, open_entry
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.note import NoteVerifier
from ledger.proof import parse_proof

MAX_FILE_BYTES = 4 * MAX_STATEMENT_BYTES


class StatementFile(BaseModel):
    """What a person is handed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    receipt: str | None = Field(default=None, max_length=MAX_STATEMENT_BYTES)
    withdrawal: str | None = Field(default=None, max_length=MAX_STATEMENT_BYTES)
    certificate: str | None = Field(default=None, max_length=MAX_STATEMENT_BYTES)
    key: dict[str, str]
    # Of an erasure, once it is asked for: {"entry", "proof", "vkey"}.
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Verified:
    """Statements whose signatures hold, and how the verifier knows whose the key is."""

    did: str
    thumbprint: str
    known_by: Literal["pinned", "did-document"] | None
    receipt: ConsentReceipt | None
    withdrawal: Withdrawal | None
    certificate: ErasureCertificate | None
    # Whether an entry of the trustee's log, with its proof, names this certificate.
    in_evidence: bool

    def to_json(self) -> dict[str, Any]:
        def shown(one: BaseModel | None) -> Any:
            return None if one is None else one.model_dump(mode="json", exclude_none=True)

        return {
            "did": self.did,
            "thumbprint": self.thumbprint,
            "key_known_by": self.known_by,
            "receipt": shown(self.receipt),
            "withdrawal": shown(self.withdrawal),
            "certificate": shown(self.certificate),
            "in_evidence": self.in_evidence,
        }


def signer_of(identity: Callable[[], Identity]) -> Signer:
    """Signs statements with the key that a node has in use when it signs."""

    def sign(payload: bytes, typ: str) -> str:
        own = identity()
        return sign_compact(payload, own.key, own.kid, own.alg, typ=typ, limit=MAX_STATEMENT_BYTES)

    return sign


def statement_file(identity: Identity, **parts: Any) -> dict[str, Any]:
    """The file's content, of the parts that are there."""
    given = {name: part for name, part in parts.items() if part is not None}
    return {**given, "key": public_jwk(identity.key)}


def verify_statements(
    path: Path, pinned: Mapping[str, str], *, online: bool, local: bool
) -> Verified:
    """Verify a receipt or certificate in a file. Raises a typed error that says what does not hold.

    `pinned` maps the trustee's DID to its key's thumbprint; with `online` its DID document must
    list the key; `local` allows one served on this machine.
    """
    file = _parsed(path)
    key = read_jwk(dict(file.key))
    if key is None:
        raise ProtocolViolation("the file's key is no public key for signatures known here")
    parts = {
        typ: text
        for typ, text in (
            (RECEIPT_TYPE, file.receipt),
            (WITHDRAWAL_TYPE, file.withdrawal),
            (ERASURE_TYPE, file.certificate),
        )
        if text is not None
    }
    if not parts or (ERASURE_TYPE in parts) == (RECEIPT_TYPE in parts):
        raise InputRejected("the file holds neither a consent's receipt nor an erasure certificate")
    found: dict[str, Any] = {}
    dids = set()
    for typ, text in parts.items():
        did, found[typ] = _opened(text, typ, key)
        dids.add(did)
    if len(dids) != 1:
        raise ProtocolViolation("the statements in the file are of different signers")
    did, thumbprint = dids.pop(), str(key.thumbprint())
    _verify_belong(found, did, parts)
    known = _known(did, thumbprint, pinned, online=online, local=local)
    certificate: ErasureCertificate | None = found.get(ERASURE_TYPE)
    if certificate is not None and file.evidence is not None:
        _verify_evidence(parts[ERASURE_TYPE], certificate, did, file.evidence)
    return Verified(
        did,
        thumbprint,
        known,
        found.get(RECEIPT_TYPE),
        found.get(WITHDRAWAL_TYPE),
        certificate,
        in_evidence=file.evidence is not None,
    )


def _parsed(path: Path) -> StatementFile:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputRejected(f"{path.name} is too large", remedy="use the file you were given")
        return StatementFile.model_validate_json(path.read_bytes())
    except OSError as err:
        raise InputRejected(f"{path} cannot be read", remedy="check the path") from err
    except ValidationError as err:
        raise InputRejected(
            f"{path.name} is not a receipt's or certificate's file",
            remedy="use the file you were given, unchanged",
        ) from err


def _opened(text: str, typ: str, key: VerificationKey) -> tuple[str, Any]:
    header, _ = read_compact(text, typ=typ, what="statement", limit=MAX_STATEMENT_BYTES)
    did = header["kid"].partition("#")[0]
    payload = open_compact(
        text, did, lambda _: key, typ=typ, what="statement", limit=MAX_STATEMENT_BYTES
    )
    return did, parsed_statement(payload, typ)


def _verify_belong(found: Mapping[str, Any], did: str, parts: Mapping[str, str]) -> None:
    """Each statement is of the signer, and a withdrawal of the receipt beside it."""
    for statement in found.values():
        if did not in statement.pii_controllers:
            raise ProtocolViolation(f"the statement is of another controller than {did}")
    withdrawal: Withdrawal | None = found.get(WITHDRAWAL_TYPE)
    if withdrawal is not None:
        digest = sha256(parts[RECEIPT_TYPE].encode()).hexdigest()
        if withdrawal.receipt_sha256 != digest:
            raise ProtocolViolation("the withdrawal is of another receipt than the one beside it")


def _known(
    did: str, thumbprint: str, pinned: Mapping[str, str], *, online: bool, local: bool
) -> Literal["pinned", "did-document"] | None:
    for name, expected in pinned.items():
        if name != did:
            raise ProtocolViolation(f"{name}, whose key is pinned, has not signed this; {did} has")
        if expected != thumbprint:
            raise ProtocolViolation(f"the key of {did} is another than the pinned one")
        return "pinned"
    if not online:
        return None
    with outbound_client(ca_of_environment(), AddressPolicy(local)) as http:
        listed = {key.thumbprint() for key in Resolver(http, local=local).keys(did)}
    if thumbprint not in listed:
        raise ProtocolViolation(
            f"the DID document of {did} does not list the key that signed this",
            remedy="it may have changed its key since; ask it for the old one's thumbprint",
        )
    return "did-document"


def _verify_evidence(
    signed: str, certificate: ErasureCertificate, did: str, evidence: Mapping[str, Any]
) -> None:
    """The log's entry must name this certificate, and its proof must hold under the log's key."""
    try:
        sealed, proof = SealedEntry.parse(evidence["entry"]), parse_proof(str(evidence["proof"]))
        verifier = NoteVerifier.parse(str(evidence["vkey"]))
    except KeyError as err:
        raise ProtocolViolation(f"the evidence lacks its {err.args[0]}") from err
    entry = open_entry(sealed.body, sealed.salt, sealed.commitment)
    digest = sha256(signed.encode()).hexdigest()
    if (
        entry.type is not EntryType.ERASED
        or entry.actor != did
        or digest not in (entry.outputs_c or ())
    ):
        raise ProtocolViolation("the evidence is of something else than this certificate")
    place = certificate.evidence
    if place is None or (place.origin, place.index) != (entry.log, proof.index):
        raise ProtocolViolation("the evidence stands at another place than the certificate says")
    checkpoint = verify_checkpoint(proof.checkpoint, verifier, entry.log)
    leaf = leaf_hash(sealed.commitment)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)


def as_text(content: Mapping[str, Any]) -> str:
    """A file's content as it is written."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
