"""From bytes to frozen models and back: the one place that knows JSON, names and limits.

Models carry snake_case attributes in Python and the protocol's names on the wire. What is empty is
absent on the wire (the schemas forbid null and empty arrays), and properties we do not know are
kept as they came, because other vocabularies may add theirs.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar, Final, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic import model_validator as _model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from contracts.errors import ProtocolViolation

Model = TypeVar("Model", bound=BaseModel)

# A body nests messages, policies, rules, constraints and logical operators; honest ones stay far
# below this, and it keeps every recursive step that follows away from the interpreter's limit.
MAX_DEPTH: Final = 48

# An answer about a message of ten thousand mistakes would be a gift to whoever sent it.
_MAX_NAMED_FAULTS: Final = 3

_FROM_WIRE: Final = "from the wire"

_SPECIAL_NAMES: Final[Mapping[str, str]] = {
    "context": "@context",
    "id": "@id",
    "type": "@type",
    "and_": "and",
    "or_": "or",
    "endpoint_url": "endpointURL",
}


def _wire_name(attribute: str) -> str:
    return _SPECIAL_NAMES.get(attribute) or to_camel(attribute)


class WireModel(BaseModel):
    """A frozen value with the protocol's JSON form.

    `required_on_wire` names attributes that have a default for whoever builds the value in Python
    but must be written by a peer, such as `@type`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=_wire_name,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )

    required_on_wire: ClassVar[tuple[str, ...]] = ()

    @_model_validator(mode="after")
    def _written_by_the_peer(self, info: ValidationInfo) -> Self:
        if is_from_wire(info):
            require_written(self, *self.required_on_wire)
        return self

    @property
    def as_written(self) -> Mapping[str, str]:
        """What to write for attributes whose sender spelled them otherwise than we do."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """The compact JSON form; what is empty is absent."""
        return body_of(self)


def is_from_wire(info: ValidationInfo) -> bool:
    """Whether a peer wrote what is being validated; otherwise it is built in Python."""
    return info.context is _FROM_WIRE


def require_written(model: BaseModel, *attributes: str) -> None:
    """Raise a validation error unless the sender wrote these attributes itself."""
    for attribute in attributes:
        if attribute not in model.model_fields_set:
            name = _wire_name(attribute)
            raise PydanticCustomError("required_on_wire", "{field} is required", {"field": name})


def body_of(model: BaseModel, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """`model` as JSON under the protocol's names, without the attributes in `without`."""
    body: dict[str, Any] = {}
    extra = model.model_extra or {}
    written = model.as_written if extra and isinstance(model, WireModel) else {}
    for attribute, field in type(model).model_fields.items():
        value = written.get(attribute) or getattr(model, attribute)
        absent = value is None or value == () or value == {}
        if attribute in without or (absent and not field.is_required()):
            continue
        body[field.serialization_alias or attribute] = _plain(value)
    for name, value in extra.items():
        body.setdefault(name, value)
    # Readers of raw messages look for @id and @type first.
    return dict(sorted(body.items(), key=lambda item: not item[0].startswith("@")))


def _plain(value: object) -> object:
    match value:
        case BaseModel():
            # Only a message on its own carries a context; one inside another inherits it.
            return body_of(value, without=frozenset({"context"}))
        case Enum():
            return value.value
        case datetime():
            return format_time(value)
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value


def format_time(moment: datetime) -> str:
    """An aware moment as xsd:dateTime in UTC, `2026-12-31T16:00:00Z`, to the microsecond."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_json(body: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON. Not canonical: what must be hashed or signed goes through RFC 8785."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read_json(body: bytes, *, limit_bytes: int) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises ProtocolViolation when it is longer than `limit_bytes`, is not UTF-8 JSON, repeats a
    name, nests deeper than 48 levels, holds a number that is not finite or text that is not
    Unicode, or is not an object.
    """
    if len(body) > limit_bytes:
        raise ProtocolViolation(f"expected at most {limit_bytes} bytes, got {len(body)}")
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
        )
    except ProtocolViolation:
        raise
    except (ValueError, RecursionError) as err:
        # The parser's own text may quote the input, so it stays in the cause.
        raise ProtocolViolation("expected a JSON object in UTF-8, got something else") from err
    _refuse_strange_values(value)
    if not isinstance(value, dict):
        raise ProtocolViolation("expected a JSON object, got another JSON value")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may keep different ones of two equal names, and so read two different contracts.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProtocolViolation("expected every name once in an object, got one twice")
    return result


def _refuse_constant(_: str) -> NoReturn:
    raise ProtocolViolation("expected finite numbers, got NaN or Infinity")


def _refuse_strange_values(value: object) -> None:
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ProtocolViolation(f"expected at most {MAX_DEPTH} levels of nesting, got more")
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ProtocolViolation("expected finite numbers, got one too large")
            elif isinstance(item, str) and not _is_unicode(item):
                raise ProtocolViolation("expected Unicode text, got half of a surrogate pair")
        level, depth = below, depth + 1


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_model(model_class: type[Model], body: Mapping[str, Any]) -> Model:
    """`body` as a `model_class`, by the protocol's names only.

    Raises ProtocolViolation naming the field and the kind expected there, never the value.
    """
    try:
        return model_class.model_validate(body, by_alias=True, by_name=False, context=_FROM_WIRE)
    except ValidationError as err:
        faults = err.errors(include_url=False, include_input=False)
        named = "; ".join(_fault(fault) for fault in faults[:_MAX_NAMED_FAULTS])
        more = "" if len(faults) <= _MAX_NAMED_FAULTS else f" (and {len(faults)} faults in all)"
        raise ProtocolViolation(f"{model_class.__name__}: {named}{more}") from err


def _fault(fault: ErrorDetails) -> str:
    steps = [_step(step) for step in fault["loc"]]
    if fault["type"] == "required_on_wire":
        steps.append(str(fault["ctx"]["field"]))
        return f"{_path(steps)} is required"
    if fault["type"] == "missing":
        return f"{_path(steps)} is required"
    return f"{_path(steps)}: {_EXPECTED.get(fault['type'], fault['msg'])}"


_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "expected a string",
    "tuple_type": "expected an array",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "dict_type": "expected an object",
    "too_short": "expected at least one element",
    "too_long": "expected fewer elements",
    "string_too_long": "expected a shorter string",
    "string_too_short": "expected a longer string",
}


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    # A name of the sender's own choosing can be any length and hold anything.
    return step if step.isprintable() and len(step) <= 60 else "(a name)"


def _path(steps: list[str]) -> str:
    if not steps:
        return "the body"
    return ".".join(steps).replace(".[", "[")
