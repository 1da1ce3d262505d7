"""One account of a run that every participant signs.

Each frame travels in an envelope, 16 random bytes and the payload, so that the SHA-256 digest of
the envelope reveals nothing about a short payload such as a count. After the protocol proper:

    1. every party -> collector    the frames it sent and received, with their digests
    2. collector -> every party    one list, once both ends of every frame agree
    3. every party -> collector    its signature over the digest of the list and the context
    4. collector -> every party    all signatures

The list proves what was exchanged, not that the run was fair: a party may refuse to sign after it
has its result, and then there is no transcript. A result that is withheld ends the run before 1.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from privacy.errors import InputRejected, ProtocolViolation
from privacy.role import Outcome, Progress, Receive, Role, Send, Steps, receive, send

NONCE_BYTES = 16
# The frame with which the collector ends a run.
SIGNATURES = "transcript/signatures"
DIGEST_DOMAIN = b"city-dataspace/transcript/1\0"
# The kinds of today send at most 31 frames a run (16 providers); a run of many parts has room.
MAX_FRAMES = 4096
# Two names of 64 characters, a sequence number, a frame name and a digest, as JSON.
MAX_RECORD_BYTES = 300
MAX_LIST_BYTES = MAX_FRAMES * MAX_RECORD_BYTES
# A post-quantum signature or a JWS with a certificate fits.
MAX_SIGNATURE_BYTES = 8192
# Names that canonical JSON (RFC 8785) writes as they are.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
DIGEST_HEX = re.compile(r"[0-9a-f]{64}")

# The frame in which any other party sends its own signature.
SIGNATURE = "transcript/signature"

Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[str, bytes, bytes], bool]


@dataclass(frozen=True, slots=True, order=True)
class FrameRecord:
    """One frame: who sent it to whom, its number between the two from 0, its name and digest."""

    sender: str
    receiver: str
    sequence: int
    name: str
    digest: str

    @property
    def place(self) -> tuple[str, str, int]:
        """What identifies the frame, whatever was in it."""
        return self.sender, self.receiver, self.sequence

    def __str__(self) -> str:
        return f"frame {self.sequence} ({self.name!r}) from {self.sender} to {self.receiver}"


@dataclass(frozen=True)
class Transcribed:
    """The outcome of a role and the digest of the run, signed by every party in `signatures`."""

    outcome: Outcome
    digest: bytes
    signatures: dict[str, bytes]


@dataclass(frozen=True)
class Signed:
    """A run at a party that has signed its transcript and waits for the others' signatures.

    All that `closing` needs, and no secret of the run: the role has ended.
    """

    outcome: Outcome
    parties: tuple[str, ...]
    digest: bytes
    signature: bytes


def wrap(payload: bytes, nonce: bytes) -> bytes:
    """Put `payload` in an envelope behind 16 random bytes."""
    if len(nonce) != NONCE_BYTES:
        raise InputRejected(f"a nonce of {NONCE_BYTES} bytes expected, got {len(nonce)}")
    return nonce + payload


def unwrap(envelope: bytes) -> bytes:
    """Return the payload of an envelope; ProtocolViolation if it is too short for a nonce."""
    if len(envelope) < NONCE_BYTES:
        raise ProtocolViolation(
            f"an envelope of at least {NONCE_BYTES} bytes expected, got {len(envelope)}"
        )
    return envelope[NONCE_BYTES:]


def frame_digest(envelope: bytes) -> bytes:
    """Return the SHA-256 digest of a whole envelope."""
    return hashlib.sha256(envelope).digest()


def encode_records(records: Iterable[FrameRecord]) -> bytes:
    """Write records in ascending order as canonical JSON (RFC 8785), one array each."""
    rows = [[r.sender, r.receiver, r.sequence, r.name, r.digest] for r in sorted(records)]
    return json.dumps(rows, separators=(",", ":")).encode("ascii")


def parse_records(payload: bytes, sender: str) -> list[FrameRecord]:
    """Read what `encode_records` wrote; ProtocolViolation for anything it would not write."""
    rows = _parse_json(payload, sender)
    if not isinstance(rows, list) or len(rows) > MAX_FRAMES:
        raise ProtocolViolation(f"{sender} sent no list of at most {MAX_FRAMES} frames")
    records = [_parse_record(row, sender) for row in rows]
    if len({record.place for record in records}) != len(records):
        raise ProtocolViolation(f"{sender} listed a frame twice")
    if encode_records(records) != payload:
        raise ProtocolViolation(f"{sender} sent a list of frames that is not in canonical form")
    return records


def _parse_json(payload: bytes, sender: str) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as err:
        raise ProtocolViolation(f"{sender} sent a closing frame that is not JSON") from err


def _parse_record(row: object, sender: str) -> FrameRecord:
    match row:
        case [str(source), str(target), int(sequence), str(name), str(digest)]:
            names_fit = all(NAME.fullmatch(each) for each in (source, target, name))
            sequence_fits = type(sequence) is int and 0 <= sequence < MAX_FRAMES
            if names_fit and sequence_fits and DIGEST_HEX.fullmatch(digest):
                return FrameRecord(source, target, sequence, name, digest)
    raise ProtocolViolation(f"{sender} listed a frame that has not the form of one")


def transcript_digest(context: bytes, canonical_list: bytes) -> bytes:
    """Return the digest everyone signs. `context` is the hash of the signed order."""
    return hashlib.sha256(DIGEST_DOMAIN + context + canonical_list).digest()


class _Recorder:
    """The frames one party has seen, numbered between each pair of parties."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.records: list[FrameRecord] = []
        self._next: dict[tuple[str, str], int] = {}

    def add(self, sender: str, receiver: str, name: str, envelope: bytes) -> None:
        sequence = self._next.get((sender, receiver), 0)
        self._next[sender, receiver] = sequence + 1
        digest = frame_digest(envelope).hex()
        self.records.append(FrameRecord(sender, receiver, sequence, name, digest))


