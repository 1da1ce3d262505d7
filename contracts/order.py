"""The signed computation order: what one consumer asks several providers to compute together.

An order is a compact JWS (RFC 7515) over the RFC 8785 bytes of a `ComputationOrder`, signed by the
consumer. It is kept, hashed and verified as the text that came; nothing is serialised again to be
verified. One order goes to every participant, so that all of them decide about the same words.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Final, Self

import rfc8785
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
from contracts.jws import WRITTEN_ALGORITHMS, open_compact, read_compact, sign_compact
from contracts.keys import SignatureKey
from contracts.wire import WireModel, format_time, read_json, read_model

TYPE: Final = "computation-order+jwt"
LIMIT_BYTES: Final = 64 * 1024
LONGEST_LIFE: Final = timedelta(hours=24)
# Two well-kept clocks differ by less; an order from further in the future was not made honestly.
CLOCK_SKEW: Final = timedelta(minutes=5)

Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Long = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Did = Annotated[str, StringConstraints(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*/[1-9][0-9]*$", max_length=100)]
# An administrative division, GB/T 2260 and below.
Region = Annotated[str, StringConstraints(pattern=r"^[0-9]{2,12}$")]
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
# What a kind of computation lets its consumer set; the kind itself says what it takes.
Scalar = Annotated[int, Field(strict=True)] | Annotated[bool, Field(strict=True)] | Long
Parameters = Annotated[
    Mapping[Short, Scalar | Annotated[tuple[Scalar, ...], Field(max_length=4096)]],
    Field(max_length=32),
    AfterValidator(lambda parameters: MappingProxyType(dict(parameters))),
    PlainSerializer(
        lambda given: {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
        }
    ),
]
# A decimal number below 1,000 as text, so that every party reads the same one; zero is refused by
# the policy, as no noise could give it.
Epsilon = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,6})?$")]


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
    it; `groups` are the values results are broken down by; `spatial` is the division the use is
    about; `epsilon` is the privacy loss the noise in the result is to have, none for no noise;
    `parameters` are those of the kind. Roles are unique, the consumer is a participant, and the
    order lives at most 24 hours.
    """

    model_config = _ORDER_CONFIG

    id: Uuid
    kind: Kind
    consumer: Did
    participants: tuple[OrderParticipant, ...] = Field(min_length=2, max_length=32)
    purpose: Purpose
    min_cohort: int = Field(ge=0, le=1_000_000_000, strict=True)
    spatial: Region | None = None
    public_key: str | None = Field(default=None, max_length=8192)
    groups: Annotated[tuple[Short, ...], Field(max_length=256)] = ()
    epsilon: Epsilon | None = None
    parameters: Parameters = Field(default_factory=lambda: MappingProxyType({}))
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


def sign_order(order: ComputationOrder, key: SignatureKey, kid: str, alg: str) -> str:
    """`order` as a compact JWS, signed with the consumer's private `key`.

    `kid` is a DID URL of the consumer (`did:web:…#key-1`), `alg` is that of its key. Raises
    InputRejected when they are not, when the key does not fit, or when the order is over 64 KiB.
    """
    if not kid.startswith(order.consumer + "#"):
        raise InputRejected("expected a key id that begins with the consumer's DID and #")
    if alg not in WRITTEN_ALGORITHMS:
        raise InputRejected("expected the algorithm Ed25519, ES256 or SM2 with SM3")
    payload = rfc8785.dumps(order.to_json())
    return sign_compact(payload, key, kid, alg, typ=TYPE, limit=LIMIT_BYTES)


def open_order(jws: str, key_of: Callable[[str], SignatureKey], now: datetime) -> ComputationOrder:
    """The order in `jws`, once its form, signer, signature and time have been checked.

    `key_of` gives the public key of a key id and raises LookupError when there is none; it is only
    asked for ids of the DID that the order names as its consumer. Raises ProtocolViolation for
    anything that is not an order the consumer signed and that is valid at `now`.
    """
    _, payload = read_compact(jws, typ=TYPE, what="order", limit=LIMIT_BYTES)
    order = read_model(ComputationOrder, read_json(payload, limit_bytes=LIMIT_BYTES))
    open_compact(jws, order.consumer, key_of, typ=TYPE, what="order", limit=LIMIT_BYTES)
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
    _, payload = read_compact(text, typ=TYPE, what="order", limit=LIMIT_BYTES)
    return read_model(ComputationOrder, read_json(payload, limit_bytes=LIMIT_BYTES))


def order_hash(jws: str) -> str:
    """Hex SHA-256 of the compact JWS as it came.

    It names this text and not the order: an ECDSA signature can be varied by anyone, so detect a
    repeated order by its id and consumer.
    """
    return hashlib.sha256(jws.encode()).hexdigest()
