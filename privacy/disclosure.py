"""Disclosure control: the rules a result must satisfy before the disclosing party lets it go.

The party that would disclose applies the rule before its last frame, so a receiver cannot skip it.
What it decided travels as a verdict: one byte, and the result if it is released.
"""

from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.role import Steps, receive, send

MIN_COHORT = "ds:minCohort"
WITHHELD = b"\x00"
RELEASED = b"\x01"


def reaches_cohort(count: int, min_cohort: int) -> bool:
    """Tell whether a cohort of `count` members is large enough; `min_cohort` 0 allows any."""
    return count >= min_cohort


def is_small_group(count: int, min_cohort: int) -> bool:
    """Tell whether a group has members but too few to be shown. An empty group names nobody."""
    return 0 < count < min_cohort


def verify_cohort(count: int, min_cohort: int) -> None:
    """Raise Withheld unless `count` members reach `min_cohort`."""
    if not reaches_cohort(count, min_cohort):
        raise Withheld(MIN_COHORT)


def verify_released_cohort(count: int, min_cohort: int, discloser: str) -> None:
    """Raise ProtocolViolation if `discloser` released a cohort that it had to withhold."""
    if not reaches_cohort(count, min_cohort):
        raise ProtocolViolation(f"{discloser} released a cohort below the agreed minimum")


def verify_min_cohort_parameter(min_cohort: int) -> None:
    """Raise InputRejected unless `min_cohort` is an integer of at least 0 and below 2**31."""
    if type(min_cohort) is not int or not 0 <= min_cohort < 2**31:
        raise InputRejected("min_cohort: an integer from 0 to 2147483647 expected")


def released(body: bytes = b"") -> bytes:
    """Write a verdict that lets `body` go."""
    return RELEASED + body


def parse_verdict(payload: bytes, sender: str) -> bytes:
    """Return the body of a released verdict; Withheld if it is not released."""
    if payload == WITHHELD:
        raise Withheld(MIN_COHORT)
    if payload[:1] != RELEASED:
        raise ProtocolViolation(f"{sender} sent neither a released nor a withheld result")
    return payload[1:]


def receive_verdict(sender: str, name: str, body_bytes: int) -> Steps[bytes]:
    """Receive a verdict with a body of at most `body_bytes`; Withheld if it is not released."""
    payload = yield from receive(sender, name, 1 + body_bytes)
    return parse_verdict(payload, sender)


def withhold_below(count: int, min_cohort: int, *, tell: dict[str, str]) -> Steps[None]:
    """Raise Withheld unless `count` reaches `min_cohort`, after having told everyone who waits.

    `tell` is party to name of the frame it waits for; none of them learns `count`.
    """
    if not reaches_cohort(count, min_cohort):
        for party, name in tell.items():
            yield from send(party, name, WITHHELD)
        raise Withheld(MIN_COHORT)