def transcribed(
    role: Role,
    *,
    me: str,
    parties: tuple[str, ...],
    collector: str,
    context: bytes,
    sign: Sign,
    verify: Verify,
    random_bytes: Callable[[int], bytes],
    hand_out: bool = True,
    keep: Callable[[Signed], None] = lambda _: None,
) -> Steps[Transcribed]:
    """Run `role` with its frames in envelopes, then agree on the transcript and sign it.

    `verify(party, digest, signature)` tells whether the signature holds; what it raises is no
    answer, and ends this as it is. Everyone's clock, keys and randomness are the caller's. Without
    `hand_out` the collector ends when it holds every signature, and its caller sends them
    (`encode_signatures`) once it has stored what it holds: whoever dies in between has lost
    nothing. `keep` is called at any other party before its signature leaves it: the collector may
    end the run well with that, and so this party must be able to as well, in a later life too
    (`closing`). Where the outcome names those who took part, they are the parties that sign. Raises
    what `role` raises, InputRejected for names that do not fit, and ProtocolViolation, naming the
    frame or the party, where two accounts differ. `role` is closed when this ends, however it ends.
    """
    recorder = _Recorder(me)
    try:
        _verify_names(me, parties, collector)
        outcome = yield from _in_envelopes(role, recorder, random_bytes)
    finally:
        role.close()
    parties = outcome.parties or parties
    others = [party for party in parties if party != me]
    if me == collector:
        canonical = yield from _collect_records(recorder, others)
    else:
        canonical = yield from _submit_records(recorder, parties, collector)
    digest = transcript_digest(context, canonical)
    own = sign(digest)
    if not 0 < len(own) <= MAX_SIGNATURE_BYTES:
        raise InputRejected(f"a signature of 1 to {MAX_SIGNATURE_BYTES} bytes expected")
    if me == collector:
        signatures = yield from _collect_signatures(own, me, others, digest, verify)
        if hand_out:
            yield from _hand_out(signatures, others)
        return Transcribed(outcome, digest, signatures)
    signed = Signed(outcome, tuple(parties), digest, own)
    keep(signed)
    return (yield from closing(signed, me=me, collector=collector, verify=verify))


def closing(signed: Signed, *, me: str, collector: str, verify: Verify) -> Steps[Transcribed]:
    """End a run that `me`, who is not the collector, has signed: from the run itself, or from what
    it kept. Raises ProtocolViolation for signatures that are not everybody's."""
    yield from send(collector, SIGNATURE, signed.signature)
    limit = len(signed.parties) * (2 * MAX_SIGNATURE_BYTES + 100) + 2
    bundle = yield from receive(collector, SIGNATURES, limit)
    signatures = _parse_signatures(bundle, signed.parties, collector)
    if signatures[me] != signed.signature:
        raise ProtocolViolation(f"{collector} altered the signature of {me}")
    for party, signature in signatures.items():
        if party != me:
            _verify_signature(party, signed.digest, signature, verify)
    return Transcribed(signed.outcome, signed.digest, signatures)


def _verify_names(me: str, parties: tuple[str, ...], collector: str) -> None:
    if len(set(parties)) != len(parties) or not {me, collector} <= set(parties):
        raise InputRejected("parties: different names expected, oneself and the collector included")
    if not all(NAME.fullmatch(party) for party in parties):
        raise InputRejected(
            "parties: names of 1 to 64 letters, digits, '.', '_', '/', '-' expected"
        )


def _in_envelopes(
    role: Role, recorder: _Recorder, random_bytes: Callable[[int], bytes]
) -> Steps[Outcome]:
    """Drive `role`, wrapping what it sends, unwrapping what it receives, recording both."""
    payload: bytes | None = None
    while True:
        try:
            step = role.send(payload)
        except StopIteration as ended:
            outcome: Outcome = ended.value
            return outcome
        if isinstance(step, Progress):
            yield step
            payload = None
            continue
        if len(recorder.records) >= MAX_FRAMES:
            raise InputRejected(f"a run of more than {MAX_FRAMES} frames cannot be transcribed")
        if isinstance(step, Send):
            envelope = wrap(step.payload, random_bytes(NONCE_BYTES))
            recorder.add(recorder.me, step.to, step.name, envelope)
            yield from send(step.to, step.name, envelope)
            payload = None
        else:
            envelope = yield from _receive_envelope(step)
            recorder.add(step.sender, recorder.me, step.name, envelope)
            payload = unwrap(envelope)


