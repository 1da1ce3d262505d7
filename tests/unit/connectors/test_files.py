import gzip
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors import files, local_file
from connectors.errors import InputRejected, Unavailable
from connectors.source import OPENERS, Source, open_source

GOLDEN = Path(__file__).parent / "golden"
Write = Callable[[str, bytes], Source]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_and_open(name: str, content: bytes) -> Source:
        path = tmp_path / name
        path.write_bytes(content)
        return open_source(str(path))

    return write_and_open


def rows(source: Source, *columns: str) -> list[tuple[object, ...]]:
    read: list[tuple[object, ...]] = []
    for batch in source.scan(columns):
        assert batch.schema.names == list(columns)
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def rejection(source: Source, *columns: str) -> str:
    with pytest.raises(InputRejected) as refused:
        rows(source, *columns)
    return str(refused.value)


def test_numbers_in_delimited_text_keep_every_digit(write: Write) -> None:
    source = write("a.csv", b"id,no,amount\n440305199001011234,007,1.50\nNULL,,NaN\n")
    assert rows(source, "no", "id") == [("007", "440305199001011234"), ("", "NULL")]
    assert source.schema() == pa.schema(
        [("id", pa.string()), ("no", pa.string()), ("amount", pa.string())]
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_encoding_and_delimiter_are_found_out(write: Write, encoding: str, delimiter: str) -> None:
    text = "\r\n".join(delimiter.join(row) for row in [("姓名", "区"), ("张三", "南山区")])
    assert rows(write("a.csv", text.encode(encoding)), "区", "姓名") == [("南山区", "张三")]


def test_gbk_is_recognised_where_only_the_last_row_is_chinese(write: Write) -> None:
    content = b"id,name\n" + b"1,x\n" * 300_000 + "2,张\n".encode("gbk")
    assert rows(write("a.csv", content), "name")[-1] == ("张",)


def test_a_tab_separated_gbk_export_reads_whole() -> None:
    source = open_source(str(GOLDEN / "dirty-gbk.csv"))
    assert source.schema().names == ["证件号码", "区", "金额"]
    assert rows(source, "区", "金额") == [
        ("南山区", "12.50"),
        ("\u3000福田区 ", "7"),
        ("罗湖区", "合计"),
    ]


def test_quoted_fields_hold_delimiters_quotes_and_line_ends(write: Write) -> None:
    source = write("a.csv", b'a,b\n"1,5","x ""y""\nz"\n5" pipe,c\n')
    assert rows(source, "a", "b") == [("1,5", 'x "y"\nz'), ('5" pipe', "c")]


def test_an_empty_line_is_a_row_only_where_a_file_has_one_column(write: Write) -> None:
    assert rows(write("one.csv", b"id\n1\n\n2\n"), "id") == [("1",), ("",), ("2",)]
    assert rows(write("two.csv", b"\nid,b\n\n1,x\n\n2,y\n"), "id") == [("1",), ("2",)]


def test_empty_lines_before_the_column_names_are_no_rows(write: Write) -> None:
    assert rows(write("one.csv", b"\r\n\nid\n1\n"), "id") == [("1",)]
    assert rows(write("bom.csv", b"\xef\xbb\xbf\n\nid,b\n1,x\n"), "id") == [("1",)]


def test_a_column_name_may_span_lines(write: Write) -> None:
    assert rows(write("a.csv", b'\n"id\n(18)",b\n1,x\n'), "id\n(18)") == [("1",)]


def test_column_names_lose_the_white_space_around_them(write: Write) -> None:
    assert write("a.csv", b" id ,b\t\n1,2\n").schema().names == ["id", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv is empty; it needs a first line of column names, and rows"),
        (b"\xef\xbb\xbf", "a.csv holds no column names; write them into the first line"),
        (b"\n \n", "a.csv holds no column names; write them into the first line"),
        (b"id,b\n", "a.csv has columns but no rows; fill it, or name another file"),
        (b"id,b", "a.csv has columns but no rows; fill it, or name another file"),
        (b"id,b\n\n\n", "a.csv has columns but no rows; fill it, or name another file"),
        (bytes(range(256)), "a.csv holds binary data, not text; save it as CSV UTF-8"),
        (b"id\n\x00\n", "a.csv holds binary data, not text; save it as CSV UTF-8"),
        ("id,é\n1,2\n".encode("latin-1"), "a.csv is neither UTF-8 nor GBK text"),
        (b"PK\x03\x04...", "a.csv is a spreadsheet or an archive, not delimited text"),
        (b"\xd0\xcf\x11\xe0...", "a.csv is an old spreadsheet"),
        (b"PAR1...", "a.csv is a Parquet file, not delimited text; rename it"),
        (b"\x1f\x8b...", "a.csv is compressed, not delimited text; unpack it, or name it"),
        (b"\xff\xfei\x00d\x00\n", "a.csv is UTF-16 text that is cut off or damaged; save it"),
        ("id\n\x01\n".encode("utf-16"), "a.csv holds binary data, not text; save it as CSV UTF-8"),
        ("id\n1\n".encode("utf-32"), "a.csv is UTF-32 text, not delimited text; save it as CSV"),
        (b"id,b,id\n1,2,3\n", "a.csv names the column id more than once"),
        (b"id,,c\n1,2,3\n", "a.csv: column 2 of 3 has no name"),
        (
            b"id,b\n1,2\n3\n4,5\n",
            "a.csv, row 2 (counted without the header): expected 2 fields, found 1",
        ),
        (
            b"id,b\n\n1,2\n3,4,5\n",
            "a.csv, row 2 (counted without the header): expected 2 fields, found 3",
        ),
        (b'id,b\n1,2\n3,"4\n5,6\n', "a.csv, row 2 (counted without the header) opens a quotation"),
        (b"i" * 140_000 + b",b\n1,2\n", "a.csv: the line of column names cannot be read"),
        (b",".join(b"c%d" % n for n in range(2001)) + b"\n", "a.csv has 2001 columns, more than"),
    ],
)
def test_unusable_text_is_refused_naming_file_row_and_remedy(
    write: Write, content: bytes, message: str
) -> None:
    assert message in rejection(write("a.csv", content), "id")


