"""The keys agreements are signed with: of elliptic curves, and post-quantum ones beside them."""

from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey

from contracts.errors import ProtocolViolation
from contracts.mldsa import KEY_TYPE, MEMBERS, MlDsaKey
from contracts.sm2 import CURVE, Sm2Key

SignatureKey = Key | MlDsaKey

# The members that make a public key (RFC 7638 §3.2, RFC 9964), of the kinds that sign here.
KEY_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "OKP": frozenset({"kty", "crv", "x"}),
    "EC": frozenset({"kty", "crv", "x", "y"}),
    KEY_TYPE: MEMBERS,
}


def key_of_jwk(jwk: Mapping[str, Any]) -> OKPKey | ECKey | MlDsaKey:
    """The public key that `jwk` writes. Raises ProtocolViolation for one of no kind known here."""
    public = {name: jwk[name] for name in jwk if name in KEY_MEMBERS.get(str(jwk.get("kty")), ())}
    kty = public.get("kty")
    try:
        if kty == KEY_TYPE:
            return MlDsaKey.of_jwk(public)
        if kty == "EC":
            return Sm2Key.of_jwk(public) if public["crv"] == CURVE else ECKey.import_key(public)
        if kty == "OKP":
            return OKPKey.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError) as err:
        raise ProtocolViolation("malformed public key") from err
    raise ProtocolViolation("expected a public key for signatures known here")
