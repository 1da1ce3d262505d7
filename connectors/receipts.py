"""Consent receipts, withdrawals and certificates of erasure: what a trustee signs for a person.

Fields after ISO/IEC TS 27560:2023 (consent record information structure), by the names its
public guides use; what the law of China adds is separate consent (PIPL article 29) and a
guardian's (article 31). They name people by a pseudonym of the vault, never by an identifier. The
library makes the bytes to be signed; the node signs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from connectors.errors import InputRejected

RECEIPT_TYPE: Final = "consent-receipt+jwt"
WITHDRAWAL_TYPE: Final = "consent-withdrawal+jwt"
ERASURE_TYPE: Final = "erasure-certificate+jwt"
ANYONE: Final = "*"
MAX_STATEMENT_BYTES: Final = 256 * 1024

# Signs a payload as a statement of that type; gives a compact JWS (RFC 7515).
Signer = Callable[[bytes, str], str]

Text = Annotated[str, Field(min_length=1, max_length=500)]
Column = Annotated[str, Field(min_length=1, max_length=256)]
Pseudonym = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# How a consent came about, as the standard's collection_method.
Method = Literal["person", "trustee"]


class ReceiptState(StrEnum):
    """What has become of a receipt where receipts are kept."""

    ABSENT = "absent"
    GIVEN = "given"
    WITHDRAWN = "withdrawn"


class _Statement(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """What is signed."""
        shown = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(shown, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


class Guardian(BaseModel):
    """Who consents for a child: how related, and where the trustee keeps what it has checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relationship: Text
    reference: Text


class Terms(BaseModel):
    """What somebody allows: these columns, for these purposes, to these recipients.

    `separate_consent` are the sensitive columns for which consent was given separately (单独
    同意); without it such a column is not covered. `recipients` are DIDs, or `*` for anyone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Column, ...] = Field(min_length=1, max_length=200)
    purposes: tuple[Text, ...] = Field(min_length=1, max_length=100)
    recipients: tuple[Text, ...] = Field(min_length=1, max_length=32)
    separate_consent: tuple[Column, ...] = Field(default=(), max_length=200)

    @model_validator(mode="after")
    def _separate_is_among_all(self) -> Terms:
        if not set(self.separate_consent) <= set(self.columns):
            raise ValueError("separate_consent names a column that is not among columns")
        return self

    def cover(
        self, columns: Sequence[str], purpose: str, recipient: str, sensitive: frozenset[str]
    ) -> bool:
        """Whether these terms alone allow reading `columns` so."""
        asked = set(columns)
        return (
            bool(asked)
            and asked <= set(self.columns)
            and asked & sensitive <= set(self.separate_consent)
            and purpose in self.purposes
            and (ANYONE in self.recipients or recipient in self.recipients)
        )

    def normal(self) -> Terms:
        """The same terms in one order, so that equal ones are kept once."""
        lists = {name: tuple(sorted(set(value))) for name, value in dict(self).items()}
        return Terms(**lists)


class Given(BaseModel):
    """Terms as they are given, and what belongs to the giving."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms: Terms
    expires_at: AwareDatetime
    method: Method
    guardian: Guardian | None = None
    privacy_notice: str = Field(default="", max_length=2000)
    language: Annotated[str, Field(max_length=35)] = "zh-CN"
    jurisdiction: Annotated[str, Field(max_length=35)] = "CN"


class PiiType(BaseModel):
    """A column a consent is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pii_type: Column
    sensitive: bool
    separate_consent: bool


class ConsentEvent(BaseModel):
    """What happened, when, and until when it holds; the entity is who acted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: Literal["explicit"] = "explicit"
    event_state: Literal["given", "withdrawn"]
    event_time: AwareDatetime
    valid_until: AwareDatetime | None = None
    entity_id: Text


