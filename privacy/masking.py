"""Masked identifiers: points of P-256 that two secret keys can be applied to in either order.

An identifier x is hashed to a point H(x) and multiplied with the secret scalar of one party, then
with that of the other: H(x)^(ab) is the same whoever was first, and says nothing about x to who
knows neither a nor b (decisional Diffie-Hellman, hash modelled as a random oracle; Meadows 1986,
Huberman, Franklin, Hogg 1999). Curve arithmetic and hashing are those of openmined-psi.
"""

from collections.abc import Callable, Mapping, Sequence

import private_set_intersection.python as psi

from privacy.errors import ProtocolViolation
from privacy.role import Steps
from privacy.wire import POINT_BYTES
from privacy.workers import Workers, shares_of, spread

# The order of the group of P-256. NIST SP 800-186, section 3.2.1.3.
GROUP_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SCALAR_BYTES = 32


class MaskingKey:
    """The secret scalar of one party for one run.

    The library's objects abort the process when two threads share one, so each call makes its own
    (2 ms) and a key may be used from any thread.
    """

    def __init__(self, scalar: bytes) -> None:
        self._scalar = scalar

    def __repr__(self) -> str:
        return "MaskingKey(…)"

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> "MaskingKey":
        """Draw a key uniformly from 1 to the group's order - 1."""
        while True:
            scalar = random_bytes(SCALAR_BYTES)
            if 0 < int.from_bytes(scalar, "big") < GROUP_ORDER:
                return cls(scalar)

    def mask(self, identifiers: Sequence[str]) -> list[bytes]:
        """Return H(x)^key for every identifier, order kept; 97 µs each."""
        request = psi.client.CreateFromKey(self._scalar, True).CreateRequest(list(identifiers))
        return list(request.encrypted_elements)

    def raise_points(self, points: Sequence[bytes], sender: str) -> list[bytes]:
        """Return P^key for every point, order kept; 70 µs each.

        The points came from `sender`: ProtocolViolation if one is not on the curve.
        """
        request = psi.Request(reveal_intersection=True, encrypted_elements=points)
        try:
            response = psi.server.CreateFromKey(self._scalar, True).ProcessRequest(request)
        except RuntimeError as err:
            raise ProtocolViolation(f"{sender} sent a point that is not on P-256") from err
        raised = list(response.encrypted_elements)
        if len(raised) != len(points) or any(len(point) != POINT_BYTES for point in raised):
            raise ProtocolViolation(f"{sender} sent points that cannot be masked again")
        return raised


def verify_not_copied(points: Sequence[bytes], own: Mapping[bytes, object], sender: str) -> None:
    """Raise ProtocolViolation if `sender` sent one of our `own` masked points back.

    Two keys give different points, so it was copied, by a peer that would claim identifiers it
    does not know.
    """
    if any(point in own for point in points):
        raise ProtocolViolation(f"{sender} sent masked points back as its own")


def mask_piece(piece: tuple[MaskingKey, Sequence[str]]) -> list[bytes]:
    """A worker's task: mask some identifiers."""
    key, identifiers = piece
    return key.mask(identifiers)


def raise_piece(piece: tuple[MaskingKey, Sequence[bytes], str, int | None]) -> list[bytes]:
    """A worker's task: raise some points of a sender, and shorten them where a width is given."""
    key, points, sender, width = piece
    raised = key.raise_points(points, sender)
    return raised if width is None else [shorten(point, width) for point in raised]


def shorten(point: bytes, width: int) -> bytes:
    """What is compared of a point: the first bytes of x, behind the 02 or 03 of its encoding."""
    return point[1 : 1 + width]


def mask_all(workers: Workers, key: MaskingKey, identifiers: Sequence[str]) -> Steps[list[bytes]]:
    """Mask `identifiers` by all workers, order kept."""
    pieces = [(key, piece) for piece in shares_of(identifiers, workers)]
    return (yield from spread(workers, mask_piece, pieces))


def raise_all(
    workers: Workers,
    key: MaskingKey,
    points: Sequence[bytes],
    sender: str,
    *,
    width: int | None = None,
) -> Steps[list[bytes]]:
    """Raise the `points` of `sender` by all workers, order kept; shortened where a width is given.

    ProtocolViolation if one of them is not on the curve.
    """
    pieces = [(key, piece, sender, width) for piece in shares_of(points, workers)]
    return (yield from spread(workers, raise_piece, pieces))
