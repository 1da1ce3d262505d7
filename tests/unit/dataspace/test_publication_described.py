"""What a published dataset says of itself, and what its grade and classes bound in its offer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import delete

from connectors.errors import InputRejected as ConnectorRejected
from contracts.described import text_in
from contracts.messages import Dataset
from dataspace import inspection
from dataspace.catalog import Datasets, conditions_of
from dataspace.classes import Confirmation
from dataspace.description import formats_of
from dataspace.errors import InputRejected
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.publication import PolicyChange, Publication
from dataspace.store.tables import DatasetRow, DatasetVersionRow

ROWS = """resident_id,street,cell,born,condition,cents
11010519491231002X,440305001,C-17,1949-12-31,E11.9,120
440524188001010014,440305002,C-18,1990-01-01,J45.0,80
not a number,440306001,C-19,1985-05-05,I10,70
11010519491231002X,440305001,C-17,1949-12-31,E11.9,30
"""
IDENTIFIER = {"name": "resident_id", "role": "identifier", "canonicaliser": "resident-id/1"}
CENTS = {"name": "cents", "role": "value"}
STREET = {"name": "street", "role": "group"}
CONDITION = {"name": "condition", "role": "group"}
TERMS = {
    "computations": ["psi-cardinality/1"],
    "purposes": ["research"],
    "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
}
PROFILE = "https://w3id.org/city-dataspace/ns/v1"
PULL = "HttpData-PULL"


@pytest.fixture(scope="module")
def only_node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    values = {
        "name": "Bureau",
        "kind": "government",
        "url": "http://127.0.0.1:8001",
        "operator": "http://127.0.0.1:8000",
    }
    return Node(create_home(tmp_path_factory.mktemp("described") / "home", values))


@pytest.fixture
def node(only_node: Node) -> Iterator[Node]:
    """The module's node, without datasets again after every test."""
    yield only_node
    with only_node.store.transaction() as tx:
        for table in (DatasetRow, DatasetVersionRow):
            tx.exec(delete(table))


@pytest.fixture
def datasets(node: Node) -> Datasets:
    return node.datasets


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "residents.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


@pytest.fixture
def personal(file: Path, tmp_path: Path) -> str:
    consents = tmp_path / "consents.jsonl"
    consents.write_text("", encoding="utf-8")
    return f"personal+file:{file}?consents={consents}&subject=resident_id"


def publication(source: Path | str, **changes: Any) -> Publication:
    fields: dict[str, Any] = {
        "id": "residents",
        "title": "Residents",
        "source": str(source),
        "columns": [IDENTIFIER, CENTS],
        "terms": TERMS,
        **changes,
    }
    return Publication(**fields)


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*permissions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "profile": PROFILE,
        "permission": [{"action": "use", "constraint": one} for one in permissions],
    }


ROWS_MAY_LEAVE = clause("ds:computation", "isAnyOf", [PULL])
APPROVED = clause("ds:approval", "eq", "required")


def codes(made: dict[str, Any]) -> list[str]:
    return [one["code"] for one in made["remarks"]]


# ---- what it says -------------------------------------------------------------------------------


def test_a_dataset_says_field_place_frequency_quality_and_classes_in_both_languages(
    node: Node, file: Path
) -> None:
    made = node.datasets.publish(
        publication(
            file,
            title_zh="居民登记",
            description="Registered residents",
            description_zh="登记居民",
            theme="grassroots-governance",
            division="440305",
            frequency="daily",
            blocks={"division": "street", "grid": "cell"},
            legal_basis="statutory-duty",
        )
    )
    shown = made["dataset"]
    assert shown["dct:title"][1] == {"@language": "zh", "@value": "居民登记"}
    assert text_in(Dataset.model_validate(shown).description, "zh") == "登记居民"
    assert (shown["dcat:theme"], shown["dct:spatial"]) == ("grassroots-governance", "440305")
    assert shown["dct:accrualPeriodicity"] == "daily"
    assert shown["dcat:version"] == node.datasets.all()[0].content_version
    assert shown["ds:blocks"] == {"ds:division": "street", "ds:grid": "cell"}
    assert (shown["ds:classification"], shown["ds:legalBasis"]) == ("proposed", "statutory-duty")
    assert [one["ds:class"] for one in shown["ds:columns"]] == ["identifier", "business"]
    # Four rows, three of them valid: strangers are told neither.
    assert set(shown["ds:quality"][0].values()) == {"resident_id", 0}
    assert made["quality"][0]["valid"] == 3
    assert "11010519491231002X" not in str(shown)


