"""Whom the federated catalogue is made of: the participants that the space's operator lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.members import MAX_A_PAGE
from dataspace.settings import ParticipantKind

if TYPE_CHECKING:
    from dataspace.node import Node

# A city has some thousands of bureaus and firms; a list beyond this is no list of a space.
MAX_PARTICIPANTS: Final = 10_000
FETCH_S: Final = 20.0


@dataclass(frozen=True)
class Participant:
    """One participant that serves a catalogue."""

    did: str
    kind: ParticipantKind
    name: str


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    did: Annotated[str, Field(min_length=1, max_length=300)]
    kind: ParticipantKind
    name: Annotated[str, Field(max_length=200)] = ""
    url: str | None = None
    status: str = "active"


_LIST: Final = TypeAdapter(list[_Listed])


def participants_of_space(node: Node, operator: str) -> tuple[Participant, ...]:
    """Every active participant with a node, except `node` itself, as the operator (a DID) lists
    them now. Raises Unavailable, and ProtocolViolation for an answer that is no such list."""
    listed: list[_Listed] = []
    while len(listed) < MAX_PARTICIPANTS:
        after = listed[-1].did if listed else None
        if node.operator is not None:
            page = _LIST.validate_python(node.operator.members.page(after=after))
        else:
            page = parse_participants(_ask(node, operator, after), operator)
        listed += page
        if len(page) < MAX_A_PAGE:
            break
    return tuple(
        Participant(one.did, one.kind, one.name)
        for one in listed
        if one.url is not None and one.status == "active" and one.did != node.did
    )


def _ask(node: Node, operator: str, after: str | None) -> bytes:
    url = f"{node.peers.url_of(operator)}/operator/participants?limit={MAX_A_PAGE}"
    if after is not None:
        url += f"&after={quote(after, safe='')}"
    answer = node.peers.send("GET", url, to=operator, timeout_s=FETCH_S)
    if answer.status >= 300:
        raise Unavailable(f"the operator answered {answer.status}: {answer.reason()}")
    return answer.body


def parse_participants(body: bytes, operator: str) -> list[_Listed]:
    """The list in an answer of `operator`. Raises ProtocolViolation for what is none."""
    try:
        listed = _LIST.validate_json(body)
    except ValidationError as err:
        raise ProtocolViolation(f"{operator} did not answer with a list of participants") from err
    if len(listed) > MAX_PARTICIPANTS:
        raise ProtocolViolation(
            f"{operator} lists {len(listed)} participants, more than {MAX_PARTICIPANTS}"
        )
    return listed