def _receive_envelope(step: Receive) -> Steps[bytes]:
    return (yield from receive(step.sender, step.name, step.limit_bytes + NONCE_BYTES))


def _collect_records(recorder: _Recorder, others: list[str]) -> Steps[bytes]:
    """As the collector: bring everyone's accounts together and send the common list to all."""
    accounts = {recorder.me: recorder.records}
    for party in others:
        payload = yield from receive(party, "transcript/frames", MAX_LIST_BYTES)
        accounts[party] = parse_records(payload, party)
    records = reconcile(accounts)
    if len(records) > MAX_FRAMES:
        raise ProtocolViolation(f"all parties together list more than {MAX_FRAMES} frames")
    canonical = encode_records(records)
    for party in others:
        yield from send(party, "transcript/list", canonical)
    return canonical


def reconcile(accounts: dict[str, list[FrameRecord]]) -> list[FrameRecord]:
    """Return every frame once; ProtocolViolation unless both its ends tell the same of it."""
    seen = {
        party: {record.place: record for record in records} for party, records in accounts.items()
    }
    for party, records in accounts.items():
        for record in records:
            if party not in (record.sender, record.receiver):
                raise ProtocolViolation(f"{party} lists {record}, in which it took no part")
            other = record.receiver if party == record.sender else record.sender
            if other not in accounts or other == party:
                raise ProtocolViolation(f"{party} lists {record}, but {other} is not its peer")
            theirs = seen[other].get(record.place)
            if theirs is None:
                raise ProtocolViolation(f"{party} lists {record}, and {other} does not")
            if theirs != record:
                raise ProtocolViolation(f"{record}: {party} and {other} saw different contents")
    return sorted({record for records in accounts.values() for record in records})


def _submit_records(recorder: _Recorder, parties: tuple[str, ...], collector: str) -> Steps[bytes]:
    """As any other party: send the own account, check the common list against it."""
    yield from send(collector, "transcript/frames", encode_records(recorder.records))
    canonical = yield from receive(collector, "transcript/list", MAX_LIST_BYTES)
    records = parse_records(canonical, collector)
    _verify_own_frames(recorder, records, parties, collector)
    return canonical


def _verify_own_frames(
    recorder: _Recorder, records: list[FrameRecord], parties: tuple[str, ...], collector: str
) -> None:
    me = recorder.me
    listed = {record for record in records if me in (record.sender, record.receiver)}
    mine = set(recorder.records)
    for record in sorted(mine - listed):
        raise ProtocolViolation(f"{collector} left out or altered {record} of {me}")
    for record in sorted(listed - mine):
        raise ProtocolViolation(f"{collector} lists {record}, which {me} does not know")
    for record in records:
        if record.sender not in parties or record.receiver not in parties:
            raise ProtocolViolation(f"{collector} lists {record} of a party that takes no part")


def _collect_signatures(
    own: bytes, me: str, others: list[str], digest: bytes, verify: Verify
) -> Steps[dict[str, bytes]]:
    """As the collector: check everyone's signature."""
    signatures = {me: own}
    for party in others:
        signature = yield from receive(party, SIGNATURE, MAX_SIGNATURE_BYTES)
        _verify_signature(party, digest, signature, verify)
        signatures[party] = signature
    return dict(sorted(signatures.items()))


def _hand_out(signatures: dict[str, bytes], others: list[str]) -> Steps[None]:
    bundle = encode_signatures(signatures)
    for party in others:
        yield from send(party, SIGNATURES, bundle)


def encode_signatures(signatures: Mapping[str, bytes]) -> bytes:
    """Write the signatures of all parties as the frame SIGNATURES has them."""
    rows = {party: signature.hex() for party, signature in signatures.items()}
    return json.dumps(rows, separators=(",", ":"), sort_keys=True).encode("ascii")


def _parse_signatures(payload: bytes, parties: tuple[str, ...], sender: str) -> dict[str, bytes]:
    rows = _parse_json(payload, sender)
    if not isinstance(rows, dict) or set(rows) != set(parties):
        raise ProtocolViolation(f"{sender} sent no signature, or more than one, of some party")
    try:
        signatures = {party: bytes.fromhex(rows[party]) for party in sorted(rows)}
    except (TypeError, ValueError) as err:
        raise ProtocolViolation(f"{sender} sent a signature that is not hexadecimal") from err
    if encode_signatures(signatures) != payload:
        raise ProtocolViolation(f"{sender} sent signatures that are not in canonical form")
    return signatures


def _verify_signature(party: str, digest: bytes, signature: bytes, verify: Verify) -> None:
    if not verify(party, digest, signature):
        raise ProtocolViolation(f"the signature of {party} under the transcript fails")
