"""Every table of a node. Rows carry no rules: those live in the modules that change them.

Times are seconds since the epoch (UTC). Every row that two transactions may change has `version`,
which SQLAlchemy compares on update, so that a lost update is an error and not a silence.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    inspect,
)
from sqlmodel import Field, SQLModel

from dataspace.store.sealed import SealedJson

# Named constraints, so that a migration can address them on both databases.
SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _json(*, nullable: bool = False) -> Any:
    return Column(JSON, nullable=nullable)


def _json_list() -> Any:
    # Rows of an earlier version have an empty one.
    return Column(JSON, nullable=False, server_default="[]")


def _long(**how: Any) -> Any:
    """A count that goes on for as long as the node lives. SQLite's only integer has 64 bits."""
    return Column(BigInteger().with_variant(Integer, "sqlite"), **how)


class Versioned(SQLModel):
    """A row whose concurrent change is noticed."""

    version: int = Field(default=1, sa_column_kwargs={"nullable": False})


class Setting(SQLModel, table=True):
    """What the node learned and must remember: its credential, the chain, the contract."""

    __tablename__: ClassVar[Any] = "setting"
    name: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class DatasetRow(SQLModel, table=True):
    """A dataset this node offers. `columns` is what is published, `source` never is."""

    __tablename__: ClassVar[Any] = "dataset"
    id: str = Field(primary_key=True)
    title: str
    description: str = ""
    source: str = Field(sa_column=Column(Text, nullable=False))
    columns: list[dict[str, Any]] = Field(sa_column=_json())
    grade: str
    offer: dict[str, Any] = Field(sa_column=_json())
    # Formats in which the rows themselves may leave; none unless the owner says so.
    formats: list[str] = Field(default_factory=list, sa_column=_json_list())
    content_version: str
    created_at: float
    # What a catalogue says of it besides: in Chinese, field, GB/T 2260 code, how often it changes.
    title_zh: str = Field(default="", sa_column_kwargs={"server_default": ""})
    description_zh: str = Field(default="", sa_column_kwargs={"server_default": ""})
    theme: str | None = None
    division: str | None = None
    frequency: str | None = None
    # Only rows that meet these are in the dataset: [{"column", "comparison", "values"}].
    conditions: list[dict[str, Any]] = Field(default_factory=list, sa_column=_json_list())
    # The columns with a division's and a grid cell's code: {"division", "grid"}.
    blocks: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    # The source's columns as they were at publication: [[name, type]].
    source_schema: list[list[str]] = Field(default_factory=list, sa_column=_json_list())
    quality: list[dict[str, Any]] = Field(default_factory=list, sa_column=_json_list())
    # Whether a person has confirmed the classes of the columns: proposed or confirmed.
    classification: str = Field(default="proposed", sa_column_kwargs={"server_default": "proposed"})
    # Why personal data may be processed where there is no consent (PIPL article 13).
    legal_basis: str | None = None
    # When the content version was last looked at.
    checked_at: float | None = None
    # No longer offered; agreements about it go on.
    withdrawn_at: float | None = None
    # The order of the catalogue's pages.
    __table_args__ = (Index("ix_dataset_created_at_id", "created_at", "id"),)


class DatasetVersionRow(SQLModel, table=True):
    """A state of a dataset's rows, numbered from 1 in the order in which the node noticed them."""

    __tablename__: ClassVar[Any] = "dataset_version"
    dataset: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    content_version: str
    noticed_at: float


class NegotiationRow(Versioned, table=True):
    """One contract negotiation as this side sees it; `pid` is ours, `peer_pid` the peer's."""

    __tablename__: ClassVar[Any] = "negotiation"
    pid: str = Field(primary_key=True)
    role: str
    peer: str = Field(index=True)
    # What the peer's membership credential called it when it asked.
    peer_kind: str | None = None
    peer_pid: str | None = None
    callback: str
    dataset: str
    state: str
    # The terms the consumer asked for last, and those the provider answered with.
    offer: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    agreement: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    provider_signature: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    consumer_signature: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    # A second one, of a side that has a post-quantum key.
    provider_post_quantum: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    consumer_post_quantum: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    # How many proposals have been made by either side, so that haggling ends.
    rounds: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    # Why it waits for a person of ours, and what the person said.
    waiting: str | None = None
    approval: str | None = None
    renews: str | None = None
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None
    deadline_at: float | None = None
    created_at: float = Field(index=True)
    updated_at: float
    # A peer that repeats its first message gets the negotiation it already has.
    # How many one peer has open is counted with each first message.
    __table_args__ = (
        UniqueConstraint("role", "peer", "peer_pid"),
        Index("ix_negotiation_peer_state", "peer", "state"),
    )


