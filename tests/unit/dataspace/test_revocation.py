"""Whoever is no member any more is refused, at every door and at every decision."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from dataspace.errors import Denied, InputRejected, ProtocolViolation, Unavailable
from dataspace.identity import standing
from dataspace.identity.keys import SigningAlgorithm
from dataspace.identity.standing import Standing, StandingAct, next_standing
from dataspace.identity.status import open_status_list, sign_status_list
from dataspace.identity.status_list import StatusList, StatusPurpose, status_at
from dataspace.identity.tokens import issue_credential
from dataspace.membership import renew_membership
from dataspace.node import Node
from dataspace.settings import ParticipantKind
from dataspace.store.tables import CredentialStatusRow, Setting
from ledger.entry import open_entry

from .wired_nodes import WiredSpace, process_of, wired_space

PORTS = itertools.count(100)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredSpace]:
    with wired_space(tmp_path_factory.mktemp("revocation")) as made:
        yield made


@pytest.fixture(scope="module")
def provider(space: WiredSpace) -> Node:
    node = space.add("provider", 4, door=True)
    space.join(node)
    return node


@pytest.fixture
def consumer(space: WiredSpace) -> Node:
    port = next(PORTS)
    node = space.add(f"consumer-{port}", port)
    space.join(node)
    return node


def change(space: WiredSpace, act: StandingAct, node: Node, reason: str = "it did wrong") -> Any:
    assert space.operator.operator is not None
    return space.operator.operator.members.change(node.did, act, reason)


def outcomes(node: Node) -> list[tuple[str, str | None, str | None]]:
    found = []
    for sealed in node.evidence.entries(0, 100):
        assert sealed is not None
        entry = open_entry(sealed.body, sealed.salt, sealed.commitment)
        found.append((entry.type.value, entry.peer, entry.outcome))
    return found


def test_a_credential_names_one_place_in_two_lists(space: WiredSpace, consumer: Node) -> None:
    credential = consumer.peers.membership()
    assert credential is not None
    vc = json.loads(jws.extract_compact(credential.encode()).payload)["vc"]
    entries = vc["credentialStatus"]
    assert [one["statusPurpose"] for one in entries] == ["revocation", "suspension"]
    assert len({one["statusListIndex"] for one in entries}) == 1
    assert entries[0]["statusListCredential"] == "http://127.0.0.1:3/operator/status/revocation/1"


def test_no_place_is_given_twice(space: WiredSpace, consumer: Node) -> None:
    operator = space.operator
    assert operator.operator is not None
    for _ in range(20):
        operator.operator.renew(consumer.did)
    with operator.store.transaction() as tx:
        entries = [operator.operator.status.allot(tx, "did:web:x", expires_at=0.0)]
    found = operator.operator.members.show(consumer.did)
    assert found["credentials_issued"] == 21
    assert all(one.index >= 0 for one in entries[0])


def test_a_revoked_member_is_refused_as_soon_as_the_list_is_fetched(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    assert space.ask(consumer, provider).status == 200
    change(space, StandingAct.REVOKE, consumer)
    provider.standings.refresh()
    refused = space.ask(consumer, provider)
    assert refused.status == 403
    assert "was revoked by its operator" in refused.body.decode()
    # The others go on.
    assert space.ask(provider, space.operator).status == 200


def test_a_revocation_is_known_without_anybody_asking(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    space.ask(consumer, provider)
    change(space, StandingAct.REVOKE, consumer)
    held = dict(provider.standings._held)
    assert held
    for url, one in held.items():
        provider.standings._held = {
            **provider.standings._held,
            url: type(one)(one.document, time.time() - one.document.ttl_s - 1),
        }
    provider.standings._look(process_of("look", provider.did))
    assert space.ask(consumer, provider).status == 403


def test_the_operators_own_door_follows_at_once_and_it_renews_nobody_revoked(
    space: WiredSpace, consumer: Node
) -> None:
    change(space, StandingAct.REVOKE, consumer)
    assert space.ask(consumer, space.operator).status == 403
    with pytest.raises(InputRejected, match=r"the membership of .* is revoked"):
        renew_membership(consumer.http, space.operator.home.url, consumer.identity)
    assert space.operator.operator is not None
    code = space.operator.operator.invite(ParticipantKind.ENTERPRISE)
    with pytest.raises(Denied, match="is revoked"):
        space.operator.operator.admit(consumer.did, consumer.application(invitation=code))


def test_a_suspended_member_is_refused_until_it_is_reinstated(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    change(space, StandingAct.SUSPEND, consumer)
    provider.standings.refresh()
    assert "suspended" in space.ask(consumer, provider).body.decode()
    change(space, StandingAct.REINSTATE, consumer)
    provider.standings.refresh()
    assert space.ask(consumer, provider).status == 200


def test_a_change_is_in_the_evidence_once_and_without_its_reason(
    space: WiredSpace, consumer: Node
) -> None:
    for _ in range(2):
        told = change(space, StandingAct.SUSPEND, consumer, "unpaid fees")
    assert (told["status"], told["status_reason"]) == ("suspended", "unpaid fees")
    change(space, StandingAct.REINSTATE, consumer)
    change(space, StandingAct.REVOKE, consumer)
    assert outcomes(space.operator)[-3:] == [
        ("revoked", consumer.did, "suspended"),
        ("joined", consumer.did, "reinstated"),
        ("revoked", consumer.did, "revoked"),
    ]


def test_a_revoked_member_is_off_every_zones_list(space: WiredSpace, consumer: Node) -> None:
    assert space.operator.operator is not None
    zones = space.operator.operator.zones
    zones.create("park", title="Park")
    zones.admit("park", consumer.did)
    change(space, StandingAct.REVOKE, consumer)
    assert zones.show("park")["members"] == []


def test_what_is_decided_while_the_member_is_away_is_refused_too(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    space.ask(consumer, provider)
    assert provider.standings.refusal(consumer.did) is None
    change(space, StandingAct.REVOKE, consumer)
    provider.standings.refresh()
    refusal = provider.standings.refusal(consumer.did)
    assert refusal is not None
    assert "was revoked by its operator" in refusal.sentence


def test_the_last_list_counts_until_it_ends_and_then_nobody_is_a_member(
    space: WiredSpace, provider: Node, consumer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.ask(consumer, provider)
    with space.away(space.operator):
        assert space.ask(consumer, provider).status == 200
    ends = max(one.document.expires_at for one in provider.standings._held.values())
    monkeypatch.setattr("dataspace.standings.time.time", lambda: ends + 1.0)
    token = space.token(consumer, provider.did)
    with (
        space.away(space.operator),
        pytest.raises(Unavailable, match="has ended, and the operator is away"),
    ):
        provider.peers.authenticate(f"Bearer {token}")
    with pytest.raises(Unavailable, match="is not known"):
        provider.standings.refusal(consumer.did)


def test_lists_are_kept_for_the_nodes_next_life(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    space.ask(consumer, provider)
    change(space, StandingAct.REVOKE, consumer)
    provider.standings.refresh()
    again = Node(provider.home)
    again.standings.begin()
    refusal = again.standings.refusal(consumer.did)
    again.http.close()
    again.store.close()
    assert refusal is not None
    assert "revoked" in refusal.sentence


def test_a_replica_takes_up_what_another_has_learned_of_members_and_lists(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    other = Node(provider.home)
    other.standings.begin()
    space.ask(consumer, provider)
    other.standings.follow()
    assert other.standings.refusal(consumer.did) is None
    change(space, StandingAct.REVOKE, consumer)
    provider.standings.refresh()
    # Nobody but the first has met the member, and nobody but it has the list.
    assert other.standings.refusal(consumer.did) is None
    other.standings.follow()
    refusal = other.standings.refusal(consumer.did)
    other.http.close()
    other.store.close()
    assert refusal is not None
    assert "revoked" in refusal.sentence


def test_a_credential_of_an_earlier_version_counts_until_it_ends(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    old = issue_credential(
        space.operator.identity,
        subject=consumer.did,
        kind=ParticipantKind.ENTERPRISE,
        name="consumer",
        now=int(time.time()),
    )
    with consumer.store.transaction() as tx:
        tx.merge(Setting(name="membership", value=old))
    consumer.peers.forget_credential()
    assert space.ask(consumer, provider).status == 200


NOW = 1_800_000_000
URL = "http://127.0.0.1:3/operator/status/revocation/1"


def signed(space: WiredSpace, **changes: Any) -> str:
    asked = {
        "url": URL,
        "purpose": StatusPurpose.REVOCATION,
        "operator": space.operator.identity,
        "now": NOW,
        "lifetime_s": 3600,
        **changes,
    }
    return sign_status_list(StatusList.of([7]), **asked)


def opened(space: WiredSpace, text: str, **changes: Any) -> Any:
    asked = {
        "url": URL,
        "operator": space.operator.did,
        "now": NOW + 10,
        "key_of": space.operator.key_of,
        **changes,
    }
    return open_status_list(text, **asked)


def test_a_list_is_the_operators_of_this_address_and_of_now(
    space: WiredSpace, consumer: Node
) -> None:
    found = opened(space, signed(space))
    assert status_at(found.bits, 7)
    assert (found.expires_at - found.issued_at, found.ttl_s) == (3600, 300)
    for text, changes, wrong in (
        (signed(space, operator=consumer.identity), {}, "another party's"),
        (signed(space, url=URL + "1"), {}, "another address"),
        (signed(space), {"now": NOW + 3601}, "ended 1 seconds ago"),
        (signed(space, now=NOW + 999), {}, "in the future"),
        (signed(space, lifetime_s=90_000), {}, "at most 86400"),
        (signed(space)[:-8] + "AAAAAAAA", {}, "signature"),
        ("rubbish", {}, "three parts"),
    ):
        with pytest.raises(ProtocolViolation, match=wrong):
            opened(space, text, **changes)


def test_an_older_list_than_was_shown_does_not_come_back(
    space: WiredSpace, provider: Node, consumer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.ask(consumer, provider)
    url = sorted(provider.standings._held)[0]
    assert space.operator.operator is not None
    older = sign_status_list(
        StatusList.of([]),
        url=url,
        purpose=StatusPurpose.REVOCATION,
        operator=space.operator.identity,
        now=int(time.time()) - 100,
        lifetime_s=3600,
    )
    monkeypatch.setattr(provider.standings, "_text", lambda _: older)
    with pytest.raises(ProtocolViolation, match="an older one"):
        provider.standings.fetch(url)


def test_a_new_list_begins_before_one_is_full(
    space: WiredSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert space.operator.operator is not None
    registry = space.operator.operator.status
    monkeypatch.setattr("dataspace.status_registry.MAX_IN_A_LIST", 1)
    with space.operator.store.transaction() as tx:
        first = registry.allot(tx, "did:web:a", expires_at=0.0)
        second = registry.allot(tx, "did:web:b", expires_at=0.0)
        assert tx.get(CredentialStatusRow, (2, first[0].index)) is not None
    assert (first[0].list_url[-2:], second[0].list_url[-2:]) == ("/2", "/3")


@pytest.mark.parametrize(("before", "act"), [(b, a) for b in Standing for a in StandingAct])
def test_every_standing_changes_as_the_table_says(before: Standing, act: StandingAct) -> None:
    after = standing.NEXT.get((before, act))
    if before is Standing.REVOKED and act is not StandingAct.REVOKE:
        assert after is None
        with pytest.raises(InputRejected, match="cannot be undone"):
            next_standing(before, act)
    else:
        assert next_standing(before, act) is after


def test_the_operator_does_not_revoke_itself(space: WiredSpace) -> None:
    with pytest.raises(InputRejected, match="the operator itself"):
        change(space, StandingAct.REVOKE, space.operator)


def test_the_registry_is_filtered_and_paged(
    space: WiredSpace, provider: Node, consumer: Node
) -> None:
    assert space.operator.operator is not None
    change(space, StandingAct.SUSPEND, consumer)
    page, name = space.operator.operator.members.page, consumer.home.settings.name

    def names(**asked: Any) -> list[str]:
        return [one["name"] for one in page(**asked)]

    assert names(limit=1) == ["operator"]
    assert names()[-1] == name
    assert names(after=consumer.did) == []
    assert names(after=space.operator.did) == names()[1:]
    assert names(kinds=[ParticipantKind.OPERATOR]) == ["operator"]
    assert names(standings=[Standing.SUSPENDED], text=name) == [name]
    assert names(standings=[Standing.ACTIVE], text=name) == []
    assert names(text="PROV") == ["provider"]
    assert names(text="_rovider") == []
    assert names(zone="nowhere") == []


def test_an_operator_with_the_other_algorithm_revokes_as_well(tmp_path: Path) -> None:
    with wired_space(tmp_path, algorithm=SigningAlgorithm.ES256) as made:
        member = made.add("member", 4, algorithm=SigningAlgorithm.ES256)
        made.join(member)
        assert made.ask(member, made.operator).status == 200
        change(made, StandingAct.REVOKE, member)
        assert made.ask(member, made.operator).status == 403
