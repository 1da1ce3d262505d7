"""The specification's schemas and examples, loaded once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft201909Validator
from referencing import Registry, Resource

SPECIFICATION = Path(__file__).resolve().parents[3].parent / "shared" / "dsp-2025-1"

_SCHEMA_OF = {
    "Catalog": "catalog/catalog",
    "CatalogError": "catalog/catalog-error",
    "CatalogRequestMessage": "catalog/catalog-request-message",
    "Dataset": "catalog/dataset",
    "DatasetRequestMessage": "catalog/dataset-request-message",
    "ContractRequestMessage": "negotiation/contract-request-message",
    "ContractOfferMessage": "negotiation/contract-offer-message",
    "ContractAgreementMessage": "negotiation/contract-agreement-message",
    "ContractAgreementVerificationMessage": "negotiation/contract-agreement-verification-message",
    "ContractNegotiationEventMessage": "negotiation/contract-negotiation-event-message",
    "ContractNegotiationTerminationMessage": "negotiation/contract-negotiation-termination-message",
    "ContractNegotiation": "negotiation/contract-negotiation",
    "ContractNegotiationError": "negotiation/contract-negotiation-error",
    "TransferRequestMessage": "transfer/transfer-request-message",
    "TransferStartMessage": "transfer/transfer-start-message",
    "TransferSuspensionMessage": "transfer/transfer-suspension-message",
    "TransferCompletionMessage": "transfer/transfer-completion-message",
    "TransferTerminationMessage": "transfer/transfer-termination-message",
    "TransferProcess": "transfer/transfer-process",
    "TransferError": "transfer/transfer-error",
    "VersionResponse": "common/protocol-version",
}


def _load(path: Path) -> dict:
    # Three upstream schemas refer to `….json#definitions/…`; the pointer needs its slash.
    return json.loads(path.read_text().replace(".json#definitions/", ".json#/definitions/"))


@pytest.fixture(scope="session")
def specification() -> Path:
    if not SPECIFICATION.is_dir():
        pytest.skip("the Dataspace Protocol's schemas are not beside the repository")
    return SPECIFICATION


@pytest.fixture(scope="session")
def schema_faults(specification: Path) -> Callable[[str, object], list[str]]:
    """The official schema's complaints about a body of the type named; none means valid."""
    loaded = [_load(path) for path in specification.glob("*/*-schema.json")]
    registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in loaded
    )
    validators = {
        name: Draft201909Validator(
            registry.contents(f"https://w3id.org/dspace/2025/1/{stem}-schema.json"),
            registry=registry,
        )
        for name, stem in _SCHEMA_OF.items()
    }

    def faults(name: str, body: object) -> list[str]:
        return [error.message for error in validators[name].iter_errors(body)]

    return faults


@pytest.fixture(scope="session")
def examples(specification: Path) -> dict[str, bytes]:
    """The specification's example messages by file name, without the two DID services."""
    return {
        path.name: path.read_bytes()
        for path in sorted(specification.glob("*/example/*.json"))
        if "did-service" not in path.name
    }