class AgreementRow(Versioned, table=True):
    """A finalised agreement, the same on both sides; each counts the uses that were permitted."""

    __tablename__: ClassVar[Any] = "agreement"
    id: str = Field(primary_key=True)
    role: str
    provider: str
    consumer: str
    dataset: str = Field(index=True)
    document: dict[str, Any] = Field(sa_column=_json())
    document_h: str = Field(index=True)
    negotiation: str
    finalized_at: float = Field(index=True)
    use_count: int = 0
    provider_signature: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    consumer_signature: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    # A second one, of a side that has a post-quantum key.
    provider_post_quantum: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    consumer_post_quantum: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    # The public keys all signatures were made with, by key id, as JWK.
    keys: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    renews: str | None = None
    # Either party may end it before its time.
    ended_at: float | None = None
    ended_by: str | None = None
    ended_reason: str | None = None


class TransferRow(Versioned, table=True):
    """One transfer process: a provider's part in a computation, or rows that leave.

    `computation`, `order_jws` and `order_h` are empty for rows that leave; `purpose`,
    `data_address`, `token_h` and `moved` are for those.
    """

    __tablename__: ClassVar[Any] = "transfer"
    pid: str = Field(primary_key=True)
    role: str
    peer: str
    peer_pid: str | None = None
    callback: str
    agreement: str = Field(index=True)
    format: str
    state: str
    computation: str = Field(index=True)
    order_jws: str = Field(sa_column=Column(Text, nullable=False))
    order_h: str = Field(index=True)
    purpose: str | None = None
    # What the peer's membership credential called it when it asked.
    peer_kind: str | None = None
    # Where the rows are fetched from or pushed to, with the token for it.
    data_address: dict[str, Any] | None = Field(
        default=None, sa_column=Column(SealedJson("transfer.data_address"), nullable=True)
    )
    # SHA-256 of the token with which the other side may fetch from us or push to us.
    token_h: str | None = Field(default=None, index=True)
    # When that token ends; None: with the transfer.
    token_until: float | None = None
    # What has begun to come: {"etag", "digest", "size"}, so that the rest of it can follow.
    coming: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    # What was moved: {"rows", "bytes", "sha256", "file"}.
    moved: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None
    created_at: float = Field(index=True)
    updated_at: float
    __table_args__ = (UniqueConstraint("role", "peer", "peer_pid"),)


class ComputationRow(Versioned, table=True):
    """One ordered computation in which this node plays `role`."""

    __tablename__: ClassVar[Any] = "computation"
    id: str = Field(primary_key=True)
    kind: str
    role: str
    consumer: str
    purpose: str
    order_jws: str = Field(sa_column=Column(Text, nullable=False))
    order_h: str = Field(index=True)
    status: str = Field(index=True)
    local_input: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    # The result; sealed at rest where the node has a passphrase.
    value: dict[str, Any] | None = Field(
        default=None, sa_column=Column(SealedJson("computation.value"), nullable=True)
    )
    # What this node is told about its own input: rows, distinct identifiers, repetitions.
    report: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    # The long part of the result is a file of that name.
    attachment: str | None = None
    # How often the role was begun; a restart begins it again.
    attempt: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    # The replica that runs the role, or has the key in its memory; "" while any may begin it.
    replica: str = Field(default="", sa_column_kwargs={"server_default": ""})
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None
    refused_by: str | None = None
    transcript_h: str | None = None
    signatures: dict[str, str] | None = Field(default=None, sa_column=_json(nullable=True))
    created_at: float = Field(index=True)
    started_at: float | None = None
    finished_at: float | None = None


class ReplicaRow(SQLModel, table=True):
    """A process that serves this node beside others on one database.

    `life` is another each time it starts; `beats` grows while it lives, so that others need no
    common clock to see that it does. `address` is where the others reach it.
    """

    __tablename__: ClassVar[Any] = "replica"
    name: str = Field(primary_key=True)
    life: str
    address: str
    beats: int = Field(default=0, sa_column=_long(nullable=False))
    draining: bool = False
    started_at: float