def test_the_node_keeps_conditions_schema_quality_and_the_first_version(
    node: Node, file: Path
) -> None:
    where = [{"column": "street", "comparison": "startsWith", "values": 440305}]
    node.datasets.publish(publication(file, where=where))
    kept = node.datasets.all()[0]
    assert conditions_of(kept)[0].values == ("440305",)
    assert kept.source_schema[0] == ["resident_id", "string"]
    assert len(kept.source_schema) == 6
    assert (kept.quality[0]["rows"], kept.quality[0]["duplicates"]) == (3, 1)
    assert "examples" not in kept.quality[0]
    with node.store.transaction() as tx:
        version = tx.get_one(DatasetVersionRow, ("residents", 1))
    assert version.content_version == kept.content_version
    assert kept.checked_at == version.noticed_at


def test_groups_and_figures_are_those_of_the_rows_that_meet_the_conditions(
    datasets: Datasets, file: Path
) -> None:
    where = [{"column": "cents", "comparison": "eq", "values": ["70"]}]
    made = datasets.publish(publication(file, columns=[STREET, CENTS], where=where))
    assert made["dataset"]["ds:columns"][0]["ds:values"] == ["440306001"]


def test_a_blank_group_is_refused_with_its_row_and_kept_out_by_a_condition(
    datasets: Datasets, file: Path
) -> None:
    file.write_text("street,cents\nnorth,1\n　,2\nsouth,3\n,4\n", encoding="utf-8")
    with pytest.raises(InputRejected, match="column street, row 2: the cell is blank") as refused:
        datasets.publish(publication(file, columns=[STREET, CENTS]))
    assert "where" in str(refused.value.remedy)
    where = [{"column": "street", "comparison": "isAnyOf", "values": ["north", "south"]}]
    made = datasets.publish(publication(file, columns=[STREET, CENTS], where=where))
    assert made["dataset"]["ds:columns"][0]["ds:values"] == ["north", "south"]


def test_a_source_is_read_once_however_many_columns_are_published(
    datasets: Datasets, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[list[str]] = []
    plain = inspection.batches

    def counted(source: Any, columns: Any, *others: Any) -> Any:
        scans.append(list(columns))
        return plain(source, columns, *others)

    monkeypatch.setattr(inspection, "batches", counted)
    blocks = {"division": "street"}
    datasets.publish(publication(file, columns=[IDENTIFIER, CENTS, STREET], blocks=blocks))
    assert scans == [["resident_id", "cents", "street"]]


def test_a_dataset_with_nothing_more_to_say_says_what_it_said_before(
    datasets: Datasets, file: Path
) -> None:
    shown = datasets.publish(publication(file))["dataset"]
    assert shown["dct:title"] == "Residents"
    absent = ("dct:description", "dcat:theme", "dct:spatial", "dct:accrualPeriodicity", "ds:blocks")
    assert not [name for name in (*absent, "ds:legalBasis") if name in shown]


def test_of_data_under_consent_no_figures_are_told(datasets: Datasets, personal: str) -> None:
    made = datasets.publish(publication(personal))
    assert "ds:quality" not in made["dataset"]
    assert made["quality"] is None
    assert datasets.all()[0].quality == []
    assert [one["class"] for one in made["classes"]] == ["identifier", "business"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"theme": "sports"}, "theme: there is no 'sports'"),
        ({"frequency": "now and then"}, "frequency: there is no"),
        ({"legal_basis": "because"}, "legal_basis: there is no"),
        ({"division": "深圳"}, "division: expected a GB/T 2260 code"),
        ({"division": "44030"}, "division: expected a GB/T 2260 code"),
        ({"blocks": {}}, "blocks: expected the column"),
        ({"blocks": {"division": "born"}}, "most cells of column born are no codes of divisions"),
        (
            {"where": [{"column": "street", "comparison": "eq", "values": ["999"]}]},
            "no row of residents.csv meets the conditions",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_a_remedy_and_nothing_is_kept(
    datasets: Datasets, file: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputRejected, match=told) as refused:
        datasets.publish(publication(file, **changes))
    assert refused.value.remedy
    assert datasets.all() == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blocks": {"grid": "sell"}}, "sell"),
        ({"where": [{"column": "sreet", "comparison": "eq", "values": ["1"]}]}, "street"),
        (
            {"where": [{"column": "cents", "comparison": "eq", "values": ["1", "2"]}]},
            "a condition eq on column cents has 2 values",
        ),
    ],
)
def test_columns_of_conditions_and_blocks_are_columns_of_the_source(
    datasets: Datasets, file: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConnectorRejected, match=told):
        datasets.publish(publication(file, **changes))
    assert datasets.all() == []


