"""What one node's catalogue shows to others over the wire: found, paged, hidden, changed, gone."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataspace.client import ApiError, Refused
from dataspace.identity.did import did_of_key
from dataspace.identity.keys import SigningKey
from dataspace.identity.tokens import Identity, issue_credential, issue_token
from dataspace.membership import Application, apply_for_membership
from dataspace.settings import ParticipantKind

from .conftest import City

CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"
PROFILE = "https://w3id.org/city-dataspace/ns/v1"
COLUMNS = [{"name": "name", "role": "identifier", "canonicaliser": "text/1"}]
MANY = 130

Ask = Callable[..., httpx2.Response]


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*clauses: dict[str, Any]) -> dict[str, Any]:
    return {"profile": PROFILE, "permission": [{"action": "use", "constraint": list(clauses)}]}


COUNTING = clause("ds:computation", "isAnyOf", ["psi-cardinality/1"])
FOR_GOVERNMENT = clause("ds:recipientRole", "isAnyOf", ["government"])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalogue") / "few.csv"
    file.write_text("name\nann\nbob\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def shelf(city: City, few: Path) -> Iterator[list[str]]:
    """Many small datasets of the insurer, withdrawn again when the module has ended."""
    client = city.node("insurer").client
    names = [f"shelf-{number:03}" for number in range(MANY)]
    for name in names:
        client.publish(name, few, COLUMNS, title=f"货架 {name}", policy=policy(COUNTING))
    yield names
    for name in names:
        client.call("POST", f"/api/datasets/{name}/withdrawal")


@pytest.fixture
def member(city: City, http: httpx2.Client) -> Callable[..., Callable[[str], dict[str, str]]]:
    """A member of any kind, by a credential of the operator; gives headers for a DID."""
    operator = city.space.operator
    issuer = Identity.of(operator.did, operator.home.signing_key())

    def make(kind: str, *zones: str) -> Callable[[str], dict[str, str]]:
        key = Ed25519PrivateKey.generate()
        own = Identity.of(did_of_key(SigningKey.of(key).jwk), key)
        now = int(time.time())
        known = ParticipantKind(kind)
        membership = issue_credential(issuer, subject=own.did, kind=known, name="m", now=now)
        if zones:
            # Who is in a zone stands on its list, so that one has to join.
            code = operator.client.invite(known, zones)
            asked = Application(name="m", kind=known, invitation=code)
            membership = apply_for_membership(http, operator.url, own, asked).credential

        def headers(audience: str) -> dict[str, str]:
            token = issue_token(own, audience=audience, now=int(time.time()), membership=membership)
            return {"authorization": f"Bearer {token}"}

        return headers

    return make


@pytest.fixture
def ask(city: City, http: httpx2.Client) -> Ask:
    """A catalogue request to the insurer, at its address or at a page's."""
    insurer = city.node("insurer")

    def request(
        who: Callable[[str], dict[str, str]],
        *wanted: Any,
        at: str = f"{insurer.url}/dsp/2025-1/catalog/request",
        method: str = "POST",
    ) -> httpx2.Response:
        body = {"@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": list(wanted)}
        content = {"json": body} if method == "POST" else {}
        return http.request(method, at, headers=who(insurer.did), **content)

    return request


def names_in(answer: httpx2.Response | dict[str, Any]) -> list[str]:
    body = answer.json() if isinstance(answer, httpx2.Response) else answer
    return [one["@id"] for one in body.get("dataset", [])]


def links(answer: httpx2.Response) -> dict[str, str]:
    return {link["rel"]: link["url"] for link in answer.links.values()}


# ---- filters ------------------------------------------------------------------------------------


def test_a_consumer_finds_datasets_by_words_columns_and_formats(
    city: City, shelf: list[str]
) -> None:
    url = city.node("insurer").url
    found = city.consumer.catalog(url, [clause("ds:text", "hasPart", "货架 12")])
    assert names_in(found) == [name for name in shelf if "12" in name]
    by_column = [clause("ds:canonicaliser", "eq", "resident-id/1"), clause("format", "eq", "psi/1")]
    found_by_column = names_in(city.consumer.catalog(url, by_column))
    assert "contracts" in found_by_column
    assert not set(shelf) & set(found_by_column)
    graver = names_in(city.consumer.catalog(url, [clause("ds:grade", "gt", "general")]))
    assert not {"contracts", *shelf} & set(graver)


