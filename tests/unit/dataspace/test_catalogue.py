"""What a node offers, and to whom it shows it, page by page."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.classification import Grade
from connectors.errors import InputRejected as ConnectorRejected
from contracts import messages as dsp
from contracts.errors import InputRejected as ContractRejected
from contracts.odrl import Offer, Permission, agreement_from
from dataspace import catalog, catalog_pages
from dataspace.catalog import Datasets
from dataspace.catalog_pages import MAX_CURSOR_LETTERS, Cursor, CursorSeal, Place
from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.home import create_home
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.publication import PolicyChange, Publication, make_offer
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AgreementRow, DatasetRow

from .zone_examples import make_known, operators_identity, zone_list

NOW = datetime.now(UTC)
SOON, PAST = NOW + timedelta(days=30), NOW - timedelta(days=1)
GOVERNMENT = Member("did:web:bureau.example", ParticipantKind.GOVERNMENT, "Bureau")
ENTERPRISE = Member("did:web:firm.example", ParticipantKind.ENTERPRISE, "Firm")
PROFILE = "https://w3id.org/city-dataspace/ns/v1"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    values = {
        "name": "Bureau",
        "kind": "government",
        "url": "http://127.0.0.1:8001",
        "operator": "http://127.0.0.1:8000",
    }
    return Node(create_home(tmp_path / "home", values))


@pytest.fixture
def datasets(node: Node) -> Datasets:
    return node.datasets


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("name,district\nann,north\nbob,south\n", encoding="utf-8")
    return path


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*clauses: dict[str, Any], **more: Any) -> dict[str, Any]:
    permission = {"action": "use", "constraint": list(clauses)}
    return {"profile": PROFILE, "permission": [permission], **more}


COUNTING = clause("ds:computation", "isAnyOf", ["psi-cardinality/1"])


def publication(file: Path, **changes: Any) -> Publication:
    fields: dict[str, Any] = {
        "id": "people",
        "title": "People",
        "source": str(file),
        "columns": [{"name": "name", "role": "identifier"}, {"name": "district", "role": "group"}],
        "policy": policy(COUNTING),
        "confirmed": True,
        "legal_basis": "already-public",
        **changes,
    }
    return Publication(**fields)


def row(dataset: str, offer: Offer | dict[str, Any] | None = None, **changes: Any) -> DatasetRow:
    if not isinstance(offer, Offer):
        offer = Offer.model_validate({"@id": f"offer:{dataset}", **(offer or policy(COUNTING))})
    fields: dict[str, Any] = {
        "title": dataset,
        "source": "/nowhere.csv",
        "columns": [],
        "grade": "general",
        "offer": offer.to_json(),
        "content_version": "1",
        "created_at": 1.0,
        **changes,
    }
    return DatasetRow(id=dataset, **fields)


def store(node: Node, *rows: DatasetRow | AgreementRow) -> None:
    with node.store.transaction() as tx:
        for one in rows:
            tx.add(one)


def ids(shown: dsp.Catalog) -> list[str]:
    return [dataset.id for dataset in shown.dataset]


def walk(node: Node, peer: Member = GOVERNMENT, **options: Any) -> list[list[str]]:
    """The pages of the catalogue from the first to the last."""
    page = node.datasets.catalog(peer, **options)
    pages = [ids(page.catalog)]
    while page.next is not None:
        page = node.datasets.catalog(peer, cursor=page.next)
        pages.append(ids(page.catalog))
    return pages


# ---- publishing ---------------------------------------------------------------------------------


def test_a_dataset_is_published_under_ready_policies_with_remarks_on_them(
    datasets: Datasets, file: Path
) -> None:
    ready = {
        "use": ["compute-only", "approval"],
        "with": {
            "computations": ["psi-cardinality/1"],
            "purposes": ["research"],
            "min_cohort": 20,
            "not_after": SOON.isoformat(),
        },
    }
    made = datasets.publish(publication(file, policy=ready, grade="important"))
    shown = made["dataset"]
    assert shown["ds:grade"] == "important"
    assert [one["format"] for one in shown["distribution"]] == ["psi-cardinality/1"]
    assert shown["ds:columns"][1]["ds:values"] == ["north", "south"]
    constraints = shown["hasPolicy"][0]["permission"][0]["constraint"]
    assert clause("ds:approval", "eq", "required") in constraints
    assert made["quality"][0]["valid"] == 2
    assert made["remarks"] == []


def test_remarks_tell_what_is_worth_knowing_in_both_languages(
    datasets: Datasets, file: Path
) -> None:
    remarks = datasets.publish(publication(file))["remarks"]
    assert [(one["severity"], one["code"]) for one in remarks] == [("note", "no-end")]
    assert "no last moment" in remarks[0]["sentence"]
    assert "截止时间" in remarks[0]["sentence_zh"]


@pytest.mark.parametrize("personal", [True, False])
def test_terms_ask_for_consent_where_the_data_are_personal(file: Path, personal: bool) -> None:
    terms = {"computations": ["psi/1"], "purposes": ["research"], "not_after": SOON}
    asked = publication(file, policy=None, terms=terms)
    made = make_offer(asked, offer_id="offer:people", personal=personal, grade=Grade.GENERAL)
    offer = made.to_json()
    consent = clause("ds:consent", "eq", "required")
    assert (consent in offer["permission"][0]["constraint"]) is personal
    assert clause("ds:minCohort", "gteq", "20") in offer["permission"][0]["constraint"]


def test_a_description_too_large_for_a_page_is_refused(
    datasets: Datasets, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MAX_DESCRIPTION_BYTES", 1000)
    with pytest.raises(InputRejected, match=r"has 1\d+ bytes, more than 1000"):
        datasets.publish(publication(file, description="x" * 500))
    assert datasets.all() == []


@pytest.mark.parametrize("came", ["neither", "both"])
def test_what_is_allowed_is_said_in_exactly_one_way(
    datasets: Datasets, file: Path, came: str
) -> None:
    terms = {"computations": ["psi/1"], "purposes": ["research"], "not_after": SOON}
    ways = {"policy": None} if came == "neither" else {"terms": terms}
    with pytest.raises(InputRejected, match=f"{came} came"):
        datasets.publish(publication(file, **ways))
    assert datasets.all() == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (policy(clause("ds:colour", "eq", "red")), r"constraint\[0\]: Nobody here can judge"),
        (policy(clause("dateTime", "lteq", PAST.isoformat())), "time of use ended"),
        (policy(clause("ds:consent", "eq", "required")), "keeps no consents"),
        (policy(COUNTING, clause("ds:epsilonBudget", "lteq", "1")), "adds noise"),
        (policy(clause("ds:computation", "eq", "HttpData-PULL")), "No computation of this node"),
    ],
)
def test_a_policy_that_could_never_do_what_it_says_is_refused(
    datasets: Datasets, file: Path, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputRejected, match=told) as refused:
        datasets.publish(publication(file, policy=wrong))
    assert refused.value.remedy is not None
    assert datasets.all() == []


def test_a_policy_that_is_none_and_an_unknown_template_are_refused(
    datasets: Datasets, file: Path
) -> None:
    with pytest.raises(ContractRejected, match="permission"):
        datasets.publish(publication(file, policy={"permission": [{"constraint": []}]}))
    with pytest.raises(ContractRejected, match="open-data"):
        datasets.publish(publication(file, policy={"use": ["mine"]}))


# ---- formats in which rows leave ----------------------------------------------------------------


def test_formats_that_are_switched_on_stand_beside_the_computations(
    datasets: Datasets, file: Path
) -> None:
    allowed = clause("ds:computation", "isAnyOf", ["psi/1", "HttpData-PULL"])
    made = datasets.publish(publication(file, policy=policy(allowed), formats=("HttpData-PULL",)))
    formats = [one["format"] for one in made["dataset"]["distribution"]]
    assert formats == ["psi/1", "HttpData-PULL"]
    assert datasets.all()[0].formats == ["HttpData-PULL"]


def test_no_rows_leave_unless_a_format_is_switched_on(datasets: Datasets, file: Path) -> None:
    made = datasets.publish(publication(file, policy=policy()))
    formats = {one["format"] for one in made["dataset"]["distribution"]}
    assert "psi/1" in formats
    assert not {"HttpData-PULL", "HttpData-PUSH"} & formats


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"formats": ("psi/1",)}, "expected each of HttpData-PULL and HttpData-PUSH"),
        ({"formats": ("HttpData-PULL",) * 2}, "at most once"),
        ({"formats": ("HttpData-PULL",)}, "never lets the rows leave as HttpData-PULL: The comp"),
        (
            {
                "formats": ("HttpData-PUSH",),
                "policy": policy(clause("ds:minCohort", "gteq", "20")),
            },
            "never lets the rows leave as HttpData-PUSH: The minimum cohort",
        ),
        (
            {
                "formats": ("HttpData-PUSH",),
                "policy": policy(
                    prohibition=[
                        {
                            "action": "use",
                            "constraint": [clause("ds:computation", "eq", "HttpData-PUSH")],
                        }
                    ]
                ),
            },
            "never lets the rows leave as HttpData-PUSH: The policy prohibits",
        ),
        (
            {"formats": ("HttpData-PULL",), "policy": policy(), "grade": "important"},
            "computed on and never leave as rows",
        ),
    ],
)
def test_a_format_in_which_rows_could_never_leave_is_refused(
    datasets: Datasets, file: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputRejected, match=told):
        datasets.publish(publication(file, **changes))


def test_clauses_about_who_and_when_leave_the_format_to_them(
    datasets: Datasets, file: Path
) -> None:
    asked = policy(
        clause("ds:recipientRole", "eq", "government"),
        clause("dateTime", "lteq", SOON.isoformat()),
        clause("purpose", "eq", "research"),
        prohibition=[{"action": "use", "constraint": [clause("purpose", "eq", "marketing")]}],
    )
    made = datasets.publish(publication(file, policy=asked, formats=("HttpData-PUSH",)))
    assert made["dataset"]["distribution"][-1]["format"] == "HttpData-PUSH"


def test_core_data_are_never_offered(datasets: Datasets, file: Path) -> None:
    with pytest.raises(ConnectorRejected, match="never offered"):
        datasets.publish(publication(file, grade="core"))


# ---- changing and withdrawing -------------------------------------------------------------------


def test_a_changed_policy_is_a_new_offer_and_is_evidence(node: Node, file: Path) -> None:
    node.datasets.publish(publication(file))
    before = node.evidence.size()
    change = PolicyChange(policy=policy(clause("ds:computation", "isAnyOf", ["psi/1"])))
    made = node.datasets.change_policy("people", change)
    assert made["dataset"]["hasPolicy"][0]["@id"] == "offer:people:2"
    assert [one["format"] for one in made["dataset"]["distribution"]] == ["psi/1"]
    assert node.evidence.size() == before + 1
    again = node.datasets.change_policy("people", PolicyChange(policy=policy(COUNTING)))
    assert again["dataset"]["hasPolicy"][0]["@id"] == "offer:people:3"


def test_a_policy_that_forbids_the_formats_switched_on_does_not_replace_the_old(
    datasets: Datasets, file: Path
) -> None:
    datasets.publish(publication(file, policy=policy(), formats=("HttpData-PULL",)))
    with pytest.raises(InputRejected, match="never lets the rows leave"):
        datasets.change_policy("people", PolicyChange(policy=policy(COUNTING)))
    assert datasets.all()[0].offer["@id"] == "offer:people"
    datasets.change_policy("people", PolicyChange(policy=policy(COUNTING), formats=()))
    assert datasets.all()[0].formats == []


def test_a_withdrawn_dataset_is_offered_no_longer_and_its_id_is_not_used_again(
    node: Node, file: Path
) -> None:
    node.datasets.publish(publication(file))
    before = node.evidence.size()
    node.datasets.withdraw("people")
    assert ids(node.datasets.catalog(GOVERNMENT).catalog) == []
    assert node.evidence.size() == before + 1
    assert b'"outcome":"withdrawn"' in node.evidence.entry(before).body
    with pytest.raises(NotFound, match="no longer offered"):
        node.datasets.withdraw("people")
    with pytest.raises(NotFound, match="no longer offered"):
        node.datasets.change_policy("people", PolicyChange(policy=policy(COUNTING)))
    with pytest.raises(InputRejected, match="already withdrawn"):
        node.datasets.publish(publication(file))
    with node.store.transaction() as tx:
        # Running agreements go on reading it.
        assert node.datasets.get(tx, "people").withdrawn_at is not None


# ---- who sees it --------------------------------------------------------------------------------

PARKS = clause("ds:recipientZone", "isAnyOf", ["free-trade", "harbour"])
UNTIL_PAST = clause("dateTime", "lteq", PAST.isoformat())


@pytest.mark.parametrize(
    ("clauses", "government", "enterprise"),
    [
        ((COUNTING,), True, True),
        ((clause("ds:recipientRole", "isAnyOf", ["government"]),), True, False),
        ((PARKS,), False, True),
        ((UNTIL_PAST,), False, False),
        (({"and": [UNTIL_PAST, COUNTING]},), False, False),
        ((clause("dateTime", "gteq", SOON.isoformat()),), False, False),
        ((clause("ds:approval", "eq", "required"),), True, True),
        ((clause("purpose", "eq", "research"), clause("ds:minCohort", "gteq", "50")), True, True),
        ((clause("ds:grade", "eq", "important"),), False, False),
    ],
)
def test_a_peer_sees_what_it_could_be_agreed_with_now(
    node: Node, clauses: tuple[dict[str, Any], ...], government: bool, enterprise: bool
) -> None:
    one = row("people", policy(*clauses))
    store(node, one)
    operator = operators_identity()
    make_known(node, operator)
    node.zones.keep("free-trade", zone_list(operator, "free-trade", ENTERPRISE.did))
    node.zones.keep("harbour", zone_list(operator, "harbour"))
    for peer, sees in ((GOVERNMENT, government), (ENTERPRISE, enterprise)):
        assert node.datasets.visibility(one, peer).allowed is sees
        assert ids(node.datasets.catalog(peer).catalog) == (["people"] if sees else [])
        # Whoever knows its name may ask for it, to learn by negotiating what is in the way.
        assert node.datasets.shown(peer, "people").id == "people"


def test_an_offer_for_one_participant_is_shown_to_that_one(node: Node) -> None:
    store(node, row("people", {**policy(COUNTING), "assignee": ENTERPRISE.did}))
    assert ids(node.datasets.catalog(ENTERPRISE).catalog) == ["people"]
    assert ids(node.datasets.catalog(GOVERNMENT).catalog) == []


def test_what_is_offered_to_somebody_else_or_withdrawn_is_not_found_as_if_there_was_none(
    node: Node,
) -> None:
    store(node, row("theirs", {**policy(COUNTING), "assignee": GOVERNMENT.did}))
    store(node, row("gone", withdrawn_at=2.0))
    said = set()
    for name in ("theirs", "gone", "never"):
        with pytest.raises(NotFound) as refused:
            node.datasets.shown(ENTERPRISE, name)
        said.add((refused.value.sentence.replace(name, "…"), refused.value.remedy))
    assert len(said) == 1
    assert node.datasets.shown(GOVERNMENT, "theirs").id == "theirs"


def test_whoever_holds_an_agreement_sees_a_withdrawn_dataset_under_its_terms(node: Node) -> None:
    agreed = Offer(id="offer:old", permission=(Permission(action="use"),))
    document = agreement_from(
        agreed,
        agreement_id="urn:uuid:1",
        target="people",
        assigner=node.did,
        assignee=ENTERPRISE.did,
        timestamp="2026-01-01T00:00:00Z",
    )
    agreement = AgreementRow(
        id=document.id,
        role="PROVIDER",
        provider=node.did,
        consumer=ENTERPRISE.did,
        dataset="people",
        document=document.to_json(),
        document_h="0" * 64,
        negotiation="urn:uuid:2",
        finalized_at=1.0,
    )
    store(node, row("people", withdrawn_at=2.0), agreement)
    shown = node.datasets.shown(ENTERPRISE, "people").to_json()
    assert shown["hasPolicy"] == [
        {"@id": "urn:uuid:1", "@type": "Offer", "permission": [{"action": "use"}]}
    ]
    with pytest.raises(NotFound):
        node.datasets.shown(GOVERNMENT, "people")
    assert ids(node.datasets.catalog(ENTERPRISE).catalog) == []


def test_its_owner_sees_from_whom_a_dataset_is_hidden_and_why(node: Node) -> None:
    one = row("people", policy(clause("ds:recipientRole", "isAnyOf", ["government", "personal"])))
    shown = node.datasets.overview(one)
    assert set(shown["hidden_from"]) == {"operator", "enterprise", "consumer", "regulator"}
    assert shown["hidden_from"]["enterprise"]["clause"] == "permission[0].constraint[0]"
    assert "enterprise" in shown["hidden_from"]["enterprise"]["reason"]
    assert shown["withdrawn_at"] is None


# ---- pages --------------------------------------------------------------------------------------


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three, in batches of four, so that few rows show every boundary."""
    monkeypatch.setattr(catalog_pages, "PAGE_DATASETS", 3)
    monkeypatch.setattr(catalog_pages, "BATCH_ROWS", 4)


