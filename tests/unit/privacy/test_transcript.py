import hashlib
import inspect
import json
import secrets
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.role import Outcome, Receive, Role, Send, receive, run_in_memory, send
from privacy.transcript import (
    SIGNATURES,
    FrameRecord,
    Signed,
    closing,
    encode_records,
    encode_signatures,
    frame_digest,
    parse_records,
    reconcile,
    transcribed,
    transcript_digest,
    unwrap,
    wrap,
)

PARTIES = ("left", "right", "consumer")
CONTEXT = hashlib.sha256(b"a signed order").digest()
KEYS = {party: Ed25519PrivateKey.generate() for party in PARTIES}


def verify(party: str, digest: bytes, signature: bytes) -> bool:
    try:
        KEYS[party].public_key().verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def left() -> Role:
    yield from send("right", "ask", b"?")
    yield from send("right", "ask", b"??")
    answer = yield from receive("right", "answer", 10)
    yield from send("consumer", "result", answer)
    return Outcome(None)


def right() -> Role:
    first = yield from receive("left", "ask", 10)
    second = yield from receive("left", "ask", 10)
    yield from send("left", "answer", first + second)
    return Outcome(None)


def consumer() -> Role:
    result = yield from receive("left", "result", 3)
    return Outcome(result.decode())


def roles(**replaced) -> dict:
    inner = {"left": left(), "right": right(), "consumer": consumer()} | replaced
    return {
        party: transcribed(
            role,
            me=party,
            parties=PARTIES,
            collector="consumer",
            context=CONTEXT,
            sign=KEYS[party].sign,
            verify=verify,
            random_bytes=secrets.token_bytes,
        )
        for party, role in inner.items()
    }


