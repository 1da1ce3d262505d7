"""Records: their one canonical form, their sealing, and what cannot be opened."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from pydantic import ValidationError

from ledger.entry import Entry, EntryType, SealedEntry, canonical, open_entry, seal, uuid7
from ledger.errors import InputRejected, InvalidEntry

SALT = bytes(range(16))
MOMENT = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def entry(**fields: Any) -> Entry:
    required = {
        "log": "water.city.example/tlog",
        "id": uuid7(MOMENT, bytes(10)),
        "ts": "2022-02-22T19:22:22.000Z",
        "type": EntryType.DECIDED,
        "actor": "did:web:water.city.example",
    }
    return Entry(**(required | fields))


def test_the_uuid_of_rfc_9562_appendix_a_6_is_made_from_its_time_and_random_bits() -> None:
    # 017F22E2-79B0-7CC3-98C4-DC0C0C07398F: rand_a CC3, rand_b 18C4DC0C0C07398F.
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10)
    made = uuid7(MOMENT, random)
    assert made == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert uuid.UUID(made).variant == uuid.RFC_4122


def test_uuids_sort_by_their_time() -> None:
    earlier = uuid7(MOMENT, b"\xff" * 10)
    later = uuid7(MOMENT.replace(microsecond=1000), bytes(10))
    assert earlier < later


def test_a_uuid_wants_ten_random_bytes_and_a_zone() -> None:
    with pytest.raises(InputRejected, match="10 random bytes, got 9"):
        uuid7(MOMENT, bytes(9))
    with pytest.raises(InputRejected, match="zone"):
        uuid7(MOMENT.replace(tzinfo=None), bytes(10))


def test_the_canonical_form_is_sorted_compact_and_without_absent_fields() -> None:
    body = canonical(entry(decision="permit", purpose="城市水费核对", privacy_spend=0.5))
    assert body.decode() == (
        '{"actor":"did:web:water.city.example","decision":"permit",'
        '"id":"017f22e2-79b0-7000-8000-000000000000","log":"water.city.example/tlog",'
        '"privacy_spend":0.5,"purpose":"城市水费核对","suite":"sha256-ed25519",'
        '"ts":"2022-02-22T19:22:22.000Z","type":"decided","v":1}'
    )


def test_the_commitment_is_the_tagged_hash_of_salt_and_body() -> None:
    sealed = seal(entry(), SALT)
    tag = b"city-dataspace/entry/1\0"
    assert sealed.commitment == sha256(tag + SALT + sealed.body).digest()
    assert open_entry(sealed.body, sealed.salt, sealed.commitment) == entry()


def test_every_optional_field_survives_sealing_and_opening() -> None:
    full = entry(
        peer="did:web:bank.example",
        corr="urn:uuid:1",
        agreement_h="a" * 64,
        policy_h="b" * 64,
        order_h="c" * 64,
        code_h="d" * 64,
        transcript_h="e" * 64,
        kind="private-sum/1",
        purpose="p",
        legal_basis="PIPL 13(2)",
        categories=("utility",),
        recipients=("did:web:bank.example",),
        transfer="CN",
        decision="deny",
        clause="permission[0].constraint[1]",
        outcome="denied",
        obligations_met=False,
        inputs_c=("f" * 64,),
        outputs_c=("0" * 64, "1" * 64),
        privacy_spend=1,
        retention_until="2030-01-01T00:00:00.000Z",
        receipt="2" * 64,
    )
    assert all(value is not None for value in full.model_dump().values())
    sealed = seal(full, SALT)
    assert open_entry(sealed.body, sealed.salt, sealed.commitment) == full


def test_changing_any_byte_of_body_or_salt_leaves_the_commitment_closed() -> None:
    sealed = seal(entry(), SALT)
    for at in range(len(sealed.body)):
        altered = bytearray(sealed.body)
        altered[at] ^= 1
        with pytest.raises(InvalidEntry, match="does not open its commitment"):
            open_entry(bytes(altered), SALT, sealed.commitment)
    for salt in (bytes(16), SALT + b"\0", SALT[:15]):
        with pytest.raises(InvalidEntry, match="does not open its commitment"):
            open_entry(sealed.body, salt, sealed.commitment)


def committed(body: bytes) -> tuple[bytes, bytes, bytes]:
    return body, SALT, sha256(b"city-dataspace/entry/1\0" + SALT + body).digest()


def test_a_body_that_is_not_a_canonical_record_does_not_open() -> None:
    body = canonical(entry())
    fields = json.loads(body)
    spaced = json.dumps(fields).encode()
    with pytest.raises(InvalidEntry, match="not in canonical form"):
        open_entry(*committed(spaced))
    twice = body[:-1] + b',"v":1}'
    with pytest.raises(InvalidEntry, match="not in canonical form"):
        open_entry(*committed(twice))
    with pytest.raises(InvalidEntry, match="not a record of version 1: wrong or unknown v"):
        open_entry(*committed(json.dumps(fields | {"v": 2}).encode()))
    with pytest.raises(InvalidEntry, match="wrong or unknown person"):
        open_entry(*committed(json.dumps(fields | {"person": "x"}).encode()))
    for junk in (b"", b"\xff", b"[" * 100_000, b"{"):
        with pytest.raises(InvalidEntry):
            open_entry(*committed(junk))


def test_an_error_never_shows_the_records_content() -> None:
    fields = json.loads(canonical(entry())) | {"purpose": ["a secret"], "v": 2}
    with pytest.raises(InvalidEntry) as caught:
        open_entry(*committed(json.dumps(fields).encode()))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"ts": "2022-02-22T19:22:22Z"},
        {"ts": "2022-13-22T19:22:22.000Z"},
        {"ts": "2022-02-22T19:22:22.000+08:00"},
        {"id": str(uuid.UUID(int=1))},
        {"type": "invented"},
        {"decision": "maybe"},
        {"order_h": "A" * 64},
        {"order_h": "a" * 63},
        {"outputs_c": ("x",)},
        {"privacy_spend": -1},
        {"privacy_spend": float("nan")},
        {"actor": ""},
        {"purpose": "p" * 501},
        {"categories": ("c",) * 33},
        {"rows": 17},
    ],
)
def test_a_malformed_record_is_never_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**fields)


def test_the_json_form_round_trips_and_can_show_a_damaged_body() -> None:
    sealed = seal(entry(), SALT)
    assert SealedEntry.parse(json.loads(json.dumps(sealed.to_json()))) == sealed
    damaged = SealedEntry(body=b"\xff\x00", salt=SALT, commitment=bytes(32))
    assert SealedEntry.parse(damaged.to_json()) == damaged


@pytest.mark.parametrize(
    "change",
    [
        {"body": None},
        {"body": "not base64!"},
        {"salt": "AAAA"},
        {"commitment": "AAAA"},
    ],
)
def test_a_malformed_json_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidEntry):
        SealedEntry.parse(seal(entry(), SALT).to_json() | change)
    with pytest.raises(InvalidEntry, match="JSON object, got list"):
        SealedEntry.parse([])


def test_sealing_wants_a_salt_of_sixteen_bytes() -> None:
    with pytest.raises(InputRejected, match="16 bytes, got 15"):
        seal(entry(), SALT[:15])
