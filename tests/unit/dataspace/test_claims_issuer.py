"""An issuer answers each request once, however often it has to be delivered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlmodel import select

from dataspace.answer import Answer
from dataspace.claims.issuer import MAX_REQUESTS, Issuer, object_id
from dataspace.claims.messages import (
    CredentialMessage,
    CredentialReference,
    CredentialRequestMessage,
    RequestStatus,
)
from dataspace.errors import Denied, InputRejected, NotFound, ProtocolViolation, Unavailable
from dataspace.identity.tokens import Claims
from dataspace.processes import Process
from dataspace.store.engine import Store
from dataspace.store.tables import CredentialRequestRow, ParticipantRow, ProcessRow

ISSUER, HOLDER = "did:web:operator.example", "did:web:holder.example"
CLAIMS = Claims(HOLDER, "a-jti-that-is-long", 0, None, access="write-here")
KIND = "MembershipCredential"
ASKED = CredentialRequestMessage(
    holder_pid="ours-1", credentials=(CredentialReference(id=object_id(ISSUER, KIND)),)
)


class Holder:
    """The holder's credential service: away, refusing, or taking what comes."""

    def __init__(self) -> None:
        self.received: list[tuple[str, CredentialMessage, str | None]] = []
        self.status: int | None = 200

    def post(self, url: str, message: CredentialMessage, *, to: str, access: str | None) -> Answer:
        self.received.append((url, message, access))
        if self.status is None:
            raise Unavailable("nobody is there")
        return Answer(self.status, {}, b"")


class House:
    """An operator's database with one member, and its issuer."""

    def __init__(self, path: Path) -> None:
        self.store = Store(f"sqlite:///{path / 'node.sqlite'}")
        self.store.migrate()
        self.holder, self.made = Holder(), 0
        resolver = SimpleNamespace(service=lambda did, kind: f"https://holder.example/{kind}")
        node = SimpleNamespace(
            store=self.store,
            did=ISSUER,
            peers=SimpleNamespace(resolver=resolver),
            home=SimpleNamespace(url="https://operator.example"),
        )
        self.issuer = Issuer(cast(Any, node), cast(Any, None), cast(Any, self.holder))
        self.issuer.credentials[KIND] = self.issue
        with self.store.transaction() as tx:
            tx.add(ParticipantRow(did=HOLDER, kind="x", name="x", credential="", joined_at=0.0))

    def issue(self, did: str) -> str:
        self.made += 1
        return f"credential.{self.made}.of-{did}"

    def ask(self, message: CredentialRequestMessage = ASKED) -> str:
        with self.store.transaction() as tx:
            return self.issuer.request(tx, CLAIMS, message)

    def deliver(self, name: str) -> None:
        process = Process(1, "deliver-credentials", name, {}, 1, 0.0)
        self.issuer.handlers()["deliver-credentials"].handle(process)

    def status(self, name: str, claims: Claims = CLAIMS) -> RequestStatus:
        with self.store.transaction() as tx:
            return self.issuer.status(tx, claims, name).status


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


def test_a_holder_that_was_away_gets_one_credential_when_it_is_back(house: House) -> None:
    name = house.ask()
    house.holder.status = None
    for _ in range(3):
        with pytest.raises(Unavailable):
            house.deliver(name)
    assert house.status(name) is RequestStatus.RECEIVED
    house.holder.status = 200
    house.deliver(name)
    # A repetition after a crash finds it done.
    house.deliver(name)
    assert house.status(name) is RequestStatus.ISSUED
    assert house.made == 1
    urls, messages, accesses = zip(*house.holder.received, strict=True)
    assert set(urls) == {"https://holder.example/CredentialService/credentials"}
    assert set(accesses) == {"write-here"}
    assert len(messages) == 4
    assert len(set(map(CredentialMessage.to_bytes, messages))) == 1
    assert messages[0].holder_pid == "ours-1"
    with house.store.transaction() as tx:
        row = tx.get_one(CredentialRequestRow, name)
        assert (row.access, row.message) == (None, None)


def test_a_member_that_left_meanwhile_is_told_that_it_gets_nothing(house: House) -> None:
    def refuse(did: str) -> str:
        raise Denied("only a member's credential is renewed")

    house.issuer.credentials[KIND] = refuse
    name = house.ask()
    house.deliver(name)
    assert house.status(name) is RequestStatus.REJECTED
    ((_, message, _),) = house.holder.received
    assert (message.status, message.credentials) == (RequestStatus.REJECTED, ())
    assert message.rejection_reason == "only a member's credential is renewed"


def test_a_holder_that_refuses_ends_the_request(house: House) -> None:
    name = house.ask()
    house.holder.status = 403
    with pytest.raises(ProtocolViolation, match="refused its credentials"):
        house.deliver(name)
    on_failure = house.issuer.handlers()["deliver-credentials"].on_failure
    assert on_failure is not None
    with house.store.transaction() as tx:
        on_failure(tx, Process(1, "deliver-credentials", name, {}, 1, 0.0), "refused")
    assert house.status(name) is RequestStatus.REJECTED


def test_a_request_is_work_in_the_same_transaction(house: House) -> None:
    name = house.ask()
    with house.store.transaction() as tx:
        (process,) = tx.exec(select(ProcessRow)).all()
    assert (process.kind, process.subject, process.target) == ("deliver-credentials", name, HOLDER)


def test_only_who_asked_learns_how_far_it_is(house: House) -> None:
    name = house.ask()
    other = Claims("did:web:other.example", "another-jti", 0, None)
    for asked, who in ((name, other), ("not-exist", CLAIMS)):
        with pytest.raises(NotFound):
            house.status(asked, who)


def test_strangers_and_unknown_credentials_are_refused(house: House) -> None:
    unknown = CredentialRequestMessage(
        holder_pid="x", credentials=(CredentialReference(id="unknown"),)
    )
    with pytest.raises(InputRejected, match="no credential has that id"):
        house.ask(unknown)
    stranger = Claims("did:web:stranger.example", "another-jti", 0, None)
    with house.store.transaction() as tx, pytest.raises(Denied, match="members"):
        house.issuer.request(tx, stranger, ASKED)


def test_requests_of_one_member_are_bounded(house: House) -> None:
    names = [house.ask() for _ in range(MAX_REQUESTS + 2)]
    with house.store.transaction() as tx:
        kept = {row.issuer_pid for row in tx.exec(select(CredentialRequestRow)).all()}
    assert kept == set(names[2:])
