"""Zones: the operator's lists, what providers decide by them, and what cannot be slipped past."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from joserfc import jws
from sqlalchemy import create_engine
from sqlmodel import select

import dataspace.store
from contracts.jws import sign_compact
from contracts.odrl import Offer
from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.identity.tokens import Member
from dataspace.membership import Application
from dataspace.node import Node
from dataspace.processes import Process
from dataspace.settings import ParticipantKind
from dataspace.store.tables import DatasetRow, ProcessRow, ZoneListRow
from dataspace.zones.documents import (
    LIST_LIMIT_BYTES,
    LIST_TYPE,
    MAX_LIFETIME_S,
    SharedPolicy,
    open_list,
    sign_policy,
    verify_name,
    zones_in,
)
from dataspace.zones.lists import LOOK, ZoneLists
from dataspace.zones.recipients import UNKNOWN_ZONES, told, zones_told
from dataspace.zones.registry import MAX_ZONES_A_MEMBER
from ledger.entry import open_entry

from .zone_examples import OTHER, AtHand, Town, operators_identity, town_in, zone_list

OPERATOR = operators_identity()
ENTERPRISE = Member("did:web:firm.example", ParticipantKind.ENTERPRISE, "Firm")


@pytest.fixture(scope="module")
def one_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town_in(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture
def town(one_town: Town) -> Town:
    """Nodes cost a second to make, so the tests share them; zones are each test's own."""
    AtHand.away = False
    return one_town


@pytest.fixture
def park(town: Town) -> str:
    """A zone without members."""
    name = f"park-{len(town.registry.all())}"
    town.registry.create(name, title="Park")
    return name


def clause(operator: str, *zones: str) -> dict[str, Any]:
    wanted = list(zones) if operator.startswith("is") else zones[0]
    return {"leftOperand": "ds:recipientZone", "operator": operator, "rightOperand": wanted}


def offer(*constraints: dict[str, Any], **more: Any) -> Offer:
    rule = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "offer:1", "permission": [rule], **more})


def opened(text: str, zone: str = "park", operator: str = OPERATOR.did) -> Any:
    def key_of(kid: str) -> Any:
        if kid != OPERATOR.kid:
            raise LookupError(kid)
        return OPERATOR.key

    return open_list(text, zone=zone, operator=operator, now=time.time(), key_of=key_of)


def acts(node: Node, zone: str) -> list[tuple[str, str | None, str | None]]:
    """What the log says of a zone: (type, peer, outcome)."""
    entries = [
        open_entry(one.body, one.salt, one.commitment)
        for one in node.evidence.entries(0, 1000)
        if one is not None
    ]
    return [
        (one.type.value, one.peer, one.outcome)
        for one in entries
        if one.kind == "zone" and one.categories == (zone,)
    ]


# ---- documents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "qianhai-ftz", "前海", "4403.park_1", "x" * 64, "前海-a"])
def test_a_plain_name_names_a_zone(name: str) -> None:
    verify_name(name, "zone")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "..",
        ".a",
        "a.",
        "-a",
        "a/b",
        "a b",
        "a%2fb",
        "a\n",
        "a?",
        "x" * 65,
        "p\u0430rk",  # a Cyrillic letter
        "park\u200b",
        "\uff50ark",  # a full-width letter
        "caf\u00e9",
        "ＰＡＲＫ",
    ],
)
def test_a_name_that_looks_like_another_or_means_something_in_an_address_is_none(name: str) -> None:
    with pytest.raises(InputRejected, match="lower-case letters"):
        verify_name(name, "zone")


def test_a_signed_list_says_who_is_in_the_zone() -> None:
    found = opened(zone_list(OPERATOR, "park", OTHER, serial=7))
    assert (found.zone, found.serial, found.members) == ("park", 7, (OTHER,))


def test_a_list_that_somebody_else_signed_is_refused() -> None:
    forger = operators_identity()
    with pytest.raises(ProtocolViolation, match="key of the signer"):
        opened(zone_list(forger, "park", OTHER))
    text = zone_list(OPERATOR, "park", OTHER)
    other = zone_list(OPERATOR, "park")
    spliced = ".".join([*other.split(".")[:2], text.split(".")[2]])
    with pytest.raises(ProtocolViolation, match="signature"):
        opened(spliced)
    # The operator's key does not speak for another operator.
    with pytest.raises(ProtocolViolation, match="signer's own key id"):
        opened(text, operator="did:web:other.example")


