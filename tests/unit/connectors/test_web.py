import gc
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.addresses import parse_address
from connectors.conditions import Comparison, Condition, keep
from connectors.errors import InputRejected, Unavailable
from connectors.fetching import Limits, Site
from connectors.paging import parse_paging
from connectors.source import Source, open_source
from tests.servers_web import (
    Asked,
    Rows,
    Told,
    WebServer,
    certificate,
    ckan_portal,
    features_server,
    gzip_bomb,
    items_api,
    sensor_things,
    told_json,
    web_server,
)

PEOPLE: Rows = [
    {"id": 440305199001010000 + n, "name": f"名{n}", "amount": n + 0.5} for n in range(250)
]
EXPECTED = [(str(440305199001010000 + n), f"{n}.5") for n in range(250)]
MOST = 1 << 20
SHAPES: Rows = [{"a": {"b": 1}}, {"a": None}]
SECRET = "s3cret-of-the-api"


class Switch:
    """One server for the whole module, whose answers each test chooses."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Told] = lambda asked: Told(status=404)
        self.server: WebServer

    def __call__(self, answer: Callable[[Asked], Told]) -> str:
        self.answer = answer
        self.server.asked.clear()
        return self.server.netloc


@pytest.fixture(scope="module")
def the_server() -> Iterator[Switch]:
    switch = Switch()
    with web_server(lambda asked: switch.answer(asked)) as server:
        switch.server = server
        yield switch


@pytest.fixture
def serve(the_server: Switch, monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Chooses what the server answers; nothing waits before it asks again, and pages are small."""
    defaults = Site.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "sleep", lambda seconds: None)
    monkeypatch.setitem(defaults, "limits", Limits(page_bytes=MOST))
    return the_server


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


def failure(source: Source, *columns: str) -> str:
    with pytest.raises(Unavailable) as failed:
        rows(source, *columns)
    return str(failed.value)


# Paging


@pytest.mark.parametrize(
    ("path", "options", "requests"),
    [
        ("by-page", "items=data.items&page=page&size=limit&per=100", 4),
        ("by-page", "page=page&size=limit&per=100&total=total", 3),
        ("by-offset", "items=data.items&offset=offset&size=limit&per=500&total=total", 3),
        ("by-next", "items=data.items&next=paging.next", 3),
        ("by-next", "", 3),
        ("by-cursor", "items=data.items&cursor=cursor&send=after", 3),
        ("by-link", "", 3),
    ],
)
def test_every_kind_of_paging_gives_all_rows_once(
    serve: Switch, path: str, options: str, requests: int
) -> None:
    at = serve(items_api(PEOPLE))
    source = open_source(f"json+http://{at}/{path}#{options}")
    assert source.schema().names == ["id", "name", "amount"]
    serve.server.asked.clear()
    assert rows(source, "id", "amount") == EXPECTED
    assert len(serve.server.asked) == requests


def test_the_query_of_the_address_belongs_to_the_server_on_every_page(serve: Switch) -> None:
    at = serve(items_api(PEOPLE))
    source = open_source(f"json+http://{at}/by-page?kind=a%26b&limit=7#page=page&size=limit&per=50")
    assert rows(source, "id") == [(one,) for one, _ in EXPECTED]
    assert {asked.query["kind"] for asked in serve.server.asked} == {"a&b"}
    assert {asked.query["limit"] for asked in serve.server.asked} == {"50"}


def test_a_first_page_that_says_it_is_not_all_asks_how_pages_follow(serve: Switch) -> None:
    at = serve(items_api(PEOPLE))
    assert "gives 100 of 250 rows (total)" in refusal(
        open_source(f"json+http://{at}/by-offset"), "id"
    )


def test_pages_that_go_round_repeat_or_never_end_are_refused(serve: Switch) -> None:
    def circle(asked: Asked) -> Told:
        return told_json(
            {"items": [{"a": asked.number}], "next": "/?b" if asked.query else "/?b=1"}
        )

    at = serve(circle)
    url = f"json+http://{at}/#next=next"
    assert "go round in a circle" in refusal(open_source(url), "a")
    serve(lambda asked: told_json([{"a": 1}]))
    assert "check whether the API knows the parameter page" in refusal(
        open_source(f"json+http://{at}/#page=page"), "a"
    )
    serve(lambda asked: told_json({"i": [{"a": 1}], "next": f"/{asked.number}"}))
    assert "more than 7 pages" in refusal(open_source(f"{url}&max_pages=7"), "a")


