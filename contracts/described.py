"""How a dataset describes itself in a catalogue: in which languages, by columns, in figures.

`dct:` and `dcat:` terms are DCAT's and other makes of node write them in their own way, so they are
read in every form JSON-LD gives a value; `ds:` terms are ours and have the one form they have here.
"""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, JsonValue

from contracts.odrl import Text
from contracts.wire import WireModel

MAX_VALUES: Final = 256
# The languages in which one thing is said; catalogues of the European Union have 24.
MAX_LANGUAGES: Final = 32


class TaggedText(WireModel):
    """A text and the language it is in (BCP 47), None where its author does not say."""

    value: str = Field(validation_alias="@value", serialization_alias="@value")
    language: Annotated[str, Field(max_length=35)] | None = Field(
        default=None, validation_alias="@language", serialization_alias="@language"
    )


def _as_list(written: object) -> object:
    """JSON-LD lets one value stand without its list, and an untagged one without its object."""
    if isinstance(written, dict):
        return (written,)
    if not isinstance(written, list):
        return written
    return tuple({"@value": one} if isinstance(one, str) else one for one in written)


# In one language as a plain text, in several as texts that say which.
Texts = Annotated[
    str | Annotated[tuple[TaggedText, ...], Field(min_length=1, max_length=MAX_LANGUAGES)],
    BeforeValidator(_as_list),
]


def in_languages(en: str, zh: str) -> Texts | None:
    """A text that is in English, in Chinese, or in both; None where it is empty in both.

    With `zh` empty, `en` is a text whose language nobody told.
    """
    if not zh:
        return en or None
    tagged = [TaggedText(value=en, language="en")] if en else []
    return (*tagged, TaggedText(value=zh, language="zh"))


def text_in(texts: Texts | None, language: str) -> str:
    """The text in `language` (`zh` finds `zh-Hans`), else the first there is; "" for None."""
    if texts is None or isinstance(texts, str):
        return texts or ""
    for one in texts:
        if (one.language or "").lower().split("-")[0] == language:
            return one.value
    return texts[0].value


def all_texts(texts: Texts | None) -> tuple[str, ...]:
    """The text in every language."""
    if texts is None:
        return ()
    return (texts,) if isinstance(texts, str) else tuple(one.value for one in texts)


def names_in(written: JsonValue) -> tuple[str, ...]:
    """What a term of DCAT names: a text, an `@id` or `@value`, or several of them.

    Of an IRI the part after the last `/` or `#`, so that one of ours spelled out is its word.
    """
    values: Sequence[JsonValue] = written if isinstance(written, list | tuple) else [written]
    found = [
        (one.get("@id") or one.get("@value")) if isinstance(one, dict) else one for one in values
    ]
    texts = (one for one in found if isinstance(one, str) and one)
    return tuple(one.rstrip("/#").replace("#", "/").rsplit("/", 1)[-1] for one in texts)


class Column(WireModel):
    """Our description of a column: its name, what it serves as, how its values are normalised.

    `scale` is the decimal digits kept of a value; `values` are those a public group column has;
    `column_class` says what it holds (`contracts.vocabulary.CLASSES`).
    """

    name: Text = Field(validation_alias="ds:name", serialization_alias="ds:name")
    role: Text = Field(validation_alias="ds:role", serialization_alias="ds:role")
    column_class: Text | None = Field(
        default=None, validation_alias="ds:class", serialization_alias="ds:class"
    )
    canonicaliser: Text | None = Field(
        default=None, validation_alias="ds:canonicaliser", serialization_alias="ds:canonicaliser"
    )
    scale: Annotated[int, Field(ge=0, le=9)] | None = Field(
        default=None, validation_alias="ds:scale", serialization_alias="ds:scale"
    )
    values: Annotated[tuple[Text, ...], Field(max_length=MAX_VALUES)] = Field(
        default=(), validation_alias="ds:values", serialization_alias="ds:values"
    )


Count = Annotated[int, Field(ge=0, lt=2**63)]


class ColumnQuality(WireModel):
    """How usable an identifier column is, in rows rounded down (`rounded_down`)."""

    name: Text = Field(validation_alias="ds:name", serialization_alias="ds:name")
    rows: Count = Field(validation_alias="ds:rows", serialization_alias="ds:rows")
    valid: Count = Field(validation_alias="ds:valid", serialization_alias="ds:valid")
    blank: Count = Field(validation_alias="ds:blank", serialization_alias="ds:blank")
    invalid: Count = Field(validation_alias="ds:invalid", serialization_alias="ds:invalid")
    duplicates: Count = Field(validation_alias="ds:duplicates", serialization_alias="ds:duplicates")


class Blocks(WireModel):
    """The columns that say to which division and which grid cell a row belongs (块数据)."""

    division: Text | None = Field(
        default=None, validation_alias="ds:division", serialization_alias="ds:division"
    )
    grid: Text | None = Field(
        default=None, validation_alias="ds:grid", serialization_alias="ds:grid"
    )


def rounded_down(rows: int) -> int:
    """A number of rows as strangers are told it: to tens below a hundred, else to two digits.

    The exact number of a register, looked at before and after somebody was entered or struck off,
    tells that it happened.
    """
    if rows < 100:
        return rows - rows % 10
    unit = int("1" + "0" * (len(str(rows)) - 2))
    return rows - rows % unit
