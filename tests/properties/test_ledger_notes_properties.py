"""Properties of notes, checkpoints, records and the embedded chain's border."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.checkpoint import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    parse_checkpoint,
    sign_note,
    verify_note,
)
from ledger.entry import Entry, EntryType, canonical, open_entry, seal, uuid7
from ledger.errors import InvalidCheckpoint, InvalidEntry, InvalidNote, InvalidProof
from ledger.evm import EmbeddedChain
from ledger.proof import LogProof, parse_proof

SIGNER = NoteSigner("city.example/tlog", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
VERIFIER = NoteVerifier.parse(SIGNER.vkey)
ROOTS = st.binary(min_size=32, max_size=32)

printable = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), max_size=30)
texts = st.lists(printable, min_size=1, max_size=5).map(lambda lines: "\n".join(lines) + "\n")


@given(texts)
def test_a_signed_text_verifies_to_itself(text: str) -> None:
    assert verify_note(sign_note(text, [SIGNER]), [VERIFIER]) == text


@given(texts, st.data())
def test_a_note_with_one_changed_character_never_verifies(text: str, data: st.DataObject) -> None:
    note = sign_note(text, [SIGNER])
    at = data.draw(st.integers(0, len(note) - 1))
    other = data.draw(st.characters().filter(lambda character: character != note[at]))
    with pytest.raises(InvalidNote):
        verify_note(note[:at] + other + note[at + 1 :], [VERIFIER])


@given(st.text(max_size=200))
def test_any_text_is_either_a_note_or_refused_as_one(text: str) -> None:
    with pytest.raises(InvalidNote):
        verify_note(text, [VERIFIER])


@given(printable.filter(bool), st.integers(0, 2**63 - 1), ROOTS)
def test_a_checkpoint_round_trips(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert parse_checkpoint(checkpoint.body()) == checkpoint


@given(ROOTS, st.data())
def test_a_checkpoint_has_one_spelling(root: bytes, data: st.DataObject) -> None:
    body = Checkpoint("o", 1234, root).body()
    at = data.draw(st.integers(0, len(body) - 1))
    changed = body[:at] + data.draw(st.sampled_from("0AZ=+ \n")) + body[at + 1 :]
    try:
        parsed = parse_checkpoint(changed)
    except InvalidCheckpoint:
        return
    assert parsed.body() == changed


@given(
    st.integers(0, 2**63 - 1),
    st.lists(ROOTS, max_size=63),
    st.none() | st.binary(max_size=50),
    texts,
)
def test_a_proof_file_round_trips(
    index: int, hashes: list[bytes], extra: bytes | None, checkpoint: str
) -> None:
    proof = LogProof(index, tuple(hashes), checkpoint, extra)
    assert parse_proof(proof.to_text()) == proof


@given(st.text(max_size=100))
def test_any_text_is_either_a_proof_or_refused_as_one(text: str) -> None:
    with pytest.raises(InvalidProof):
        parse_proof(text)
    with pytest.raises(InvalidProof):
        parse_proof(f"c2sp.org/tlog-proof@v1\nindex x{text}\n\n")


short = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    purpose=short,
    clause=st.none() | short,
    spend=st.none() | st.floats(0, 1e6),
    outputs=st.none() | st.lists(digests, max_size=3).map(tuple),
    salt=st.binary(min_size=16, max_size=16),
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_record_survives_sealing_in_one_canonical_form(
    purpose: str,
    clause: str | None,
    spend: float | None,
    outputs: tuple[str, ...] | None,
    salt: bytes,
    moment: datetime,
) -> None:
    entry = Entry(
        log="o",
        id=uuid7(moment, salt[:10]),
        ts=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        type=EntryType.RELEASED,
        actor="a",
        purpose=purpose,
        clause=clause,
        privacy_spend=spend,
        outputs_c=outputs,
    )
    sealed = seal(entry, salt)
    assert open_entry(sealed.body, salt, sealed.commitment) == entry
    assert canonical(open_entry(sealed.body, salt, sealed.commitment)) == sealed.body


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
def test_any_bytes_that_open_nothing_are_refused(body: bytes, salt: bytes) -> None:
    with pytest.raises(InvalidEntry):
        open_entry(body, salt, bytes(32))


METHODS = (
    "eth_blockNumber eth_call eth_chainId eth_estimateGas eth_feeHistory eth_getBalance "
    "eth_getBlockByHash eth_getBlockByNumber eth_getCode eth_getLogs eth_getStorageAt "
    "eth_getTransactionByHash eth_getTransactionCount eth_getTransactionReceipt "
    "eth_sendRawTransaction web3_clientVersion unknown"
).split()
words = st.sampled_from(
    [
        "latest",
        "0x0",
        "0x1",
        "0xff",
        "0x" + "f" * 64,
        "0x" + "22" * 20,
        "0x" + "22" * 32,
        "0x02c0",
        "0x",
        "",
        "é",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
fields = st.sampled_from(
    "from to data input value gas address topics fromBlock toBlock blockHash blockNumber".split()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedChain]:
    path: Path = tmp_path_factory.mktemp("fuzzed") / "chain.sqlite"
    opened = EmbeddedChain(path, chain_id=5, funded={}, clock=lambda: 1_795_000_000)
    yield opened
    opened.close()


@given(method=st.sampled_from(METHODS), params=st.lists(values, max_size=4) | values)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_chain_answers_whatever_it_is_asked(
    chain: EmbeddedChain, method: str, params: object
) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answered = chain.handle(request)
    assert isinstance(answered, dict)
    assert ("result" in answered) != ("error" in answered)
    json.dumps(answered)


@given(values)
@settings(max_examples=100, deadline=None)
def test_the_chain_answers_whatever_is_not_a_request(chain: EmbeddedChain, request: object) -> None:
    json.dumps(chain.handle(request))


@given(purpose=short, clause=st.none() | short, spend=st.none() | st.floats(0, 1e6))
def test_the_canonical_form_is_that_of_rfc_8785(
    purpose: str, clause: str | None, spend: float | None
) -> None:
    entry = Entry(
        log="o",
        id="01938d0c-0000-7000-8000-000000000000",
        ts="2026-11-25T08:00:00.000Z",
        type=EntryType.RELEASED,
        actor="a\x7f\u2028\U0001f600",
        purpose=purpose,
        clause=clause,
        privacy_spend=spend,
    )
    assert canonical(entry) == rfc8785.dumps(entry.model_dump(mode="json", exclude_none=True))