@pytest.mark.parametrize(
    "options",
    ["page=p&offset=o", "per=5", "cursor=c", "send=s", "first=1", "page=p&first=x", "size=s&per=0"],
)
def test_options_of_paging_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(InputRejected):
        parse_paging(dict(pair.split("=") for pair in options.split("&")))


# Rows


def test_objects_are_flattened_numbers_stay_as_written_and_lists_become_json(serve: Switch) -> None:
    body = (
        b'{"result": {"list": [{"id": 440305199001011234, "v": 1.50, "ok": true, "w": null,'
        b' "at": {"lon": 114.10, "place": {"zh": "\xe5\x8d\x97"}}, "tags": ["a", 2.0, {"b": 1}]},'
        b' {"id": "007", "at": {"lon": 1}}]}}'
    )
    source = open_source(f"json+http://{serve(lambda asked: Told(body))}/x")
    names = source.schema().names
    assert names == ["id", "v", "ok", "w", "at.lon", "at.place.zh", "tags"]
    assert set(source.schema().types) == {pa.string()}
    assert rows(source, *names) == [
        ("440305199001011234", "1.50", "true", None, "114.10", "南", '["a", 2.0, {"b": 1}]'),
        ("007", None, None, None, "1", None, None),
    ]


def test_conditions_choose_rows_as_everywhere(serve: Switch) -> None:
    source = open_source(f"json+http://{serve(items_api(PEOPLE))}/by-next")
    where = (Condition("name", Comparison.IS_ANY_OF, ("名3", "名249")),)
    assert rows(source, "amount", where=where) == [("3.5",), ("249.5",)]
    where = (Condition("name", Comparison.EQ, ("nobody",)),)
    assert rows(source, "amount", where=where) == []


def test_a_column_that_appears_later_is_not_there_unless_it_is_named(serve: Switch) -> None:
    def answer(asked: Asked) -> Told:
        late = {"late": "x"} if "p" in asked.query else {}
        return told_json(
            {"items": [{"a": n, **late} for n in range(600)], "next": "" if late else "?p=1"}
        )

    at = serve(answer)
    web_rows = rows(open_source(f"json+http://{at}/#next=next&columns=a,late"), "late")
    assert web_rows == [(None,)] * 600 + [("x",)] * 600
    assert open_source(f"json+http://{at}/").schema().names == ["a", "late"]


@pytest.mark.parametrize(
    ("early", "late", "names"),
    [
        ({"a": 1}, {"a": {"b": 1}}, "a.b"),
        ({"a": 1}, {"a": {"b": {"c": 1}}}, "a.b.c"),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": 1}}, "a.b"),
        ({"a": {"b": {"c": 1}}}, {"a": "x"}, "a"),
    ],
)
def test_a_cell_that_becomes_an_object_on_a_later_page_or_the_reverse_is_refused(
    serve: Switch, early: object, late: object, names: str
) -> None:
    def answer(asked: Asked) -> Told:
        later = "p" in asked.query
        items = [late if later else early] * 1000
        return told_json({"items": items, "next": None if later else "?p=1"})

    source = open_source(f"json+http://{serve(answer)}/#next=next")
    (column,) = source.schema().names
    assert f"column {names} is an object on some pages" in refusal(source, column)


def test_null_where_an_object_was_is_no_other_shape(serve: Switch) -> None:
    source = open_source(f"json+http://{serve(lambda asked: told_json(SHAPES))}/")
    assert source.schema().names == ["a.b", "a"]
    assert rows(source, "a.b") == [("1",), (None,)]


