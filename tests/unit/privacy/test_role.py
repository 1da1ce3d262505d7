import inspect

import pytest

from privacy.errors import ProtocolViolation, Withheld
from privacy.role import Outcome, Role, receive, run_in_memory, send


def asker(limit: int = 100) -> Role:
    yield from send("answerer", "question", b"how many?")
    answer = yield from receive("answerer", "answer", limit)
    return Outcome(answer.decode())


def answerer(name: str = "answer", to: str = "asker") -> Role:
    yield from receive("asker", "question", 100)
    yield from send(to, name, b"forty-two")
    return Outcome(None)


def waiting_for(sender: str) -> Role:
    yield from receive(sender, "answer", 100)
    return Outcome(None)


def silent() -> Role:
    return Outcome("nothing to do")
    yield  # a role is a generator even if it never waits


def refusing() -> Role:
    yield from receive("asker", "question", 100)
    raise Withheld("ds:minCohort")


def test_frames_are_passed_until_every_role_has_its_outcome():
    outcomes = run_in_memory({"asker": asker(), "answerer": answerer()})
    assert outcomes == {"asker": Outcome("forty-two"), "answerer": Outcome(None)}


def test_the_order_in_which_roles_are_listed_does_not_matter():
    outcomes = run_in_memory({"answerer": answerer(), "asker": asker()})
    assert outcomes["asker"] == Outcome("forty-two")


def test_roles_that_wait_for_each_other_are_a_violation_that_names_both():
    roles = {"a": waiting_for("b"), "b": waiting_for("a")}
    with pytest.raises(ProtocolViolation, match=r"a waits for frame 'answer' of b; b waits for"):
        run_in_memory(roles)


def test_waiting_for_a_party_that_ended_is_a_violation():
    with pytest.raises(ProtocolViolation, match="nobody can go on"):
        run_in_memory({"a": waiting_for("b"), "b": silent()})


def test_a_frame_nobody_reads_is_a_violation():
    def babbling() -> Role:
        yield from send("b", "noise", b"")
        return Outcome(None)

    with pytest.raises(ProtocolViolation, match="b ended without reading frame 'noise' of a"):
        run_in_memory({"a": babbling(), "b": silent()})


def test_a_frame_for_an_unknown_party_is_a_violation():
    with pytest.raises(ProtocolViolation, match="'stranger', who takes no part"):
        run_in_memory({"asker": asker(), "answerer": answerer(to="stranger")})


def test_a_frame_for_oneself_is_a_violation():
    with pytest.raises(ProtocolViolation, match="'answerer', who takes no part"):
        run_in_memory({"asker": asker(), "answerer": answerer(to="answerer")})


def test_a_frame_of_another_name_is_a_violation():
    with pytest.raises(ProtocolViolation, match="expected frame 'answer' of answerer, got 'reply'"):
        run_in_memory({"asker": asker(), "answerer": answerer(name="reply")})


def test_a_frame_at_the_limit_passes_and_one_byte_more_is_a_violation():
    assert run_in_memory({"asker": asker(9), "answerer": answerer()})["asker"].value == "forty-two"
    with pytest.raises(ProtocolViolation, match="at most 8 bytes expected, got 9"):
        run_in_memory({"asker": asker(8), "answerer": answerer()})


def test_a_role_checks_the_limit_even_if_its_driver_does_not():
    role = waiting_for("b")
    next(role)
    with pytest.raises(ProtocolViolation, match="at most 100 bytes expected, got 101"):
        role.send(bytes(101))


def test_when_one_role_raises_the_others_are_closed():
    roles = {"asker": asker(), "answerer": refusing()}
    with pytest.raises(Withheld):
        run_in_memory(roles)
    assert [inspect.getgeneratorstate(role) for role in roles.values()] == ["GEN_CLOSED"] * 2
