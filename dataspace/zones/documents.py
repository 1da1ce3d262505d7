"""What the operator signs about a zone: who is in it, and the policies its members share.

Both are compact JWS (RFC 7515) of a few minutes' life. A credential lives for weeks, so whoever was
expelled still has one that names the zone; the list is what says who belongs to it now. A document
names its zone inside what is signed, so that one zone's cannot be shown for another's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, TypeVar

from joserfc.jwk import Key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.comparison import Incomparable, texts_of
from contracts.errors import ContractError
from contracts.jws import open_compact, read_compact, sign_compact
from contracts.odrl import Agreement, AtomicConstraint, Constraint, Offer
from contracts.profile import Operand
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.identity.tokens import CLOCK_SKEW_S, ZONE, Identity

# Lower-case Latin letters, digits and Chinese characters; nothing that looks like something else,
# and nothing that means something in an address.
_SIGN: Final = "0-9a-z\u3400-\u4dbf\u4e00-\u9fff"
NAME: Final = re.compile(f"[{_SIGN}](?:[{_SIGN}._-]{{0,62}}[{_SIGN}])?")
# A list of so many identifiers of the longest usual sort is read at once.
MAX_MEMBERS: Final = 10_000
MAX_POLICIES: Final = 100
MAX_POLICY_BYTES: Final = 64 * 1024
LIST_LIMIT_BYTES: Final = 4 * 1024 * 1024
POLICY_LIMIT_BYTES: Final = 4 * MAX_POLICY_BYTES
# However long an operator would have its lists live, an expulsion is not put off for longer.
MAX_LIFETIME_S: Final = 3600

LIST_TYPE: Final = "zone-list+jws"
POLICY_TYPE: Final = "zone-policy+jws"

KeyOf = Callable[[str], Key]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Did = Annotated[str, Field(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]


class _Signed(BaseModel):
    """Who said it, and from when until when it holds (UNIX seconds)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    iss: Did
    iat: int = Field(ge=0)
    exp: int = Field(ge=0)
    # A zone of an earlier version may have any name a credential can carry.
    zone: str = Field(pattern=f"^{ZONE.pattern}$")


class ZoneList(_Signed):
    """The members of one zone. `serial` counts the changes, so of two the later is known."""

    title: str = Field(default="", max_length=200)
    title_zh: str = Field(default="", max_length=200)
    about: str = Field(default="", max_length=4000)
    steward: Did | None = None
    serial: int = Field(ge=0)
    members: tuple[Did, ...] = Field(max_length=MAX_MEMBERS)


class SharedPolicy(_Signed):
    """A policy that members of a zone share: its `number` counts from 1 with every change.

    `document` is ODRL, or ready policies as `use`, `with` and `also`, with parameters left open.
    """

    policy: Name
    number: int = Field(ge=1)
    document: dict[str, Any]


_Document = TypeVar("_Document", ZoneList, SharedPolicy)


def sign_list(document: ZoneList, operator: Identity) -> str:
    """The list as the operator serves it."""
    return _sign(document, operator, LIST_TYPE, LIST_LIMIT_BYTES)


def sign_policy(document: SharedPolicy, operator: Identity) -> str:
    """The policy as the operator serves it."""
    return _sign(document, operator, POLICY_TYPE, POLICY_LIMIT_BYTES)


def open_list(text: str, *, zone: str, operator: str, now: float, key_of: KeyOf) -> ZoneList:
    """The list of `zone` that `operator` signed. Raises ProtocolViolation saying what is wrong,
    and whatever `key_of` raises."""
    what = "zone list"
    found = _open(ZoneList, text, operator, now, key_of, what, LIST_TYPE, LIST_LIMIT_BYTES)
    if found.zone != zone:
        raise ProtocolViolation(f"{what}: it is the list of another zone")
    return found


def open_policy(
    text: str, *, zone: str, policy: str, operator: str, now: float, key_of: KeyOf
) -> SharedPolicy:
    """The policy of `zone` by this name that `operator` signed. Raises as `open_list` does."""
    what = "zone policy"
    found = _open(SharedPolicy, text, operator, now, key_of, what, POLICY_TYPE, POLICY_LIMIT_BYTES)
    if (found.zone, found.policy) != (zone, policy):
        raise ProtocolViolation(f"{what}: it is another one than was asked for")
    return found


def read_kept_list(text: str) -> ZoneList:
    """A list out of our own database, whose signature was verified before it went there."""
    _, payload = read_compact(text, typ=LIST_TYPE, what="zone list", limit=LIST_LIMIT_BYTES)
    return ZoneList.model_validate_json(payload)


def verify_name(name: str, what: str) -> None:
    """Raises InputRejected for what is no name of a zone or of its policies."""
    if not NAME.fullmatch(name):
        raise InputRejected(
            f"{what}: expected 1 to 64 lower-case letters, digits or Chinese characters, with "
            "dots, dashes and underscores between them",
            remedy="for example: qianhai-ftz, or 前海-金融",
        )


def zones_in(policy: Offer | Agreement) -> frozenset[str]:
    """The zones that a policy asks about, wherever it does."""
    rules = (*policy.permission, *policy.prohibition)
    return frozenset(
        zone
        for rule in rules
        for constraint in rule.constraint
        for atom in _atoms(constraint)
        if atom.left_operand == Operand.RECIPIENT_ZONE
        for zone in _texts_in(atom.right_operand)
    )


def _atoms(constraint: Constraint) -> Iterator[AtomicConstraint]:
    # Nesting is bounded where policies are read.
    if isinstance(constraint, AtomicConstraint):
        yield constraint
        return
    for each in constraint.joined[1]:
        yield from _atoms(each)


def _texts_in(operand: object) -> list[str]:
    try:
        return texts_of(operand)
    except Incomparable:
        # A clause that cannot be read refuses, whatever the lists say.
        return []


def _sign(document: BaseModel, operator: Identity, typ: str, limit: int) -> str:
    payload = document.model_dump_json().encode()
    return sign_compact(payload, operator.key, operator.kid, operator.alg, typ=typ, limit=limit)


def _open(
    model: type[_Document],
    text: str,
    operator: str,
    now: float,
    key_of: KeyOf,
    what: str,
    typ: str,
    limit: int,
) -> _Document:
    try:
        payload = open_compact(text, operator, key_of, typ=typ, what=what, limit=limit)
        found = model.model_validate_json(payload)
    except ValidationError as err:
        fields = ", ".join(sorted({".".join(map(str, each["loc"])) for each in err.errors()}))
        raise ProtocolViolation(f"{what}: unusable {fields[:200] or 'text'}") from err
    except ContractError as err:
        raise ProtocolViolation(str(err)) from err
    if found.iss != operator:
        raise ProtocolViolation(f"{what}: it does not come from the operator of this space")
    if found.iat > now + CLOCK_SKEW_S:
        raise ProtocolViolation(
            f"{what}: it was made {found.iat - now:.0f} seconds in the future",
            remedy="set both nodes' clocks",
        )
    if not found.iat < found.exp <= found.iat + MAX_LIFETIME_S:
        raise ProtocolViolation(f"{what}: it has to live for at most {MAX_LIFETIME_S} seconds")
    if found.exp <= now:
        raise ProtocolViolation(f"{what}: it ended {now - found.exp:.0f} seconds ago")
    return found
