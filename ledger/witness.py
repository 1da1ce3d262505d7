"""A witness: cosigns what is consistent with all it has seen (C2SP tlog-witness), without I/O.

`Witness.add_checkpoint` takes the body of a request and gives status and body of the answer; how
they travel and where the heads are kept is the caller's. The store's compare-and-set is what makes
concurrent requests safe: of two that start from the same head, one advances it and the other is
told of the conflict, so the recorded size never goes back and no fork is cosigned.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from ledger.checkpoint import MAX_TREE_SIZE, Checkpoint, parse_tree_head
from ledger.cosignature import Cosigner
from ledger.errors import InputRejected, InvalidCheckpoint, InvalidNote, InvalidProof
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, MAX_PROOF_HASHES, verify_consistency
from ledger.note import (
    MAX_NOTE_BYTES,
    NoteSignature,
    Verifier,
    add_signatures,
    signature_of,
    split_note,
    strict_base64,
    verified_signatures,
)

SIZE_CONTENT_TYPE = "text/x.tlog.size"
TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"
# The checkpoint, and before it the old size and 63 hashes of 44 characters in their lines.
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 4096

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True)
class WitnessedHead:
    """The latest head cosigned for a log.

    `note` is its checkpoint with the log's verified signatures and the cosignatures given.
    """

    size: int
    root: bytes
    note: str


class WitnessStore(Protocol):
    """Where a witness keeps one head a log. `log_id` is SHA-256 of its origin in hexadecimal."""

    def head(self, log_id: str) -> WitnessedHead | None:
        """The latest head, None before the first."""

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        """Replace the head if it is still `expected` (None: there is none); whether it was.

        Comparing and setting are one atomic step, and what is set is durable on return.
        """


class MemoryWitnessStore:
    """Heads in memory, for tests and for a witness that may forget."""

    def __init__(self) -> None:
        self._heads: dict[str, WitnessedHead] = {}
        self._lock = threading.Lock()

    def head(self, log_id: str) -> WitnessedHead | None:
        return self._heads.get(log_id)

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        with self._lock:
            if self._heads.get(log_id) != expected:
                return False
            self._heads[log_id] = new
            return True


@dataclass(frozen=True)
class WitnessAnswer:
    """What to answer over HTTP."""

    status: int
    body: bytes
    content_type: str = TEXT_CONTENT_TYPE


class Witness:
    """A witness with one or more keys.

    `logs` gives the keys trusted for an origin, none for an origin it does not know; `clock` the
    UNIX time in seconds.
    """

    def __init__(
        self,
        cosigners: Sequence[Cosigner],
        store: WitnessStore,
        *,
        logs: Callable[[str], Sequence[Verifier]],
        clock: Callable[[], int],
    ) -> None:
        if not cosigners:
            raise InputRejected("a witness needs at least one key to cosign with")
        self._cosigners = tuple(cosigners)
        self._store = store
        self._logs = logs
        self._clock = clock

    def add_checkpoint(self, request_body: bytes) -> WitnessAnswer:
        """Cosign the checkpoint in this request, or say why not. Returns once the new head is kept.

        200 with cosignature lines; 400 for a malformed request or an old size beyond the new one;
        403 without a good signature of a trusted key; 404 for an unknown origin; 409 with the
        size it has when the old size is another; 422 for a proof or root that does not hold.
        """
        try:
            request = parse_add_checkpoint(request_body)
        except InputRejected as err:
            return _refusal(400, str(err))
        head = request.head
        keys = self._logs(head.origin)
        if not keys:
            return _refusal(404, "this witness does not know the log of that origin")
        try:
            signed = verified_signatures(request.body, request.signatures, keys)
        except InvalidNote as err:
            return _refusal(403, str(err))
        if not signed:
            return _refusal(403, "the checkpoint is not signed by a key trusted for its origin")
        if request.old_size > head.size:
            return _refusal(400, f"old size {request.old_size} is beyond the new size {head.size}")
        log_id = log_id_of(head.origin)
        recorded = self._store.head(log_id)
        if request.old_size != (recorded.size if recorded else 0):
            return _conflict(recorded)
        try:
            _verify_growth(recorded, head, request.proof)
        except InvalidProof as err:
            return _refusal(422, str(err))
        # The cosignatures exist before the head is kept, but leave this method only after it.
        now = self._clock()
        try:
            lines = [signature_of(cosigner.at(now), request.body) for cosigner in self._cosigners]
            note = add_signatures(f"{request.body}\n", [*signed, *lines])
        except InvalidNote as err:
            return _refusal(400, f"the checkpoint cannot be cosigned: {err}")
        if not self._store.advance(log_id, recorded, WitnessedHead(head.size, head.root, note)):
            return _conflict(self._store.head(log_id))
        return WitnessAnswer(200, "".join(line.line for line in lines).encode())

    def checkpoint(self, origin_hash: str) -> WitnessAnswer:
        """The latest checkpoint cosigned for a log, by SHA-256 of its origin in hexadecimal; 404
        when there is none. For `GET <monitoring prefix>/<origin hash>/checkpoint`."""
        head = self._store.head(origin_hash)
        if head is None:
            return _refusal(404, "this witness has cosigned no checkpoint of that log")
        return WitnessAnswer(200, head.note.encode())


@dataclass(frozen=True)
class AddCheckpoint:
    """A request to cosign, taken apart; nothing is verified yet."""

    old_size: int
    proof: tuple[bytes, ...]
    body: str
    signatures: tuple[NoteSignature, ...]
    head: Checkpoint


def add_checkpoint_request(old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of a request to cosign this checkpoint, with the consistency proof from `old_size`.

    Raises InputRejected for what no witness accepts.
    """
    hashes = "".join(f"{base64.b64encode(value).decode()}\n" for value in proof)
    body = f"old {old_size}\n{hashes}\n{note}".encode()
    request = parse_add_checkpoint(body)
    if request.old_size > request.head.size:
        raise InputRejected(f"old size {old_size} is beyond the new size {request.head.size}")
    return body