def test_a_filter_in_another_language_is_a_bad_request_that_names_the_field(
    city: City, ask: Ask, member: Any
) -> None:
    answer = ask(member("consumer"), {"query": "SELECT *"})
    assert (answer.status_code, answer.json()["@type"]) == (400, "CatalogError")
    assert "filter[0].leftOperand is required" in answer.json()["reason"][0]
    with pytest.raises(ApiError, match=r"does not take this filter: .*filter\[0\].operator") as no:
        city.consumer.catalog(city.node("insurer").url, [clause("@id", "like", "a")])
    assert no.value.status == 400


# ---- pages --------------------------------------------------------------------------------------


def test_a_large_catalogue_comes_in_pages_and_a_consumer_reads_them_all(
    city: City, shelf: list[str]
) -> None:
    found = names_in(city.consumer.catalog(city.node("insurer").url))
    assert [name for name in found if name in shelf] == shelf
    assert found[0] == "contracts"


def test_pages_are_linked_in_both_directions_and_answer_post_and_get(
    shelf: list[str], ask: Ask, member: Any
) -> None:
    who = member("consumer")
    wanted = clause("ds:text", "hasPart", "shelf")
    first = ask(who, wanted)
    assert (first.status_code, names_in(first)) == (200, shelf[:100])
    assert set(links(first)) == {"next"}
    second = ask(who, wanted, at=links(first)["next"])
    assert names_in(second) == shelf[100:]
    assert set(links(second)) == {"previous"}
    assert names_in(ask(who, at=links(first)["next"], method="GET")) == shelf[100:]
    assert names_in(ask(who, at=links(second)["previous"], method="GET")) == shelf[:100]
    changed = ask(who, clause("@id", "eq", shelf[0]), at=links(first)["next"])
    assert (changed.status_code, changed.json()["@type"]) == (400, "CatalogError")


def test_a_page_is_for_the_one_who_asked_and_is_not_made_up(
    shelf: list[str], ask: Ask, member: Any
) -> None:
    first = links(ask(member("consumer")))["next"]
    for at in (
        first,
        first[:-8],
        f"{first.partition('=')[0]}=AAAA",
        f"{first.partition('?')[0]}?x",
    ):
        method = "GET" if at.endswith("x") else "POST"
        refused = ask(member("consumer"), at=at, method=method)
        assert (refused.status_code, refused.json()["@type"]) == (400, "CatalogError")
        assert "continuationToken" in refused.json()["reason"][0]


def test_a_page_is_compressed_for_whoever_takes_gzip(
    city: City, http: httpx2.Client, shelf: list[str], member: Any
) -> None:
    insurer, who = city.node("insurer"), member("consumer")
    for accepted, encoding in (("gzip", "gzip"), ("gzip;q=0, br", None), ("identity", None)):
        answer = http.post(
            f"{insurer.url}/dsp/2025-1/catalog/request",
            json={"@context": [CONTEXT], "@type": "CatalogRequestMessage"},
            headers={**who(insurer.did), "accept-encoding": accepted},
        )
        assert answer.headers.get("content-encoding") == encoding
        assert len(names_in(answer)) == 100


# ---- who sees what ------------------------------------------------------------------------------


def test_the_catalogue_lists_what_a_member_of_that_kind_and_zone_could_be_agreed_with(
    city: City, few: Path, ask: Ask, member: Any
) -> None:
    client = city.node("insurer").client
    for zone in ("qianhai", "harbour"):
        city.space.operator.client.call("POST", "/api/zones", {"name": zone, "title": zone})
    asking = [("consumer",), ("government",), ("enterprise", "qianhai", "harbour")]
    members = {who: member(*who) for who in asking}
    parks = clause("ds:recipientZone", "isAnyOf", ["qianhai"])
    approval = clause("ds:approval", "eq", "required")
    for name, clauses in (
        ("listed-government", [FOR_GOVERNMENT]),
        ("listed-qianhai", [parks]),
        ("listed-approval", [approval]),
    ):
        client.publish(name, few, COLUMNS, policy=policy(COUNTING, *clauses))
    listed = clause("ds:text", "hasPart", "listed")
    seen = {who: names_in(ask(one, listed)) for who, one in members.items()}
    assert seen == {
        ("consumer",): ["listed-approval"],
        ("government",): ["listed-government", "listed-approval"],
        ("enterprise", "qianhai", "harbour"): ["listed-qianhai", "listed-approval"],
    }
    own = {one["@id"]: one for one in client.call("GET", "/api/datasets")}
    hidden = own["listed-government"]["hidden_from"]
    assert "government" not in hidden
    assert hidden["consumer"]["clause"] == "permission[0].constraint[1]"
    assert "consumer" in hidden["consumer"]["reason"]
    assert own["listed-approval"]["hidden_from"] == {}


