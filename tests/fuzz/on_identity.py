"""Targets of identity: tokens, credentials, presentations, DID documents, lists, statements."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from joserfc import jwt

from connectors.receipts import RECEIPT_TYPE, ConsentEvent, ConsentReceipt, PiiType
from contracts.jws import sign_compact
from dataspace.access.oidc_tokens import verified_claims
from dataspace.access.trust import Trust
from dataspace.claims import messages
from dataspace.claims.presentations import open_presentations
from dataspace.errors import SHOWN, ProtocolViolation
from dataspace.identity import did, status, status_list, tokens
from dataspace.identity.tokens import ALGORITHMS, Identity
from dataspace.operations.tracing import parse_traceparent
from dataspace.settings import ParticipantKind
from dataspace.statements import statement_file, verify_statements
from dataspace.zones.documents import LIST_TYPE, open_list
from tests.fuzz.altering import octets, signed, tree
from tests.fuzz.target import Prepared, Target
from tests.unit.dataspace.claims_examples import HOLDER, ISSUER, KEYS, NOW, VERIFIER, Written
from tests.unit.dataspace.claims_examples import key_of as key_of_example
from tests.unit.dataspace.identity_provider import AUDIENCE, IdentityProvider
from tests.unit.dataspace.identity_provider import ISSUER as PROVIDER


def _jwt(identity: Identity, claims: dict[str, Any]) -> str:
    header = {"alg": identity.alg, "kid": identity.kid, "typ": "JWT"}
    return jwt.encode(header, claims, identity.key, algorithms=ALGORITHMS)


def _claims(token: str) -> bytes:
    return json.dumps(json.loads(messages_payload(token))).encode()


def messages_payload(token: str) -> bytes:
    """What a token says, unverified."""
    import base64

    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def _tokens() -> Prepared:
    example = tokens.issue_token(HOLDER, audience=VERIFIER, now=NOW, membership="a.b.c")

    def read(given: bytes) -> None:
        text = given.decode("utf-8", "replace")
        tokens.peek_token(text)
        tokens.open_token(text, audience=VERIFIER, now=NOW, key_of=key_of_example)

    return Prepared(
        read=read,
        examples=[_claims(example)],
        alter=signed(lambda content: _jwt(HOLDER, content)),
        written=lambda content: _jwt(HOLDER, json.loads(content)).encode(),
    )


def _credentials() -> Prepared:
    example = tokens.issue_credential(
        ISSUER, subject=HOLDER.did, kind=ParticipantKind.ENTERPRISE, name="Firm", now=NOW
    )

    def read(given: bytes) -> None:
        tokens.open_credential(
            given.decode("utf-8", "replace"),
            subject=HOLDER.did,
            operator=ISSUER.did,
            now=NOW,
            key_of=key_of_example,
        )

    return Prepared(
        read=read,
        examples=[_claims(example)],
        alter=signed(lambda content: _jwt(ISSUER, content)),
        written=lambda content: _jwt(ISSUER, json.loads(content)).encode(),
    )


def _presentations() -> Prepared:
    written = Written()
    example = written.presentation(written.credential())

    def read(given: bytes) -> None:
        open_presentations(
            [given.decode("utf-8", "replace")],
            holder=HOLDER.did,
            audience=VERIFIER,
            now=NOW,
            keys=KEYS,
        )

    return Prepared(
        read=read,
        examples=[_claims(example)],
        alter=signed(lambda content: _jwt(HOLDER, content)),
        written=lambda content: _jwt(HOLDER, json.loads(content)).encode(),
    )


def _claims_messages() -> Prepared:
    context = "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"
    examples: tuple[tuple[type[messages.Message], dict[str, Any]], ...] = (
        (
            messages.PresentationQueryMessage,
            {
                "@context": [context],
                "type": "PresentationQueryMessage",
                "scope": ["org.eclipse.dspace.dcp.vc.type:MembershipCredential:read"],
            },
        ),
        (
            messages.CredentialMessage,
            {
                "@context": [context],
                "type": "CredentialMessage",
                "issuerPid": "a",
                "holderPid": "b",
                "status": "ISSUED",
                "credentials": [
                    {
                        "credentialType": "MembershipCredential",
                        "payload": "a.b.c",
                        "format": "jwt",
                    }
                ],
            },
        ),
        (
            messages.CredentialRequestMessage,
            {
                "@context": [context],
                "type": "CredentialRequestMessage",
                "holderPid": "b",
                "credentials": [{"id": "membership"}],
            },
        ),
    )
    models = [model for model, _ in examples]

    def read(given: bytes) -> None:
        refused = 0
        for model in models:
            try:
                messages.parse(model, given)
            except SHOWN:
                refused += 1
        if refused == len(models):
            raise ProtocolViolation("none of the messages")

    return Prepared(
        read=read, examples=[json.dumps(one).encode() for _, one in examples], alter=tree
    )


def _did_documents() -> Prepared:
    example = did.document_of_node(
        did=HOLDER.did,
        url="https://holder.example",
        keys=[did.ListedKey(HOLDER.key)],
    )

    def read(given: bytes) -> None:
        document = json.loads(given)
        if isinstance(document, dict):
            did._keys_of_document(HOLDER.did, document)
            did._services_of_document(document)

    return Prepared(
        read=read,
        examples=[json.dumps(example).encode()],
        alter=tree,
        refusals=(*SHOWN, ValueError, RecursionError),
    )


def _dids() -> Prepared:
    def read(given: bytes) -> None:
        text = given.decode("utf-8", "replace")
        did.url_of_did(text, local=False)
        did.document_url(text, local=True)

    return Prepared(
        read=read,
        examples=[b"did:web:a.example", b"did:web:127.0.0.1%3A8001:a:b"],
        alter=octets,
    )


def _status_lists() -> Prepared:
    url = "https://issuer.example/status/1"
    bits = status_list.StatusList.of([5])
    example = status.sign_status_list(
        bits,
        url=url,
        purpose=status_list.StatusPurpose.REVOCATION,
        operator=ISSUER,
        now=NOW,
        lifetime_s=600,
    )

    def sign(content: dict[str, Any]) -> str:
        return sign_compact(
            json.dumps(content).encode(),
            ISSUER.key,
            ISSUER.kid,
            ISSUER.alg,
            typ=status.JWT_TYPE,
            limit=status.LIMIT_BYTES,
        )

    def read(given: bytes) -> None:
        status.open_status_list(
            given.decode("utf-8", "replace"),
            url=url,
            operator=ISSUER.did,
            now=NOW,
            key_of=key_of_example,
        )

    return Prepared(
        read=read,
        examples=[_claims(example)],
        alter=signed(sign),
        written=lambda content: sign(json.loads(content)).encode(),
        special=[_bomb(url, sign)],
    )


def _bomb(url: str, sign: Any) -> bytes:
    """A list of a few kilobytes that would be half a gigabyte."""
    import base64
    import gzip

    packed = gzip.compress(bytes(512 * 1024 * 1024), compresslevel=9)
    encoded = "u" + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    content = {
        "id": url,
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "issuer": ISSUER.did,
        "iat": NOW,
        "exp": NOW + 600,
        "credentialSubject": {
            "type": "BitstringStatusList",
            "statusPurpose": "revocation",
            "encodedList": encoded,
        },
    }
    made: str = sign(content)
    return made.encode()


def _zone_lists() -> Prepared:
    content = {
        "iss": ISSUER.did,
        "iat": NOW,
        "exp": NOW + 300,
        "zone": "park",
        "serial": 3,
        "members": [HOLDER.did],
    }

    def sign(content: dict[str, Any]) -> str:
        return sign_compact(
            json.dumps(content).encode(),
            ISSUER.key,
            ISSUER.kid,
            ISSUER.alg,
            typ=LIST_TYPE,
            limit=4 * 1024 * 1024,
        )

    def read(given: bytes) -> None:
        open_list(
            given.decode("utf-8", "replace"),
            zone="park",
            operator=ISSUER.did,
            now=NOW,
            key_of=key_of_example,
        )

    return Prepared(
        read=read,
        examples=[json.dumps(content).encode()],
        alter=signed(sign),
        written=lambda content: sign(json.loads(content)).encode(),
    )


def _access_tokens() -> Prepared:
    provider = IdentityProvider()
    now = 1_790_000_000
    claims = {
        "iss": PROVIDER,
        "aud": AUDIENCE,
        "sub": "zhang",
        "client_id": "console",
        "jti": "one",
        "iat": now,
        "exp": now + 300,
        "roles": ["city-stewards"],
    }
    trust = Trust(PROVIDER, AUDIENCE, "roles", {})

    def sign(content: dict[str, Any]) -> str:
        header = {"alg": "ES256", "kid": "one", "typ": "at+jwt"}
        return jwt.encode(header, content, provider.key, algorithms=["ES256"])

    def read(given: bytes) -> None:
        verified_claims(
            given.decode("utf-8", "replace"), trust=trust, key_of=lambda _: provider.key, now=now
        )

    return Prepared(
        read=read,
        examples=[json.dumps(claims).encode()],
        alter=signed(sign),
        written=lambda content: sign(json.loads(content)).encode(),
    )


def _statements() -> Prepared:
    receipt = ConsentReceipt(
        record_id="one",
        pii_principal_id="0" * 32,
        pii_controllers=(HOLDER.did,),
        purposes=("research",),
        pii_information=(PiiType(pii_type="name", sensitive=False, separate_consent=False),),
        recipients=("*",),
        collection_method="person",
        jurisdiction="CN",
        language="zh-CN",
        withdrawal_method="ask",
        key_commitment="0" * 64,
        event=ConsentEvent(
            event_state="given",
            event_time="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
            entity_id="person",
        ),
    )
    file = Path(tempfile.mkdtemp(prefix="fuzz-statements-")) / "receipt.json"

    def sign(content: dict[str, Any]) -> str:
        text = sign_compact(
            json.dumps(content).encode(),
            HOLDER.key,
            HOLDER.kid,
            HOLDER.alg,
            typ=RECEIPT_TYPE,
            limit=1024 * 1024,
        )
        return json.dumps(statement_file(HOLDER, receipt=text))

    def read(given: bytes) -> None:
        file.write_bytes(given)
        verify_statements(file, {}, online=False, local=True)

    return Prepared(
        read=read,
        examples=[receipt.to_bytes()],
        alter=signed(sign),
        written=lambda content: sign(json.loads(content)).encode(),
    )


def _traces() -> Prepared:
    example = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    return Prepared(
        read=lambda given: parse_traceparent(given.decode("latin-1")),
        examples=[example],
        alter=octets,
    )


TARGETS = (
    Target("tokens", "a peer's self-issued token", _tokens),
    Target("credentials", "a membership credential", _credentials),
    Target("presentations", "a presentation with its credentials", _presentations),
    Target("claims-messages", "messages of the claims protocol", _claims_messages),
    Target("did-documents", "a DID document", _did_documents),
    Target("dids", "a DID", _dids),
    Target("status-lists", "a list of revoked credentials", _status_lists),
    Target("zone-lists", "a list of a zone's members", _zone_lists),
    Target("access-tokens", "an access token of an identity provider", _access_tokens),
    Target("statements", "a consent's receipt in a file", _statements),
    Target("traces", "a traceparent header", _traces),
)