def parse_add_checkpoint(request_body: bytes) -> AddCheckpoint:
    """The request in these bytes. Raises InputRejected."""
    if len(request_body) > MAX_REQUEST_BYTES:
        raise InputRejected(f"the request is larger than {MAX_REQUEST_BYTES} bytes")
    try:
        text = request_body.decode()
    except UnicodeDecodeError as err:
        raise InputRejected("the request is not UTF-8 text") from err
    preamble, separator, note = text.partition("\n\n")
    lines = preamble.split("\n")
    old = _OLD.fullmatch(lines[0])
    if not separator or old is None or int(old[1]) > MAX_TREE_SIZE:
        raise InputRejected("expected `old <size>`, proof lines, an empty line and a checkpoint")
    if len(lines) - 1 > MAX_PROOF_HASHES:
        raise InputRejected(f"{len(lines) - 1} proof lines, at most {MAX_PROOF_HASHES} are allowed")
    try:
        body, signatures = split_note(note)
        head = parse_tree_head(body)
    except (InvalidNote, InvalidCheckpoint) as err:
        raise InputRejected(f"what follows the empty line is no checkpoint: {err}") from err
    return AddCheckpoint(
        int(old[1]), tuple(map(_proof_hash, lines[1:])), body, tuple(signatures), head
    )


def parse_conflict(answer_body: bytes) -> int:
    """The size in a witness's 409 answer, from which to prove anew. Raises InputRejected."""
    match = _SIZE.fullmatch(answer_body)
    if match is None or int(match[1]) > MAX_TREE_SIZE:
        raise InputRejected("expected a size in decimal, ended by a newline")
    return int(match[1])


def log_id_of(origin: str) -> str:
    """SHA-256 of a log's origin in hexadecimal: its name in stores, URLs and the contract."""
    return sha256(origin.encode()).hexdigest()


def _verify_growth(
    recorded: WitnessedHead | None, head: Checkpoint, proof: Sequence[bytes]
) -> None:
    """Raise InvalidProof unless the new head extends the recorded one."""
    if head.size == 0 and head.root != EMPTY_ROOT:
        raise InvalidProof("a checkpoint of size zero has the root of the empty tree")
    if recorded is None or recorded.size == 0:
        # Every tree extends the empty one, so there is nothing to prove.
        if proof:
            raise InvalidProof(f"expected no proof from the empty tree, got {len(proof)} hashes")
        return
    verify_consistency(recorded.size, head.size, proof, recorded.root, head.root)


def _proof_hash(line: str) -> bytes:
    try:
        value = strict_base64(line)
    except ValueError as err:
        raise InputRejected("a proof line is not base64") from err
    if len(value) != HASH_BYTES:
        raise InputRejected(f"a proof line has {len(value)} bytes, expected {HASH_BYTES}")
    return value


def _conflict(recorded: WitnessedHead | None) -> WitnessAnswer:
    size = recorded.size if recorded else 0
    return WitnessAnswer(409, f"{size}\n".encode(), SIZE_CONTENT_TYPE)


def _refusal(status: int, sentence: str) -> WitnessAnswer:
    return WitnessAnswer(status, f"{sentence}\n".encode())