def test_a_list_is_good_for_its_own_zone_only() -> None:
    with pytest.raises(ProtocolViolation, match="another zone"):
        opened(zone_list(OPERATOR, "harbour", OTHER), zone="park")


def test_a_policy_is_not_taken_for_a_list() -> None:
    now = int(time.time())
    said = {"iss": OPERATOR.did, "iat": now, "exp": now + 300, "zone": "park"}
    shared = SharedPolicy(policy="standard", number=1, document={}, **said)
    with pytest.raises(ProtocolViolation, match="expected the type"):
        opened(sign_policy(shared, OPERATOR))


@pytest.mark.parametrize(
    ("made_s", "lives_s", "sentence"),
    [
        (-400, 300, "it ended"),
        (600, 300, "in the future"),
        (0, MAX_LIFETIME_S + 1, "at most 3600 seconds"),
        (0, 0, "at most 3600 seconds"),
    ],
)
def test_a_list_counts_in_its_time_only(made_s: int, lives_s: int, sentence: str) -> None:
    made = int(time.time()) + made_s
    with pytest.raises(ProtocolViolation, match=sentence):
        opened(zone_list(OPERATOR, "park", OTHER, iat=made, exp=made + lives_s))


@pytest.mark.parametrize("text", ["", "a.b.c", "…", "e30.e30.e30", "x" * (LIST_LIMIT_BYTES + 1)])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation, match="zone list"):
        opened(text)


def test_a_signed_text_that_is_no_list_names_the_fields() -> None:
    text = sign_compact(
        b'{"iss": "x"}', OPERATOR.key, OPERATOR.kid, "Ed25519", typ=LIST_TYPE, limit=1000
    )
    with pytest.raises(ProtocolViolation, match=r"unusable exp, iat, iss, members"):
        opened(text)


def test_the_zones_a_policy_asks_about_are_found_wherever_they_stand() -> None:
    forbidding = {"action": "use", "constraint": [clause("isNoneOf", "a", "b")]}
    policy = offer(
        clause("eq", "c"), {"or": [clause("eq", "d"), {"and": [clause("isAllOf", "e")]}]}
    )
    policy = policy.model_copy(update={"prohibition": offer(clause("neq", "f")).permission})
    assert zones_in(policy) == {"c", "d", "e", "f"}
    assert zones_in(offer(**{"prohibition": [forbidding]})) == {"a", "b"}
    assert zones_in(offer({"leftOperand": "purpose", "operator": "eq", "rightOperand": "c"})) == (
        frozenset()
    )


@pytest.mark.parametrize("zones", [None, (), ("park",), ("a", "b")])
def test_an_auditor_reads_back_the_zones_a_decision_was_made_with(
    zones: tuple[str, ...] | None,
) -> None:
    assert zones_told(told("enterprise", zones)) == zones
    assert told(None, None) == ("unknown", UNKNOWN_ZONES)


# ---- the operator -------------------------------------------------------------------------------


def test_lists_change_by_acts_that_are_in_the_evidence(town: Town) -> None:
    town.registry.create("port", title="Port", title_zh="港区", steward=town.member.did)
    assert town.registry.admit("port", OTHER)["members"] == [OTHER]
    # Who is on the list stays there, and nothing has happened.
    assert town.registry.admit("port", OTHER)["serial"] == 1
    assert town.registry.expel("port", OTHER)["members"] == []
    assert acts(town.operator, "port") == [
        ("published", town.member.did, "created"),
        ("joined", OTHER, "admitted"),
        ("joined", OTHER, "expelled"),
    ]
    with pytest.raises(NotFound, match="no member of zone port"):
        town.registry.expel("port", OTHER)
    with pytest.raises(NotFound, match="no zone 'harbour'"):
        town.registry.admit("harbour", OTHER)
    with pytest.raises(NotFound, match="no participant"):
        town.registry.admit("port", "did:web:stranger.example")
    with pytest.raises(InputRejected, match="a zone port already"):
        town.registry.create("port", title="Again")
    with pytest.raises(NotFound, match="no participant"):
        town.registry.create("harbour", title="Harbour", steward="did:web:stranger.example")