def many(count: int) -> list[DatasetRow]:
    # Many share a moment, so that the id decides.
    return [row(f"d{number:02}", created_at=float(number // 5)) for number in range(count)]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("count", [0, 1, 3, 4, 12, 13])
def test_the_pages_have_every_dataset_once_and_in_order(node: Node, count: int) -> None:
    store(node, *many(count))
    pages = walk(node)
    assert [name for page in pages for name in page] == [f"d{number:02}" for number in range(count)]
    assert all(len(page) == 3 for page in pages[:-1])
    assert len(pages) == max(1, -(-count // 3))


@pytest.mark.usefixtures("small_pages")
def test_previous_leads_back_over_the_same_pages(node: Node) -> None:
    store(node, *many(10))
    page = node.datasets.catalog(GOVERNMENT)
    assert page.previous is None
    forth = [ids(page.catalog)]
    while page.next is not None:
        page = node.datasets.catalog(GOVERNMENT, cursor=page.next)
        forth.append(ids(page.catalog))
    back = [forth[-1]]
    while page.previous is not None:
        page = node.datasets.catalog(GOVERNMENT, cursor=page.previous)
        back.append(ids(page.catalog))
    assert back == forth[::-1]
    assert page.next is not None
    assert ids(node.datasets.catalog(GOVERNMENT, cursor=page.next).catalog) == forth[1]


@pytest.mark.usefixtures("small_pages")
def test_a_filter_lasts_from_page_to_page_and_cannot_be_changed_on_the_way(node: Node) -> None:
    store(node, *many(20))
    wanted = (clause("ds:text", "hasPart", "d1"),)
    assert walk(node, written=wanted) == [
        ["d10", "d11", "d12"],
        ["d13", "d14", "d15"],
        ["d16", "d17", "d18"],
        ["d19"],
    ]
    cursor = node.datasets.catalog(GOVERNMENT, wanted).next
    again = node.datasets.catalog(GOVERNMENT, wanted, cursor).catalog
    assert ids(again) == ["d13", "d14", "d15"]
    with pytest.raises(ProtocolViolation, match="filter"):
        node.datasets.catalog(GOVERNMENT, (clause("@id", "eq", "d10"),), cursor)


@pytest.mark.usefixtures("small_pages")
def test_datasets_published_or_withdrawn_on_the_way_neither_repeat_nor_lose_others(
    node: Node,
) -> None:
    store(node, *many(8))
    page = node.datasets.catalog(GOVERNMENT)
    node.datasets.withdraw("d02")
    node.datasets.withdraw("d04")
    store(node, row("a-late-one", created_at=99.0))
    rest = []
    while page.next is not None:
        page = node.datasets.catalog(GOVERNMENT, cursor=page.next)
        rest += ids(page.catalog)
    assert rest == ["d03", "d05", "d06", "d07", "a-late-one"]


@pytest.mark.usefixtures("small_pages")
def test_hidden_datasets_between_visible_ones_leave_no_gap_in_the_pages(node: Node) -> None:
    rows = many(12)
    for one in rows[1::2]:
        one.offer = row(one.id, policy(clause("ds:recipientRole", "eq", "government"))).offer
    store(node, *rows)
    assert walk(node, ENTERPRISE) == [["d00", "d02", "d04"], ["d06", "d08", "d10"]]


@pytest.mark.usefixtures("small_pages")
def test_a_page_is_given_up_after_so_many_hidden_rows_and_leads_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_pages, "MAX_LOOKED_AT", 5)
    rows = many(12)
    for one in rows[:11]:
        one.offer = row(one.id, policy(clause("ds:recipientRole", "eq", "government"))).offer
    store(node, *rows)
    assert walk(node, ENTERPRISE) == [[], [], ["d11"]]


def test_a_page_of_large_datasets_has_fewer_and_one_that_is_larger_stands_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_pages, "PAGE_BYTES", 3000)
    rows = [row(f"d{number}", description="x" * 500) for number in range(4)]
    rows[2].description = "x" * 4000
    store(node, *rows)
    assert walk(node) == [["d0", "d1"], ["d2"], ["d3"]]


# ---- cursors ------------------------------------------------------------------------------------

CURSOR = Cursor(Place(1.25, "a-secret-dataset"), True, (clause("ds:text", "hasPart", "居民"),))


def test_a_cursor_opens_for_its_reader_and_under_the_same_secret_only() -> None:
    text = CursorSeal("secret").seal(CURSOR, reader="did:web:a")
    assert CursorSeal("secret").open(text, reader="did:web:a") == CURSOR
    for seal, reader in ((CursorSeal("secret"), "did:web:b"), (CursorSeal("other"), "did:web:a")):
        with pytest.raises(ProtocolViolation, match="continuationToken"):
            seal.open(text, reader=reader)


def test_a_cursor_says_nothing_and_differs_every_time() -> None:
    seal = CursorSeal("secret")
    text = seal.seal(CURSOR, reader="did:web:a")
    assert b"secret" not in base64.urlsafe_b64decode(text + "==")
    assert seal.seal(CURSOR, reader="did:web:a") != text


def test_a_cursor_of_the_largest_filter_is_short_enough_to_come_back() -> None:
    seal = CursorSeal("secret")
    largest = Cursor(Place(1.0, "d" * 64), False, ("居" * 660,))
    text = seal.seal(largest, reader="did:web:a")
    assert len(text) < MAX_CURSOR_LETTERS
    assert seal.open(text, reader="did:web:a") == largest


def test_a_cursor_that_was_touched_or_made_up_is_a_violation() -> None:
    seal = CursorSeal("secret")
    text = seal.seal(CURSOR, reader="did:web:a")
    flipped = [
        text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :] for at in range(len(text))
    ]
    made_up = ["", "x", "====", "居民", text[:-4], "A" * 40, text + "A" * MAX_CURSOR_LETTERS]
    # The last letter holds bits that belong to no byte.
    for wrong in [*flipped[:-1], *made_up]:
        with pytest.raises(ProtocolViolation, match="continuationToken"):
            seal.open(wrong, reader="did:web:a")
