"""A computation that is begun again: by whom, how often, and what becomes of the attempt before."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dataspace.answer import Answer
from dataspace.computing.inbox import Chunk, content_digest
from dataspace.computing.sessions import MAX_ATTEMPTS, Course, Session, Sessions
from dataspace.computing.spools import DirectorySpool, Spools
from dataspace.errors import NotFound, ProtocolViolation, SessionClosed, Superseded, Unavailable
from privacy.role import Receive, Send

ORDER, SOON_S = "6f0d2a34-0000-4000-8000-1234567890ab", 10.0
PEER = "did:web:right"


class Wire:
    """Peers that answer as told."""

    def __init__(self, status: Callable[[str], int] = lambda _: 204) -> None:
        self.sent: list[tuple[str, str]] = []
        self._status = status

    def url_of(self, did: str) -> str:
        return "http://peer"

    def send(self, method: str, url: str, **asked: Any) -> Answer:
        attempt = (asked.get("headers") or {}).get("frame-attempt", "")
        self.sent.append((url.removeprefix(f"http://peer/compute/{ORDER}/left"), attempt))
        return Answer(self._status(url), {}, b"")


class Played:
    """A session whose role sends one frame and waits for one, each time it is begun."""

    def __init__(self, wire: Wire, **changes: Any) -> None:
        self.sessions = Sessions(wire)  # type: ignore[arg-type]
        self.begun: list[int] = []
        self.ends: list[object] = []
        self.over = threading.Event()
        # How many more times the database does not take what is to be stored.
        self.away = 0
        self.tried = threading.Event()
        self._waits = threading.Semaphore(0)
        one = Session(
            ORDER,
            "left",
            {"left": "did:web:left", "right": PEER},
            deadline=time.monotonic() + SOON_S,
            **{"resumable": True, **changes},
        )
        self.sessions.open(one, Course(self._role, self._finish, self._restarted))  # type: ignore[arg-type]

    def _role(self) -> Generator[Any, Any, object]:
        yield Send("right", "points", b"abc")
        self._waits.release()
        return (yield Receive("right", "points", 100))

    def _restarted(self, attempt: int) -> None:
        self._stored()
        self.begun.append(attempt)

    def _finish(self, end: object) -> None:
        self._stored()
        self.ends.append(end)
        self.over.set()

    def _stored(self) -> None:
        self.tried.set()
        if self.away > 0:
            self.away -= 1
            raise Unavailable("the node's database is busy or away")

    def wait_until_it_waits(self) -> None:
        assert self._waits.acquire(timeout=SOON_S)

    def frame(self, attempt: int) -> None:
        body = b"abc"
        chunk = Chunk("right", 0, 0, 1, "points", content_digest(body), body, attempt)
        self.sessions.receive(ORDER, PEER, chunk)

    def rejoin(self, attempt: int, did: str = PEER) -> None:
        self.sessions.rejoin(ORDER, did, "right", attempt)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def played(wire: Wire) -> Iterator[Played]:
    made = Played(wire)
    yield made
    made.sessions.close()


def test_a_party_that_comes_back_makes_the_role_begin_again(played: Played, wire: Wire) -> None:
    played.wait_until_it_waits()
    played.rejoin(2)
    played.wait_until_it_waits()
    assert played.begun == [2]
    assert wire.sent == [("/0/0", "1"), ("/0/0", "2")]
    played.frame(2)
    assert played.over.wait(SOON_S)
    assert played.ends == [b"abc"]


def test_the_same_notice_again_changes_nothing(played: Played) -> None:
    played.wait_until_it_waits()
    played.rejoin(1)
    played.rejoin(2)
    played.wait_until_it_waits()
    played.rejoin(2)
    played.frame(2)
    assert played.over.wait(SOON_S)
    assert played.begun == [2]


def test_a_frame_of_a_later_attempt_is_its_notice_and_one_of_an_earlier_is_refused(
    played: Played,
) -> None:
    played.wait_until_it_waits()
    with pytest.raises(Unavailable, match="begins again too"):
        played.frame(2)
    played.wait_until_it_waits()
    with pytest.raises(Superseded, match="attempt 2"):
        played.frame(1)
    with pytest.raises(Superseded, match="attempt 2"):
        played.rejoin(1)


def test_only_a_party_may_make_it_begin_again_and_so_often_only(played: Played) -> None:
    played.wait_until_it_waits()
    with pytest.raises(NotFound):
        played.rejoin(2, did="did:web:stranger")
    with pytest.raises(ProtocolViolation, match=f"at most {MAX_ATTEMPTS} times"):
        played.rejoin(MAX_ATTEMPTS + 1)


def test_a_kind_that_cannot_go_on_is_not_begun_again(wire: Wire) -> None:
    played = Played(wire, resumable=False)
    played.wait_until_it_waits()
    with pytest.raises(ProtocolViolation, match="cannot be begun again"):
        played.rejoin(2)
    played.frame(1)
    assert played.over.wait(SOON_S)
    with pytest.raises(SessionClosed):
        Played.rejoin(played, 2)


def test_who_begins_again_tells_the_others_before_its_first_frame(wire: Wire) -> None:
    played = Played(wire, attempt=3, announced=False)
    played.wait_until_it_waits()
    assert wire.sent == [("/attempts/3", ""), ("/0/0", "3")]
    played.sessions.close()


def test_who_meets_a_later_attempt_begins_one_later_still() -> None:
    wire = Wire(lambda url: 409 if url.endswith("/attempts/2") else 204)
    played = Played(wire, attempt=2, announced=False)
    played.wait_until_it_waits()
    assert wire.sent == [("/attempts/2", ""), ("/attempts/3", ""), ("/0/0", "3")]
    played.sessions.close()


def test_an_end_is_stored_once_the_database_is_back(played: Played) -> None:
    played.wait_until_it_waits()
    played.away = 3
    with structlog.testing.capture_logs() as logged:
        played.frame(1)
        assert played.over.wait(SOON_S)
    assert played.ends == [b"abc"]
    assert [one["log_level"] for one in logged] == ["warning"]
    assert "exc_info" not in logged[0]


def test_an_attempt_that_begins_while_the_database_is_away_is_no_end(played: Played) -> None:
    played.wait_until_it_waits()
    played.away = 3
    played.rejoin(2)
    played.wait_until_it_waits()
    assert played.begun == [2]
    played.frame(2)
    assert played.over.wait(SOON_S)
    assert played.ends == [b"abc"]


def test_a_node_that_stops_waits_for_no_database(played: Played) -> None:
    played.wait_until_it_waits()
    played.away = 10**9
    played.frame(1)
    assert played.tried.wait(SOON_S)
    played.sessions.close()
    name = f"session-{ORDER[:8]}-left"
    for thread in [one for one in threading.enumerate() if one.name == name]:
        thread.join(SOON_S)
        assert not thread.is_alive()
    assert played.ends == []


def test_a_node_that_stops_leaves_its_sessions_without_an_end(played: Played) -> None:
    played.wait_until_it_waits()
    played.sessions.close()
    played.sessions.cancel(ORDER, Unavailable("too late"))
    assert not played.over.wait(0.2)


# Spools


names = st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True)


@given(st.lists(st.tuples(names, st.sampled_from(["put", "append", "remove"]), st.binary())))
def test_a_directory_keeps_what_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str, bytes]]
) -> None:
    spool = DirectorySpool(tmp_path_factory.mktemp("spool") / "one")
    kept: dict[str, bytes] = {}
    for name, act, content in acts:
        if act == "remove":
            spool.remove(name)
            kept.pop(name, None)
            continue
        getattr(spool, act)(name, content)
        kept[name] = content if act == "put" else kept.get(name, b"") + content
    assert {name: spool.get(name) for name in spool.names()} == kept


@pytest.mark.parametrize("name", ["../keys", "a/b", "", ".hidden", "x" * 65, "a\0"])
def test_a_spool_has_no_file_outside_itself(tmp_path: Path, name: str) -> None:
    spool = DirectorySpool(tmp_path / "spool")
    for act in (lambda: spool.get(name), lambda: spool.put(name, b""), lambda: spool.remove(name)):
        with pytest.raises(ValueError, match="a spool has no file"):
            act()


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    spool = Spools(tmp_path, b"secret").open(ORDER)
    spool.put("part-0", b"rows")
    spool.append("part-1", b"rows")
    for path in (tmp_path / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_what_is_sealed_opens_for_its_agreement_and_node_only(tmp_path: Path) -> None:
    node = Spools(tmp_path, b"one node")
    sealed = node.cache("urn:uuid:a", None).sealing.seal(b"key")
    assert b"key" not in sealed
    assert node.cache("urn:uuid:a", None).sealing.open(sealed) == b"key"
    for other in (
        node.cache("urn:uuid:b", None),
        Spools(tmp_path, b"another").cache("urn:uuid:a", None),
    ):
        with pytest.raises(ValueError, match="sealed under another key"):
            other.sealing.open(sealed)
    with pytest.raises(ValueError, match="altered"):
        node.cache("urn:uuid:a", None).sealing.open(sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_a_forgotten_agreement_has_no_cache(tmp_path: Path) -> None:
    spools = Spools(tmp_path, b"secret")
    spools.cache("urn:uuid:a", None).files.put("index", b"x")
    spools.cache("urn:uuid:b", None).files.put("index", b"y")
    spools.forget("urn:uuid:a")
    assert spools.cache("urn:uuid:a", None).files.get("index") is None
    assert spools.cache("urn:uuid:b", None).files.get("index") == b"y"