def test_a_column_that_is_gone_since_the_schema_was_read_is_refused(serve: Switch) -> None:
    source = open_source(f"json+http://{serve(lambda asked: told_json([{'a': 1, 'b': 2}]))}/")
    source.schema()
    serve(lambda asked: told_json([{"a": 1}]))
    assert rows(source, "a") == [("1",)]
    assert "had a column b" in refusal(source, "b")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"items": [{"id": 4403051990', "is not JSON"),
        (b'[{"a": "\\ud800"}]', "is not JSON in UTF-8"),
        ("[{'a': 1}]".encode("utf-16"), "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "no list of objects"),
        (b'{"code": 500, "msg": "\\u5931\\u8d25"}', "it holds code, msg"),
        (b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "more than one list"),
        (b"[]", "has no rows"),
        (b"[1, 2]", "is not a JSON object"),
        (b'[{"a": {"b": 1}, "a.b": 2}]', "two cells for one column a.b"),
        (b'[{"a": ' + b'{"a": ' * 20 + b"1" + b"}" * 21 + b"]", "levels deep"),
        (b'{"data": {"list": 3}}', "no list of objects"),
    ],
)
def test_a_broken_answer_is_refused_without_its_content(
    serve: Switch, body: bytes, says: str
) -> None:
    message = refusal(open_source(f"json+http://{serve(lambda asked: Told(body))}/x"), "a")
    assert says in message
    assert "4403051990" not in message


def test_the_version_is_of_the_rows_and_not_of_the_pages(serve: Switch) -> None:
    at = serve(items_api(PEOPLE))
    version = open_source(f"json+http://{at}/by-next").version()
    assert version == open_source(f"json+http://{at}/by-page#page=page&size=limit&per=30").version()
    serve(items_api([*PEOPLE[:-1], {**PEOPLE[-1], "amount": 0}]))
    assert open_source(f"json+http://{at}/by-next").version() != version


def test_the_description_tells_what_was_found(serve: Switch) -> None:
    words = open_source(f"json+http://{serve(items_api(PEOPLE))}/by-next").description()
    assert words["paging"] == "next link (paging.next)"
    assert words["content type"] == "application/json"
    assert words["transport"] == "not encrypted"


# Servers that fail, or worse


def test_a_failure_on_a_later_page_says_that_the_rows_are_not_all(serve: Switch) -> None:
    api = items_api(PEOPLE)
    at = serve(lambda asked: Told(status=500) if asked.query.get("offset") == "200" else api(asked))
    source = open_source(f"json+http://{at}/by-next")
    source.schema = lambda: pa.schema([("id", pa.string())])  # type: ignore[method-assign]
    message = failure(source, "id")
    assert message.startswith(f"page 3 of {at}/by-next: the server answered 500, 4 times")
    assert message.endswith("The 200 rows of the pages before are not all")


def test_busy_servers_are_asked_again_after_the_time_they_name(serve: Switch) -> None:
    answers = [
        Told(status=503),
        Told(status=429, headers={"Retry-After": "7"}),
        Told(
            status=503,
            headers={
                "Retry-After": "Mon, 30 Nov 2026 10:00:09 GMT",
            },
        ),
        told_json([{"a": 1}]),
    ]
    waited: list[float] = []
    at = serve(lambda asked: answers[asked.number - 1])
    address = parse_address(f"json+http://{at}/", known=())
    site = Site(address, scheme="http", sleep=waited.append)
    with site.session() as session:
        assert session.page(site.url).body == b'[{"a": 1}]'
    assert waited[:2] == [0.5, 7.0]
    serve(lambda asked: Told(status=429, headers={"Retry-After": "3600"}))
    assert "asks to wait 3600 s" in failure(open_source(f"json+http://{at}/"), "a")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "refuses access"),
        (403, "refuses access"),
        (404, "nothing there"),
        (422, "does not accept the request (422)"),
    ],
)
def test_what_asking_differently_would_cure_is_not_asked_again(
    serve: Switch, status: int, says: str
) -> None:
    at = serve(lambda asked: Told(status=status))
    assert says in refusal(open_source(f"json+http://{at}/x?appkey=1234"), "a")
    assert len(serve.server.asked) == 1


def test_a_connection_cut_in_the_body_is_never_the_end_of_the_rows(serve: Switch) -> None:
    at = serve(lambda asked: Told(b'[{"a": 1}, {"a": 2}]', cut=10))
    assert "before the answer was whole" in failure(open_source(f"json+http://{at}/"), "a")
    whole = gzip.compress(b'[{"a": 1}]')
    encoded = {"Content-Encoding": "gzip"}
    serve(lambda asked: Told(whole[:-9], headers=encoded))
    assert "cut off" in failure(open_source(f"json+http://{at}/"), "a")
    serve(lambda asked: Told(b"nonsense", headers=encoded))
    assert "damaged gzip" in failure(open_source(f"json+http://{at}/"), "a")
    serve(lambda asked: Told(whole, headers=encoded))
    assert rows(open_source(f"json+http://{at}/"), "a") == [("1",)]


