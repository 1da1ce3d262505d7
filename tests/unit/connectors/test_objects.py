from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from connectors.conditions import Comparison, Condition
from connectors.errors import InputRejected, Unavailable
from connectors.objects import fitting
from connectors.source import Source, open_source
from tests.servers_web import bucket_server

pytestmark = pytest.mark.xdist_group("buckets")
TABLE = pa.table({"id": ["007", "008", "009"], "v": [1.5, 2, None], "区": ["南山", "福田", "南山"]})


class Store:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.files = pafs.S3FileSystem(
            endpoint_override=endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            access_key="key",
            secret_key="secret",
            allow_bucket_creation=True,
        )
        self.files.create_dir("city")

    def put(self, key: str, content: bytes) -> None:
        with self.files.open_output_stream(f"city/{key}") as file:
            file.write(content)

    def put_parquet(self, key: str, table: pa.Table) -> None:
        with self.files.open_output_stream(f"city/{key}") as file:
            pq.write_table(table, file)

    def open(self, key: str, options: str = "&secret=env:CITY_BUCKET_KEYS") -> Source:
        return open_source(f"s3://city/{quote(key, safe='/*')}?endpoint={self.endpoint}{options}")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with bucket_server() as at:
        yield at


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("CITY_BUCKET_KEYS", "key:secret")
    return Store(endpoint)


def rows(source: Source, *columns: str, where: tuple[Condition, ...] = ()) -> list[tuple[Any, ...]]:
    read: list[tuple[Any, ...]] = []
    for batch in source.scan(columns, where):
        assert batch.schema.names == list(columns)
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def refusal(source: Source, *columns: str) -> str:
    with pytest.raises(InputRejected) as refused:
        rows(source, *columns)
    return str(refused.value)


def test_parquet_and_text_read_as_files_do(store: Store) -> None:
    store.put_parquet("one/a.parquet", TABLE)
    source = store.open("one/a.parquet")
    assert source.schema() == TABLE.schema
    where = (Condition("区", Comparison.EQ, ("南山",)),)
    assert rows(source, "v", "id", where=where) == [(1.5, "007"), (None, "009")]
    assert source.description()["format"] == "Parquet"
    store.put("one/空 气#1?.csv", "id;区\n007;南山\n".encode("gbk"))
    source = store.open("one/空 气#1?.csv")
    assert rows(source, "区", "id") == [("南山", "007")]
    assert source.description()["delimiter"] == "semicolon"
    store.put("one/x.jsonl", b'{"id": 440305199001011234}\n')
    assert rows(store.open("one/x.jsonl"), "id") == [("440305199001011234",)]


@pytest.mark.slow
def test_several_objects_are_one_table_in_the_order_of_their_keys(store: Store) -> None:
    for day in ("02", "01", "03"):
        store.put_parquet(f"many/d={day}/p.parquet", pa.table({"day": [day], "n": [int(day)]}))
    store.put("many/readme.txt", b"x")
    assert rows(store.open("many/*/p.parquet"), "n") == [(1,), (2,), (3,)]
    assert rows(store.open("many/d=0*/*.parquet"), "day") == [("01",), ("02",), ("03",)]
    assert rows(store.open("many/**.parquet"), "day") == [("01",), ("02",), ("03",)]
    assert store.open("many/*/*.parquet").description()["objects"] == "3"
    assert "fits no objects" in refusal(store.open("many/*.csv"), "n")
    store.put_parquet("many/d=04/p.parquet", pa.table({"day": ["04"], "n": ["4"]}))
    assert "column n holds string, in the first object int64" in refusal(
        store.open("many/*/p.parquet"), "n"
    )
    assert rows(store.open("many/*/p.parquet"), "day")[-1] == ("04",)
    store.put_parquet("many/d=05/p.parquet", pa.table({"n": [5]}))
    assert "d=05/p.parquet has no column day; its columns are n" in refusal(
        store.open("many/*/p.parquet"), "day"
    )


@pytest.mark.slow
def test_the_version_changes_with_the_objects_and_only_with_them(store: Store) -> None:
    store.put("v/a.csv", b"id\n1\n")
    store.put("v/b.csv", b"id\n2\n")
    source = store.open("v/*.csv")
    first = source.version()
    assert source.version() == first
    store.put("v/b.csv", b"id\n3\n")
    second = source.version()
    assert second != first
    store.put("v/c.csv", b"id\n4\n")
    assert source.version() not in (first, second)


@pytest.mark.slow
def test_an_object_that_vanishes_or_is_replaced_on_the_way_is_not_taken_for_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("a", "b"):
        store.put_parquet(f"gone/{part}.parquet", TABLE)
    scan = store.open("gone/*.parquet").scan(["id"])
    next(scan)
    store.files.delete_file("city/gone/b.parquet")
    with pytest.raises(InputRejected, match=r"no object gone/b\.parquet"):
        list(scan)
    scan = store.open("gone/a.parquet").scan(["id"])
    next(scan)
    store.put_parquet("gone/a.parquet", TABLE.slice(1))
    with pytest.raises(Unavailable, match="replaced while it was read"):
        list(scan)


@pytest.mark.slow
def test_what_is_missing_or_broken_or_forbidden_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no object nothing.parquet in the bucket city" in refusal(
        store.open("nothing.parquet"), "a"
    )
    store.put("broken.parquet", b"PAR1 and no more")
    assert "broken.parquet is not a readable Parquet file" in refusal(
        store.open("broken.parquet"), "a"
    )
    other = f"s3://no-such-bucket/x/*.csv?endpoint={store.endpoint}&secret=env:CITY_BUCKET_KEYS"
    assert "no bucket no-such-bucket" in refusal(open_source(other), "a")
    monkeypatch.setenv("CITY_BUCKET_KEYS", "only-one-part")
    message = refusal(store.open("broken.parquet"), "a")
    assert "ACCESS_KEY:SECRET_KEY" in message
    assert "only-one-part" not in message


def test_a_store_that_nobody_answers_at_is_unavailable() -> None:
    source = open_source("s3://city/a.parquet?endpoint=http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="bucket city cannot be reached"):
        rows(source, "a")


@pytest.mark.parametrize(
    "url",
    [
        "s3:///key.csv",
        "s3://bucket",
        "s3://bucket/key.exe",
        "s3://bucket/a#b.csv",
        "s3://user@bucket/a.csv",
        "s3://bucket/a.csv?endpoint=127.0.0.1:9000",
        "s3://bucket/a.csv?endpoint=http://h/path",
        "s3://bucket/a.csv?endpoint=http://k:s@h",
        "s3://bucket/a.csv?addressing=odd",
        "s3://bucket/a.csv?password=x",
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(InputRejected):
        open_source(url)


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("a/*.csv", "a/b.csv", True),
        ("a/*.csv", "a/b/c.csv", False),
        ("a/**.csv", "a/b/c.csv", True),
        ("a/", "a/b/c.csv", True),
        ("a/", "ab/c.csv", False),
        ("a.b/*", "axb/c", False),
        ("a/*/p*.csv", "a/d=1/p-0.csv", True),
    ],
)
def test_a_star_stays_within_one_level(pattern: str, key: str, fits: bool) -> None:
    assert fitting(pattern)(key) is fits


@pytest.mark.slow
def test_a_copy_leaves_nothing_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store.put("copy.csv", b"id\n1\n")
    scan = store.open("copy.csv").scan(["id"])
    next(scan)
    assert len(list(tmp_path.iterdir())) == 1
    scan.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