def test_a_file_without_header_is_refused_without_showing_its_first_row(write: Write) -> None:
    source = write("a.csv", b"440305199001011234,7\n440305199001011235,8\n")
    message = rejection(source, "id")
    assert message == (
        "a.csv starts with data instead of column names; add a first line naming them"
    )


def test_a_field_longer_than_a_block_is_refused(write: Write) -> None:
    content = b"id,b\n1,2\n" * 10 + b"x" * (9 << 20) + b",1\n" + b"1,2\n" * (2 << 20)
    assert "does not end within 1 MiB" in rejection(write("a.csv", content), "id")


def test_no_message_quotes_the_ragged_row(write: Write) -> None:
    message = rejection(write("a.csv", b"id,b\nsecret-person\n"), "id")
    assert "secret" not in message
    assert "row 1 " in message


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_missing_column_is_named_with_those_present_and_the_nearest(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name == "a.csv":
        path.write_bytes(b"resident_id,district\n1,2\n")
    elif name == "a.parquet":
        pq.write_table(pa.table({"resident_id": ["1"], "district": ["2"]}), path)
    else:
        path.write_bytes(b'{"resident_id": "1", "district": "2"}\n')
    assert rejection(open_source(str(path)), "district", "Residentid") == (
        f"{name} has no column Residentid; its columns are resident_id, district; "
        "did you mean resident_id?"
    )


def test_a_missing_column_is_refused_before_the_first_row_is_asked_for(write: Write) -> None:
    with pytest.raises(InputRejected, match="no column x"):
        write("a.csv", b"id\n1\n").scan(["x"])


def test_parquet_keeps_types_and_the_asked_order(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["1", None], "n": pa.array([5, 6], pa.int32())}), path)
    source = open_source(str(path))
    assert source.schema().field("n").type == pa.int32()
    assert rows(source, "n", "id") == [(5, "1"), (6, None)]


def test_a_broken_or_empty_parquet_file_is_refused(write: Write, tmp_path: Path) -> None:
    assert "broken.parquet is not a readable Parquet file" in rejection(
        write("broken.parquet", b"PAR1 rubbish PAR1"), "id"
    )
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), path)
    assert "none.parquet has columns but no rows" in rejection(open_source(str(path)), "id")