def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused(serve: Switch) -> None:
    bomb = gzip_bomb(MOST + 1)
    assert len(bomb.body) < 10_000
    at = serve(lambda asked: bomb)
    assert f"longer than {MOST} bytes" in refusal(open_source(f"json+http://{at}/"), "a")
    serve(lambda asked: Told(b"[]", headers={"Content-Encoding": "br"}))
    assert "encoding nobody asked for" in refusal(open_source(f"json+http://{at}/"), "a")


def test_nobody_listening_is_unavailable(serve: Switch) -> None:
    # Port 1 of the loopback interface.
    assert "cannot be reached" in failure(open_source("json+http://127.0.0.1:1/"), "a")


def test_a_server_that_only_drips_is_left_at_the_end_of_its_time(serve: Switch) -> None:
    at = serve(lambda asked: Told(b"[" + b" " * 10_000 + b"]", drip=True))
    address = parse_address(f"json+http://{at}/", known=())
    site = Site(address, scheme="http", limits=Limits(page_s=0.2, attempts=1))
    with site.session() as session, pytest.raises(Unavailable, match="did not answer in time"):
        session.page(site.url)
    site = Site(address, scheme="http", limits=Limits(total_s=0.0))
    with site.session() as session, pytest.raises(Unavailable, match="more than 0 s in all"):
        session.page(site.url)


def test_a_server_must_show_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    with web_server(lambda asked: told_json([{"a": 1}]), tls=tls) as server:
        url = f"json+https://{server.netloc}/"
        assert "certificate is not trusted" in refusal(open_source(url), "a")
        trusting = open_source(f"{url}#ca={tls[0]}")
        assert rows(trusting, "a") == [("1",)]
        assert trusting.description()["transport"] == "TLS"
        assert "no file of certificates" in refusal(open_source(f"{url}#ca={tls[1]}"), "a")
        assert len(server.asked) == 2


# Origins and secrets


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CITY_API_KEY", SECRET)
    return "secret=env:CITY_API_KEY"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://127.0.0.2:{port}/next",
        "http://localhost:{port}/next",
        "http://127.0.0.1:1/next",
        "https://127.0.0.1:{port}/next",
        "//169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "http://user@127.0.0.1:{port}/next",
        "http://127.0.0.1:99999999/",
        "http://[::1/",
    ],
)
@pytest.mark.parametrize("by", ["redirect", "next", "link"])
def test_nothing_is_asked_of_another_origin(
    serve: Switch, secret: str, elsewhere: str, by: str
) -> None:
    target = elsewhere.format(port=serve.server.netloc.rpartition(":")[2])

    def answer(asked: Asked) -> Told:
        if by == "redirect":
            return Told(status=302, headers={"Location": target})
        if by == "link":
            return told_json([{"a": 1}], Link=f'<{target}>; rel="next"')
        return told_json({"items": [{"a": 1}], "next": target})

    source = open_source(f"json+http://{serve(answer)}/#{secret}")
    message = refusal(source, "a")
    assert "the server points at" in message
    assert SECRET not in message
    assert len(serve.server.asked) == 1


def test_redirects_within_the_origin_are_followed_and_circles_are_not(serve: Switch) -> None:
    def answer(asked: Asked) -> Told:
        if asked.path == "/old":
            return Told(status=301, headers={"Location": "/new"})
        return told_json([{"a": 1}])

    at = serve(answer)
    assert rows(open_source(f"json+http://{at}/old"), "a") == [("1",)]
    serve(lambda asked: Told(status=307, headers={"Location": "/x"}))
    assert "redirects in a circle" in refusal(open_source(f"json+http://{at}/x"), "a")


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ("", "authorization", f"Bearer {SECRET}"),
        ("&auth=bearer", "authorization", f"Bearer {SECRET}"),
        ("&auth=header:X-API-Key", "x-api-key", SECRET),
    ],
)
def test_the_secret_goes_where_the_server_wants_it(
    serve: Switch, secret: str, auth: str, header: str, value: str
) -> None:
    at = serve(lambda asked: told_json([{"a": 1}]))
    assert rows(open_source(f"json+http://{at}/#{secret}{auth}"), "a") == [("1",)]
    assert {asked.headers[header] for asked in serve.server.asked} == {value}


