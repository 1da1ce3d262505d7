"""An engine outside of this package that finds what two sets have in common, and when it is used.

`privacy.intersection` compares sets on a curve: 170 microseconds an element. An engine built on
oblivious transfer needs about five (RR22: Raghuraman, Rindal 2022; KKRT: Kolesnikov, Kumaresan,
Rosulek, Trieu 2016), but has a link of its own to the other side, and tells the intersection to its
receiver at once. So it can serve only a kind in which both parties may know the intersection:

    1. both                 engine/offer    what engines there are, a random number
    2. both                 engine/size     of the set, where the engines could serve
    3. both                 engine/link     how the engine of each is reached, and known
    4. consumer -> provider engine/started
       then the engines run over their own link; the provider's is the receiver
    5. provider -> consumer engine/result   the keys of what is common, or "withheld"

The provider has the intersection first, applies the minimum cohort, and only then sends 5. The
consumer's engine is the sender and gets nothing. Both are held to be semi-honest, as on the curve.

The engines never see an identifier. They compare keys: BLAKE2s (RFC 7693) to 12 bytes of the
identifier after a salt that both chose for this run. Any two identifiers of two sets of two million
share one with a chance of 2^-53; RR22 itself matches wrongly with 2^-40. Each set gets one random
key that nobody else has: the engine begins by comparing digests of the whole sets, from which the
other side could tell that two sets are equal, or guess a small one, before any cohort is applied.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from privacy.computation import CONSUMER, Parameters, RoleContext
from privacy.disclosure import (
    MIN_COHORT,
    reaches_cohort,
    receive_verdict,
    released,
    verify_released_cohort,
    withhold_below,
)
from privacy.errors import InputRejected, PrivacyError, ProtocolViolation, Withheld
from privacy.role import Progress, Steps, receive, send
from privacy.wire import (
    COUNT_BYTES,
    NUMBER_BYTES,
    encode_number,
    parse_number,
    parse_records,
    verify_ascending,
)

ECDH, RR22, KKRT = "ecdh", "rr22", "kkrt"
# In the order of the bits of an offer.
PROTOCOLS = (RR22, KKRT)
ENGINE_SETTING = "engine"
# Below this the curve takes half a minute and needs no second link.
ENGINE_LEAST = 200_000
# 250 bytes an identifier are in memory here, and 500 in the engine.
ENGINE_MOST = 2_000_000

# Longer keys cost the engine more: 16 bytes a fifth of its time.
KEY_BYTES = 12
NONCE_BYTES = 16
MAX_LINK_BYTES = 4096
_OFFER_BYTES = 1 + NONCE_BYTES
# Between two looks whether the run was cancelled.
POLL_S = 0.1
PROGRESS_ELEMENTS = 16_384


class EngineUnavailable(PrivacyError):
    """An engine or its link is not there or gave out, by nobody's fault. Trying again may help."""


@dataclass(frozen=True)
class EngineRun:
    """What one side's engine is to do. The provider's `receives`, and is the one that listens."""

    protocol: str
    receives: bool
    keys: Sequence[bytes]
    peer: str


