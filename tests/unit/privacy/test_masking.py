import itertools
import secrets

import private_set_intersection.python as psi
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from privacy.errors import ProtocolViolation
from privacy.masking import GROUP_ORDER, MaskingKey

IDENTIFIERS = [f"resident-{i}" for i in range(40)]


@pytest.fixture
def key() -> MaskingKey:
    return MaskingKey.generate(secrets.token_bytes)


def test_masked_points_are_those_of_the_published_vectors(masking_vectors):
    first = MaskingKey(bytes.fromhex(masking_vectors["scalar"]))
    second = MaskingKey(bytes.fromhex(masking_vectors["second_scalar"]))
    rows = masking_vectors["masked"]
    masked = first.mask([row["identifier"] for row in rows])
    assert [point.hex() for point in masked] == [row["point"] for row in rows]
    raised = second.raise_points(masked, "peer")
    assert [point.hex() for point in raised] == [row["raised"] for row in rows]


def test_two_keys_can_be_applied_in_either_order(key):
    other = MaskingKey.generate(secrets.token_bytes)
    one_way = other.raise_points(key.mask(IDENTIFIERS), "peer")
    assert one_way == key.raise_points(other.mask(IDENTIFIERS), "peer")


def test_raising_is_the_scalar_multiplication_of_another_library():
    scalar = secrets.randbelow(GROUP_ORDER - 1) + 1
    points = MaskingKey.generate(secrets.token_bytes).mask(IDENTIFIERS[:5])
    raised = MaskingKey(scalar.to_bytes(32, "big")).raise_points(points, "peer")
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    for point, result in zip(points, raised, strict=True):
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        assert private.exchange(ec.ECDH(), peer) == result[1:]


def test_a_client_of_the_library_intersects_with_our_masked_set(key):
    client = psi.client.CreateWithNewKey(True)
    request = client.CreateRequest(["a", "b", "c", "d"])
    answer = psi.Response(
        encrypted_elements=key.raise_points(list(request.encrypted_elements), "peer")
    )
    setup = psi.ServerSetup()
    setup.raw.encrypted_elements.extend(sorted(key.mask(["x", "d", "b", "y"])))
    assert sorted(client.GetIntersection(setup, answer)) == [1, 3]


def test_a_server_of_the_library_raises_our_masked_set(key):
    server = psi.server.CreateWithNewKey(True)
    request = psi.Request(reveal_intersection=True, encrypted_elements=key.mask(IDENTIFIERS))
    answer = list(server.ProcessRequest(request).encrypted_elements)
    theirs = psi.client.CreateFromKey(server.GetPrivateKeyBytes(), True).CreateRequest(IDENTIFIERS)
    assert answer == key.raise_points(list(theirs.encrypted_elements), "peer")


def test_the_empty_set_is_masked_to_nothing(key):
    assert key.mask([]) == []
    assert key.raise_points([], "peer") == []


@pytest.mark.parametrize(
    "point",
    [bytes(33), b"\x02" + b"\xff" * 32, b"\x05" + bytes(32), b"\x04" * 33, b"\x00", b""],
)
def test_what_is_no_point_of_the_curve_is_a_violation_of_its_sender(key, point):
    with pytest.raises(ProtocolViolation, match="left sent a point"):
        key.raise_points([*key.mask(["a"]), point], "left")


def test_scalars_out_of_the_group_are_drawn_again():
    order = GROUP_ORDER.to_bytes(32, "big")
    one = (1).to_bytes(32, "big")
    draws = itertools.chain([bytes(32), order, b"\xff" * 32, one])
    assert MaskingKey.generate(lambda _: next(draws)).mask(["a"]) == MaskingKey(one).mask(["a"])


def test_a_key_does_not_show_its_scalar():
    scalar = b"secret-scalar-of-thirty-two-byte"
    assert "secret" not in repr(MaskingKey(scalar))
