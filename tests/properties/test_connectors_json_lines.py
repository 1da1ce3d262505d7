"""JSON lines give the same rows, or the same refusal, however a block of them was read."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors import json_lines
from connectors.errors import InputRejected
from connectors.source import open_source

TEXTS = st.text(
    st.characters(codec="utf-8") | st.sampled_from('{}[]",:\\\n\r\t\x00\u2028张😀'), max_size=6
)
# Values as they are written. Most rows hold plain ones, which is what Arrow reads.
PLAIN = {
    "a": st.builds(json.dumps, TEXTS, ensure_ascii=st.booleans()),
    "b": st.integers(-(10**20), 10**20).map(str) | st.integers(-3, 3).map(str),
}
ODD = st.sampled_from(
    r"""-0 1.50 1e5 1E400 NaN Infinity true null [1] {} {"x":[{}]} "\ud83d" "\udc00" "\ud83d\ude00"
    01 +1 'x' "x 9223372036854775808""".split()
)
KEYS = st.sampled_from(["a", "a", "b", "b", "c"])


@st.composite
def lines(draw: st.DrawFn) -> str:
    fields = []
    for key in draw(st.lists(KEYS, max_size=3)):
        odd = draw(st.integers(0, 9)) == 0
        value = draw(ODD if odd or key == "c" else PLAIN[key])
        space = draw(st.sampled_from(["", "", " "]))
        fields.append(f'{space}"{key}"{space}:{space}{value}{space}')
    line = "{" + ",".join(fields) + "}"
    return draw(
        st.sampled_from([line] * 12 + ["", " ", f"{line}\r", f" {line}", line * 2, line[:-1], "[]"])
    )


@pytest.fixture(autouse=True, scope="module")
def few_rows_tell_the_columns() -> Iterator[None]:
    """Those rows are read one by one anyway: what follows them is what is tested."""
    with mock.patch.object(json_lines, "SCHEMA_ROWS", 1):
        yield


def outcome(path: Path, columns: list[str]) -> list[tuple[object, ...]] | str:
    rows: list[tuple[object, ...]] = []
    try:
        for batch in open_source(str(path)).scan(columns):
            batch.validate(full=True)
            rows += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except InputRejected as err:
        return str(err)
    return rows


FIRST = '{"a":"x","b":1}'


@settings(max_examples=30, deadline=None)
@given(
    st.lists(lines(), max_size=8).map(lambda rest: [FIRST, *rest]),
    st.sampled_from([["a"], ["b"], ["b", "a"]]),
)
@example(['{"a":"x","b":1}', '{"a":"y","b":-0}'], ["b", "a"])
@example([FIRST, '{"a":"x"}{"a":"y"}', "{", '"a":"z"}'], ["a"])
@example([FIRST, '{"a":"x","a":"y"}', '{"a":"z"}'], ["a"])
@example([FIRST, '{"a":"x","c":"\\ud83d"}', '{"a":"z"}'], ["a"])
@example([FIRST, '{"a":"x","c":1,"c":2}', '{"a":"z","c":NaN}'], ["a"])
@example([FIRST, '{"a":"x","c":\'1\'}'], ["a"])
def test_a_block_read_at_once_is_its_lines_read_one_by_one(
    written: list[str], columns: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes("\n".join(written).encode("utf-8"))
        at_once = outcome(path, columns)
        with mock.patch.object(json_lines, "_at_once", return_value=None):
            assert outcome(path, columns) == at_once


def test_plain_lines_are_read_at_once() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes('{"a": "张", "b": 9007199254740993, "c": 1.5}\n'.encode() * 3)
        with mock.patch.object(json_lines.JsonLinesFile, "_line_by_line", None):
            assert outcome(path, ["b", "a"]) == [("9007199254740993", "张")] * 3


@settings(max_examples=12, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=12), st.integers(1, 40))
def test_rows_do_not_depend_on_where_blocks_end(written: list[str], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes("\n".join(written).encode("utf-8"))
        whole = outcome(path, ["a"])
        with mock.patch.object(json_lines, "_BLOCK_BYTES", size):
            assert outcome(path, ["a"]) == whole