def test_an_invitation_names_zones_that_exist_and_puts_the_invited_on_their_lists(
    town: Town, park: str
) -> None:
    operator = town.operator.operator
    assert operator is not None
    with pytest.raises(InputRejected, match="no zone 'nowhere'"):
        operator.invite(ParticipantKind.ENTERPRISE, [park, "nowhere"])
    code = operator.invite(ParticipantKind.ENTERPRISE, [park, park])
    asked = Application(name="n", kind=ParticipantKind.ENTERPRISE, invitation=code)
    admission = operator.admit("did:web:new.example", asked)
    claims = jws.extract_compact(admission.credential.encode()).payload
    assert f'"zones":["{park}"]'.encode() in claims
    assert town.registry.show(park)["members"] == ["did:web:new.example"]
    listed = {one["did"]: one["zones"] for one in operator.members.page()}
    assert listed["did:web:new.example"] == [park]


def test_a_member_is_told_that_its_credential_has_changed_and_the_new_one_says_so(
    town: Town, park: str
) -> None:
    operator = town.operator.operator
    assert operator is not None
    town.registry.admit(park, town.member.did)
    with town.operator.store.transaction() as tx:
        (hint,) = [one for one in tx.exec(select(ProcessRow)) if one.kind == "deliver"]
    assert hint.payload["to"] == town.member.did
    assert hint.payload["url"].endswith("/membership/renewals")
    renewed = operator.renew(town.member.did).credential
    assert f'"zones":["{park}"]'.encode() in jws.extract_compact(renewed.encode()).payload
    town.registry.expel(park, town.member.did)
    renewed = operator.renew(town.member.did).credential
    assert b'"zones"' not in jws.extract_compact(renewed.encode()).payload


def test_a_member_is_in_no_more_zones_than_the_evidence_can_list(town: Town) -> None:
    busy = "did:web:busy.example"
    town.join(busy)
    for number in range(MAX_ZONES_A_MEMBER + 1):
        town.registry.create(f"zone-{number}", title="Zone")
    for number in range(MAX_ZONES_A_MEMBER):
        town.registry.admit(f"zone-{number}", busy)
    with pytest.raises(InputRejected, match="is in 31 zones already"):
        town.registry.admit(f"zone-{MAX_ZONES_A_MEMBER}", busy)


# ---- what a provider decides by -----------------------------------------------------------------


def of(town: Town, did: str, policy: Offer, after_s: float = 0.0) -> tuple[str, ...] | None:
    return town.member.zones.zones_of(did, policy, datetime.now(UTC) + timedelta(seconds=after_s))


def test_whoever_is_expelled_belongs_to_the_zone_no_more_once_the_list_is_fetched(
    town: Town, park: str
) -> None:
    policy = offer(clause("isAnyOf", park))
    town.registry.admit(park, OTHER)
    town.member.zones.heed(policy)
    assert of(town, OTHER, policy) == (park,)
    town.registry.expel(park, OTHER)
    town.member.zones.fetch(park)
    assert of(town, OTHER, policy) == ()


def test_the_last_list_counts_until_it_ends_and_then_nobody_knows(town: Town, park: str) -> None:
    policy = offer(clause("isAnyOf", park, "quay"))
    town.registry.create("quay", title="Quay")
    town.registry.admit(park, OTHER)
    assert of(town, OTHER, policy) is None
    town.member.zones.heed(policy)
    AtHand.away = True
    lifetime_s = town.registry.lifetime_s
    assert of(town, OTHER, policy, after_s=lifetime_s - 5) == (park,)
    assert of(town, OTHER, policy, after_s=lifetime_s + 1) is None
    # What asks about no zone needs no list.
    assert of(town, OTHER, offer(), after_s=lifetime_s + 1) == ()


@pytest.mark.parametrize("operator", ["isAnyOf", "eq", "isNoneOf", "neq", "isAllOf"])
def test_a_clause_about_a_zone_refuses_while_there_is_no_list_and_says_so(
    town: Town, park: str, operator: str
) -> None:
    row = DatasetRow(
        id="rows",
        title="rows",
        source="/nowhere.csv",
        columns=[],
        grade="general",
        offer=offer(clause(operator, park)).to_json(),
        content_version="1",
        created_at=1.0,
    )
    refused = town.member.datasets.visibility(row, ENTERPRISE).refusal
    assert refused is not None
    assert refused.path == "permission[0].constraint[0]"
    assert "no current list of its members is at hand" in refused.sentence
    assert "operator's list" in (refused.remedy or "")