class ConsentReceipt(_Statement):
    """A consent as it was given, for the person to keep."""

    schema_version: Literal["ISO/IEC TS 27560:2023; city-dataspace/consent/1"] = (
        "ISO/IEC TS 27560:2023; city-dataspace/consent/1"
    )
    record_id: Text
    pii_principal_id: Pseudonym
    pii_controllers: tuple[Text, ...]
    lawful_basis: Literal["consent"] = "consent"
    purposes: tuple[Text, ...]
    pii_information: tuple[PiiType, ...]
    recipients: tuple[Text, ...]
    collection_method: Method
    jurisdiction: str
    language: str
    privacy_notice: str | None = None
    withdrawal_method: Text
    guardian: Guardian | None = None
    # Names the key under which the records are kept: an erasure names the same.
    key_commitment: Digest
    event: ConsentEvent


class Withdrawal(_Statement):
    """A consent's end; `receipt_sha256` is of the signed receipt."""

    schema_version: Literal["city-dataspace/consent-withdrawal/1"] = (
        "city-dataspace/consent-withdrawal/1"
    )
    record_id: Text
    pii_principal_id: Pseudonym
    pii_controllers: tuple[Text, ...]
    receipt_sha256: Digest
    event: ConsentEvent


class EvidenceRef(BaseModel):
    """Where the evidence of it stands: in which log, at which index (from 0)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Text
    index: Annotated[int, Field(ge=0)]


class ErasureCertificate(_Statement):
    """What was destroyed: the key under which all records of one person were kept."""

    schema_version: Literal["city-dataspace/erasure/1"] = "city-dataspace/erasure/1"
    certificate_id: Text
    vault_id: Pseudonym
    pii_principal_id: Pseudonym
    pii_controllers: tuple[Text, ...]
    key_commitment: Digest
    records: Annotated[int, Field(ge=0)]
    receipts: Annotated[int, Field(ge=0)]
    erased_at: AwareDatetime
    evidence: EvidenceRef | None = None


def parsed_statement(payload: bytes, typ: str) -> ConsentReceipt | Withdrawal | ErasureCertificate:
    """What a verified signature of that type is over. Raises InputRejected."""
    kinds: dict[str, type[ConsentReceipt] | type[Withdrawal] | type[ErasureCertificate]] = {
        RECEIPT_TYPE: ConsentReceipt,
        WITHDRAWAL_TYPE: Withdrawal,
        ERASURE_TYPE: ErasureCertificate,
    }
    kind = kinds.get(typ)
    if kind is None:
        raise InputRejected(f"expected one of {', '.join(kinds)}, got {typ[:80]}")
    try:
        return kind.model_validate_json(payload)
    except ValidationError as err:
        first = err.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the statement"
        raise InputRejected(f"{field}: {first['type'].replace('_', ' ')}") from None


def receipt_of(
    given: Given,
    *,
    record_id: str,
    pseudonym: str,
    controller: str,
    sensitive: frozenset[str],
    key_commitment: str,
    withdrawal_method: str,
    at: datetime,
) -> ConsentReceipt:
    """The receipt of what was given at `at`."""
    terms = given.terms
    return ConsentReceipt(
        record_id=record_id,
        pii_principal_id=pseudonym,
        pii_controllers=(controller,),
        purposes=terms.purposes,
        pii_information=tuple(
            PiiType(
                pii_type=column,
                sensitive=column in sensitive,
                separate_consent=column in terms.separate_consent,
            )
            for column in terms.columns
        ),
        recipients=terms.recipients,
        collection_method=given.method,
        jurisdiction=given.jurisdiction,
        language=given.language,
        privacy_notice=given.privacy_notice or None,
        withdrawal_method=withdrawal_method,
        guardian=given.guardian,
        key_commitment=key_commitment,
        event=ConsentEvent(
            event_state="given",
            event_time=at.astimezone(UTC),
            valid_until=given.expires_at.astimezone(UTC),
            entity_id=pseudonym if given.guardian is None else "guardian",
        ),
    )
