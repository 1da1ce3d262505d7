"""The federated catalogue: what is kept of each participant's, and what a search finds."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contracts.errors
from contracts.described import in_languages
from contracts.filters import parse_filter
from contracts.messages import Column, Dataset, Distribution
from contracts.odrl import Offer, Permission
from dataspace.errors import ProtocolViolation
from dataspace.federation.crawling import FORGET_AFTER_S
from dataspace.federation.participants import Participant, parse_participants
from dataspace.federation.searching import Search
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.settings import ParticipantKind

BUREAU = Participant("did:web:bureau.example", ParticipantKind.GOVERNMENT, "Civil affairs")
INSURER = Participant("did:web:insurer.example", ParticipantKind.ENTERPRISE, "Insurer")
OFFER = Offer(id="offer:1", permission=(Permission(action="use"),))
DAY_S = 86400.0
# Each example reads the catalogue later than the one before.
MOMENTS = count(1000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Node:
    values = {"name": "Institute", "kind": "consumer", "url": "http://127.0.0.1:8001"}
    return Node(create_home(tmp_path_factory.mktemp("federated") / "home", values))


@pytest.fixture
def node(made: Node) -> Iterator[Node]:
    made.federation.take_over([BUREAU, INSURER])
    yield made
    made.federation.take_over([])


def dataset(name: str, **fields: Any) -> Dataset:
    return Dataset(
        id=name,
        has_policy=(OFFER,),
        distribution=(Distribution(format="psi/2", access_service="urn:service"),),
        **fields,
    )


def condition(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def found(node: Node, *conditions: dict[str, Any], **asked: Any) -> list[str]:
    hits = node.federation.search(Search(filter=conditions, **asked))["hits"]
    return [hit["dataset"]["@id"] for hit in hits]


VISITS = dataset(
    "visits",
    title=in_languages("Clinic visits", "门诊就诊记录"),
    theme="health",
    spatial="440305",
    grade="important",
)
CLAIMS = dataset("claims", title="Claims", description="of visits to clinics", theme="economy")


def test_words_are_found_in_either_language_and_those_in_the_title_come_first(node: Node) -> None:
    node.federation.keep(BUREAU.did, [VISITS], 100.0)
    node.federation.keep(INSURER.did, [CLAIMS], 200.0)
    assert found(node, condition("ds:text", "hasPart", "VISITS")) == ["visits", "claims"]
    assert found(node, condition("ds:text", "hasPart", "就诊")) == ["visits"]
    assert found(node, condition("ds:text", "hasPart", "%")) == []
    assert found(node) == ["claims", "visits"]


def test_a_search_says_whose_data_fit_and_how_many_there_are_of_each_sort(node: Node) -> None:
    node.federation.keep(BUREAU.did, [VISITS, dataset("births", theme="health")], 100.0)
    node.federation.keep(INSURER.did, [CLAIMS], 100.0)
    answer = node.federation.search(Search(limit=1, offset=1))
    assert (answer["total"], len(answer["hits"]), answer["complete"]) == (3, 1, True)
    assert answer["facets"]["theme"] == {"health": 2, "economy": 1}
    assert answer["facets"]["city"] == {"4403": 1}
    assert answer["facets"]["kind"] == {"government": 2, "enterprise": 1}
    assert found(node, kinds=("enterprise",)) == ["claims"]
    assert sorted(found(node, providers=(BUREAU.did,))) == ["births", "visits"]
    (hit,) = node.federation.search(Search(providers=(INSURER.did,)))["hits"]
    assert (hit["provider_name"], hit["url"]) == ("Insurer", "https://insurer.example")


def test_a_catalogue_takes_the_place_of_the_one_before(node: Node) -> None:
    node.federation.keep(BUREAU.did, [VISITS, CLAIMS], 100.0)
    changed = VISITS.model_copy(update={"title": "Visits to clinics"})
    node.federation.keep(BUREAU.did, [changed, dataset("births")], 200.0)
    hits = {one["dataset"]["@id"]: one for one in node.federation.search(Search())["hits"]}
    assert hits.keys() == {"visits", "births"}
    assert (hits["visits"]["first_seen_at"], hits["visits"]["changed_at"]) == (100.0, 200.0)
    node.federation.keep(BUREAU.did, [changed], 300.0)
    (hit,) = node.federation.search(Search())["hits"]
    assert (hit["changed_at"], hit["seen_at"]) == (200.0, 300.0)


def test_what_cannot_be_read_is_kept_for_a_week_and_said_to_be_old(node: Node) -> None:
    node.federation.keep(BUREAU.did, [VISITS], 100.0)
    node.federation.failed(BUREAU.did, "the node is away", 100.0 + DAY_S)
    (hit,) = node.federation.search(Search())["hits"]
    assert (hit["error"], hit["seen_at"]) == ("the node is away", 100.0)
    node.federation.failed(BUREAU.did, "the node is away", 101.0 + FORGET_AFTER_S)
    assert found(node) == []
    node.federation.keep(BUREAU.did, [VISITS], 102.0 + FORGET_AFTER_S)
    (hit,) = node.federation.search(Search())["hits"]
    assert hit["error"] is None


def test_whoever_leaves_the_space_is_found_no_more(node: Node) -> None:
    node.federation.keep(BUREAU.did, [VISITS], 100.0)
    node.federation.keep(INSURER.did, [CLAIMS], 100.0)
    node.federation.take_over([INSURER])
    assert found(node) == ["claims"]
    # It left while it was being read.
    node.federation.keep(BUREAU.did, [VISITS], 200.0)
    assert found(node) == ["claims"]


def test_a_filter_that_is_none_is_named(node: Node) -> None:
    with pytest.raises(contracts.errors.ProtocolViolation, match=r"filter\[0\]\.leftOperand"):
        found(node, condition("dct:colour", "eq", "red"))


WORDS = ("visits", "Clinic", "门诊", "50%", "a_b", "İstanbul", "straße", "|health|")
DIVISIONS = ("44", "4403", "440300", "440305", "440305001", "4401", "somewhere")
DATASETS = st.builds(
    dict,
    title=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
    theme=st.one_of(
        st.none(),
        st.sampled_from(("health", "economy", "|health|")),
        st.lists(st.sampled_from(("health", "economy", "energy")), max_size=2),
    ),
    spatial=st.one_of(st.none(), st.sampled_from(DIVISIONS)),
    grade=st.one_of(st.none(), st.sampled_from(("general", "important", "core"))),
    columns=st.lists(st.sampled_from(("street", "VISITS")), max_size=2).map(
        lambda names: tuple(Column(name=name, role="group") for name in names)
    ),
)
CONDITIONS = st.one_of(
    st.builds(
        condition,
        st.just("ds:text"),
        st.just("hasPart"),
        st.lists(st.sampled_from((*WORDS, "STRASSE", "%", "_", "i")), min_size=1, max_size=2).map(
            " ".join
        ),
    ),
    st.builds(
        condition,
        st.just("dcat:theme"),
        st.sampled_from(("isAnyOf", "isNoneOf", "isAllOf")),
        st.lists(st.sampled_from(("health", "economy", "|health|")), min_size=1, max_size=2),
    ),
    st.builds(
        condition, st.just("dct:spatial"), st.just("isPartOf"), st.sampled_from(DIVISIONS[:-1])
    ),
    st.builds(
        condition,
        st.just("ds:grade"),
        st.sampled_from(("lteq", "gt", "eq", "neq")),
        st.sampled_from(("general", "important", "core")),
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DATASETS, max_size=6), st.lists(CONDITIONS, max_size=3))
def test_a_search_here_finds_what_the_filter_finds_at_the_provider(
    node: Node, described: list[dict[str, Any]], conditions: list[dict[str, Any]]
) -> None:
    shown = [dataset(f"d{number}", **fields) for number, fields in enumerate(described)]
    node.federation.keep(BUREAU.did, shown, float(next(MOMENTS)))
    wanted = parse_filter(tuple(conditions))
    expected = sorted(one.id for one in shown if wanted.matches(one))
    assert sorted(found(node, *conditions)) == expected


def test_a_list_of_participants_is_read_or_refused() -> None:
    listed = parse_participants(
        b'[{"did": "did:web:a", "kind": "government", "name": "A", "url": "https://a"}]', "op"
    )
    assert [one.did for one in listed] == ["did:web:a"]
    with pytest.raises(ProtocolViolation, match="list of participants"):
        parse_participants(b'{"did": 1}', "op")