def test_a_damaged_page_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [f"number {n}" for n in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    assert "a.parquet is not a readable Parquet file" in rejection(open_source(str(path)), "id")


def test_json_lines_become_text_as_written(write: Write) -> None:
    content = b'\xef\xbb\xbf{"id": 440305199001011234567, "n": 1.50}\n\n{"n": true, "id": null}\n'
    source = write("a.jsonl", content)
    assert source.schema() == pa.schema([("id", pa.string()), ("n", pa.string())])
    assert rows(source, "id", "n") == [("440305199001011234567", "1.50"), (None, "true")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jsonl has no rows; write one JSON object on each line"),
        (b"\n\n", "a.jsonl has no rows; write one JSON object on each line"),
        (b'{"id": 1}\n{"id":\n', "a.jsonl, row 2 is not JSON"),
        (b"[1]\n", "a.jsonl, row 1 is not a JSON object"),
        (b'{"id": "\\ud800"}\n', "a.jsonl, row 1 is not JSON"),
        (b'{"id": [1]}\n', "a.jsonl, row 1 holds a list or an object in column id"),
        (b"\xff\xfe\x00", "a.jsonl, row 1 is not JSON"),
        (b"[" * 100_000, "a.jsonl, row 1 is not JSON"),
        (b'"' + b"x" * (5 << 20), "a.jsonl, row 1 is longer than 4194304 bytes"),
    ],
)
def test_broken_json_lines_are_refused_by_row(write: Write, content: bytes, message: str) -> None:
    assert message in rejection(write("a.jsonl", content), "id")


def test_json_lines_longer_than_a_batch_are_all_read(write: Write) -> None:
    count = files.BATCH_ROWS + 3
    source = write("a.jsonl", b"".join(b'{"id": %d}\n' % n for n in range(count)))
    assert rows(source, "id") == [(str(n),) for n in range(count)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gopher://host/a.csv", "no data source is known for the scheme gopher:; use one of"),
        ("file://host/a.csv", "reads files of this machine only"),
        ("", "the path of a data file is empty or malformed"),
        ("a\0.csv", "the path of a data file is empty or malformed"),
        ("no/such.csv", "there is no file such.csv in no; check the path"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, message: str) -> None:
    with pytest.raises(InputRejected) as refused:
        open_source(url)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.et", "a.et: the format of a file is told by its ending; use one of .csv"),
        ("a.dat", "a.dat: the format of a file is told by its ending; use one of .csv"),
    ],
)
def test_an_unknown_format_is_refused(write: Write, name: str, message: str) -> None:
    with pytest.raises(InputRejected) as refused:
        write(name, b"x")
    assert message in str(refused.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="is a directory; name one file in it"):
        open_source(str(tmp_path))


def test_a_file_url_is_unquoted_and_takes_no_options(write: Write, tmp_path: Path) -> None:
    write("数据 1.csv", b"id\n1\n")
    url = (tmp_path / "数据 1.csv").as_uri()
    assert url.startswith("file:///")
    assert "%" in url
    assert rows(open_source(url), "id") == [("1",)]
    with pytest.raises(InputRejected, match=r"takes no options for \.csv, found x"):
        open_source(f"{url}?x=1")
    with pytest.raises(InputRejected, match="an option is given twice"):
        open_source(f"{url}?x=1&x=2")


def test_a_file_that_vanishes_or_is_locked_says_so(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write("a.csv", b"id\n1\n")
    faults = {
        PermissionError(13, "Permission denied"): (InputRejected, "a.csv may not be read"),
        OSError(5, "Input/output error"): (Unavailable, "Input/output error"),
    }
    for fault, (kind, message) in faults.items():
        with monkeypatch.context() as patched:

            def refuse(*_: object, fault: OSError = fault, **__: object) -> None:
                raise fault

            patched.setattr(Path, "open", refuse)
            with pytest.raises(kind, match=message):
                source.schema()
    (tmp_path / "a.csv").unlink()
    with pytest.raises(InputRejected, match=r"a\.csv is no longer there"):
        source.version()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_the_version_is_the_digest_of_the_content(write: Write, name: str) -> None:
    source = write(name, b"one")
    assert source.version() == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert write(name, b"two").version() == source.version() != write("b.csv", b"one").version()


def test_every_scheme_of_files_refuses_a_missing_file(tmp_path: Path) -> None:
    for scheme in ("file", "personal+file"):
        assert scheme in OPENERS
        url = f"{scheme}:{tmp_path}/no.csv?consents={tmp_path}/no.jsonl&subject=id"
        with pytest.raises(InputRejected):
            open_source(url)


def test_batches_of_a_long_file_stay_small(write: Write) -> None:
    source = write("a.csv", b"id,b\n" + b"440305199001011234,padding-padding\n" * 600_000)
    largest = max(batch.nbytes for batch in source.scan(["id"]))
    assert largest < 8 << 20


def test_packed_text_reads_like_the_text_itself(write: Write) -> None:
    text = b"id,n\n" + b"440305199001011234,1\n" * 3
    assert rows(write("a.csv.gz", gzip.compress(text)), "n") == [("1",)] * 3
    assert rows(write("a.csv.gz", gzip.compress("id\n张\n".encode("gbk"))), "id") == [("张",)]
    assert rows(write("a.jsonl.gz", gzip.compress(b'{"id": 7}\n')), "id") == [("7",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id\n1\n", "a.csv.gz is no gzip file, or a damaged or cut off one"),
        (gzip.compress(b"id\n" + b"1\n" * 999)[:-12], "a.csv.gz is no gzip file, or a damaged"),
        (gzip.compress(b""), "a.csv.gz is empty"),
        (gzip.compress(bytes(9999)), "a.csv.gz holds binary data"),
    ],
    # Packed bytes hold the time they were made at.
    ids=["plain", "cut off", "empty", "binary"],
)
def test_a_damaged_packed_file_is_refused(write: Write, content: bytes, message: str) -> None:
    assert message in rejection(write("a.csv.gz", content), "id")


def test_a_packed_bomb_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_file, "MAX_UNPACKED_BYTES", 1 << 21)
    bomb = gzip.compress(b"id\n" + b"1\n" * (1 << 21))
    assert len(bomb) < 1 << 14
    assert "a.csv.gz unpacks to more than 0 GiB" in rejection(write("a.csv.gz", bomb), "id")


