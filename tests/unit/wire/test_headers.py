"""Header fields pass or stay by rule, and no value can break out of its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.errors import InvalidRequest
from sollold.wire.headers import (
    HOP_BY_HOP,
    HeadWriter,
    new_request_id,
    passed_through,
    reply_headers,
    request_head,
    valid_request_id,
    via_element,
)

_HOST = "10.0.0.5:11434"


def _head(
    *headers: tuple[str, str],
    method: str = "POST",
    target: str = "/api/chat",
    content_length: int | None = 5,
    authorization: str | None = None,
    is_encoded: bool = False,
) -> list[str]:
    head = request_head(
        method,
        target,
        _HOST,
        headers,
        content_length=content_length,
        via="1.1 sollold-a",
        request_id="r-1",
        authorization=authorization,
        is_encoded=is_encoded,
    )
    assert head.endswith(b"\r\n\r\n")
    return head.decode("utf-8", "surrogateescape")[:-4].split("\r\n")


def test_a_whole_head() -> None:
    lines = _head(
        ("Host", "localhost:11434"),
        ("User-Agent", "GitHubCopilotChat/1"),
        ("Content-Type", "application/json"),
        ("traceparent", "00-1-2-01"),
        ("Content-Length", "999"),
        authorization="Bearer node-key",
    )
    assert lines == [
        "POST /api/chat HTTP/1.1",
        "Host: 10.0.0.5:11434",
        "Accept-Encoding: identity",
        "Authorization: Bearer node-key",
        "User-Agent: GitHubCopilotChat/1",
        "Content-Type: application/json",
        "traceparent: 00-1-2-01",
        "Via: 1.1 sollold-a",
        "X-Request-Id: r-1",
        "Content-Length: 5",
    ]


_PLAIN = _head()


@pytest.mark.parametrize(
    "name",
    [
        *HOP_BY_HOP - {"connection"},
        "Host",
        "ORIGIN",
        "Referer",
        "Sec-Fetch-Mode",
        "sec-fetch-site",
        "Cookie",
        "Authorization",
        "X-Api-Key",
        "Accept-Encoding",
        "Content-Length",
        "Content-Encoding",
        "Expect",
        "X-Request-Id",
        "X-Sollold-Pin",
        "x-sollold-anything",
    ],
)
def test_what_stays_with_the_client(name: str) -> None:
    assert _head((name, "secret")) == _PLAIN


def test_a_head_without_a_body() -> None:
    assert _head(method="GET", content_length=None)[-1] == "X-Request-Id: r-1"


def test_the_encoding_of_a_body_that_still_has_it_passes() -> None:
    lines = _head(("content-encoding", "zstd"), is_encoded=True)
    assert "Content-Encoding: zstd" in lines


@pytest.mark.parametrize("value", ["keep-alive", "close", "Keep-Alive, TE", "upgrade", ""])
def test_the_usual_connections_name_nothing(value: str) -> None:
    assert _head(("Connection", value), ("X-A", "1"))[3] == "X-A: 1"


def test_what_connection_names_stays_wherever_it_stands() -> None:
    lines = _head(
        ("X-Secret", "1"),
        ("Connection", "x-secret , close"),
        ("X-Other", "2"),
        ("x-secret", "3"),
        ("connection", "Via"),
        ("Via", "1.0 proxy"),
    )
    assert [line for line in lines if line.lower().startswith("x-secret")] == []
    assert "X-Other: 2" in lines
    assert "Via: 1.0 proxy" in lines


def test_via_is_appended_in_order() -> None:
    lines = _head(("Via", "1.0 a, 1.1 b (x)"), ("via", "1.1 c"))
    assert [line for line in lines if line.startswith("Via")] == [
        "Via: 1.0 a, 1.1 b (x)",
        "Via: 1.1 c",
        "Via: 1.1 sollold-a",
    ]


def test_text_that_is_no_utf8_passes_as_its_bytes() -> None:
    head = HeadWriter(_HOST).write(
        "GET",
        "/",
        [("X-A", b"caf\xe9".decode("utf-8", "surrogateescape")), ("X-B", "\u00e9")],
        content_length=None,
        via="1.1 a",
        request_id="r",
    )
    assert b"X-A: caf\xe9\r\nX-B: \xc3\xa9\r\n" in head


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "\ud800"])
def test_values_that_break_out_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        _head(("X-A", bad))
    with pytest.raises(InvalidRequest):
        _head(("Via", bad))
    with pytest.raises(InvalidRequest):
        _head((bad, "a"))
    with pytest.raises(InvalidRequest):
        _head(target="/" + bad)


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_a_node_with_a_broken_address_or_key_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        HeadWriter(bad)
    with pytest.raises(InvalidRequest):
        HeadWriter("host", bad)


@pytest.mark.parametrize(
    ("method", "target"), [("GET x", "/"), ("GET", "/a b"), ("", "/"), ("GET", "")]
)
def test_request_lines_that_break_apart_are_refused(method: str, target: str) -> None:
    with pytest.raises(InvalidRequest):
        _head(method=method, target=target)


_NAMES = st.sampled_from(["X-A", "Accept", "Cookie", "Connection", "Via", "X-Sollold-Mode", "x-b"])
_VALUES = st.text(alphabet="ab, x-\r\n\0é", max_size=8)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6))
def test_a_head_has_one_line_for_each_field_that_passes(headers: list[tuple[str, str]]) -> None:
    is_broken = any(
        set(value) & set("\r\n\0")
        for name, value in headers
        if name not in ("Cookie", "Connection", "X-Sollold-Mode")
    )
    named = {
        token.strip().lower()
        for name, value in headers
        if name == "Connection"
        for token in value.split(",")
    }
    if is_broken and not named & {"x-a", "accept", "x-b"}:
        with pytest.raises(InvalidRequest):
            _head(*headers)
    elif not is_broken:
        passing = [
            f"{name}: {value}"
            for name, value in headers
            if name in ("X-A", "Accept", "Via", "x-b") and name.lower() not in named - {"via"}
        ]
        assert _head(*headers)[3:-3] == passing


def test_what_of_an_answer_passes() -> None:
    pairs = [
        (b"Content-Type", b"application/x-ndjson"),
        (b"Date", b"Sat, 21 Nov 2026 14:00:00 GMT"),
        (b"date", b"Sat, 21 Nov 2026 14:00:01 GMT"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"Connection", b"keep-alive, X-Internal"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Internal", b"1"),
        (b"Server", b"llama.cpp"),
        (b"Access-Control-Allow-Origin", b"*"),
        (b"Set-Cookie", b"a=b"),
        (b"Alt-Svc", b"h3"),
        (b"X-Request-Id", b"theirs"),
        (b"X-Sollold-Node", b"theirs"),
        (b"X-Accel-Buffering", b"yes"),
        (b"Retry-After", b"5"),
        (b"Content-Encoding", b"br"),
        (b"X-Twice", b"1"),
        (b"X-Twice", b"2"),
        (b"X-Text", "\u00e9".encode()),
        (b"X-Latin", b"\xe9"),
        (b"X-Broken", b"a\rb"),
        (b"X-Null", b"a\0b"),
    ]
    assert reply_headers(pairs) == [
        ("Content-Type", "application/x-ndjson"),
        ("Date", "Sat, 21 Nov 2026 14:00:00 GMT"),
        ("Retry-After", "5"),
        ("Content-Encoding", "br"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("X-Text", "\u00e9"),
        ("X-Latin", "\u00e9"),
    ]
    assert reply_headers([(b"Connection", b"close"), (b"X-A", b"1")]) == [("X-A", "1")]


def test_the_entry_of_an_instance() -> None:
    assert via_element("a") == "1.1 sollold-a"


@pytest.mark.parametrize(
    ("via", "has_passed"),
    [
        ([], False),
        (["1.1 sollold-a"], True),
        (["1.0 proxy, 1.1 SOLLOLD-A (comment)"], True),
        (["1.0 proxy", "HTTP/1.1 sollold-a"], True),
        (["1.1 sollold-ab"], False),
        (["1.1 proxy (to us, 1.1 sollold-a )"], False),
        (["sollold-a"], False),
        ([""], False),
    ],
)
def test_loops_are_recognised(via: list[str], has_passed: bool) -> None:
    assert passed_through(via, "a") is has_passed


@given(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True))
def test_what_is_added_is_recognised(instance: str) -> None:
    assert passed_through(["1.0 other", f"1.1 x, {via_element(instance)}"], instance)


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("r-abcdefghijkl", True),
        ("550e8400-e29b-41d4-a716-446655440000", True),
        ("Root=1-67891233-abc", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("-a", False),
        ("a b", False),
        ("a\n", False),
        ("a\u00e9", False),
        ('a"', False),
    ],
)
def test_ids_of_clients(text: str, is_valid: bool) -> None:
    assert valid_request_id(text) is is_valid


def test_own_ids() -> None:
    assert new_request_id(bytes(8)) == "r-aaaaaaaaaaaa"
    assert new_request_id(b"\xff" * 8) == "r-777777777777"
    with pytest.raises(ValueError, match="takes 8 random bytes"):
        new_request_id(b"short")


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_own_ids_are_valid_and_differ(left: bytes, right: bytes) -> None:
    ids = new_request_id(left), new_request_id(right)
    assert all(valid_request_id(text) and len(text) == 14 for text in ids)
    mask = 2**60 - 1
    same = int.from_bytes(left, "big") & mask == int.from_bytes(right, "big") & mask
    assert (ids[0] == ids[1]) is same