def test_a_list_older_than_the_one_held_does_not_come_back(town: Town, park: str) -> None:
    operator, zones = town.operator.identity, town.member.zones
    zones.keep(park, zone_list(operator, park, serial=5))
    now = int(time.time())
    for older in ({"serial": 4}, {"iat": now - 60, "exp": now + 240, "serial": 6}):
        with pytest.raises(ProtocolViolation, match="an older one"):
            zones.keep(park, zone_list(operator, park, OTHER, **older))
    assert of(town, OTHER, offer(clause("eq", park))) == ()


def test_a_list_outlives_a_restart_and_is_asked_for_again_at_once(town: Town, park: str) -> None:
    policy = offer(clause("eq", park))
    town.member.zones.heed(policy)
    again = ZoneLists(town.member, town.member.operators_zones)
    again.begin()
    assert again.zones_of(OTHER, policy, datetime.now(UTC)) == ()
    town.registry.admit(park, OTHER)
    store_offer(town.member, policy)
    later = look(again)
    assert again.zones_of(OTHER, policy, datetime.now(UTC)) == (park,)
    assert 0 < later.after_s <= 60


def test_a_replica_takes_up_the_list_that_another_fetched_and_none_that_is_older(
    town: Town, park: str
) -> None:
    policy, operator = offer(clause("eq", park)), town.operator.identity
    town.member.zones.heed(policy)
    other = ZoneLists(town.member, town.member.operators_zones)
    other.begin()
    town.member.zones.keep(park, zone_list(operator, park, OTHER, serial=99))
    assert other.zones_of(OTHER, policy, datetime.now(UTC)) == ()
    other.follow()
    assert other.zones_of(OTHER, policy, datetime.now(UTC)) == (park,)
    older = zone_list(operator, park, serial=98)
    with town.member.store.transaction() as tx:
        tx.merge(ZoneListRow(zone=park, text=older))
    other.follow()
    assert other.zones_of(OTHER, policy, datetime.now(UTC)) == (park,)


def test_lists_are_fetched_for_what_is_offered_and_while_the_operator_is_away_tried_again(
    town: Town, park: str
) -> None:
    policy = offer(clause("eq", park))
    store_offer(town.member, policy)
    AtHand.away = True
    assert look(town.member.zones).after_s <= 5
    assert of(town, OTHER, policy) is None
    AtHand.away = False
    look(town.member.zones)
    assert of(town, OTHER, policy) == ()
    assert park in [one["zone"] for one in town.member.zones.held()]


def test_a_policy_that_names_no_zone_of_the_space_is_refused_before_it_is_published(
    town: Town,
) -> None:
    with pytest.raises(InputRejected, match="zone 'harbour', which this space does not have"):
        town.member.zones.heed(offer(clause("eq", "harbour")))
    AtHand.away = True
    # It may exist; until the operator says so, the clause refuses.
    town.member.zones.heed(offer(clause("eq", "harbour")))


def look(lists: ZoneLists) -> Any:
    handler = lists.handlers()[LOOK]
    return handler.handle(Process(1, LOOK, "", {}, 1, 0.0))


def store_offer(node: Node, policy: Offer) -> None:
    with node.store.transaction() as tx:
        tx.add(
            DatasetRow(
                id="-".join(["rows", *sorted(zones_in(policy))]),
                title="rows",
                source="/nowhere.csv",
                columns=[],
                grade="general",
                offer=policy.to_json(),
                content_version="1",
                created_at=1.0,
            )
        )


def test_participants_of_an_earlier_version_keep_their_zones_as_lists(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.sqlite'}"
    config = Config()
    migrations = Path(dataspace.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))
    with create_engine(url).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        connection.exec_driver_sql(
            "INSERT INTO participant (did, kind, name, zones, credential, joined_at) "
            """VALUES ('did:web:a', 'enterprise', 'a', '["park", "port"]', 'c', 1.0)"""
        )
        connection.exec_driver_sql(
            "INSERT INTO invitation (code_h, kind, zones, expires_at) "
            """VALUES ('h', 'enterprise', '["harbour"]', 1.0)"""
        )
        connection.commit()
        for _ in range(2):
            command.upgrade(config, "0007")
            zones = connection.exec_driver_sql("SELECT name FROM zone ORDER BY name").all()
            members = connection.exec_driver_sql("SELECT zone, did FROM zone_member").all()
            assert [name for (name,) in zones] == ["harbour", "park", "port"]
            assert sorted(tuple(one) for one in members) == [
                ("park", "did:web:a"),
                ("port", "did:web:a"),
            ]
            command.downgrade(config, "0006")
