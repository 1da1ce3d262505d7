"""How a dataset describes itself on the wire, in our words and in those of other makes of node."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.described import (
    Blocks,
    Column,
    ColumnQuality,
    TaggedText,
    all_texts,
    in_languages,
    names_in,
    rounded_down,
    text_in,
)
from contracts.errors import ProtocolViolation
from contracts.messages import DSP_CONTEXT, Dataset, Distribution, parse
from contracts.odrl import Offer, Permission
from contracts.profile import context_document
from contracts.vocabulary import CLASSES, FREQUENCIES, LEGAL_BASES, THEMES

OFFER = Offer(id="offer:1", permission=(Permission(action="use"),))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(min_value=0, max_value=2**40)


def dataset(**fields: Any) -> Dataset:
    return Dataset(
        id="d",
        has_policy=(OFFER,),
        distribution=(Distribution(format="psi/1", access_service="urn:service"),),
        **fields,
    )


def received(**terms: Any) -> Dataset:
    return parse(Dataset, json.dumps({**dataset().to_json(), **terms}).encode())


def test_a_text_in_two_languages_is_tagged_and_one_in_one_language_is_plain() -> None:
    assert dataset(title=in_languages("Residents", "")).to_json()["dct:title"] == "Residents"
    assert dataset(title=in_languages("Residents", "居民")).to_json()["dct:title"] == [
        {"@language": "en", "@value": "Residents"},
        {"@language": "zh", "@value": "居民"},
    ]
    assert dataset(title=in_languages("", "居民")).to_json()["dct:title"] == [
        {"@language": "zh", "@value": "居民"}
    ]
    assert "dct:title" not in dataset(title=in_languages("", "")).to_json()


@settings(max_examples=40)
@given(
    title=st.tuples(WORDS, WORDS),
    description=st.tuples(WORDS, WORDS),
    theme=st.sampled_from([None, *THEMES]),
    figures=st.lists(NUMBERS, min_size=5, max_size=5),
    column_class=st.sampled_from([None, *CLASSES]),
)
def test_a_description_reads_back_as_it_was(
    title: tuple[str, str],
    description: tuple[str, str],
    theme: str | None,
    figures: list[int],
    column_class: str | None,
    schema_faults: Any,
) -> None:
    rows, valid, blank, invalid, duplicates = figures
    made = dataset(
        title=in_languages(*title),
        description=in_languages(*description),
        theme=theme,
        spatial="440305",
        frequency="daily",
        version="3",
        grade="general",
        classification="confirmed",
        legal_basis="contract",
        columns=(Column(name="id", role="identifier", column_class=column_class),),
        blocks=Blocks(division="street", grid="cell"),
        quality=(
            ColumnQuality(
                name="id",
                rows=rows,
                valid=valid,
                blank=blank,
                invalid=invalid,
                duplicates=duplicates,
            ),
        ),
    )
    assert schema_faults("Dataset", made.to_json()) == []
    again = parse(Dataset, made.to_bytes())
    assert again.to_json() == made.to_json()
    assert again.to_bytes() == made.to_bytes()
    assert text_in(again.title, "zh") == (title[1] or title[0])


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("plain", ("plain",)),
        ({"@value": "one", "@language": "en"}, ("one",)),
        (["plain", {"@value": "标题", "@language": "zh-Hans"}], ("plain", "标题")),
        ([{"@value": "untagged"}], ("untagged",)),
    ],
)
def test_a_peers_title_is_read_in_every_form_of_json_ld(written: Any, texts: tuple[str]) -> None:
    assert all_texts(received(**{"dct:title": written}).title) == texts


@pytest.mark.parametrize("written", [5, [], [5], {"@language": "en"}, [{"@value": 5}], ["x"] * 33])
def test_a_title_that_is_no_text_is_a_violation(written: Any) -> None:
    with pytest.raises(ProtocolViolation, match="dct:title"):
        received(**{"dct:title": written})


def test_what_other_makes_say_in_dcat_terms_stays_as_they_said_it() -> None:
    theirs: dict[str, Any] = {
        "dcat:theme": [{"@id": "http://publications.europa.eu/resource/authority/data-theme/HEAL"}],
        "dct:spatial": {"@type": "dct:Location", "rdfs:label": "Guangdong"},
        "dct:accrualPeriodicity": {"@id": "urn:freq"},
        "dcat:version": 3,
        "dcat:keyword": ["a", {"@value": "b"}],
    }
    read = received(**theirs)
    assert {name: read.to_json()[name] for name in theirs} == theirs
    assert names_in(read.theme) == ("HEAL",)
    assert names_in(read.spatial) == ()


@pytest.mark.parametrize("term", ["ds:blocks", "ds:quality", "ds:columns", "ds:legalBasis"])
def test_our_own_terms_have_one_form(term: str) -> None:
    with pytest.raises(ProtocolViolation, match=term):
        received(**{term: 5})
    with pytest.raises(ProtocolViolation, match="ds:rows"):
        received(**{"ds:quality": [{"ds:name": "id"}]})


def test_a_language_is_found_under_its_regional_name_and_else_the_first_is_taken() -> None:
    texts = (TaggedText(value="Titre", language="fr"), TaggedText(value="标题", language="zh-Hans"))
    assert text_in(texts, "zh") == "标题"
    assert text_in(texts, "en") == "Titre"
    assert text_in("plain", "zh") == "plain"
    assert text_in(None, "zh") == ""


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (0, 0),
        (9, 0),
        (47, 40),
        (99, 90),
        (100, 100),
        (109, 100),
        (987, 980),
        (1_234_567, 1_200_000),
    ],
)
def test_numbers_of_rows_are_told_rounded_down(rows: int, told: int) -> None:
    assert rounded_down(rows) == told


@given(NUMBERS)
def test_rounding_down_never_tells_more_rows_than_there_are_and_little_less(rows: int) -> None:
    told = rounded_down(rows)
    assert rows - max(10, rows // 10) < told <= rows
    assert rounded_down(told) == told


@pytest.mark.parametrize(
    "registry",
    [THEMES, FREQUENCIES, LEGAL_BASES, CLASSES],
    ids=["theme", "frequency", "basis", "class"],
)
def test_every_word_of_a_vocabulary_has_a_name_in_both_languages(registry: Any) -> None:
    for name, term in registry.items():
        assert name == term.name
        assert term.label_en
        assert any("一" <= letter <= "鿿" for letter in term.label_zh)
    labels = [term.label_zh for term in registry.values()]
    assert len(set(labels)) == len(labels)


def test_there_are_the_fourteen_fields_of_a_citys_data() -> None:
    assert len(THEMES) == 14
    assert THEMES["culture-tourism-sports"].label_zh == "文旅体育"


def test_the_context_makes_iris_of_the_words_under_dcats_terms() -> None:
    terms = context_document()["@context"]
    theme, frequency = terms["dcat:theme"], terms["dct:accrualPeriodicity"]
    assert theme["@id"] == "http://www.w3.org/ns/dcat#theme"
    assert theme["@context"]["@vocab"] == "https://w3id.org/city-dataspace/ns/v1/theme/"
    assert frequency["@id"] == "http://purl.org/dc/terms/accrualPeriodicity"
    assert {theme["@type"], frequency["@type"]} == {"@vocab"}
    assert DSP_CONTEXT in dataset().to_json()["@context"]