class ProcessRow(Versioned, table=True):
    """Work that must happen: a delivery, a decision, a run, an anchor. The outbox is part of it.

    `ready` rows are due at `due_at`; while the replica `leased_by` holds the lease nobody else
    takes them. `attempts` counts the leases, and so tells an outcome of this one from a late one of
    an earlier. `lane` orders rows: one row of a lane does not start before the earlier ones are
    done.
    """

    __tablename__: ClassVar[Any] = "process"
    id: int | None = Field(default=None, sa_column=_long(primary_key=True))
    kind: str
    subject: str
    lane: str = ""
    # The peer that the work waits for, "" where it waits for none.
    target: str = ""
    payload: dict[str, Any] = Field(sa_column=_json())
    state: str = "ready"
    due_at: float
    lease_until: float = 0.0
    leased_by: str = Field(default="", sa_column_kwargs={"server_default": ""})
    # The only replica that can do it, because of what it has in memory; "" where any can.
    bound_to: str = Field(default="", sa_column_kwargs={"server_default": ""})
    attempts: int = 0
    give_up_at: float
    last_error: str | None = None
    created_at: float
    __table_args__ = (
        Index("ix_process_state_due_at", "state", "due_at"),
        Index("ix_process_lane_state_id", "lane", "state", "id"),
    )


class ReceivedRow(SQLModel, table=True):
    """A message already answered: its sender's id for it, and the answer, to give again."""

    __tablename__: ClassVar[Any] = "received"
    peer: str = Field(primary_key=True)
    message_id: str = Field(primary_key=True)
    # SHA-256 of where it was sent and what it said; an earlier version kept none.
    message_h: str | None = None
    status: int
    body: str = Field(sa_column=Column(Text, nullable=False))
    received_at: float


class ReplayRow(SQLModel, table=True):
    """A token that was used; kept until it could no longer be accepted anyway."""

    __tablename__: ClassVar[Any] = "replay"
    issuer: str = Field(primary_key=True)
    jti: str = Field(primary_key=True)
    expires_at: float = Field(index=True)


class LogStateRow(SQLModel, table=True):
    """The one row that says how long the evidence log is; appending locks it."""

    __tablename__: ClassVar[Any] = "log_state"
    id: int = Field(default=1, primary_key=True)
    size: int = Field(default=0, sa_column=_long(nullable=False))


class LogNodeRow(SQLModel, table=True):
    """Hash of one perfect subtree of the evidence log (RFC 6962); level 0 are the leaves."""

    __tablename__: ClassVar[Any] = "log_node"
    level: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=_long(primary_key=True, autoincrement=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class EntryRow(SQLModel, table=True):
    """An evidence entry: its commitment for ever, its body and salt until they are erased."""

    __tablename__: ClassVar[Any] = "entry"
    position: int = Field(sa_column=_long(primary_key=True, autoincrement=False))
    commitment: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    salt: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))


class CheckpointRow(Versioned, table=True):
    """A signed checkpoint and how far its anchoring has come."""

    __tablename__: ClassVar[Any] = "checkpoint"
    size: int = Field(sa_column=_long(primary_key=True, autoincrement=False))
    root: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    note: str = Field(sa_column=Column(Text, nullable=False))
    transaction: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    transaction_hash: str | None = None
    block: int | None = Field(default=None, index=True)
    created_at: float


class WitnessedRow(Versioned, table=True):
    """A counterparty's log: the head we cosigned last, and how far it has cosigned ours."""

    __tablename__: ClassVar[Any] = "witnessed"
    log_id: str = Field(primary_key=True)
    origin: str
    peer: str
    vkey: str
    size: int = Field(default=0, sa_column=_long(nullable=False))
    root: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    note: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    cosigned_size: int = Field(default=0, sa_column=_long(nullable=False))


class ParticipantRow(SQLModel, table=True):
    """Operator only: a member of the space."""

    __tablename__: ClassVar[Any] = "participant"
    did: str = Field(primary_key=True)
    kind: str
    name: str
    url: str | None = None
    log_origin: str | None = None
    account: str | None = None
    credential: str = Field(sa_column=Column(Text, nullable=False))
    joined_at: float
    # active, suspended or revoked (`dataspace.identity.standing`), since when, and why.
    standing: str = Field(default="active", sa_column_kwargs={"server_default": "active"})
    standing_at: float | None = None
    standing_reason: str | None = Field(default=None, sa_column=Column(Text, nullable=True))


class CredentialStatusRow(SQLModel, table=True):
    """Operator only: the place of a credential in the status lists. Kept for ever, so that no place
    is given twice."""

    __tablename__: ClassVar[Any] = "credential_status"
    list_number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    did: str = Field(index=True)
    issued_at: float
    expires_at: float


class StatusListRow(SQLModel, table=True):
    """The newest status list of an address that this node was given, as its operator signed it."""

    __tablename__: ClassVar[Any] = "status_list"
    url: str = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))


