"""A holder takes what it asked for, from whom it asked, about itself; it shows what was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataspace.claims import holder as holder_module
from dataspace.claims.access import ACCESS_LIFETIME_S
from dataspace.claims.holder import MAX_OFFERS, Holder
from dataspace.claims.messages import (
    CredentialContainer,
    CredentialMessage,
    CredentialObject,
    CredentialOfferMessage,
    PresentationQueryMessage,
    RequestStatus,
)
from dataspace.claims.scopes import MEMBERSHIP_SCOPE, Alias, Scope
from dataspace.errors import Denied, NotFound, ProtocolViolation, Unauthenticated
from dataspace.evidence import Space, write_space
from dataspace.identity.tokens import Claims
from dataspace.store.engine import Store
from dataspace.store.tables import AskedCredentialRow, HeldCredentialRow, Setting

from .claims_examples import HOLDER, ISSUER, NOW, OTHER, VERIFIER, Written, key_of, shown

FROM_ISSUER = Claims(ISSUER.did, "a-jti-that-is-long", 0, None)
LICENCE = {"type": ["VerifiableCredential", "TradeLicence"]}
LICENCE_SCOPE = Scope(Alias.TYPE, "TradeLicence")


class House:
    """A node's database, with one request to the issuer, and its holder's part."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(f"sqlite:///{path / 'node.sqlite'}")
        self.store.migrate()
        self.now = float(NOW)
        monkeypatch.setattr(holder_module, "time", SimpleNamespace(time=lambda: self.now))
        self.forgotten = 0
        node = SimpleNamespace(
            did=HOLDER.did,
            identity=HOLDER,
            store=self.store,
            key_of=key_of,
            derived_key=lambda use: use.encode().ljust(32),
            home=SimpleNamespace(settings=SimpleNamespace(trusted_issuers=(OTHER.did,))),
            peers=SimpleNamespace(forget_credential=self._forget),
            keep_membership=lambda tx: None,
        )
        self.holder = Holder(cast(Any, node), cast(Any, None))
        asked = AskedCredentialRow(
            holder_pid="ours-1",
            issuer=ISSUER.did,
            types=["x"],
            status="RECEIVED",
            asked_at=0.0,
            changed_at=0.0,
        )
        with self.store.transaction() as tx:
            tx.add(asked)

    def _forget(self) -> None:
        self.forgotten += 1

    def take(
        self, *written: Written, claims: Claims = FROM_ISSUER, kind: str = "", pid: str = "ours-1"
    ) -> None:
        containers = tuple(
            CredentialContainer(
                credential_type=kind or one.opened().kind, payload=one.credential(), format="jwt"
            )
            for one in written
        )
        message = CredentialMessage(
            issuer_pid="theirs-1",
            holder_pid=pid,
            status=RequestStatus.ISSUED if written else RequestStatus.REJECTED,
            credentials=containers,
            rejection_reason=None if written else "not you",
        )
        opened = self.holder.open_answer(claims, message)
        with self.store.transaction() as tx:
            self.holder.keep(tx, claims, message, opened)

    def show(self, *asked: Scope, granted: tuple[Scope, ...], bearer: str = VERIFIER) -> list[str]:
        """The kinds shown to the verifier."""
        access = self.holder.access_for(bearer, granted, now=int(self.now))
        claims = Claims(VERIFIER, "a-jti-that-is-long", 0, None, access)
        query = PresentationQueryMessage(scope=tuple(map(str, asked)))
        with self.store.transaction() as tx:
            response = self.holder.show(tx, claims, query)
        return [one.kind for one in shown(*response.presentation)] if response.presentation else []


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tmp_path, monkeypatch)
    yield made
    made.store.close()


def test_what_was_asked_for_is_kept_and_shown_as_far_as_was_allowed(house: House) -> None:
    house.take(Written(), Written(vc=LICENCE))
    both = (MEMBERSHIP_SCOPE, LICENCE_SCOPE)
    assert sorted(house.show(*both, granted=both)) == ["MembershipCredential", "TradeLicence"]
    assert house.show(*both, granted=(MEMBERSHIP_SCOPE,)) == ["MembershipCredential"]
    assert house.show(LICENCE_SCOPE, granted=both) == ["TradeLicence"]
    assert house.show(LICENCE_SCOPE, granted=(MEMBERSHIP_SCOPE,)) == []


def test_an_access_token_serves_its_bearer_alone(house: House) -> None:
    with pytest.raises(Unauthenticated, match="another participant"):
        house.show(MEMBERSHIP_SCOPE, granted=(MEMBERSHIP_SCOPE,), bearer=OTHER.did)


