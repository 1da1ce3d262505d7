"""Targets of contracts and computations: policies, orders, agreements, deeds, filters, frames."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime
from typing import Any

from contracts.authoring import read_policy, write_policy
from contracts.decision import Facts
from contracts.deed import open_deed
from contracts.evaluation import Request, decide
from contracts.filters import parse_filter
from contracts.lint import Knowledge, lint
from contracts.odrl import Agreement, Offer
from contracts.order import TYPE, open_order
from contracts.signature import TYPE as AGREEMENT_TYPE
from contracts.signature import verify_agreement_signature
from contracts.strictness import compare
from contracts.wire import read_json, read_model
from dataspace.errors import SHOWN
from privacy.errors import PrivacyError
from privacy.kinds import KINDS
from privacy.role import run_in_memory
from tests.fuzz.altering import lines, octets, signed, tree
from tests.fuzz.target import Prepared, Target
from tests.properties.test_privacy_kinds import altering, catching, example_of, roles_of
from tests.unit.contracts import test_contracts_deed as deeds
from tests.unit.contracts import test_contracts_order as orders

POLICY = {
    "@id": "offer:1",
    "@type": "Offer",
    "profile": "https://w3id.org/city-dataspace/ns/v1",
    "permission": [
        {
            "action": "use",
            "constraint": [
                {"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["research"]},
                {"leftOperand": "ds:minCohort", "operator": "gteq", "rightOperand": "20"},
                {"leftOperand": "spatial", "operator": "isPartOf", "rightOperand": "4403"},
                {
                    "or": [
                        {"leftOperand": "count", "operator": "lteq", "rightOperand": "5"},
                        {
                            "leftOperand": "dateTime",
                            "operator": "lteq",
                            "rightOperand": "2030-01-01T00:00:00Z",
                        },
                    ]
                },
            ],
            "duty": [{"action": "delete"}],
        }
    ],
    "prohibition": [{"action": "distribute"}],
}
NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
FACTS = Facts(
    now=NOW,
    use_count=0,
    recipient_role="enterprise",
    recipient_zones=(),
    grade="general",
    consent=None,
    approved=True,
)
USE = Request(
    action="use", assignee="did:web:a", purpose="research", computation="psi/2", min_cohort=20
)


def _policies() -> Prepared:
    reference = read_model(Offer, POLICY)

    def read(given: bytes) -> None:
        """Whatever is a policy can be decided on, judged, compared and explained."""
        policy = read_model(Offer, read_json(given, limit_bytes=1024 * 1024))
        decision = decide(policy, USE, FACTS)
        for language in ("en", "zh"):
            decision.to_json(language)
        lint(policy, Knowledge(list(KINDS), NOW, {}))
        compare(policy, reference)

    return Prepared(read=read, examples=[json.dumps(POLICY).encode()], alter=tree)


def _written_policies() -> Prepared:
    example = write_policy(read_model(Offer, POLICY)).encode()

    def read(given: bytes) -> None:
        read_policy(given.decode("utf-8", "replace"), offer_id="offer:1")

    bombs = (
        b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b"[" * 3000,
        b"{a: " * 2000,
        b"? " * 4000,
        b"- " * 5000,
        b"permission: !!python/object/apply:os.system ['true']\n",
        b"%YAML 9.9\n---\n...\n" * 500,
        b"x: |" + b"9" * 300_000,
    )
    return Prepared(read=read, examples=[example], alter=lines, special=bombs)


def _orders() -> Prepared:
    key = orders.KEYS["Ed25519"]

    def sign(content: dict[str, Any]) -> str:
        header = {"alg": "Ed25519", "kid": orders.KID, "typ": TYPE}
        return orders.sealed(header, json.dumps(content).encode(), key, "Ed25519")

    def read(given: bytes) -> None:
        open_order(given.decode("utf-8", "replace"), orders.public("Ed25519"), orders.NOW)

    example = json.dumps(orders.order().to_json()).encode()
    return Prepared(
        read=read,
        examples=[example],
        alter=signed(sign),
        written=lambda content: sign(json.loads(content)).encode(),
    )


def _agreements() -> Prepared:
    key, alg = deeds.SIGNING[deeds.PROVIDER]

    def sign(content: dict[str, Any]) -> str:
        header = {"alg": alg, "kid": deeds.kid(deeds.PROVIDER), "typ": AGREEMENT_TYPE}
        return orders.sealed(header, json.dumps(content).encode(), key, alg)

    def read(given: bytes) -> None:
        text = given.decode("utf-8", "replace")
        payload = text.split(".")[1] if text.count(".") == 2 else ""
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        agreement = read_model(Agreement, read_json(content, limit_bytes=1024 * 1024))
        verify_agreement_signature(text, agreement, deeds.PROVIDER, deeds.key_of)

    return Prepared(
        read=read,
        examples=[json.dumps(deeds.AGREEMENT.to_json(), sort_keys=True).encode()],
        alter=signed(sign),
        written=lambda content: deeds.signed(deeds.PROVIDER).encode(),
        # Of the decoding above, which stands for the message around it.
        refusals=(*SHOWN, ValueError),
    )


def _deeds() -> Prepared:
    return Prepared(read=open_deed, examples=[json.dumps(deeds.made()).encode()], alter=tree)


def _filters() -> Prepared:
    conditions = [
        {"leftOperand": "ds:text", "operator": "hasPart", "rightOperand": "就诊 visits"},
        {"leftOperand": "dct:spatial", "operator": "isPartOf", "rightOperand": "4403"},
        {"leftOperand": "dcat:theme", "operator": "isAnyOf", "rightOperand": ["health"]},
        {"leftOperand": "ds:grade", "operator": "lteq", "rightOperand": "important"},
    ]

    def read(given: bytes) -> None:
        written = read_json(given, limit_bytes=1024 * 1024).get("filter", [])
        parse_filter(tuple(written) if isinstance(written, list) else (written,))

    return Prepared(read=read, examples=[json.dumps({"filter": conditions}).encode()], alter=tree)


def _frames() -> Prepared:
    """A run of each kind in which one party receives one frame altered: parties end by a typed
    error or with a result, never otherwise."""
    kinds = [kind.name for kind in KINDS.values()]

    def alter(rng: random.Random, example: bytes) -> bytes:
        return json.dumps(
            {
                "kind": rng.choice(kinds),
                "party": rng.random(),
                "frame": rng.randrange(4),
                "seed": rng.randrange(2**32),
            }
        ).encode()

    def read(given: bytes) -> None:
        asked = json.loads(given)
        kind = KINDS[asked["kind"]]
        inputs, parameters = example_of(kind)
        roles = roles_of(kind, inputs, parameters)
        party = list(roles)[int(asked["party"] * len(roles))]
        rng = random.Random(asked["seed"])
        roles[party] = altering(roles[party], asked["frame"], lambda frame: octets(rng, frame))
        run_in_memory({name: catching(role) for name, role in roles.items()})

    return Prepared(
        read=read,
        examples=[b'{"kind": "psi/2", "party": 0, "frame": 99, "seed": 1}'],
        alter=alter,
        refusals=(PrivacyError,),
    )


TARGETS = (
    Target("policies", "a policy in JSON: read, decided on, judged, compared", _policies),
    Target("written-policies", "a policy in YAML", _written_policies),
    Target("orders", "a consumer's signed order", _orders),
    Target("agreements", "a party's signature over an agreement", _agreements),
    Target("deeds", "an agreement with both signatures", _deeds),
    Target("filters", "a catalogue's filter", _filters),
    Target("frames", "frames of every kind of computation", _frames),
)
