"""JSON is written and refused as Go does; the fault texts were produced by Go's own decoder."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.gojson import (
    BodyProblem,
    Pairs,
    clean_text,
    find_fault,
    go_json,
    go_type,
    read_lenient,
    without_surrogates,
)

_TEXTS: st.SearchStrategy[str] = st.text(max_size=12)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def _read(body: bytes) -> object:
    return read_lenient(body, empty_text="nothing")


def _fault(body: bytes) -> BodyProblem:
    with pytest.raises(BodyProblem) as caught:
        _read(body)
    return caught.value


def test_what_go_escapes_is_escaped() -> None:
    text = '<b>&\u2028\u2029\u00e9\U0001f600\\"/\x7f\n\x01\b\f'
    assert go_json(text).decode() == (
        '"\\u003cb\\u003e\\u0026\\u2028\\u2029\u00e9\U0001f600\\\\\\"/\x7f\\n\\u0001\\b\\f"'
    )


def test_objects_are_compact_and_keep_their_order() -> None:
    assert go_json({"b": [1, None, True], "a": "<"}) == b'{"b":[1,null,true],"a":"\\u003c"}'


def test_lone_surrogates_are_replaced() -> None:
    value = {"a\udc80": ["\ud800x", {"b": "\ud83d\ude00"}], "n": 1}
    assert json.loads(go_json(value)) == {"a\ufffd": ["\ufffdx", {"b": "\U0001f600"}], "n": 1}
    assert clean_text("x\ud800") == "x\ufffd"


@given(_VALUES)
def test_encoding_loses_nothing_and_leaves_no_markup(value: Any) -> None:
    text = go_json(value)
    assert json.loads(text) == value
    assert not set(b"<>&") & set(text)


def test_objects_keep_duplicates_and_plain_trees_do_not() -> None:
    found = _read(b'{"a":1,"a":{"b":[2]}}')
    assert isinstance(found, Pairs)
    assert found == [("a", 1), ("a", Pairs([("b", [2])]))]
    assert without_surrogates(found) == {"a": {"b": [2]}}


def test_huge_numbers_become_finite_or_infinite_floats() -> None:
    assert without_surrogates([10**30, -(2**63), 2**63 - 1]) == [1e30, -(2**63), 2**63 - 1]
    assert _read(b"9" * 5000) == float("inf")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'"x"', "string"),
        (b"true", "bool"),
        (b"1", "number"),
        (b"1.5", "number"),
        (b"{}", "object"),
        (b"[]", "array"),
    ],
)
def test_types_have_go_names(body: bytes, name: str) -> None:
    assert go_type(_read(body)) == name


@pytest.mark.parametrize("body", [b"", b" ", b"\n\t\r "])
def test_nothing_is_empty(body: bytes) -> None:
    problem = _fault(body)
    assert (problem.kind, problem.text, str(problem)) == ("empty", "nothing", "nothing")


@pytest.mark.parametrize(
    "body", [b"{} trailing", b"{}{", b"{}]", b"  {}\x00", b"{}\n{}", b"{}\xff"]
)
def test_what_follows_the_first_value_does_not_matter(body: bytes) -> None:
    assert _read(body) == Pairs()


def test_invalid_utf8_is_replaced() -> None:
    assert _read(b'"a\xffb"') == "a\ufffdb"


_FAULTS = [
    (b"{bad", "invalid character 'b' looking for beginning of object key string"),
    (b"{", "unexpected EOF"),
    (b"[1", "unexpected EOF"),
    (b'{"a"', "unexpected EOF"),
    (b'{"a":', "unexpected EOF"),
    (b'{"a":1,', "unexpected EOF"),
    (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    (b"[1,]", "invalid character ']' looking for beginning of value"),
    (b"[1 2]", "invalid character '2' after array element"),
    (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
    (b"falsy", "invalid character 'y' in literal false (expecting 'e')"),
    (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
    (b"nul", "unexpected EOF"),
    (b'"a\nb"', "invalid character '\\n' in string literal"),
    (b'["x\ty"]', "invalid character '\\t' in string literal"),
    (b'"\\x"', "invalid character 'x' in string escape code"),
    (b'"\\', "unexpected EOF"),
    (b'"\\u12zz"', "invalid character 'z' in \\u hexadecimal character escape"),
    (b'"\\u12', "unexpected EOF"),
    (b'["\\u00e9\\n\\"" 1]', "invalid character '1' after array element"),
    (b"-", "unexpected EOF"),
    (b"-a", "invalid character 'a' in numeric literal"),
    (b"[-Infinity]", "invalid character 'I' in numeric literal"),
    (b"NaN", "invalid character 'N' looking for beginning of value"),
    (b'{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
    (b'{"a":1ea}', "invalid character 'a' in exponent of numeric literal"),
    (b"[1e", "unexpected EOF"),
    (b'{"a":01}', "invalid character '1' after object key:value pair"),
    (b"[-1.5e+3 x", "invalid character 'x' after array element"),
    (b"[12E-7 x", "invalid character 'x' after array element"),
    (b"'a'", "invalid character '\\'' looking for beginning of value"),
    (b"\xef\xbb\xbf{}", "invalid character '\u00ef' looking for beginning of value"),
    (b"\x00", "invalid character '\\x00' looking for beginning of value"),
    (b"\x80", "invalid character '\\u0080' looking for beginning of value"),
    (b"\xad", "invalid character '\\u00ad' looking for beginning of value"),
    (b"\x7f", "invalid character '\\x7f' looking for beginning of value"),
    (b'{"a":[1}', "invalid character '}' after array element"),
    (b'{"a":{"b":[[],{}]]', "invalid character ']' after object key:value pair"),
    (b'{"a"::1}', "invalid character ':' looking for beginning of value"),
    (b"{,}", "invalid character ',' looking for beginning of object key string"),
    (b"]", "invalid character ']' looking for beginning of value"),
]


@pytest.mark.parametrize(("body", "text"), _FAULTS)
def test_faults_are_worded_as_go_does(body: bytes, text: str) -> None:
    problem = _fault(body)
    assert problem.kind == "syntax"
    assert problem.text == text


def test_sound_literals_and_numbers_are_passed() -> None:
    text = '{"a":[true,false,null,-0.5e+1,{}],"b":"\\u00e9"} '
    fault = find_fault(text)
    assert fault.at == len(text)
    assert find_fault(text[:-2] + "x").at == len(text) - 2


@given(_VALUES)
def test_sound_text_has_no_fault_before_its_end(value: Any) -> None:
    text = json.dumps(value)
    fault = find_fault(text)
    assert (fault.at, fault.where) == (len(text), "")


def test_a_long_body_gets_a_plain_text_at_once() -> None:
    problem = _fault(b"[" + b"1," * 40_000 + b"x]")
    assert problem.kind == "syntax"
    assert problem.text.startswith("invalid JSON: Expecting value")


def test_deep_nesting_is_refused() -> None:
    problem = _fault(b"[" * 100_000)
    assert (problem.kind, problem.text) == ("syntax", "exceeded max depth")


@given(st.dictionaries(_TEXTS, _VALUES, min_size=1, max_size=4), st.integers(1, 1000))
def test_every_cut_of_an_object_is_an_unexpected_end(value: dict[str, Any], cut: int) -> None:
    body = msgspec.json.encode(value)
    assert _fault(body[: min(cut, len(body) - 1)]).text == "unexpected EOF"


_SCRAPS = st.text(alphabet='{}[]",:\\/u0e.-+truefalsn \n', max_size=30)


@given(st.binary(max_size=60) | _SCRAPS.map(str.encode))
def test_any_bytes_are_read_or_refused_with_a_text(body: bytes) -> None:
    problem = None
    try:
        _read(body)
    except BodyProblem as exc:
        problem = exc
    assert problem is None or (problem.kind in ("empty", "syntax") and problem.text)