def test_a_failure_at_the_last_step_leaves_neither_dataset_nor_version(
    node: Node, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the log is broken")

    monkeypatch.setattr(node.evidence, "record", broken)
    with pytest.raises(RuntimeError):
        node.datasets.publish(publication(file))
    assert node.datasets.all() == []
    with node.store.transaction() as tx:
        assert tx.get(DatasetVersionRow, ("residents", 1)) is None


# ---- grades -------------------------------------------------------------------------------------


def test_terms_for_important_data_ask_for_a_persons_approval(
    datasets: Datasets, file: Path
) -> None:
    made = datasets.publish(publication(file, grade="important"))
    assert APPROVED in made["dataset"]["hasPolicy"][0]["permission"][0]["constraint"]


@pytest.mark.parametrize(
    "permissions",
    [
        [[]],
        [[APPROVED], []],
        [[{"or": [APPROVED, clause("purpose", "eq", "research")]}]],
        [[clause("ds:approval", "neq", "required")]],
    ],
    ids=["no clause", "not in every permission", "only one way", "its opposite"],
)
def test_a_policy_for_important_data_without_approval_is_refused(
    datasets: Datasets, file: Path, permissions: list[list[dict[str, Any]]]
) -> None:
    asked = policy(*permissions)
    with pytest.raises(InputRejected, match=r"approv|approval") as refused:
        datasets.publish(publication(file, grade="important", terms=None, policy=asked))
    assert refused.value.remedy
    assert datasets.all() == []


@pytest.mark.parametrize(
    "constraint",
    [
        APPROVED,
        {"and": [APPROVED, clause("purpose", "eq", "research")]},
        {
            "or": [
                {"and": [APPROVED, clause("purpose", "eq", "research")]},
                {"and": [APPROVED, clause("purpose", "eq", "planning")]},
            ]
        },
    ],
    ids=["alone", "and", "in every way"],
)
def test_a_policy_that_always_waits_for_a_person_is_one_for_important_data(
    datasets: Datasets, file: Path, constraint: dict[str, Any]
) -> None:
    asked = policy([constraint])
    datasets.publish(publication(file, grade="important", terms=None, policy=asked))
    with pytest.raises(InputRejected, match="approv"):
        datasets.change_policy("residents", PolicyChange(policy=policy([])))


def test_a_grade_below_the_proposed_one_is_remarked_on(
    datasets: Datasets, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.classification.MANY_PEOPLE", 3)
    made = datasets.publish(publication(file))
    assert made["proposed_grade"]["grade"] == "important"
    assert codes(made) == ["grade-lowered"]
    assert "系统建议为重要" in made["remarks"][0]["sentence_zh"]


# ---- sensitive columns and rows that leave ------------------------------------------------------


def test_a_sensitive_column_needs_consent_or_another_ground_in_law(
    datasets: Datasets, file: Path, personal: str
) -> None:
    columns = [IDENTIFIER, CONDITION]
    with pytest.raises(InputRejected, match="column condition holds sensitive personal") as refused:
        datasets.publish(publication(file, columns=columns))
    assert "public-health-emergency" in str(refused.value.remedy)
    with pytest.raises(InputRejected, match="keeps no consents, so consent cannot be the legal"):
        datasets.publish(publication(file, columns=columns, legal_basis="consent"))
    assert datasets.all() == []
    datasets.publish(publication(file, columns=columns, legal_basis="public-health-emergency"))
    datasets.publish(publication(personal, id="under-consent", columns=columns))


def test_a_class_below_the_proposed_one_is_remarked_on_and_shown_to_the_owner(
    datasets: Datasets, file: Path
) -> None:
    columns = [IDENTIFIER, {**CONDITION, "class": "quasi-identifier"}]
    made = datasets.publish(publication(file, columns=columns))
    assert codes(made) == ["class-lowered"]
    remark = made["remarks"][0]
    assert "more than half of the cells are codes of diseases" in remark["sentence"]
    assert "疾病编码" in remark["sentence_zh"]
    assert made["dataset"]["ds:columns"][1]["ds:class"] == "quasi-identifier"
    assert "proposed" not in str(made["dataset"]["ds:columns"])
    told = datasets.overview(datasets.all()[0])["classes"][1]
    assert (told["class"], told["lowered"]) == ("quasi-identifier", True)
    assert told["proposed"]["class"] == "sensitive-personal"


def rows_leave(source: Path | str, *clauses: dict[str, Any], **changes: Any) -> Publication:
    asked = policy([ROWS_MAY_LEAVE, *clauses])
    fields: dict[str, Any] = {"formats": [PULL], "confirmed": True, **changes}
    return publication(source, terms=None, policy=asked, **fields)


def test_a_column_in_two_roles_is_of_the_more_delicate_class(
    datasets: Datasets, file: Path
) -> None:
    columns = [{**STREET, "role": "identifier", "class": "identifier"}, STREET]
    with pytest.raises(InputRejected, match="column street are about people"):
        datasets.publish(rows_leave(file, columns=columns))


def test_no_row_leaves_before_a_person_has_confirmed_the_classes(
    datasets: Datasets, file: Path
) -> None:
    with pytest.raises(InputRejected, match="when a person has confirmed the classes"):
        datasets.publish(rows_leave(file, columns=[STREET, CENTS], confirmed=False))
    made = datasets.publish(rows_leave(file, columns=[STREET, CENTS]))
    assert made["dataset"]["ds:classification"] == "confirmed"
    assert [one["format"] for one in made["dataset"]["distribution"]] == [PULL]


def test_rows_about_people_leave_under_consent_or_on_a_ground_in_law(
    datasets: Datasets, file: Path
) -> None:
    with pytest.raises(InputRejected, match="column resident_id are about people"):
        datasets.publish(rows_leave(file))
    datasets.publish(rows_leave(file, legal_basis="contract"))


@pytest.mark.parametrize("rule", ["drop", "pseudonym", "mask(3,4)"])
def test_identifiers_leave_covered_unless_the_ground_is_named(
    datasets: Datasets, personal: str, rule: str
) -> None:
    consent = clause("ds:consent", "eq", "required")
    with pytest.raises(InputRejected, match="names people, and rows would leave") as refused:
        datasets.publish(rows_leave(personal, consent))
    assert "resident_id:drop" in str(refused.value.remedy)
    shown = clause("ds:release", "isAllOf", ["resident_id:prefix(6)"])
    with pytest.raises(InputRejected, match="names people"):
        datasets.publish(rows_leave(personal, consent, shown))
    covered = clause("ds:release", "isAllOf", [f"resident_id:{rule}"])
    datasets.publish(rows_leave(personal, consent, covered))
    datasets.publish(rows_leave(personal, consent, id="named", legal_basis="consent"))


# ---- a person confirms --------------------------------------------------------------------------


def test_a_person_confirms_the_classes_and_the_catalogue_and_the_evidence_say_so(
    node: Node, file: Path
) -> None:
    node.datasets.publish(publication(file))
    before = node.evidence.size()
    asked = Confirmation(classes={"cents": "open"}, by="李雷")
    made = node.datasets.confirm("residents", asked)
    assert made["dataset"]["ds:classification"] == "confirmed"
    assert made["dataset"]["ds:columns"][1]["ds:class"] == "open"
    assert codes(made) == ["class-lowered"]
    assert node.evidence.size() == before + 1
    entry = node.evidence.entry(before).body
    assert b'"outcome":"classified"' in entry
    # A person's name is in the owner's view alone.
    assert "李雷".encode() not in entry
    assert "李雷" not in str(made["dataset"])
    assert {one["confirmed_by"] for one in made["classes"]} == {"李雷"}


def test_a_confirmation_that_the_offer_does_not_fit_changes_nothing(
    datasets: Datasets, file: Path
) -> None:
    datasets.publish(publication(file))
    with pytest.raises(InputRejected, match="has no column 'cent'"):
        datasets.confirm("residents", Confirmation(classes={"cent": "open"}, by="Li"))
    with pytest.raises(InputRejected, match="column cents holds sensitive personal data"):
        datasets.confirm("residents", Confirmation(classes={"cents": "sensitive-personal"}, by="L"))
    kept = datasets.all()[0]
    assert kept.classification == "proposed"
    assert kept.columns[1]["class"] == "business"
    datasets.confirm(
        "residents",
        Confirmation(classes={"cents": "sensitive-personal"}, by="L", legal_basis="contract"),
    )
    assert datasets.all()[0].legal_basis == "contract"


def test_formats_are_switched_on_after_the_confirmation(datasets: Datasets, file: Path) -> None:
    datasets.publish(publication(file, columns=[STREET, CENTS]))
    rows = PolicyChange(policy=policy([ROWS_MAY_LEAVE]), formats=(PULL,))
    with pytest.raises(InputRejected, match="confirmed the classes"):
        datasets.change_policy("residents", rows)
    datasets.confirm("residents", Confirmation(by="Li"))
    datasets.change_policy("residents", rows)
    assert formats_of(datasets.all()[0]) == (PULL,)


def test_rows_of_a_dataset_from_before_there_were_classes_wait_for_the_confirmation(
    node: Node, datasets: Datasets, file: Path
) -> None:
    datasets.publish(rows_leave(file, legal_basis="contract"))
    with node.store.transaction() as tx:
        old = tx.get_one(DatasetRow, "residents")
        plain = ("name", "role", "canonicaliser", "scale", "values")
        old.columns = [{name: one[name] for name in plain} for one in old.columns]
        old.classification, old.legal_basis = "proposed", None
        tx.add(old)
    shown = datasets.describe(datasets.all()[0]).to_json()
    assert "ds:classification" not in shown
    assert formats_of(datasets.all()[0]) == ()
    with pytest.raises(InputRejected, match="about people"):
        datasets.confirm("residents", Confirmation(by="Li"))
    datasets.confirm("residents", Confirmation(by="Li", legal_basis="contract"))
    assert formats_of(datasets.all()[0]) == (PULL,)