class KnownStatusRow(SQLModel, table=True):
    """Where the status of a member's credential is to be read, of the credential seen last: what is
    decided while the member is not at the door is decided by it."""

    __tablename__: ClassVar[Any] = "known_status"
    did: str = Field(primary_key=True)
    entries: list[dict[str, Any]] = Field(sa_column=_json())
    expires_at: float


class SigningKeyRow(Versioned, table=True):
    """A key of this node's identity, by its thumbprint (RFC 7638): the public part, and where it
    stands (`dataspace.identity.key_states`)."""

    __tablename__: ClassVar[Any] = "signing_key"
    thumbprint: str = Field(primary_key=True)
    algorithm: str
    jwk: dict[str, Any] = Field(sa_column=_json())
    state: str
    announced_at: float
    used_at: float | None = None
    replaced_at: float | None = None
    retired_at: float | None = None
    withdrawn_at: float | None = None


class InvitationRow(SQLModel, table=True):
    """Operator only: an invitation, by the hash of its code; good for one participant."""

    __tablename__: ClassVar[Any] = "invitation"
    code_h: str = Field(primary_key=True)
    kind: str
    zones: list[str] = Field(default_factory=list, sa_column=_json_list())
    used_by: str | None = None
    expires_at: float


class ZoneRow(Versioned, table=True):
    """Operator only: a zone 产业数据专区. `serial` counts the changes of its members."""

    __tablename__: ClassVar[Any] = "zone"
    name: str = Field(primary_key=True)
    title: str
    title_zh: str = ""
    about: str = ""
    # Who keeps its shared policies besides the operator.
    steward: str | None = None
    serial: int = 0
    created_at: float


class ZoneMemberRow(SQLModel, table=True):
    """Operator only: one participant on a zone's list."""

    __tablename__: ClassVar[Any] = "zone_member"
    zone: str = Field(primary_key=True)
    did: str = Field(primary_key=True, index=True)
    admitted_at: float


class ZonePolicyRow(Versioned, table=True):
    """Operator only: a policy that members of a zone share, as it is now."""

    __tablename__: ClassVar[Any] = "zone_policy"
    zone: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    number: int = 1
    document: dict[str, Any] = Field(sa_column=_json())
    document_h: str
    put_by: str
    put_at: float


class ZoneListRow(SQLModel, table=True):
    """The newest list of a zone that this node was given, as its operator signed it."""

    __tablename__: ClassVar[Any] = "zone_list"
    zone: str = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))


class FollowingRow(SQLModel, table=True):
    """A dataset of this node that is offered under a policy its zone shares."""

    __tablename__: ClassVar[Any] = "following"
    dataset: str = Field(primary_key=True)
    zone: str
    policy: str
    number: int
    document_h: str
    followed_at: float


class ReturnRow(Versioned, table=True):
    """A return 回流: rows or totals of one division that go to its bureau again and again.

    `transfer` is the one by which deliveries go now. `next_due_at` is None until the first.
    """

    __tablename__: ClassVar[Any] = "return"
    id: str = Field(primary_key=True)
    dataset: str
    consumer: str
    division: str
    grid: str | None = None
    rules: list[str] = Field(sa_column=_json())
    every_s: float
    negotiation: str = Field(index=True)
    transfer: str | None = None
    next_due_at: float | None = None
    created_at: float
    ended_at: float | None = None


class DeliveryRow(Versioned, table=True):
    """One delivery of a return, numbered from 1 in its transfer, as either side knows it."""

    __tablename__: ClassVar[Any] = "delivery"
    transfer: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # When it was due; the receiver is told.
    due_at: float
    moved: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    began_at: float
    finished_at: float | None = None


class ErasureRow(SQLModel, table=True):
    """A certificate that a person's key in a vault was destroyed, and its entry in the log."""

    __tablename__: ClassVar[Any] = "erasure"
    id: str = Field(primary_key=True)
    certificate: str = Field(sa_column=Column(Text, nullable=False))
    log_index: int = Field(sa_column=_long(nullable=False))
    erased_at: float


class AccessKeyRow(Versioned, table=True):
    """A key with which somebody uses this node. The key itself is kept nowhere; `digest` is its
    SHA-256. `person` is who holds it: two keys of one person are one pair of eyes."""

    __tablename__: ClassVar[Any] = "access_key"
    # What the key begins with after its mark, so that it is recognised.
    id: str = Field(primary_key=True)
    name: str
    person: str
    role: str
    digest: str
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None
    # To the hour.
    last_used_at: float | None = None