def test_what_is_not_listed_is_refused_by_its_clause_to_whoever_knows_its_name(
    city: City, few: Path
) -> None:
    insurer = city.node("insurer")
    insurer.client.publish("unlisted", few, COLUMNS, policy=policy(COUNTING, FOR_GOVERNMENT))
    assert "unlisted" not in names_in(city.consumer.catalog(insurer.url))
    with pytest.raises(Refused) as refused:
        city.consumer.negotiate(insurer.url, "unlisted")
    assert refused.value.clause == "permission[0].constraint[1]"


# ---- change and withdrawal ----------------------------------------------------------------------


def test_a_changed_policy_holds_for_new_agreements_and_not_for_old_ones(
    city: City, few: Path
) -> None:
    insurer = city.node("insurer")
    insurer.client.publish("changing", few, COLUMNS, policy=policy(COUNTING))
    old = city.consumer.negotiate(insurer.url, "changing")
    stricter = policy(COUNTING, clause("ds:minCohort", "gteq", "20"))
    changed = insurer.client.call("PUT", "/api/datasets/changing/policy", {"policy": stricter})
    assert changed["dataset"]["hasPolicy"][0]["@id"] == "offer:changing:2"
    assert [one["severity"] for one in changed["remarks"]] == ["note"]
    with pytest.raises(ApiError, match="has no offer"):
        city.consumer.negotiate(insurer.url, "changing", offer="offer:changing")
    new = city.consumer.negotiate(insurer.url, "changing")
    texts = {one["id"]: str(one["document"]) for one in city.consumer.agreements()}
    assert "ds:minCohort" in texts[new]
    assert "ds:minCohort" not in texts[old]


def test_a_withdrawn_dataset_serves_its_agreements_and_makes_no_new_ones(
    city: City, ask: Ask, member: Any
) -> None:
    insurer = city.node("insurer")
    columns = [{"name": "resident_id", "role": "identifier", "canonicaliser": "resident-id/1"}]
    insurer.client.publish("leaving", city.data / "contracts.csv", columns, policy=policy(COUNTING))
    city.agreements["leaving"] = city.consumer.negotiate(insurer.url, "leaving")
    insurer.client.call("POST", "/api/datasets/leaving/withdrawal")
    assert "leaving" not in names_in(city.consumer.catalog(insurer.url))
    found = city.compute("psi-cardinality/1", ["residents", "leaving"])
    assert found.value["count"] > 0
    with pytest.raises((ApiError, Refused)):
        city.consumer.negotiate(insurer.url, "leaving")
    at = f"{insurer.url}/dsp/2025-1/catalog/datasets"
    gone, never = (
        ask(member("consumer"), at=f"{at}/{name}", method="GET") for name in ("leaving", "never")
    )
    assert (gone.status_code, gone.json()["@type"]) == (404, "CatalogError")
    assert gone.text.replace("leaving", "…") == never.text.replace("never", "…")
    with pytest.raises(ApiError, match="no longer offered"):
        insurer.client.call("POST", "/api/datasets/leaving/withdrawal")


def test_a_policy_that_cannot_work_is_refused_with_the_part_to_change(
    city: City, few: Path
) -> None:
    client = city.node("insurer").client
    wrong = policy(COUNTING, clause("ds:minCohort", "gteq", "many"))
    with pytest.raises(ApiError, match=r"permission\[0\].constraint\[1\]") as refused:
        client.publish("wrong", few, COLUMNS, policy=wrong)
    assert refused.value.remedy == "change that part of the policy and send it again"
    template = {"use": ["compute-only"], "with": {"computations": ["psi/1"]}}
    body = {
        "id": "wrong",
        "title": "Wrong",
        "source": str(few),
        "columns": COLUMNS,
        "policy": template,
    }
    with pytest.raises(ApiError, match="purposes: expected a list of texts"):
        client.call("POST", "/api/datasets", body)