class PsiEngine(Protocol):
    """A port: one engine for one run. `close` may be called at any moment, and again."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """What it can do, out of `PROTOCOLS`."""

    def prepare(self, run: EngineRun) -> bytes:
        """Take the keys, all different, and return how this side is reached and known.

        At most `MAX_LINK_BYTES`, meant for the engine of the other side only. Raises
        EngineUnavailable.
        """

    def begin(self, peer_link: bytes) -> None:
        """Start; returns at once. Raises ProtocolViolation for a link that is none."""

    def finished(self, wait_s: float) -> bool:
        """Wait up to `wait_s` for the end. Raises EngineUnavailable when it has failed, by itself,
        by the other side or by its deadline."""

    def common(self) -> list[bytes]:
        """At the receiver, when finished: keys it found, in any order, of any number of times."""

    def close(self) -> None:
        """End the run if it is not over, and leave nothing of it anywhere."""


@dataclass(frozen=True)
class EngineOffer:
    """What one side says in `engine/offer`. `protocols` are in the order of `PROTOCOLS`."""

    protocols: tuple[str, ...]
    nonce: bytes

    def encode(self) -> bytes:
        return bytes([sum(1 << PROTOCOLS.index(name) for name in self.protocols)]) + self.nonce

    @classmethod
    def parse(cls, payload: bytes, sender: str) -> "EngineOffer":
        """Read what `encode` wrote. Raises ProtocolViolation."""
        if len(payload) != _OFFER_BYTES or payload[0] >= 1 << len(PROTOCOLS):
            raise ProtocolViolation(f"{sender} sent an engine offer that is none")
        protocols = tuple(name for at, name in enumerate(PROTOCOLS) if payload[0] >> at & 1)
        return cls(protocols, payload[1:])


@dataclass(frozen=True)
class Agreed:
    """What an engine is to serve: the choice, alike on both sides, and the own set by its keys."""

    protocol: str
    keyed: Mapping[bytes, str]
    rows: int
    peer_count: int

    def report(self) -> dict[str, int]:
        """What its owner is told about its own input."""
        count = len(self.keyed)
        return {"rows": self.rows, "distinct": count, "duplicates": self.rows - count}


@dataclass(frozen=True)
class Shared:
    """The result, which is the same on both sides: the identifiers, in the order of the rows."""

    identifiers: list[str]
    report: dict[str, int]


def wanted_engine(parameters: Parameters) -> str | None:
    """Return the engine an order asks for, None where size decides. Raises InputRejected."""
    wanted = parameters.settings.get(ENGINE_SETTING)
    if wanted is None:
        return None
    if not isinstance(wanted, str) or wanted not in (ECDH, *PROTOCOLS):
        raise InputRejected(f"{ENGINE_SETTING}: one of {', '.join((ECDH, *PROTOCOLS))} expected")
    return wanted


def choose_protocol(wanted: str | None, own: EngineOffer, theirs: EngineOffer) -> str | None:
    """Return what engine both sides could use, the same on both; None is the curve.

    An order that names an engine gets it or raises EngineUnavailable. Without one it is RR22 where
    both have it, and then size decides (`large_enough`).
    """
    if wanted == ECDH:
        return None
    protocol = wanted or RR22
    for side, offer in (("this side", own), ("the other side", theirs)):
        if protocol not in offer.protocols:
            if wanted is None:
                return None
            raise EngineUnavailable(f"the order asks for engine {wanted}, which {side} has not")
    return protocol


def large_enough(wanted: str | None, own_count: int, peer_count: int) -> bool:
    """Tell whether the engine is to be used: always if an order names it, if it can.

    Without an order, where the larger set has `ENGINE_LEAST` identifiers and neither too many.
    """
    largest = max(own_count, peer_count)
    if wanted is None:
        return ENGINE_LEAST <= largest <= ENGINE_MOST
    if largest > ENGINE_MOST:
        raise EngineUnavailable(f"engine {wanted} takes at most {ENGINE_MOST} identifiers a side")
    return True


# --- The roles ------------------------------------------------------------------------------------


def agree_on_engine(
    context: RoleContext, engine: PsiEngine | None, peer: str
) -> Steps[Agreed | None]:
    """Choose the engine together with `peer`; None is the curve.

    No frame is sent where the order names the curve. `engine` None: this side has none, or does not
    want it now, as when it goes on with a run that the curve has begun.
    """
    wanted = wanted_engine(context.parameters)
    if wanted == ECDH:
        return None
    protocols = engine.protocols if engine is not None else ()
    own = EngineOffer(protocols, context.random_bytes(NONCE_BYTES))
    yield from send(peer, "engine/offer", own.encode())
    theirs = EngineOffer.parse((yield from receive(peer, "engine/offer", _OFFER_BYTES)), peer)
    protocol = choose_protocol(wanted, own, theirs)
    if protocol is None:
        return None
    nonces = (theirs.nonce, own.nonce) if context.role == CONSUMER else (own.nonce, theirs.nonce)
    salt = b"".join(nonces)
    keyed, rows = yield from _key_all(context, salt)
    yield from send(peer, "engine/size", encode_number(len(keyed)))
    peer_count = parse_number((yield from receive(peer, "engine/size", NUMBER_BYTES)), peer)
    if not large_enough(wanted, len(keyed), peer_count):
        return None
    # Both know both sizes, so neither needs to be told.
    if not reaches_cohort(min(len(keyed), peer_count), context.parameters.min_cohort):
        raise Withheld(MIN_COHORT)
    yield Progress(total=2 * rows)
    return Agreed(protocol, keyed, rows, peer_count)


def engine_provider(
    context: RoleContext, engine: PsiEngine, agreed: Agreed, consumer: str = CONSUMER
) -> Steps[Shared]:
    """Receive the intersection from the engine, apply the cohort, then tell the consumer."""
    stranger = context.random_bytes(KEY_BYTES)
    run = EngineRun(agreed.protocol, True, [*agreed.keyed, stranger], consumer)
    try:
        link = engine.prepare(run)
        engine.begin((yield from receive(consumer, "engine/link", MAX_LINK_BYTES)))
        # Only now: the consumer's engine connects as soon as it has this.
        yield from send(consumer, "engine/link", link)
        yield from receive(consumer, "engine/started", 0)
        yield from _wait(engine, agreed)
        # What a dishonest sender made the engine find twice counts once.
        found = dict.fromkeys(engine.common())
    finally:
        engine.close()
    found.pop(stranger, None)
    yield from withhold_below(
        len(found), context.parameters.min_cohort, tell={consumer: "engine/result"}
    )
    # In the order of the keys, which says nothing about ours.
    payload = len(found).to_bytes(COUNT_BYTES, "big") + b"".join(sorted(found))
    yield from send(consumer, "engine/result", released(payload))
    return Shared(_identifiers(agreed, found), agreed.report())


def engine_consumer(
    context: RoleContext, engine: PsiEngine, agreed: Agreed, provider: str
) -> Steps[Shared]:
    """Let the engine send, and read what is common once the provider lets it go."""
    stranger = context.random_bytes(KEY_BYTES)
    run = EngineRun(agreed.protocol, False, [*agreed.keyed, stranger], provider)
    try:
        link = engine.prepare(run)
        yield from send(provider, "engine/link", link)
        engine.begin((yield from receive(provider, "engine/link", MAX_LINK_BYTES)))
        yield from send(provider, "engine/started", b"")
        yield from _wait(engine, agreed)
    finally:
        engine.close()
    most = min(len(agreed.keyed), agreed.peer_count)
    body = yield from receive_verdict(provider, "engine/result", COUNT_BYTES + most * KEY_BYTES)
    found = parse_records(body, KEY_BYTES, provider)
    verify_ascending(found, provider)
    verify_released_cohort(len(found), context.parameters.min_cohort, provider)
    identifiers = _identifiers(agreed, set(found))
    if len(identifiers) != len(found):
        raise ProtocolViolation(f"{provider} sent keys that are not of this side's set")
    return Shared(identifiers, agreed.report())


def _key_all(context: RoleContext, salt: bytes) -> Steps[tuple[dict[bytes, str], int]]:
    """Return the own identifiers by their keys, and how many rows they came from.

    Stops where they are more than an engine takes.
    """
    blake2s = hashlib.blake2s
    keyed: dict[bytes, str] = {}
    rows = 0
    for batch in context.rows.batches():
        for start in range(0, len(batch.identifiers), PROGRESS_ELEMENTS):
            piece = batch.identifiers[start : start + PROGRESS_ELEMENTS]
            keys = [blake2s(salt + one.encode(), digest_size=KEY_BYTES).digest() for one in piece]
            keyed.update(zip(keys, piece, strict=True))
            rows += len(piece)
            if len(keyed) > ENGINE_MOST:
                return keyed, rows
            yield Progress(done=len(piece))
    return keyed, rows


def _wait(engine: PsiEngine, agreed: Agreed) -> Steps[None]:
    """Wait for the engine. The driver may end the role between two looks."""
    while not engine.finished(POLL_S):
        yield Progress()
    yield Progress(done=agreed.rows)


def _identifiers(agreed: Agreed, found: Container[bytes]) -> list[str]:
    return [one for key, one in agreed.keyed.items() if key in found]
