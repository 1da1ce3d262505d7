"""A status list is read as the W3C specification writes it, and a hostile one stays small."""

import base64
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.identity.status_list import (
    MAX_LIST_BYTES,
    MIN_ENTRIES,
    StatusEntry,
    StatusList,
    StatusPurpose,
    decode_list,
    encode_list,
    list_subject,
    parse_list,
    parse_status,
    status_at,
)

# The list of the specification's example 3: 131,072 entries, none of them set.
SPECIFIED = "uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQwfoAAAAAAAAAAAAAAAAAAAAIC3AYbSVKsAQAAA"
# One with 100,000 entries, as an implementation of an earlier draft wrote it.
TOO_SHORT = "uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQsvoAAAAAAAAAAAAAAAAP4GcwM92tQwAAA"
# The entry of the specification's example 1.
ENTRY = {
    "id": "https://example.com/credentials/status/3#94567",
    "type": "BitstringStatusListEntry",
    "statusPurpose": "revocation",
    "statusListIndex": "94567",
    "statusListCredential": "https://example.com/credentials/status/3",
}


def encoded(raw: bytes) -> str:
    return "u" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_the_list_of_the_specification_is_read() -> None:
    found = decode_list(SPECIFIED)
    assert found.entries == MIN_ENTRIES
    assert found == StatusList.of([])
    assert not status_at(found, 94567)


def test_index_zero_is_the_leftmost_bit() -> None:
    assert StatusList.of([0, 9]).bits[:2] == b"\x80\x40"
    assert StatusList.of([MIN_ENTRIES - 1]).bits[-1] == 1


@given(st.sets(st.integers(0, MIN_ENTRIES - 1), max_size=20), st.integers(0, MIN_ENTRIES - 1))
def test_what_was_set_is_read_and_nothing_else(indices: set[int], other: int) -> None:
    found = decode_list(encode_list(StatusList.of(indices)))
    assert all(status_at(found, index) for index in indices)
    assert status_at(found, other) == (other in indices)


@pytest.mark.parametrize("index", [-1, MIN_ENTRIES])
def test_an_index_outside_the_list_is_refused(index: int) -> None:
    with pytest.raises(ProtocolViolation, match="below 131072"):
        status_at(decode_list(SPECIFIED), index)
    with pytest.raises(InputRejected, match="below 131072"):
        StatusList.of([index])


def test_a_list_too_short_to_hide_anybody_in_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="at least 131072 entries, got 100000"):
        decode_list(TOO_SHORT)


def test_a_list_that_would_unpack_to_a_gigabyte_is_refused_after_its_first_mebibyte() -> None:
    packing = zlib.compressobj(level=9, wbits=31)
    zeros = bytes(1024 * 1024)
    bomb = b"".join(packing.compress(zeros) for _ in range(64)) + packing.flush()
    assert len(bomb) < MAX_LIST_BYTES
    with pytest.raises(ProtocolViolation, match="at most"):
        decode_list(encoded(bomb))


GOOD = gzip.compress(bytes(MIN_ENTRIES // 8), mtime=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "u",
        SPECIFIED[1:],
        "z" + SPECIFIED[1:],
        SPECIFIED + "=",
        SPECIFIED + "+",
        encoded(GOOD[:-1]),
        encoded(GOOD + GOOD),
        encoded(zlib.compress(bytes(MIN_ENTRIES // 8))),
        encoded(GOOD[:-8] + bytes(8)),
        "u" + "A" * 2_000_000,
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation, match="status list"):
        decode_list(text)


def test_the_entry_of_the_specification_is_read_and_written() -> None:
    (entry,) = parse_status(ENTRY)
    assert entry == StatusEntry(
        StatusPurpose.REVOCATION, "https://example.com/credentials/status/3", 94567
    )
    assert entry.to_json() == ENTRY


def test_a_credential_without_status_has_no_entries_and_one_may_have_two() -> None:
    suspension = {**ENTRY, "statusPurpose": "suspension"}
    assert parse_status(None) == ()
    assert [one.purpose for one in parse_status([ENTRY, suspension])] == list(StatusPurpose)
    assert parse_status([{**ENTRY, "statusPurpose": "message", "statusSize": 2}]) == ()


@pytest.mark.parametrize(
    "written",
    [
        "x",
        [ENTRY] * 9,
        [[]],
        {**ENTRY, "type": "SomethingElse"},
        {**ENTRY, "statusListIndex": 94567},
        {**ENTRY, "statusListIndex": "-1"},
        {**ENTRY, "statusListIndex": "007"},
        {**ENTRY, "statusListIndex": "٣"},
        {**ENTRY, "statusListIndex": "9" * 4000},
        {**ENTRY, "statusListCredential": None},
        {**ENTRY, "statusListCredential": "x" * 3000},
        {**ENTRY, "statusPurpose": "fashion"},
        {**ENTRY, "statusSize": 2},
    ],
)
def test_a_status_that_cannot_be_looked_up_is_no_good_one(written: object) -> None:
    with pytest.raises(ProtocolViolation):
        parse_status(written)


def test_a_lists_credential_says_its_purpose_and_bits() -> None:
    url = "https://city.example/operator/status/1"
    subject = list_subject(StatusList.of([7]), url=url, purpose=StatusPurpose.SUSPENSION, ttl_s=300)
    assert (subject["id"], subject["ttl"]) == (f"{url}#list", 300_000)
    purposes, bits = parse_list(subject)
    assert purposes == {StatusPurpose.SUSPENSION}
    assert status_at(bits, 7)


@pytest.mark.parametrize(
    "subject",
    [
        None,
        {},
        {"type": "BitstringStatusList", "statusPurpose": [], "encodedList": SPECIFIED},
        {"type": "BitstringStatusList", "statusPurpose": "x", "encodedList": SPECIFIED},
        {"type": "BitstringStatusList", "statusPurpose": "revocation"},
        {"type": "StatusList", "statusPurpose": "revocation", "encodedList": SPECIFIED},
    ],
)
def test_a_lists_credential_that_is_none_is_refused(subject: object) -> None:
    with pytest.raises(ProtocolViolation):
        parse_list(subject)
