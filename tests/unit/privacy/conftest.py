import json
from pathlib import Path

import pytest

from privacy.paillier import PrivateKey, PublicKey, generate_keypair

VECTORS = Path(__file__).parents[2] / "vectors" / "privacy"


@pytest.fixture(scope="session")
def private_key() -> PrivateKey:
    return generate_keypair()


@pytest.fixture(scope="session")
def public_key(private_key: PrivateKey) -> PublicKey:
    return private_key.public_key


@pytest.fixture(scope="session")
def paillier_vectors() -> dict:
    return json.loads((VECTORS / "paillier-phe.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def masking_vectors() -> dict:
    return json.loads((VECTORS / "masking-openmined.json").read_text("utf-8"))
