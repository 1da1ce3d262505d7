"""What a backup says of itself, signed by the node it is of."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.identity.keys import SigningKey, public_jwk_of, read_jwk, verify_bytes

# A home has a few dozen files and one for each delivery that was received.
MAX_FILES = 100_000
MAX_MANIFEST_BYTES = 48 * 1024 * 1024
MAX_PATH_BYTES, MAX_DEPTH = 1024, 16
MAX_FILE_BYTES = 1 << 42
_SIGNED = b"city-dataspace/backup-manifest/1\0"

Text = Annotated[str, StringConstraints(max_length=2000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackedFile(_Frozen):
    """A file of the backup: its path in the home, size and SHA-256."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATH_BYTES)]
    size: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: Digest


class LeftOut(_Frozen):
    """Something of the home, or that the node uses, which the backup does not hold."""

    path: Text
    why: Text


class LogState(_Frozen):
    """The evidence log in the backup: its size, its root, and its newest signed checkpoint."""

    origin: Text
    size: int = Field(ge=0)
    root: Digest
    checkpoint: Annotated[str, StringConstraints(max_length=64 * 1024)] | None = None
    anchored: int = Field(default=0, ge=0)


class Manifest(_Frozen):
    """Everything a backup holds. `made_at` is RFC 3339, `schema_revision` the database's."""

    format: Literal[1] = 1
    product: Text
    made_at: Text
    name: Text
    kind: Text
    did: Text
    url: Text | None
    founder: bool
    database: Literal["sqlite", "postgresql", "none"]
    schema_revision: Text | None
    space: dict[str, Text] = Field(default_factory=dict, max_length=8)
    log: LogState | None
    files: tuple[BackedFile, ...] = Field(max_length=MAX_FILES)
    left_out: tuple[LeftOut, ...] = Field(max_length=MAX_FILES)


class SignedManifest(_Frozen):
    """A manifest as the text that was signed, the signer's public key as JWK, and the signature in
    base64."""

    text: str
    key: dict[str, Text] = Field(max_length=16)
    signature: Text

    def verified(self) -> Manifest:
        """The manifest, its signature checked under the key it names. Raises InputRejected.

        Whose key that is the caller compares with the key in the backup.
        """
        try:
            key = read_jwk(self.key)
            if key is None:
                raise ValueError("a key of another kind")
            verify_bytes(
                key, _SIGNED + self.text.encode(), base64.b64decode(self.signature, validate=True)
            )
            return Manifest.model_validate_json(self.text)
        except (ValueError, ProtocolViolation, ValidationError) as err:
            raise InputRejected(
                "the backup's manifest is not what its node signed",
                remedy="take another copy of the backup",
            ) from err

    def thumbprint(self) -> str:
        """RFC 7638 of the key, as DID documents and tokens name it."""
        key = read_jwk(self.key)
        assert key is not None
        return str(key.thumbprint())


def sign_manifest(manifest: Manifest, key: SigningKey) -> SignedManifest:
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return SignedManifest(
        text=text,
        key=public_jwk_of(key.jwk),
        signature=base64.b64encode(key.sign(_SIGNED + text.encode())).decode(),
    )


def verify_path(path: str) -> None:
    """Raises InputRejected for a path that would leave the home or surprise a file system."""
    parts = path.split("/")
    strange = any(letter < " " or letter in "\\\x7f" for letter in path)
    if (
        strange
        or len(path.encode()) > MAX_PATH_BYTES
        or len(parts) > MAX_DEPTH
        or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
    ):
        raise InputRejected(
            "the backup names a file outside of the home, or one no file system has",
            remedy="do not use this file: no backup made by this software looks so",
        )
