"""Everything that can wait at a node says why, on whom, and what would move it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from typer.main import get_command

from contracts.negotiation import NegotiationState
from contracts.party import Party
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL, PUSH
from dataspace.cli import app
from dataspace.computing import running
from dataspace.errors import NotFound
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.operations import wait_words
from dataspace.operations.explaining import (
    Calculation,
    Exchange,
    Explanation,
    Outcome,
    Work,
    explain_computation,
    explain_negotiation,
    explain_transfer,
    explain_work,
    whose_move,
)
from dataspace.operations.wait_words import KINDS, On
from dataspace.operations.why import why
from dataspace.settings import ParticipantKind
from dataspace.store.tables import NegotiationRow, ProcessRow

NOW = 1_000_000.0
PEER = "did:web:peer.example"
PROCESS_STATES = ("ready", "leased", "tried", "planned", "failed", "done")


def work(kind: str = "deliver", state: str = "ready", **changes: object) -> Work:
    asked = {
        "id": 7,
        "kind": kind,
        "subject": "urn:uuid:1",
        "state": state,
        "due_at": NOW - 5,
        "created_at": NOW - 60,
        "give_up_at": NOW + 600,
    }
    return Work(**{**asked, **changes})  # type: ignore[arg-type]


def in_state(kind: str, name: str) -> Work:
    error = "the peer cannot be reached (ConnectError)"
    return {
        "ready": work(kind),
        "leased": work(kind, lease_until=NOW + 60, attempts=1),
        "tried": work(kind, attempts=3, due_at=NOW + 5, last_error=error),
        "planned": work(kind, due_at=NOW + 3600),
        "failed": work(kind, "failed", attempts=9, last_error=error),
        "done": work(kind, "done", attempts=1),
    }[name]


def exchange(state: str, role: Party = Party.CONSUMER, **changes: object) -> Exchange:
    asked = {"id": "urn:uuid:1", "role": role, "peer": PEER, "state": state, "updated_at": NOW - 9}
    return Exchange(**{**asked, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = create_home(
        tmp_path_factory.mktemp("why") / "founder",
        {
            "name": "founder",
            "kind": ParticipantKind.OPERATOR.value,
            "url": "http://127.0.0.1:9",
            "port": 9,
            "founder": True,
        },
    )
    node = Node(home)
    yield node
    node.stop()


def verify_tells(told: Explanation) -> None:
    """An explanation is a sentence, says on whom, and leaves nobody without anything to do."""
    assert told.sentence.endswith((".", "!", "?")), told.sentence
    assert "{" not in told.sentence
    assert "None" not in told.sentence
    if told.outcome is Outcome.WAITS:
        assert told.on is not On.NOBODY
        by_itself = told.on in (On.TIME, On.WORKER, On.US)
        assert told.acts or by_itself, told
    else:
        assert told.on is On.NOBODY
    assert told.to_json()["since"].endswith("Z")


def test_every_kind_of_process_that_a_node_does_has_its_words(founder: Node) -> None:
    assert founder.engine.kinds() - KINDS.keys() == set()


def test_no_words_are_kept_for_kinds_that_nobody_does(founder: Node) -> None:
    assert KINDS.keys() - founder.engine.kinds() == set()


@pytest.mark.parametrize("state", PROCESS_STATES)
def test_every_kind_of_process_is_explained_in_every_state(state: str) -> None:
    for kind in (*KINDS, "of-a-later-version"):
        told = explain_work(in_state(kind, state), NOW)
        verify_tells(told)
        assert (told.outcome is Outcome.ENDED) == (state in ("failed", "done"))
        if state == "failed":
            assert told.acts
            assert "9 times" in told.sentence


def test_what_was_tried_is_told_with_the_next_attempt() -> None:
    told = explain_work(in_state("deliver", "tried"), NOW)
    assert (told.on, told.peer) == (On.PEER, None)
    assert told.to_json()["tried"] == {
        "attempts": 3,
        "last_error": "the peer cannot be reached (ConnectError)",
        "next_at": "1970-01-12T13:46:45Z",
        "gives_up_at": "1970-01-12T13:56:40Z",
    }


@pytest.mark.parametrize(
    ("state", "role"), list(itertools.product(NegotiationState, Party)), ids=lambda one: str(one)
)
def test_every_state_of_a_negotiation_is_explained_for_both_sides(
    state: NegotiationState, role: Party
) -> None:
    told = explain_negotiation(exchange(state, role, deadline_at=NOW + 60), (), NOW)
    verify_tells(told)
    ended = state in (NegotiationState.FINALIZED, NegotiationState.TERMINATED)
    assert (told.outcome is Outcome.WAITS) != ended
    if not ended:
        # Whose word is next is read off the protocol's table, not written down a second time.
        assert (told.on is On.US) == (whose_move(state) is role)
        assert (told.peer == PEER) == (told.on is On.PEER)


def test_a_persons_word_an_unsent_message_and_a_silent_peer_are_told_apart() -> None:
    row = exchange("OFFERED", waiting="the terms are looser than the published ones")
    person = explain_negotiation(row, (), NOW)
    assert person.on is On.PERSON
    assert [one.command for one in person.acts][1] == "dataspace negotiation approve urn:uuid:1"
    unsent = explain_negotiation(exchange("REQUESTED"), (in_state("deliver", "tried"),), NOW)
    assert unsent.on is On.PEER
    assert "tried 3 times" in unsent.sentence
    silent = explain_negotiation(
        exchange("REQUESTED"), (in_state("expire-negotiation", "planned"),), NOW
    )
    assert silent.on is On.PEER
    assert "has not answered yet" in silent.sentence


@pytest.mark.parametrize(
    ("state", "role", "form", "computation"),
    list(itertools.product(TransferState, Party, (PULL, PUSH), ("", "c-1"))),
    ids=lambda one: str(one) or "rows",
)
def test_every_state_of_a_transfer_is_explained_for_both_sides(
    state: TransferState, role: Party, form: str, computation: str
) -> None:
    told = explain_transfer(exchange(state, role, format=form, computation=computation), (), NOW)
    verify_tells(told)
    ended = state in (TransferState.COMPLETED, TransferState.TERMINATED)
    assert (told.outcome is Outcome.WAITS) != ended


def test_an_ended_transfer_says_its_clause_and_its_remedy() -> None:
    told = explain_transfer(
        exchange(
            "TERMINATED",
            reason="the purpose is not one of those agreed to",
            clause="permission[0].constraint[1]",
            remedy="ask for another purpose",
        ),
        (),
        NOW,
    )
    assert (told.clause, told.remedy) == ("permission[0].constraint[1]", "ask for another purpose")
    assert told.sentence.endswith("The purpose is not one of those agreed to.")


@pytest.mark.parametrize("status", sorted({running.REQUESTED, running.RUNNING, *running.TERMINAL}))
@pytest.mark.parametrize("is_consumer", [True, False])
def test_every_status_of_a_computation_is_explained(status: str, is_consumer: bool) -> None:
    one = Calculation("c-1", status, is_consumer, NOW - 10, missing=(PEER,) if is_consumer else ())
    for works in ((), (work("run-computation"),)):
        told = explain_computation(one, works, NOW)
        verify_tells(told)
        assert (told.outcome is Outcome.ENDED) == (status in running.TERMINAL)


def test_a_running_computation_says_whether_it_computes_or_waits_for_a_peer() -> None:
    def on(step: str) -> On:
        return explain_computation(
            Calculation("c-1", "RUNNING", True, NOW, started_at=NOW, step=step), (), NOW
        ).on

    assert on("wait for masked set") is On.PEER
    assert on("compute") is On.WORKER


def test_every_command_that_is_advised_is_one() -> None:
    root = get_command(app)
    for act in _all_acts():
        command = root
        for word in (act.command or "").split()[1:]:
            inner = getattr(command, "commands", {}).get(word)
            if inner is None:
                break
            command = inner
        assert not hasattr(command, "commands") or act.command is None, act.command


def _all_acts() -> list[wait_words.Act]:
    makers = (
        wait_words.for_person,
        wait_words.end_negotiation,
        wait_words.end_transfer,
        wait_words.resume,
        wait_words.look_at_computation,
        wait_words.cancel,
    )
    made = [act for maker in makers for act in maker("ID")]
    made += [*wait_words.silent_peer(PEER, "ID"), *wait_words.silent_provider(PEER, "ID")]
    made += [act for words in KINDS.values() for act in (*words.acts, *words.after_failure)]
    return made


def test_an_id_is_found_whatever_it_names(founder: Node) -> None:
    now = time.time()
    with founder.store.transaction() as tx:
        tx.add(
            NegotiationRow(
                pid="urn:uuid:ours",
                role=Party.CONSUMER.value,
                peer=PEER,
                peer_pid="urn:uuid:theirs",
                callback="",
                dataset="d",
                state="REQUESTED",
                created_at=now,
                updated_at=now,
            )
        )
        row = ProcessRow(
            kind="cosign", subject="x", payload={}, due_at=now, give_up_at=now, created_at=now
        )
        tx.add(row)
        tx.flush()
        number = str(row.id)
    with founder.store.look() as tx:
        assert why(tx, "urn:uuid:ours") == why(tx, "urn:uuid:theirs")
        assert why(tx, number).what == "process"
        assert why(tx, "anchor").outcome is Outcome.STANDS
        for nothing in ("urn:uuid:nobody", "99999", "9" * 40, "²"):
            with pytest.raises(NotFound):
                why(tx, nothing)