def test_of_one_type_the_newest_of_an_issuer_is_shown_and_an_older_one_by_its_id(
    house: House,
) -> None:
    older = Written(vc={**LICENCE, "id": "urn:uuid:older"})
    house.take(older)
    house.now += 1
    house.take(Written(vc=LICENCE))
    by_id = Scope(Alias.ID, "urn:uuid:older")
    assert house.show(LICENCE_SCOPE, granted=(LICENCE_SCOPE,)) == ["TradeLicence"]
    assert house.show(LICENCE_SCOPE, by_id, granted=(LICENCE_SCOPE, by_id)) == ["TradeLicence"] * 2


def test_what_has_expired_is_not_shown(house: House) -> None:
    house.take(Written())
    house.now += 2 * 3600
    access = house.holder.access_for(VERIFIER, now=int(house.now))
    query = PresentationQueryMessage(scope=(str(MEMBERSHIP_SCOPE),))
    with house.store.transaction() as tx:
        answer = house.holder.show(tx, Claims(VERIFIER, "a-jti-is-long", 0, None, access), query)
    assert answer.presentation == ()


def test_the_same_answer_twice_is_kept_once(house: House) -> None:
    written = Written()
    token = written.credential()
    message = CredentialMessage(
        issuer_pid="i",
        holder_pid="ours-1",
        status=RequestStatus.ISSUED,
        credentials=(
            CredentialContainer(
                credential_type="MembershipCredential", payload=token, format="jwt"
            ),
        ),
    )
    for _ in range(2):
        opened = house.holder.open_answer(FROM_ISSUER, message)
        with house.store.transaction() as tx:
            house.holder.keep(tx, FROM_ISSUER, message, opened)
    with house.store.transaction() as tx:
        assert len(tx.exec(_every(HeldCredentialRow)).all()) == 1


def _every(table: Any) -> Any:
    from sqlmodel import select

    return select(table)


def test_a_rejection_is_remembered_with_its_reason(house: House) -> None:
    house.take()
    with house.store.transaction() as tx:
        (asked,) = house.holder.asked(tx)
    assert (asked["status"], asked["reason"]) == ("REJECTED", "not you")


@pytest.mark.parametrize(
    ("written", "claims", "kind", "pid", "error", "reason"),
    [
        (Written(), FROM_ISSUER, "", "not-ours", NotFound, "did not ask"),
        (Written(), Claims(OTHER.did, "j", 0, None), "", "ours-1", ProtocolViolation, "sender"),
        (
            Written(vc={"credentialSubject": {"id": OTHER.did}}, vc_claims={"sub": OTHER.did}),
            FROM_ISSUER,
            "",
            "ours-1",
            ProtocolViolation,
            "about another",
        ),
        (Written(), FROM_ISSUER, "TradeLicence", "ours-1", ProtocolViolation, "another type"),
    ],
)
def test_nothing_else_is_taken(
    house: House,
    written: Written,
    claims: Claims,
    kind: str,
    pid: str,
    error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        house.take(written, claims=claims, kind=kind, pid=pid)
    with house.store.transaction() as tx:
        assert tx.exec(_every(HeldCredentialRow)).all() == []


def test_a_membership_of_the_operator_rides_in_our_tokens_from_then_on(house: House) -> None:
    house.take(Written())
    with house.store.transaction() as tx:
        assert tx.get(Setting, "membership") is None
        write_space(tx, Space(ISSUER.did, "http://chain.example", "0x" + "0" * 40, 1))
    fresh = Written()
    house.take(fresh, Written(vc=LICENCE))
    with house.store.transaction() as tx:
        kept = tx.get_one(Setting, "membership").value
    assert kept.count(".") == 2
    assert house.forgotten == 1


def test_who_may_write_is_the_operator_a_trusted_issuer_or_one_that_was_asked(
    house: House,
) -> None:
    with house.store.transaction() as tx:
        for did in (ISSUER.did, OTHER.did):
            house.holder.verify_writer(tx, did)
        with pytest.raises(Denied, match="trusts or has asked"):
            house.holder.verify_writer(tx, "did:web:stranger.example")


def test_offers_are_remembered_within_bounds_and_only_their_issuers(house: House) -> None:
    offer = CredentialOfferMessage(issuer=ISSUER.did, credentials=(CredentialObject(id="x"),))
    with house.store.transaction() as tx:
        with pytest.raises(Denied, match="its issuer alone"):
            house.holder.offered(tx, Claims(OTHER.did, "j", 0, None), offer)
        for _ in range(MAX_OFFERS + 3):
            house.holder.offered(tx, FROM_ISSUER, offer)
            tx.flush()
        assert len(house.holder.offers(tx)) == MAX_OFFERS


def test_the_access_token_in_our_requests_changes_long_before_it_ends(house: House) -> None:
    first = house.holder.membership_access(VERIFIER)
    assert house.holder.membership_access(VERIFIER) == first
    assert house.holder.membership_access(OTHER.did) != first
    house.now += ACCESS_LIFETIME_S / 2
    assert house.holder.membership_access(VERIFIER) != first
    assert house.holder.open_access(VERIFIER, first) == {MEMBERSHIP_SCOPE}
