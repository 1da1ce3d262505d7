"""schemathesis against every address of a node, with the credentials of whoever it is for.

The node is one of this process: requests go through its whole application, and no network. What is
asked is made from the node's own document, right and wrong; the answer has to be one the document
knows, of the content type it says, and never an unexpected error of ours.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dataspace.access.permissions import Caller
from tests.nodes.protocol_node import TOKEN, OneNode, one_node

# A request that takes longer, alone on this node, is a hang.
MAX_SECONDS = 10.0
# What goes on until its reader goes away.
STREAMS = frozenset({"/api/computations/{computation_id}/events"})
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A node that has not joined, or whose peer is away, says so; anything else of the five hundreds is
# an error of ours. 502 and 504 are what a proxy says.
ALLOWED = frozenset({501, 503})


@dataclass
class Called:
    """What came of one address."""

    name: str
    requests: int = 0
    findings: list[str] = field(default_factory=list)


def fuzz_apis(seed_number: int, *, examples: int) -> bool:
    """Whether nothing was found; what was is printed."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-apis-") as directory,
        one_node(Path(directory)) as node,
    ):
        began = time.monotonic()
        schema = schemathesis.openapi.from_asgi("/openapi.json", node.http.app)
        found = [
            _call(node, operation.ok(), seed_number, examples)
            for operation in schema.get_all_operations()
            if operation.ok().path not in STREAMS
        ]
    wrong = [one for one in found if one.findings]
    print(
        f"{'apis':18} {sum(one.requests for one in found):7} requests to {len(found)} addresses, "
        f"{time.monotonic() - began:.1f} s  {len(wrong) or 'nothing'} found",
        flush=True,
    )
    for one in wrong:
        print(f"  {one.name}: {one.findings[0]}")
    return not wrong


def _call(node: OneNode, operation: Any, seed_number: int, examples: int) -> Called:
    """Requests to one address until one is answered wrongly."""
    called = Called(f"{operation.method.upper()} {operation.path}")
    headers = _credentials(node, operation)

    @seed(seed_number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(operation.as_strategy())
    def ask(case: Any) -> None:
        called.requests += 1
        began = time.monotonic()
        response = case.call(headers=headers)
        took = time.monotonic() - began
        if response.status_code >= 500 and response.status_code not in ALLOWED:
            raise AssertionError(f"answered {response.status_code}: {case.as_curl_command()[:400]}")
        if took > MAX_SECONDS:
            raise AssertionError(f"took {took:.1f} s: {case.as_curl_command()[:400]}")
        case.validate_response(response, checks=CHECKS)

    try:
        ask()
    except BaseException as err:
        if isinstance(err, KeyboardInterrupt | SystemExit):
            raise
        called.findings.append(f"{type(err).__name__}: {err}"[:700])
    return called


def _credentials(node: OneNode, operation: Any) -> dict[str, str]:
    """The credentials of whoever the address says it is for."""
    (caller,) = operation.definition.raw["x-callers"]
    if caller == Caller.OWNER_SIDE:
        return {"authorization": f"Bearer {node.node.api_key}"}
    if caller in (Caller.MEMBER, Caller.REGULATOR, Caller.OPERATOR, Caller.DID):
        return {"authorization": TOKEN}
    return {}
