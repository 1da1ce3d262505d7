"""The schemas that credentials name: fetched, remembered, and held against them.

A schema comes from anybody, so it is judged before it judges: what could make checking it take for
ever (references, regular expressions) is not accepted, and a credential whose schema is not
accepted counts as one that does not fit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from contracts.wire import read_json
from dataspace.claims.credentials import Credential
from dataspace.claims.outside import Outside
from dataspace.errors import ProtocolViolation

MAX_SCHEMA_BYTES: Final = 64 * 1024
REMEMBERED_S: Final = 300.0
MAX_REMEMBERED: Final = 256
# A reference can lead outside or multiply; a regular expression can take exponential time.
REFUSED: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "pattern", "patternProperties"})


def parse_schema(body: bytes) -> Mapping[str, Any]:
    """A schema that can be checked safely. Raises contracts' or our ProtocolViolation."""
    # Imported where it is used: it takes a tenth of a second, and few nodes ever meet a schema.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    schema = read_json(body, limit_bytes=MAX_SCHEMA_BYTES)
    refused = sorted(REFUSED & _keywords(schema))
    if refused:
        raise ProtocolViolation(f"the credential's schema uses {refused[0]}, which is not checked")
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as err:
        raise ProtocolViolation("the credential's schema is no JSON schema") from err
    return schema


def verify_fits(document: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raises ProtocolViolation unless the document fits, naming the rule and not the value."""
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema)(schema).validate(document)
    except ValidationError as err:
        raise ProtocolViolation(
            f"the credential does not fit its schema: {str(err.validator)[:60]}"
        ) from err


def _keywords(schema: object) -> set[str]:
    """Every name in the schema that is not the name of a property it describes."""
    found: set[str] = set()
    waiting: list[tuple[object, bool]] = [(schema, False)]
    # Bounded by the size of the schema.
    while waiting:
        value, names_properties = waiting.pop()
        if isinstance(value, list):
            waiting += [(one, False) for one in value]
        elif isinstance(value, dict):
            found |= set() if names_properties else set(value)
            waiting += [
                (inner, name == "properties" and not names_properties)
                for name, inner in value.items()
            ]
    return found


class Schemas:
    """Holds credentials against the schemas they name."""

    def __init__(self, outside: Outside, clock: Callable[[], float] = time.monotonic) -> None:
        self._outside = outside
        self._clock = clock
        self._schemas: dict[str, tuple[Mapping[str, Any], float]] = {}
        self._lock = threading.Lock()

    def verify(self, credential: Credential) -> None:
        """Raises ProtocolViolation for one that does not fit, Unavailable where a schema cannot be
        had."""
        for schema in credential.schemas:
            document = credential.document if schema.of_whole else credential.about
            verify_fits(document, self._schema(schema.url))

    def _schema(self, url: str) -> Mapping[str, Any]:
        now = self._clock()
        with self._lock:
            found = self._schemas.get(url)
        if found is None or now >= found[1]:
            found = parse_schema(self._outside.get(url)), now + REMEMBERED_S
            with self._lock:
                if len(self._schemas) >= MAX_REMEMBERED:
                    self._schemas.clear()
                self._schemas[url] = found
        return found[0]
