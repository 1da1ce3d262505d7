"""What was used or answered once is known again: after a restart, and with the clock set back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataspace import tidying
from dataspace.errors import ProtocolViolation, Unauthenticated
from dataspace.identity.tokens import CLOCK_SKEW_S, TOKEN_LIFETIME_S, Claims
from dataspace.peers import MessageName, _spend, earlier_answer, remember_answer
from dataspace.processes import Process
from dataspace.store.engine import Store
from dataspace.tidying import REPLAY_MARGIN_S, Tidying

NOW = 1_800_000_000.0
SENT = b'{"@type": "ContractRequestMessage"}'
PATH = "/dsp/2025-1/negotiations/request"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = opened(tmp_path)
    yield made
    made.close()


def opened(directory: Path) -> Store:
    store = Store(f"sqlite:///{directory / 'node.sqlite'}")
    store.migrate()
    return store


def token(number: int = 1, issued_at: float = NOW) -> Claims:
    return Claims("did:web:peer", f"token-{number}", int(issued_at) + TOKEN_LIFETIME_S, None)


def use(store: Store, claims: Claims) -> None:
    with store.transaction() as tx:
        _spend(tx, claims)


def tidy(store: Store, at: float, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tidying.time, "time", lambda: at)
    Tidying(store)._tidy(Process(1, "tidy", "tidy", {}, 1, at))


def test_a_token_that_was_used_is_refused_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    use(first, token())
    first.close()
    again = opened(tmp_path)
    with pytest.raises(Unauthenticated, match="used before"):
        use(again, token())
    again.close()


def test_a_token_is_known_for_longer_than_it_could_be_accepted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(store, token())
    tidy(store, NOW + TOKEN_LIFETIME_S + CLOCK_SKEW_S + 1, monkeypatch)
    with pytest.raises(Unauthenticated, match="used before"):
        use(store, token())


def test_a_clock_that_leapt_ahead_and_is_set_right_makes_no_used_token_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was ahead by most of an hour while the table was tidied."""
    use(store, token())
    tidy(store, NOW + REPLAY_MARGIN_S - 1, monkeypatch)
    with pytest.raises(Unauthenticated, match="used before"):
        use(store, token())


def test_the_table_does_not_grow_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use(store, token())
    tidy(store, NOW + REPLAY_MARGIN_S + TOKEN_LIFETIME_S + CLOCK_SKEW_S + 1, monkeypatch)
    use(store, token())


def name(body: bytes = SENT, *, peer: str = "did:web:peer", path: str = PATH) -> MessageName:
    return MessageName.of(peer, "one-id", path, body)


def test_a_repetition_gets_the_answer_it_had(store: Store) -> None:
    with store.transaction() as tx:
        remember_answer(tx, name(), 201, "the answer")
    with store.transaction() as tx:
        found = earlier_answer(tx, name())
        assert found is not None
        assert (found.status, found.body) == (201, "the answer")
        assert earlier_answer(tx, None) is None


@pytest.mark.parametrize(
    "other", [name(b"{}"), name(SENT + b" "), name(path=f"{PATH}/x")], ids=["text", "byte", "path"]
)
def test_another_message_under_the_same_id_is_refused_and_not_taken_for_the_first(
    store: Store, other: MessageName
) -> None:
    with store.transaction() as tx:
        remember_answer(tx, name(), 201, "the answer")
    with store.transaction() as tx, pytest.raises(ProtocolViolation, match="another message"):
        earlier_answer(tx, other)


def test_two_peers_may_choose_the_same_id(store: Store) -> None:
    with store.transaction() as tx:
        remember_answer(tx, name(), 201, "the answer")
        assert earlier_answer(tx, name(peer="did:web:other")) is None