def test_a_secret_as_a_parameter_or_as_user_and_password(
    serve: Switch, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = serve(lambda asked: told_json([{"a": 1}]))
    rows(open_source(f"json+http://{at}/?x=1#{secret}&auth=query:appKey"), "a")
    assert {asked.query["appKey"] for asked in serve.server.asked} == {SECRET}
    basic = f"json+http://{at}/#{secret}&auth=basic"
    assert "user:password" in refusal(open_source(basic), "a")
    monkeypatch.setenv("CITY_API_KEY", "u:p")
    rows(open_source(basic), "a")
    assert serve.server.asked[-1].headers["authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    "url",
    [
        "json+http://h/#auth=digest",
        "json+http://h/#auth=header:X%0d%0aY",
        "json+http://u@h/",
        "json+http://u:p@h/",
        "json+http:///x",
        "json+http://h/#nonsense=1",
        "json+http://h/#max_pages=0",
        "https://h/",
        "https://h/data.exe",
        "https://h/data.csv#per=1",
        "ckan+http://h/",
        "ckan+http://h/#resource=a&dataset=b&format=csv",
        "ckan+http://h/#resource=a&per=99999",
        "ogc+http://h/",
        "ogc+http://h/#collection=a&geometry=svg",
        "sta+http://h/v1.1",
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(InputRejected):
        open_source(url)


def test_a_secret_of_several_lines_cannot_become_headers(
    serve: Switch, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = serve(lambda asked: told_json([{"a": 1}]))
    for value in ("a\nX-Other: b", "密"):
        monkeypatch.setenv("CITY_API_KEY", value)
        assert "the secret" in refusal(open_source(f"json+http://{at}/#{secret}"), "a")
    assert serve.server.asked == []


# Files


CSV = "id,区\n007,南山区\n008,福田区\n".encode("gbk")


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_file_on_the_web_reads_as_one_on_disk_and_leaves_nothing(
    serve: Switch, spool: Path
) -> None:
    at = serve(lambda asked: Told(CSV, headers={"Content-Type": "text/csv"}))
    source = open_source(f"http://{at}/open%20data/Air%20%E6%B7%B1.CSV?v=2")
    assert source.name == "Air 深.csv"
    where = (Condition("区", Comparison.EQ, ("福田区",)),)
    assert rows(source, "id", where=where) == [("008",)]
    assert source.description()["encoding"] == "GBK (GB 18030)"
    assert source.description()["version"] == "of the bytes"
    assert list(spool.iterdir()) == []


def test_an_abandoned_scan_removes_its_copy(serve: Switch, spool: Path) -> None:
    at = serve(lambda asked: Told(CSV))
    scan = open_source(f"http://{at}/a.csv").scan(["id"])
    next(scan)
    (directory,) = spool.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]
    del scan
    gc.collect()
    assert list(spool.iterdir()) == []


def test_the_version_of_a_file_is_of_its_bytes_or_of_a_strong_etag(
    serve: Switch, spool: Path
) -> None:
    tag = {"ETag": 'W/"1"'}
    body = CSV
    at = serve(lambda asked: Told(body, headers=tag))
    source = open_source(f"http://{at}/a.csv")
    first = source.version()
    tag = {"ETag": 'W/"2"'}
    assert source.version() == first
    body = CSV + b"1,2\n"
    assert source.version() != first
    tag = {"ETag": '"3"'}
    strong = source.version()
    body = CSV
    assert source.version() == strong
    tag = {"ETag": '"4"'}
    assert source.version() != strong


def test_a_file_that_is_a_login_page_or_too_large_or_cut_off_is_refused(
    serve: Switch, spool: Path
) -> None:
    at = serve(lambda asked: Told(b"<html>", headers={"Content-Type": "text/html; charset=x"}))
    source = open_source(f"http://{at}/a.csv")
    assert "web page" in refusal(source, "id")
    serve(lambda asked: Told(CSV, cut=20))
    assert "before the answer was whole" in failure(source, "id")
    serve(lambda asked: Told(CSV))
    address = parse_address(f"http://{at}/a.csv", known=())
    small = Site(address, scheme="http", limits=Limits(file_bytes=len(CSV) - 1))
    with (
        small.session() as session,
        (spool / "x").open("wb") as file,
        pytest.raises(InputRejected, match="longer than"),
    ):
        session.download(small.url, file)
    (spool / "x").unlink()
    assert list(spool.iterdir()) == []


# Portals, features, sensors


FIELDS = {"id": "text", "n": "int4", "v": "numeric", "ok": "bool", "f": "float8"}
STORED: Rows = [
    {"id": f"00{n}", "n": n % 7, "v": "1.50", "ok": n % 2 == 0, "f": n / 4} for n in range(25)
]


def test_a_datastore_gives_typed_rows_without_its_row_number(serve: Switch) -> None:
    at = serve(ckan_portal(STORED, FIELDS))
    source = open_source(f"ckan+http://{at}#resource=r1&per=10")
    assert source.schema() == pa.schema(
        [
            ("id", pa.string()),
            ("n", pa.int64()),
            ("v", pa.string()),
            ("ok", pa.bool_()),
            ("f", pa.float64()),
        ]
    )
    assert rows(source, "f", "id", "ok") == [(one["f"], one["id"], one["ok"]) for one in STORED]
    assert serve.server.asked[-1].query["fields"] == "f,id,ok"


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ((("n", Comparison.EQ, ("3",)),), {"n": ["3"]}),
        ((("id", Comparison.IS_ANY_OF, ("001", "0024", "x")),), {"id": ["001", "0024", "x"]}),
        ((("n", Comparison.GT, ("3",)), ("ok", Comparison.EQ, ("true",))), None),
        ((("id", Comparison.STARTS_WITH, ("002",)),), None),
        ((("n", Comparison.EQ, ("3",)), ("n", Comparison.EQ, ("4",))), {"n": ["3"]}),
    ],
)
def test_a_portal_is_told_equalities_and_gives_what_filtering_gives(
    serve: Switch, conditions: tuple[tuple[str, Comparison, tuple[str, ...]], ...], told: object
) -> None:
    at = serve(ckan_portal(STORED, FIELDS))
    source = open_source(f"ckan+http://{at}/#resource=r1&per=10")
    where = tuple(Condition(*one) for one in conditions)
    everything = pa.Table.from_batches(source.scan(["id", "n", "ok"]))
    expected = keep(everything.combine_chunks().to_batches()[0], where)
    assert rows(source, "id", where=where) == [(one,) for one in expected["id"].to_pylist()]
    filters = serve.server.asked[-1].query.get("filters")
    assert (json.loads(filters) if filters else None) == told


def test_a_dataset_of_a_portal_leads_to_its_only_file_of_a_format(
    serve: Switch, spool: Path
) -> None:
    at = serve(ckan_portal([], {}))
    source = open_source(f"ckan+http://{at}#dataset=air&format=CSV")
    assert rows(source, "v", "id") == [("1.50", "007")]
    assert source.description()["format"] == "delimited text"
    assert source.version().startswith("sha256:")
    assert "has 0 resources of the format xls" in refusal(
        open_source(f"ckan+http://{at}#dataset=air&format=xls"), "id"
    )
    serve(ckan_portal([], {}, file_url="http://169.254.169.254/data.csv"))
    assert "not where the source is" in refusal(
        open_source(f"ckan+http://{at}#dataset=air&format=CSV"), "id"
    )
    assert "nothing there (404)" in refusal(open_source(f"ckan+http://{at}#resource=r2"), "id")


STATIONS: Rows = [
    {
        "type": "Feature",
        "id": n,
        "geometry": {"type": "Point", "coordinates": [114.1, 22.5 + n]} if n else None,
        "properties": {"name": f"s{n % 3}", "id": "x", "owner": {"code": n}},
    }
    for n in range(25)
]


def test_features_give_properties_geometry_and_where_points_lie(serve: Switch) -> None:
    at = serve(features_server(STATIONS, queryables=("name",)))
    url = f"ogc+http://{at}/api#collection=stations&bbox=1,2,3,4&per=10"
    source = open_source(url)
    names = ["id", "geometry", "lon", "lat", "name", "properties.id", "owner.code"]
    assert source.schema().names == names
    read = rows(source, *names)
    assert len(read) == 25
    assert read[0] == ("0", None, None, None, "s0", "x", "0")
    assert read[1] == ("1", "POINT (114.1 23.5)", "114.1", "23.5", "s1", "x", "1")
    assert serve.server.asked[-1].query["bbox"] == "1,2,3,4"
    serve.server.asked.clear()
    where = (Condition("name", Comparison.EQ, ("s2",)), Condition("id", Comparison.NEQ, ("2",)))
    assert rows(source, "id", where=where) == [(str(n),) for n in range(5, 25, 3)]
    assert serve.server.asked[-1].query["name"] == "s2"
    assert "geometry" not in open_source(f"{url}&geometry=none").schema().names


def test_a_server_that_refuses_a_condition_is_asked_for_all_rows(serve: Switch) -> None:
    api = features_server(STATIONS, queryables=("name",))
    told: list[str] = []

    def answer(asked: Asked) -> Told:
        if "name" in asked.query:
            told.append(asked.query["name"])
            return Told(status=400)
        return api(asked)

    source = open_source(f"ogc+http://{serve(answer)}/api#collection=stations")
    where = (Condition("name", Comparison.EQ, ("s2",)),)
    assert rows(source, "id", where=where) == [(str(n),) for n in range(2, 25, 3)]
    assert told == ["s2"]


@pytest.mark.parametrize(
    ("geometry", "wkt"),
    [
        ({"type": "Point", "coordinates": [1, 2.50, 3]}, "POINT Z (1 2.50 3)"),
        ({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, "MULTIPOINT ((1 2), (3 4))"),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "LINESTRING (1 2, 3 4)"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
            "POLYGON ((0 0, 1 0, 1 1, 0 0))",
        ),
        (
            {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [0, 0]]]]},
            "MULTIPOLYGON (((0 0, 1 0, 0 0)))",
        ),
        (
            {
                "type": "GeometryCollection",
                "geometries": [{"type": "Point", "coordinates": []}],
            },
            "GEOMETRYCOLLECTION (POINT EMPTY)",
        ),
        ({"type": "Point", "coordinates": [["1", "2"]]}, None),
        ({"type": "Point", "coordinates": ["a", "b"]}, None),
        ({"type": "Circle", "coordinates": [1, 2]}, None),
        ("here", None),
    ],
)
def test_geometries_are_written_as_well_known_text(
    serve: Switch, geometry: object, wkt: str | None
) -> None:
    text = json.dumps(geometry).replace("2.5", "2.50")
    body = f'{{"features": [{{"properties": {{}}, "geometry": {text}}}]}}'.encode()
    at = serve(lambda asked: Told(body))
    source = open_source(f"ogc+http://{at}#collection=c")
    if wkt is None:
        assert "feature 1: a geometry is not GeoJSON" in refusal(source, "geometry")
    else:
        assert rows(source, "geometry") == [(wkt,)]
        as_json = open_source(f"ogc+http://{at}#collection=c&geometry=geojson")
        assert rows(as_json, "geometry") == [(text,)]


