"""Deeds as a third party verifies them: from a file, with no node, and online only when asked to.

`contracts.deed` shows that the holders of two keys signed; here it is found out whose keys they
are, from thumbprints the verifier knows or from the parties' DID documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from contracts.deed import Deed, Signer, open_deed
from contracts.keys import SignatureKey
from contracts.planning import valid_until
from contracts.signature import LIMIT_BYTES
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.identity.addresses import AddressPolicy
from dataspace.identity.did import Resolver
from dataspace.outbound import outbound_client
from dataspace.tls import ca_of_environment

# base64 and the keys beside the agreement take less than this.
MAX_FILE_BYTES = 4 * LIMIT_BYTES

KnownBy = Literal["pinned", "did-document"]


@dataclass(frozen=True)
class VerifiedDeed:
    """A deed whose signatures hold, and how the verifier knows whose the keys are.

    A DID that is not in `known_by` is so called by the file alone; `second_known_by` is of the
    post-quantum keys of those who signed with two.
    """

    deed: Deed
    known_by: Mapping[str, KnownBy]
    second_known_by: Mapping[str, KnownBy]

    def to_json(self) -> dict[str, Any]:
        agreement = self.deed.agreement
        until = valid_until(agreement)
        return {
            "agreement": agreement.to_json(),
            "sha256": canonical_hash(agreement.to_json()),
            "expires_at": until.isoformat() if until else None,
            "signers": [
                {
                    "party": party,
                    "did": signer.did,
                    "kid": signer.kid,
                    "thumbprint": signer.thumbprint,
                    "key_known_by": self.known_by.get(signer.did),
                    "post_quantum": self._second(signer),
                }
                for party, signer in zip(("provider", "consumer"), self.deed.signers, strict=True)
            ],
        }

    def _second(self, signer: Signer) -> dict[str, Any] | None:
        used = signer.post_quantum
        if used is None:
            return None
        return {
            "kid": used.kid,
            "thumbprint": used.thumbprint,
            "key_known_by": self.second_known_by.get(signer.did),
        }


def verify_deed(
    path: Path,
    pinned: Mapping[str, str],
    *,
    online: bool,
    local: bool,
    post_quantum: Mapping[str, str] | None = None,
) -> VerifiedDeed:
    """Verify the deed in a file. Raises a typed error that says what does not hold.

    `pinned` maps a DID to its key's thumbprint (RFC 7638), `post_quantum` to that of its second
    key, which must then have signed. With `online` the DID document of a party must list the keys
    that are not pinned; `local` allows documents served on this machine.
    """
    deed = open_deed(_read(path), pinned, post_quantum)
    known: dict[str, KnownBy] = {one.did: "pinned" for one in deed.signers if one.pinned}
    second: dict[str, KnownBy] = {
        one.did: "pinned"
        for one in deed.signers
        if one.post_quantum is not None and one.post_quantum.pinned
    }
    if online:
        with outbound_client(ca_of_environment(), AddressPolicy(local)) as http:
            resolver = Resolver(http, local=local)
            for signer in deed.signers:
                if signer.did not in known:
                    _verify_listed(signer, resolver)
                    known[signer.did] = "did-document"
                if signer.post_quantum is not None and signer.did not in second:
                    keys = resolver.second_keys(signer.did).keys.values()
                    _verify_among(signer.did, signer.post_quantum.thumbprint, keys)
                    second[signer.did] = "did-document"
    return VerifiedDeed(deed, known, second)


def _verify_listed(signer: Signer, resolver: Resolver) -> None:
    _verify_among(signer.did, signer.thumbprint, resolver.keys(signer.did))


def _verify_among(did: str, thumbprint: str, keys: Iterable[SignatureKey]) -> None:
    if thumbprint not in {key.thumbprint() for key in keys}:
        raise ProtocolViolation(
            f"the DID document of {did} does not list the key that signed this deed",
            remedy="the party may have changed its key since; ask it for the thumbprint of the "
            "old one and give it with --key",
        )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputRejected(
                f"{path.name} is too large for a deed", remedy="use the file the node gave"
            )
        return path.read_bytes()
    except OSError as err:
        raise InputRejected(f"{path} cannot be read", remedy="check the path") from err