def content_of(name: str, count: int, column: str = "id") -> bytes:
    """So many rows of one column, in the format that the name tells."""
    if name.endswith(".csv"):
        return f"{column}\n".encode() + b"440305199001011234\n" * count
    if name.endswith(".jsonl"):
        return f'{{"{column}": "440305199001011234"}}\n'.encode() * count
    buffer = io.BytesIO()
    pq.write_table(pa.table({column: ["440305199001011234"] * count}), buffer)
    return buffer.getvalue()


FORMAT_NAMES = ["a.csv", "a.parquet", "a.jsonl"]


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_replaced_between_its_names_and_its_rows_is_not_read(
    write: Write, tmp_path: Path, name: str
) -> None:
    source = write(name, content_of(name, 2))
    scan = source.scan(["id"])
    other = tmp_path / f"other-{name}"
    other.write_bytes(content_of(name, 3, "another"))
    other.replace(tmp_path / name)
    with pytest.raises(Unavailable, match=r"was written to or replaced while it was read"):
        list(scan)
    assert rows(source, "another") == [("440305199001011234",)] * 3


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_cut_off_or_written_to_while_it_is_read_ends_with_an_error(
    write: Write, tmp_path: Path, name: str
) -> None:
    content = content_of(name, files.BATCH_ROWS + 9)
    for changed in (content[: len(content) // 3], content + b"\n"):
        scan = write(name, content).scan(["id"])
        next(scan)
        # In place, as a program that writes the file anew does.
        (tmp_path / name).write_bytes(changed)
        os.utime(tmp_path / name, ns=(1, 1))
        with pytest.raises(Unavailable, match="read it again when nothing writes to it"):
            list(scan)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_that_goes_away_before_its_rows_says_so(
    write: Write, tmp_path: Path, name: str
) -> None:
    scan = write(name, content_of(name, 2)).scan(["id"])
    (tmp_path / name).unlink()
    with pytest.raises(InputRejected, match="is no longer there; check the path"):
        list(scan)


def test_what_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    for name, message in {
        "pipe.csv": "pipe.csv is a pipe, a socket or a device; write its rows into a file",
        "loop.csv": "loop.csv cannot be looked up (Too many levels of symbolic links)",
        "gone.csv": "there is no file gone.csv in",
        f"{'x' * 300}.csv": "cannot be looked up (File name too long)",
    }.items():
        with pytest.raises(InputRejected) as refused:
            open_source(str(tmp_path / name))
        assert message in str(refused.value)
    with pytest.raises(InputRejected, match="null is a pipe, a socket or a device"):
        open_source("/dev/null")


def test_a_file_whose_place_a_pipe_takes_is_not_waited_for(write: Write, tmp_path: Path) -> None:
    source = write("a.csv", b"id\n1\n")
    (tmp_path / "a.csv").unlink()
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputRejected, match=r"a\.csv is a pipe"):
        source.schema()


def test_a_file_that_stays_the_same_is_not_looked_through_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write("a.csv", b"id\n1\n")
    source.schema()
    monkeypatch.setattr(files.delimited, "detect", None)
    assert rows(source, "id") == [("1",)]