OBSERVATIONS: Rows = [
    {
        "@iot.id": n,
        "@iot.selfLink": "http://x",
        "phenomenonTime": f"2026-11-30T10:00:{n:02}Z",
        "result": n / 2,
        "Datastream": {"name": f"o'z{n % 2}", "@iot.id": n % 2, "Things@iot.navigationLink": "x"},
    }
    for n in range(25)
]


def test_observations_give_nested_ids_and_no_links(serve: Switch) -> None:
    at = serve(sensor_things(OBSERVATIONS))
    source = open_source(
        f"sta+http://{at}/v1.1#entity=Observations&expand=Datastream&per=10&filter=result%20ge%200"
    )
    names = ["id", "phenomenonTime", "result", "Datastream.name", "Datastream.id"]
    assert source.schema().names == names
    read = rows(source, *names)
    assert len(read) == 25
    assert read[3] == ("3", "2026-11-30T10:00:03Z", "1.5", "o'z1", "1")
    assert serve.server.asked[-1].query["$filter"] == "(result ge 0)"
    where = (
        Condition("id", Comparison.NEQ, ("1",)),
        Condition("Datastream.name", Comparison.STARTS_WITH, ("o'z1",)),
    )
    assert rows(source, "id", where=where) == [(str(n),) for n in range(3, 25, 2)]
    assert serve.server.asked[-1].query["$filter"] == (
        "(result ge 0) and startswith(Datastream/name,'o''z1')"
    )