def sending_instead(role, name: str, change):
    """Let a dishonest party change what it sends under `name`."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            if isinstance(step, Send) and step.name == name:
                step = replace(step, payload=change(step.payload))
            payload = yield step
    except StopIteration as ended:
        return ended.value
    finally:
        role.close()


def watching(role, seen: list[tuple[str, bytes]]):
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            seen.append((step.name, step.payload if isinstance(step, Send) else payload))
    except StopIteration as ended:
        return ended.value


def run_with(party: str, name: str, change):
    honest = roles()
    return run_in_memory(honest | {party: sending_instead(honest[party], name, change)})


def altering_digest(number: int):
    def change(payload: bytes) -> bytes:
        rows = json.loads(payload)
        rows[number][4] = "0" * 64
        return json.dumps(rows, separators=(",", ":")).encode()

    return change


def test_an_envelope_is_sixteen_bytes_and_the_payload():
    assert wrap(b"payload", bytes(16)) == bytes(16) + b"payload"
    assert unwrap(bytes(16) + b"payload") == b"payload"
    assert unwrap(bytes(16)) == b""
    assert frame_digest(b"abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")
    with pytest.raises(ProtocolViolation, match="at least 16 bytes expected, got 15"):
        unwrap(bytes(15))
    with pytest.raises(InputRejected, match="nonce of 16 bytes"):
        wrap(b"", bytes(12))


def test_all_parties_sign_one_digest_and_keep_their_outcome():
    results = run_in_memory(roles())
    assert results["consumer"].outcome == Outcome("???")
    digests = {result.digest for result in results.values()}
    assert len(digests) == 1
    for result in results.values():
        assert set(result.signatures) == set(PARTIES)
        for party, signature in result.signatures.items():
            verify(party, result.digest, signature)


def test_the_digest_is_that_of_the_domain_the_context_and_the_canonical_list():
    seen: list[tuple[str, bytes]] = []
    watched = roles()
    watched["left"] = watching(watched["left"], seen)
    digest = run_in_memory(watched)["left"].digest
    frames = dict(enumerate(payload for name, payload in seen if "/" not in name))
    sha = {number: hashlib.sha256(envelope).hexdigest() for number, envelope in frames.items()}
    rows = [
        ["left", "consumer", 0, "result", sha[3]],
        ["left", "right", 0, "ask", sha[0]],
        ["left", "right", 1, "ask", sha[1]],
        ["right", "left", 0, "answer", sha[2]],
    ]
    canonical = json.dumps(rows, separators=(",", ":")).encode()
    assert dict(seen)["transcript/list"] == canonical
    domain = b"city-dataspace/transcript/1\0"
    assert digest == hashlib.sha256(domain + CONTEXT + canonical).digest()


def test_two_runs_with_equal_payloads_have_different_digests():
    assert run_in_memory(roles())["left"].digest != run_in_memory(roles())["left"].digest


def test_another_order_gives_another_digest():
    assert transcript_digest(b"a" * 32, b"[]") != transcript_digest(b"b" * 32, b"[]")


def test_an_envelope_does_not_count_against_the_limit_of_its_frame():
    def long() -> Role:
        yield from receive("left", "ask", 10)
        yield from receive("left", "ask", 10)
        yield from send("left", "answer", b"four")
        return Outcome(None)

    with pytest.raises(ProtocolViolation, match="at most 19 bytes expected, got 20"):
        run_in_memory(roles(right=long()))


def test_a_party_that_lists_another_digest_is_found_and_the_frame_named():
    with pytest.raises(ProtocolViolation, match=r"frame 1 \('ask'\) from left to right: .*differ"):
        run_with("right", "transcript/frames", altering_digest(1))


def test_a_party_that_leaves_a_frame_out_is_found_and_the_frame_named():
    with pytest.raises(ProtocolViolation, match=r"left lists frame 0 \('ask'\).*right does not"):
        run_with(
            "right",
            "transcript/frames",
            lambda payload: json.dumps(json.loads(payload)[1:], separators=(",", ":")).encode(),
        )


@pytest.mark.parametrize("number", range(4))
def test_a_collector_that_alters_the_list_is_found_by_a_party(number):
    with pytest.raises(ProtocolViolation, match="consumer left out or altered frame"):
        run_with("consumer", "transcript/list", altering_digest(number))


def test_a_collector_that_adds_a_frame_is_found():
    def adding(row: list) -> bytes:
        return lambda payload: json.dumps(
            sorted([*json.loads(payload), row]), separators=(",", ":")
        ).encode()

    extra = ["right", "left", 1, "extra", "0" * 64]
    with pytest.raises(ProtocolViolation, match=r"lists frame 1 .*, which right does not know"):
        run_with("consumer", "transcript/list", adding(extra))
    foreign = ["nobody", "stranger", 0, "extra", "0" * 64]
    with pytest.raises(ProtocolViolation, match="a party that takes no part"):
        run_with("consumer", "transcript/list", adding(foreign))


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(8192)])
def test_a_signature_that_does_not_hold_is_found_and_its_party_named(signature):
    with pytest.raises(ProtocolViolation, match="signature of right"):
        run_with("right", "transcript/signature", lambda _: signature)


def test_a_collector_that_alters_a_signature_is_found():
    def change(payload: bytes) -> bytes:
        rows = json.loads(payload)
        rows["right"] = bytes(64).hex()
        return json.dumps(rows, separators=(",", ":"), sort_keys=True).encode()

    with pytest.raises(ProtocolViolation, match="signature of right"):
        run_with("consumer", "transcript/signatures", change)


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"{}",
    b"[" * 100_000,
    b"[]\n",
    b"9" * 10_000,
    b'[["left","right",0,"ask"]]',
    b'[["left","right",true,"ask","' + b"0" * 64 + b'"]]',
    b'[["left","right",0.0,"ask","' + b"0" * 64 + b'"]]',
    b'[["left","right",-1,"ask","' + b"0" * 64 + b'"]]',
    b'[["left","right",4096,"ask","' + b"0" * 64 + b'"]]',
    b'[["left","right",0,"ask","' + b"F" * 64 + b'"]]',
    b'[["le\\u0000ft","right",0,"ask","' + b"0" * 64 + b'"]]',
    b'[["' + b"x" * 65 + b'","right",0,"ask","' + b"0" * 64 + b'"]]',
    b'[["left","right",0,"ask", "' + b"0" * 64 + b'"]]',
    b"[" + b",".join([b'["left","right",0,"ask","' + b"0" * 64 + b'"]'] * 2) + b"]",
    b"[" + b",".join([b"0"] * 5000) + b"]",
    '[["left","right",0,"ask","'.encode("utf-16"),
]


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_closing_frames_are_violations(payload):
    for party, name in [
        ("right", "transcript/frames"),
        ("consumer", "transcript/list"),
        ("consumer", "transcript/signatures"),
    ]:
        with pytest.raises(ProtocolViolation, match=f"{party} "):
            run_with(party, name, lambda _: payload)


def test_closing_frames_have_limits():
    for party, name in [
        ("right", "transcript/frames"),
        ("right", "transcript/signature"),
        ("consumer", "transcript/list"),
        ("consumer", "transcript/signatures"),
    ]:
        with pytest.raises(ProtocolViolation, match="bytes expected, got 2000000"):
            run_with(party, name, lambda _: bytes(2_000_000))


def test_records_survive_their_encoding_in_any_order():
    records = [
        FrameRecord("right", "left", 0, "answer", "1" * 64),
        FrameRecord("left", "right", 10, "ask", "2" * 64),
        FrameRecord("left", "right", 9, "ask", "3" * 64),
    ]
    assert parse_records(encode_records(records), "left") == sorted(records)


def test_a_frame_between_others_or_with_oneself_is_not_accepted_in_an_account():
    between = FrameRecord("left", "right", 0, "ask", "0" * 64)
    with pytest.raises(ProtocolViolation, match=r"consumer lists .*in which it took no part"):
        reconcile({"consumer": [between], "left": [], "right": []})
    alone = FrameRecord("left", "left", 0, "ask", "0" * 64)
    with pytest.raises(ProtocolViolation, match="left is not its peer"):
        reconcile({"consumer": [], "left": [alone]})
    stranger = FrameRecord("left", "stranger", 0, "ask", "0" * 64)
    with pytest.raises(ProtocolViolation, match="stranger is not its peer"):
        reconcile({"consumer": [], "left": [stranger]})


def test_names_that_do_not_fit_are_rejected_and_the_role_is_closed():
    for me, parties, collector in [
        ("stranger", PARTIES, "consumer"),
        ("left", PARTIES, "stranger"),
        ("left", ("left", "left", "consumer"), "consumer"),
        ("left", ("left", "right hand", "consumer"), "consumer"),
    ]:
        inner = left()
        role = transcribed(
            inner,
            me=me,
            parties=parties,
            collector=collector,
            context=CONTEXT,
            sign=KEYS["left"].sign,
            verify=verify,
            random_bytes=secrets.token_bytes,
        )
        with pytest.raises(InputRejected, match="parties: "):
            next(role)
        assert inspect.getgeneratorstate(inner) == "GEN_CLOSED"


def test_what_the_role_raises_comes_through():
    def withholding() -> Role:
        yield from receive("left", "ask", 10)
        raise Withheld("ds:minCohort")

    with pytest.raises(Withheld, match="ds:minCohort"):
        run_in_memory(roles(right=withholding()))


def test_closing_a_transcribed_role_closes_the_role_inside():
    inner = consumer()
    outer = roles(consumer=inner)["consumer"]
    assert next(outer) == Receive("left", "result", 19)
    outer.close()
    assert inspect.getgeneratorstate(inner) == "GEN_CLOSED"


def test_a_party_that_signed_ends_the_run_in_a_later_life_from_what_it_kept():
    kept: list[Signed] = []
    seen: list[tuple[str, bytes]] = []
    honest = roles()
    honest["left"].close()
    honest["left"] = watching(
        transcribed(
            left(),
            me="left",
            parties=PARTIES,
            collector="consumer",
            context=CONTEXT,
            sign=KEYS["left"].sign,
            verify=verify,
            random_bytes=secrets.token_bytes,
            keep=lambda signed: (kept.append(signed), seen.append(("kept", b"")))[0],
        ),
        seen,
    )
    ended = run_in_memory(honest)["left"]
    (signed,) = kept
    names = [name for name, _ in seen]
    assert names.index("kept") < names.index("transcript/signature")
    again = closing(signed, me="left", collector="consumer", verify=verify)
    assert next(again) == Send("consumer", "transcript/signature", signed.signature)
    wanted = next(again)
    assert (wanted.sender, wanted.name) == ("consumer", SIGNATURES)
    with pytest.raises(StopIteration) as stop:
        again.send(dict(seen)[SIGNATURES])
    assert stop.value.value == ended

    forged = closing(signed, me="left", collector="consumer", verify=verify)
    next(forged), next(forged)
    other = {party: bytes(64) for party in PARTIES} | {"left": signed.signature}
    with pytest.raises(ProtocolViolation, match="signature of consumer"):
        forged.send(encode_signatures(other))
