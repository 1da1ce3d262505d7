"""The language in which our catalogues are searched.

The `filter` of a `CatalogRequestMessage` is an array in a language of the provider's choice, which
answers 400 to one it does not know (Dataspace Protocol 2025-1, catalogue HTTPS binding). Ours is an
array of at most 16 conditions, in all at most 2,048 bytes of JSON; a dataset is found if every one
holds:

    {"leftOperand": <field>, "operator": <operator>, "rightOperand": <text, or list of texts>}

- `@id`: the dataset's identifier. Operators of sets.
- `dct:title`, `dct:description`: as they are written, in any language. Operators of sets, and
  `hasPart`.
- `dcat:theme`: what field it is about, such as health. Operators of sets.
- `dct:spatial`: the division it is about (GB/T 2260 code). Operators of sets, and `isPartOf`: 4403
  finds 440305, and what belongs to that.
- `dct:accrualPeriodicity`: how often it changes, such as daily. Operators of sets.
- `ds:grade`: general, important or core. Operators of sets and of order.
- `ds:legalBasis`: why personal data in it may be processed, such as statutory-duty. Operators of
  sets.
- `format`: what it is offered for, such as psi/1 or HttpData-PULL. Operators of sets.
- `ds:name`, `ds:role`, `ds:class`, `ds:canonicaliser`: of its columns; each condition looks at all
  columns. Operators of sets.
- `ds:text`: identifier, title, description and column names together. `hasPart` only.

Operators are ODRL's. Of sets: `eq`, `isAnyOf` (one of the dataset's values is one of these), `neq`,
`isNoneOf` (none is), `isAllOf` (each of these is one of the dataset's), letter by letter. Of order:
`lt`, `lteq`, `gt`, `gteq`, from general to core. `hasPart`: every word of the right operand occurs,
in any order and inside longer words too; case and width do not matter (Unicode NFKC), and a text
without spaces, such as Chinese, is one word that occurs as it stands.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from contracts.comparison import compare, region_code
from contracts.described import all_texts, names_in
from contracts.errors import ProtocolViolation
from contracts.messages import Dataset
from contracts.odrl import Operator
from contracts.profile import GRADE_ORDER, ValueKind
from contracts.wire import WireModel, read_model, write_json

MAX_CONDITIONS: Final = 16
MAX_VALUES: Final = 32
MAX_LETTERS: Final = 500
MAX_WORDS: Final = 16
# It travels in the links from page to page, and proxies refuse long addresses.
MAX_FILTER_BYTES: Final = 2048


class FilterField(StrEnum):
    """What a condition may be about."""

    ID = "@id"
    TITLE = "dct:title"
    DESCRIPTION = "dct:description"
    THEME = "dcat:theme"
    DIVISION = "dct:spatial"
    FREQUENCY = "dct:accrualPeriodicity"
    GRADE = "ds:grade"
    LEGAL_BASIS = "ds:legalBasis"
    FORMAT = "format"
    NAME = "ds:name"
    ROLE = "ds:role"
    CLASS = "ds:class"
    CANONICALISER = "ds:canonicaliser"
    TEXT = "ds:text"


_LISTS: Final = (Operator.IS_ANY_OF, Operator.IS_NONE_OF, Operator.IS_ALL_OF)
_SETS: Final = (Operator.EQ, Operator.NEQ, *_LISTS)
_ORDER: Final = (Operator.LT, Operator.LTEQ, Operator.GT, Operator.GTEQ)
_OPERATORS: Final = {
    **dict.fromkeys(FilterField, _SETS),
    FilterField.TITLE: (*_SETS, Operator.HAS_PART),
    FilterField.DESCRIPTION: (*_SETS, Operator.HAS_PART),
    FilterField.DIVISION: (*_SETS, Operator.IS_PART_OF),
    FilterField.GRADE: (*_SETS, *_ORDER),
    FilterField.TEXT: (Operator.HAS_PART,),
}


def _verified_operand(written: object) -> object:
    values = written if isinstance(written, list | tuple) else [written]
    fits = all(isinstance(one, str) and 0 < len(one) <= MAX_LETTERS for one in values)
    if not fits or not 0 < len(values) <= MAX_VALUES:
        raise ValueError(
            f"expected a text or a list of 1 to {MAX_VALUES}, each of 1 to {MAX_LETTERS} letters"
        )
    return written


class Condition(WireModel):
    """One comparison; see this module's text for the fields and their operators."""

    model_config = ConfigDict(extra="forbid")

    left_operand: FilterField
    operator: Operator
    right_operand: Annotated[str | tuple[str, ...], BeforeValidator(_verified_operand)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        operators = _OPERATORS[self.left_operand]
        if self.operator not in operators:
            named = ", ".join(operators)
            raise ValueError(f"{self.left_operand} has the operators {named}")
        if self.operator not in _LISTS and not isinstance(self.right_operand, str):
            raise ValueError(f"{self.operator} expects one text as rightOperand")
        if self.left_operand is FilterField.GRADE and not set(self.values) <= set(GRADE_ORDER):
            raise ValueError(f"a grade is one of {', '.join(GRADE_ORDER)}")
        if self.operator is Operator.IS_PART_OF and region_code(self.values[0]) is None:
            raise ValueError("isPartOf expects a code of 2, 4, 6, 9 or 12 digits")
        if (
            self.operator is Operator.HAS_PART
            and not 0 < len(normal_words(self.values[0])) <= MAX_WORDS
        ):
            raise ValueError(f"hasPart expects one to {MAX_WORDS} words")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The right operand as a list; one text alone is a list of one."""
        operand = self.right_operand
        return (operand,) if isinstance(operand, str) else operand

    def holds(self, dataset: Dataset) -> bool:
        """Whether `dataset` is as the condition says."""
        found = _values_of(self.left_operand, dataset)
        if self.operator is Operator.HAS_PART:
            text = normalised("\n".join(found))
            return all(word in text for word in normal_words(self.values[0]))
        if self.operator is Operator.IS_PART_OF:
            return any(
                compare(ValueKind.REGION, self.operator, one, self.right_operand)
                for one in found
                if region_code(one) is not None
            )
        if self.operator in _ORDER:
            return any(
                compare(ValueKind.GRADE, self.operator, one, self.right_operand)
                for one in found
                if one in GRADE_ORDER
            )
        return compare(ValueKind.SET, self.operator, found, self.right_operand)


class CatalogFilter(WireModel):
    """Conditions that must all hold; none at all hold of every dataset."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=MAX_CONDITIONS, alias="filter")

    def matches(self, dataset: Dataset) -> bool:
        """Whether `dataset` is one that was asked for."""
        return all(condition.holds(dataset) for condition in self.conditions)


def parse_filter(written: tuple[JsonValue, ...]) -> CatalogFilter:
    """The filter that the `filter` of a catalogue request says.

    Raises ProtocolViolation naming the condition and the part of it that is not this language.
    """
    size = len(write_json({"filter": written}))
    if size > MAX_FILTER_BYTES:
        raise ProtocolViolation(f"filter: expected at most {MAX_FILTER_BYTES} bytes, got {size}")
    return read_model(CatalogFilter, {"filter": written})


def _values_of(field: FilterField, dataset: Dataset) -> tuple[str, ...]:
    """What the dataset has in `field`; nothing where it does not say."""
    return tuple(one for one in _READERS[field](dataset) if one is not None)


def _texts(dataset: Dataset) -> Iterator[str | None]:
    yield from (dataset.id, *all_texts(dataset.title), *all_texts(dataset.description))
    yield from (column.name for column in dataset.columns)


_READERS: Final[Mapping[FilterField, Callable[[Dataset], Iterable[str | None]]]] = {
    FilterField.ID: lambda dataset: (dataset.id,),
    FilterField.TITLE: lambda dataset: all_texts(dataset.title),
    FilterField.DESCRIPTION: lambda dataset: all_texts(dataset.description),
    FilterField.THEME: lambda dataset: names_in(dataset.theme),
    FilterField.DIVISION: lambda dataset: names_in(dataset.spatial),
    FilterField.FREQUENCY: lambda dataset: names_in(dataset.frequency),
    FilterField.GRADE: lambda dataset: (dataset.grade,),
    FilterField.LEGAL_BASIS: lambda dataset: (dataset.legal_basis,),
    FilterField.FORMAT: lambda dataset: (one.format for one in dataset.distribution),
    FilterField.NAME: lambda dataset: (column.name for column in dataset.columns),
    FilterField.ROLE: lambda dataset: (column.role for column in dataset.columns),
    FilterField.CLASS: lambda dataset: (column.column_class for column in dataset.columns),
    FilterField.CANONICALISER: lambda dataset: (one.canonicaliser for one in dataset.columns),
    FilterField.TEXT: _texts,
}


def searched_text(dataset: Dataset) -> str:
    """The text in which `ds:text` looks for words, `normalised`."""
    return normalised("\n".join(_values_of(FilterField.TEXT, dataset)))


def normalised(text: str) -> str:
    """The text as `hasPart` compares it: case and width do not matter."""
    # Folding case can undo the normal form, as in the Greek and the Lithuanian alphabet.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


# The same few words are looked for in every dataset.
@lru_cache(maxsize=256)
def normal_words(text: str) -> tuple[str, ...]:
    """The words that `hasPart` looks for, `normalised`."""
    return tuple(normalised(text).split())
