"""The outbox: protocol messages are queued in the transaction of the change they announce.

Messages about one negotiation or transfer share a lane and so arrive in order. Delivery is at
least once; the `Message-Id` is the same each time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from sqlmodel import Session

from dataspace.answer import Answer
from dataspace.errors import NodeError, Unavailable
from dataspace.processes import GIVE_UP_S, Handler, Pool, Process, schedule

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.delivery")

DELIVER = "deliver"
# A peer may still be writing down what it answered a moment ago when our next message comes. Where
# it died in between it knows of nothing, until it has asked once more after its start: so both are
# counted from its first refusal, not from when the message was queued.
SETTLING_S = 3.0
COMING_BACK_S = 30.0


class Message(Protocol):
    """A protocol message that can be written."""

    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Reaction:
    """What happens after a message was answered or could not be delivered.

    `answered` is given the subject, the answer, and the state that the message announced.
    """

    answered: Callable[[Session, str, Answer, str], None] | None = None
    refused: Callable[[Session, str, str], None] | None = None


class Rejected(NodeError):
    """The peer answered a message with a 4xx: sending it again will not help."""


class Delivery:
    """Sends what is queued. Reactions are found by name, as a row cannot hold a function."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._reactions: dict[str, Reaction] = {}
        # When a peer first refused a message that is being delivered, by process.
        self._refused_at: dict[int, float] = {}

    def on(self, name: str, reaction: Reaction) -> None:
        """Register what messages queued with `reaction=name` lead to."""
        self._reactions[name] = reaction

    def handlers(self) -> dict[str, Handler]:
        return {DELIVER: Handler(self._deliver, self._failed, Pool.PEERS)}

    def queue(
        self,
        tx: Session,
        message: Message,
        *,
        to: str,
        url: str,
        subject: str,
        state: str = "",
        reaction: str = "",
        heed: bool = True,
        last: bool = False,
        give_up_after_s: float = GIVE_UP_S,
    ) -> None:
        """Queue `message`, which announces `state`, for `to` in the caller's transaction.

        Without `heed` nothing follows from the answer but that it came. `last` marks a message that
        ends its process: if the peer refuses it, nothing follows.
        """
        payload: dict[str, Any] = {
            "to": to,
            "url": url,
            "body": message.to_bytes().decode(),
            "message_id": str(uuid.uuid4()),
            "state": state,
            "reaction": reaction,
            "heed": heed,
            "last": last,
        }
        schedule(
            tx,
            DELIVER,
            subject,
            payload,
            lane=f"{DELIVER}:{subject}",
            target=to,
            give_up_after_s=give_up_after_s,
        )

    def _deliver(self, process: Process) -> None:
        asked = process.payload
        answer = self._node.peers.send(
            "POST",
            asked["url"],
            to=asked["to"],
            body=asked["body"].encode(),
            headers={"message-id": asked["message_id"]},
        )
        if answer.status == 401:
            # Its clock or ours may be wrong: that is set right, and the process goes on.
            raise Unavailable(f"{asked['to']} does not take our token: {answer.reason()}")
        if self._may_settle(process.id, answer.status):
            raise Unavailable(f"{asked['to']} does not know of this yet: {answer.reason()}")
        if 400 <= answer.status < 500 and asked["last"]:
            # Both sides may end a process at the same moment; each then refuses the other's word.
            log.info("peer had ended it already", subject=process.subject, to=asked["to"])
            return
        if answer.status >= 300:
            raise Rejected(f"{asked['to']} refused the message: {answer.reason()}")
        reaction = self._reactions.get(asked["reaction"])
        # What an earlier version queued says neither `heed` nor `state`.
        if reaction is not None and reaction.answered is not None and asked.get("heed", True):
            with self._node.store.transaction() as tx:
                reaction.answered(tx, process.subject, answer, asked.get("state", ""))

    def _may_settle(self, process_id: int, status: int) -> bool:
        """Whether the peer's refusal may be one of a moment."""
        if status not in (404, 409):
            self._refused_at.pop(process_id, None)
            return False
        now = time.monotonic()
        since = now - self._refused_at.setdefault(process_id, now)
        if since < (COMING_BACK_S if status == 404 else SETTLING_S):
            return True
        del self._refused_at[process_id]
        return False

    def _failed(self, tx: Session, process: Process, error: str) -> None:
        self._refused_at.pop(process.id, None)
        reaction = self._reactions.get(process.payload["reaction"])
        if reaction is not None and reaction.refused is not None:
            reaction.refused(tx, process.subject, error)
