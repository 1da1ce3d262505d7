"""What a provider keeps of a run that it has signed, and how it ends the run in a later life.

A signature that has left cannot be taken back: the consumer may complete with it. So everything the
provider needs to complete too lies in the run's spool before its signature leaves, and the
signatures that the consumer hands out lie there before they are acknowledged. A provider that comes
back in between begins nothing again: it offers its signature once more and takes the others'.

    signed        what the role gave, the transcript's digest, the own signature, and where between
                  the two parties the frames were: no secret of the run
    signatures    the consumer's last frame, as it came

It waits for that frame past the order's deadline, as long as a message is repeated: until then the
consumer either hands the signatures out or says that the computation has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dataspace.computing.inbox import Chunk, content_digest
from dataspace.computing.sessions import FIRST_WAIT_S, LONGEST_WAIT_S, Session
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.processes import GIVE_UP_S
from privacy.kinds import CONSUMER
from privacy.role import Outcome
from privacy.spool import Spool
from privacy.transcript import SIGNATURES, Signed, Verify

SIGNED_FILE, SIGNATURES_FILE = "signed", "signatures"
SIGNATURES_S = GIVE_UP_S


@dataclass(frozen=True)
class SignedRun:
    """A signed run as its party keeps it: of which attempt it is, the number of the frame with the
    own signature, and how many frames of the consumer had been had."""

    attempt: int
    sequence: int
    taken: int
    signed: Signed


def keep_signed(run: Session, spool: Spool, signed: Signed, excluded: int | None) -> None:
    """Have on the disk what ends `run` well. `excluded` of our rows had no usable identifier: a
    later life reads none, and so could not tell."""
    outcome = signed.outcome
    report = dict(outcome.report) | ({} if excluded is None else {"excluded": excluded})
    sequence, taken = run.sequences.get(CONSUMER, 0), run.inbox.taken(CONSUMER)
    kept = {
        "attempt": run.attempt,
        "sequence": sequence,
        "taken": taken,
        "value": outcome.value,
        "report": report,
        "attachment": outcome.attachment,
        "parties": signed.parties,
        "digest": signed.digest.hex(),
        "signature": signed.signature.hex(),
    }
    # Signatures of an earlier attempt are about another digest.
    spool.remove(SIGNATURES_FILE)
    spool.put(SIGNED_FILE, json.dumps(kept).encode())
    run.keep = _keeping_signatures(spool, taken)
    run.deadline += SIGNATURES_S


def signed_run(spool: Spool, attempt: int) -> SignedRun | None:
    """What was kept of the run's `attempt`, if that was signed."""
    content = spool.get(SIGNED_FILE)
    if content is None:
        return None
    kept = json.loads(content)
    if kept["attempt"] != attempt:
        return None
    parties = tuple(kept["parties"])
    outcome = Outcome(kept["value"], kept["report"], kept["attachment"], parties)
    digest, signature = (bytes.fromhex(kept[name]) for name in ("digest", "signature"))
    signed = Signed(outcome, parties, digest, signature)
    return SignedRun(attempt, kept["sequence"], kept["taken"], signed)


def put_back(run: Session, spool: Spool, kept: SignedRun) -> None:
    """Put a session where that of the earlier life was, with the signatures if they had come."""
    run.closing, run.announced = True, True
    run.sequences[CONSUMER] = kept.sequence
    run.inbox.go_on_after(CONSUMER, kept.taken)
    run.keep = _keeping_signatures(spool, kept.taken)
    run.deadline += SIGNATURES_S
    bundle = spool.get(SIGNATURES_FILE)
    if bundle is not None:
        digest = content_digest(bundle)
        run.inbox.put(Chunk(CONSUMER, kept.taken, 0, 1, SIGNATURES, digest, bundle, run.attempt))


def patient(
    check: Callable[[str, bytes, bytes], None], find: Callable[[], Session | None]
) -> Verify:
    """Whether a signature holds, by `check`, which raises ProtocolViolation where it does not.

    A signer whose keys cannot be had at the moment, as in the first seconds of a node's life, has
    signed no worse for it: it is asked again until the run that `find` gives has its deadline or is
    closed. Then what `check` raised, or the reason of the close, comes through.
    """

    def verify(party: str, digest: bytes, signature: bytes) -> bool:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                check(party, digest, signature)
                return True
            except ProtocolViolation:
                return False
            except Unavailable:
                run = find()
                if run is None or time.monotonic() + wait_s > run.deadline:
                    raise
            run.inbox.pause(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    return verify


def _keeping_signatures(spool: Spool, taken: int) -> Callable[[Chunk], None]:
    """What keeps the consumer's last frame as it comes, and leaves all others alone."""
    last = (CONSUMER, taken, SIGNATURES, 1)

    def keep(chunk: Chunk) -> None:
        if (chunk.sender, chunk.sequence, chunk.name, chunk.of) != last:
            return
        # A run that ended meanwhile has no spool any more, and had the frame before.
        with suppress(FileNotFoundError):
            spool.put(SIGNATURES_FILE, chunk.body)

    return keep