class ActRow(SQLModel, table=True):
    """An administrative act and who did it. The evidence log has only its salted digest, in entry
    `log_index`; without the salt nobody can say what that entry is about."""

    __tablename__: ClassVar[Any] = "act"
    log_index: int = Field(sa_column=_long(primary_key=True, autoincrement=False))
    record: dict[str, Any] = Field(sa_column=_json())
    salt: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class HeldRequestRow(Versioned, table=True):
    """An act that waits for a second person, as it was asked for. `state`: waiting, done, declined
    or expired."""

    __tablename__: ClassVar[Any] = "held_request"
    id: str = Field(primary_key=True)
    permission: str
    method: str
    path: str
    query: str = ""
    content_type: str = ""
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    person: str
    credential: str
    roles: list[str] = Field(default_factory=list, sa_column=_json_list())
    asked_at: float
    expires_at: float
    state: str = "waiting"
    decided_by: str | None = None
    decided_at: float | None = None


class ApprovalRow(SQLModel, table=True):
    """One person's approval of a negotiation in one of its rounds."""

    __tablename__: ClassVar[Any] = "approval"
    negotiation: str = Field(primary_key=True)
    round: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # As names of persons are compared.
    person_key: str = Field(primary_key=True)
    person: str
    credential: str
    approved_at: float


class FederatedNodeRow(Versioned, table=True):
    """A participant whose catalogue is read for the federated one, and how that went."""

    __tablename__: ClassVar[Any] = "federated_node"
    did: str = Field(primary_key=True)
    kind: str
    name: str
    datasets: int = 0
    tried_at: float | None = None
    # When its catalogue was read whole for the last time; None: never yet.
    read_at: float | None = None
    error: str | None = None


class FederatedDatasetRow(SQLModel, table=True):
    """A dataset as its provider showed it to this node, and what searches look up in it.

    `text` is that of `contracts.filters.searched_text`; `themes` and `divisions` are names between
    bars.
    """

    __tablename__: ClassVar[Any] = "federated_dataset"
    provider: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    document: str = Field(sa_column=Column(Text, nullable=False))
    digest: str
    text: str = Field(sa_column=Column(Text, nullable=False))
    themes: str = Field(sa_column=Column(Text, nullable=False))
    divisions: str = Field(sa_column=Column(Text, nullable=False))
    grade: str
    first_seen_at: float
    changed_at: float
    seen_at: float


class HeldCredentialRow(SQLModel, table=True):
    """A credential that an issuer sent to this node by the claims protocol."""

    __tablename__: ClassVar[Any] = "held_credential"
    id: str = Field(primary_key=True)
    issuer: str = Field(index=True)
    kind: str
    # The issuer's own name for it, if it has one.
    credential_id: str | None = None
    format: str
    jwt: str = Field(sa_column=Column(Text, nullable=False))
    expires_at: float | None = None
    received_at: float


class AskedCredentialRow(SQLModel, table=True):
    """What this node asked an issuer for, and what came of it."""

    __tablename__: ClassVar[Any] = "asked_credential"
    holder_pid: str = Field(primary_key=True)
    issuer: str = Field(index=True)
    issuer_pid: str | None = None
    types: list[str] = Field(sa_column=_json())
    status: str
    reason: str | None = Field(default=None, sa_column=Column(Text))
    asked_at: float
    changed_at: float


class CredentialOfferRow(SQLModel, table=True):
    """What an issuer said that this node could ask it for."""

    __tablename__: ClassVar[Any] = "credential_offer"
    id: str = Field(primary_key=True)
    issuer: str = Field(index=True)
    objects: list[dict[str, Any]] = Field(sa_column=_json())
    offered_at: float


class CredentialRequestRow(Versioned, table=True):
    """Operator only: a member's request for credentials, and how far it has come.

    `access` lets us write to the holder's credential service, where it gave us something for that.
    `message` is the answer from when it was made until the holder has taken it.
    """

    __tablename__: ClassVar[Any] = "credential_request"
    issuer_pid: str = Field(primary_key=True)
    holder: str = Field(index=True)
    holder_pid: str
    objects: list[str] = Field(sa_column=_json())
    status: str
    reason: str | None = Field(default=None, sa_column=Column(Text))
    access: str | None = Field(default=None, sa_column=Column(Text))
    message: str | None = Field(default=None, sa_column=Column(Text))
    asked_at: float


class BudgetRow(Versioned, table=True):
    """What a consumer has spent of a dataset's privacy, over all agreements; a decimal as text."""

    __tablename__: ClassVar[Any] = "budget"
    dataset: str = Field(primary_key=True)
    consumer: str = Field(primary_key=True)
    spent: str


for _table in Versioned.__subclasses__():
    _mapper = inspect(_table)
    _mapper.version_id_col = _mapper.local_table.c.version
