"""The signed computation order: what one consumer asks several providers to compute together.

An order is a compact JWS (RFC 7515) over the RFC 8785 bytes of a `ComputationOrder`, signed by the
consumer. It is kept, hashed and verified as the text that came; nothing is serialised again to be
verified. One order goes to every participant, so that all of them decide about the same words.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Final, Self

import rfc8785
from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import Key, OKPKey
from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from contracts.errors import InputRejected, ProtocolViolation
from contracts.wire import WireModel, format_time, read_json, read_model

TYPE: Final = "computation-order+jwt"
LIMIT_BYTES: Final = 64 * 1024
# A did:web with a long path makes a key id of a few hundred bytes.
HEADER_LIMIT_BYTES: Final = 2048
LONGEST_LIFE: Final = timedelta(hours=24)
# Two well-kept clocks differ by less; an order from further in the future was not made honestly.
CLOCK_SKEW: Final = timedelta(minutes=5)

# EdDSA is the older name of Ed25519 here (RFC 9864), read and no longer written.
WRITTEN_ALGORITHMS: Final = frozenset({"Ed25519", "ES256"})
READ_ALGORITHMS: Final = WRITTEN_ALGORITHMS | {"EdDSA"}

Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Long = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Did = Annotated[str, StringConstraints(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*/[1-9][0-9]*$", max_length=100)]
# A term of a vocabulary or an IRI, and no free text: it stands in evidence that is kept for long.
Purpose = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9\u4e00-\u9fff][^\s\x00-\x1f]{0,199}$")
]
Uuid = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$", max_length=36)
]
Columns = Annotated[
    Mapping[Short, Short],
    Field(max_length=64),
    AfterValidator(lambda columns: MappingProxyType(dict(columns))),
    PlainSerializer(dict),
]


# What is signed is understood whole, so nothing unknown is let in; and an order is not JSON-LD, so
# its names carry no @.
_ORDER_CONFIG: Final = ConfigDict(extra="forbid", alias_generator=to_camel)


class OrderParticipant(WireModel):
    """One party of the computation and what it brings.

    `role` is the name the computation kind gives its party; `columns` maps what the kind calls a
    column to the name it has in `dataset`; whoever brings no data leaves agreement, dataset and
    columns out.
    """

    model_config = _ORDER_CONFIG

    role: Short
    did: Did
    agreement: Long | None = None
    dataset: Long | None = None
    columns: Columns = Field(default_factory=lambda: MappingProxyType({}))
    canonicaliser: Short | None = None


class ComputationOrder(WireModel):
    """What is to be computed, by whom, for what, and until when.

    `min_cohort` in people; `public_key` is the key results are encrypted under, as the kind writes
    it; `groups` are the values results are broken down by. Roles are unique, the consumer is a
    participant, and the order lives at most 24 hours.
    """

    model_config = _ORDER_CONFIG

    id: Uuid
    kind: Kind
    consumer: Did
    participants: tuple[OrderParticipant, ...] = Field(min_length=2, max_length=32)
    purpose: Purpose
    min_cohort: int = Field(ge=0, le=1_000_000_000, strict=True)
    public_key: str | None = Field(default=None, max_length=8192)
    groups: Annotated[tuple[Short, ...], Field(max_length=256)] = ()
    nonce: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,128}$")]
    issued_at: AwareDatetime
    expires_at: AwareDatetime

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        roles = [each.role for each in self.participants]
        if len(set(roles)) != len(roles):
            raise ValueError("expected every role once")
        if all(each.did != self.consumer for each in self.participants):
            raise ValueError("expected the consumer among the participants")
        if len(set(self.groups)) != len(self.groups):
            raise ValueError("expected every group once")
        if not timedelta(0) < self.expires_at - self.issued_at <= LONGEST_LIFE:
            raise ValueError("expected an expiry after the issue and within 24 hours of it")
        return self


# Made once, so that signing looks up nothing that a caller could widen.
_WRITING: Final = jose.JWSRegistry(algorithms=WRITTEN_ALGORITHMS)


def sign_order(order: ComputationOrder, key: Key, kid: str, alg: str) -> str:
    """`order` as a compact JWS, signed with the consumer's private `key`.

    `kid` is a DID URL of the consumer (`did:web:…#key-1`), `alg` is Ed25519 or ES256. Raises
    InputRejected when they are not, when the key does not fit, or when the order is over 64 KiB.
    """
    if alg not in WRITTEN_ALGORITHMS:
        raise InputRejected("expected the algorithm Ed25519 or ES256")
    if not kid.startswith(order.consumer + "#"):
        raise InputRejected("expected a key id that begins with the consumer's DID and #")
    payload = rfc8785.dumps(order.to_json())
    header = {"alg": alg, "kid": kid, "typ": TYPE}
    try:
        text = jose.serialize_compact(header, payload, key, registry=_WRITING)
    except (JoseError, ValueError) as err:
        raise InputRejected(f"expected a private key that signs {alg}") from err
    if len(text) > LIMIT_BYTES:
        raise InputRejected(f"expected an order of at most {LIMIT_BYTES} bytes, got {len(text)}")
    return text


def open_order(jws: str, key_of: Callable[[str], Key], now: datetime) -> ComputationOrder:
    """The order in `jws`, once its form, signer, signature and time have been checked.

    `key_of` gives the public key of a key id and raises LookupError when there is none; it is only
    asked for ids of the DID that the order names as its consumer. Raises ProtocolViolation for
    anything that is not an order the consumer signed and that is valid at `now`.
    """
    header, payload = _parts(jws)
    order = read_model(ComputationOrder, read_json(payload, limit_bytes=LIMIT_BYTES))
    kid = header["kid"]
    if not kid.startswith(order.consumer + "#"):
        raise ProtocolViolation("order: expected the consumer's own key id, got another party's")
    try:
        key = key_of(kid)
    except LookupError as err:
        raise ProtocolViolation(
            "order: expected a key of the consumer, got an unknown one"
        ) from err
    _verify_signature(jws, header["alg"], key)
    if now >= order.expires_at:
        raise ProtocolViolation(f"order: expired at {format_time(order.expires_at)}")
    if now < order.issued_at - CLOCK_SKEW:
        raise ProtocolViolation(f"order: issued in the future, {format_time(order.issued_at)}")
    return order


def read_unverified_order(text: str) -> ComputationOrder:
    """The order in `text` as it stands there, signature and time unchecked.

    For an auditor that holds the text to the hash which both parties' evidence names. Raises
    ProtocolViolation for anything that is not an order.
    """
    _, payload = _parts(text)
    return read_model(ComputationOrder, read_json(payload, limit_bytes=LIMIT_BYTES))


def order_hash(jws: str) -> str:
    """Hex SHA-256 of the compact JWS as it came.

    It names this text and not the order: an ECDSA signature can be varied by anyone, so detect a
    repeated order by its id and consumer.
    """
    return hashlib.sha256(jws.encode()).hexdigest()


def _parts(text: str) -> tuple[dict[str, str], bytes]:
    if len(text) > LIMIT_BYTES:
        raise ProtocolViolation(f"order: expected at most {LIMIT_BYTES} bytes, got {len(text)}")
    segments = text.split(".")
    if len(segments) != 3:
        raise ProtocolViolation("order: expected three parts joined by dots")
    header = read_json(_decode(segments[0]), limit_bytes=HEADER_LIMIT_BYTES)
    # Exactly these: a header we do not understand (crit, jwk, jku, b64) must not steer us.
    if header.keys() != {"alg", "kid", "typ"} or not all(
        isinstance(value, str) for value in header.values()
    ):
        raise ProtocolViolation("order: expected exactly alg, kid and typ in the header, as text")
    if header["typ"] != TYPE:
        raise ProtocolViolation(f"order: expected the type {TYPE}")
    if header["alg"] not in READ_ALGORITHMS:
        raise ProtocolViolation("order: expected the algorithm Ed25519, EdDSA or ES256")
    return header, _decode(segments[1])


def _decode(segment: str) -> bytes:
    """Strict base64url: one text for one value, so the hash of an order cannot be varied here."""
    try:
        decoded = base64.urlsafe_b64decode(segment.encode("ascii") + b"=" * (-len(segment) % 4))
    except ValueError as err:
        raise ProtocolViolation("order: expected base64url without padding") from err
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != segment:
        raise ProtocolViolation("order: expected base64url without padding")
    return decoded


def _verify_signature(text: str, alg: str, key: Key) -> None:
    # EdDSA may also mean Ed448, which no participant of this space uses.
    if alg == "EdDSA" and not (isinstance(key, OKPKey) and key.curve_name == "Ed25519"):
        raise ProtocolViolation("order: expected an Ed25519 key for EdDSA")
    signed, _, signature = text.rpartition(".")
    # The algorithm's own object, because the library's wrapper warns about the name EdDSA in a way
    # that a program cannot silence in one thread only.
    algorithm = jose.JWSRegistry.algorithms[alg]
    try:
        algorithm.check_key(key)
        genuine = algorithm.verify(signed.encode(), _decode(signature), key)
    except (JoseError, ValueError) as err:
        raise ProtocolViolation(f"order: expected a key of the consumer for {alg}") from err
    if not genuine:
        raise ProtocolViolation("order: the signature is not the consumer's over this text")
