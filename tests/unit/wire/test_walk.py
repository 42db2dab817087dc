"""A walk over JSON finds the end of every value, whatever its windows cut in two."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire import walk
from sollold.wire.peek import BodyProblem
from sollold.wire.walk import Cursor

_TEXT = st.text(alphabet='a"\\[]{},:é\n', max_size=12)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
    max_leaves=40,
)
_SPACES = st.sampled_from([None, 0, 1])


@given(_JSON, _SPACES, st.booleans(), st.sampled_from([(4, 32), (128, 65536)]))
def test_a_value_is_passed_as_a_whole(
    value: object, indent: int | None, is_ascii: bool, sizes: tuple[int, int]
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()
    with patch.multiple(walk, _FIRST_BYTES=sizes[0], _WINDOW_BYTES=sizes[1]):
        cursor = Cursor(b" " + text + b" ] tail")
        cursor.value()
        assert cursor.at == 1 + len(text)
        assert cursor.look() == ord("]")


@given(st.lists(_JSON, max_size=6), st.dictionaries(_TEXT, _JSON, max_size=6), _SPACES)
def test_elements_and_members_are_found(
    items: list[object], members: dict[str, object], indent: int | None
) -> None:
    with patch.multiple(walk, _FIRST_BYTES=4, _WINDOW_BYTES=32):
        cursor = Cursor(json.dumps(items, indent=indent).encode())
        found = []
        for _ in cursor.items():
            start = cursor.at
            cursor.value()
            found.append(json.loads(cursor.piece(start, cursor.at)))
        assert found == items
        assert cursor.is_blank()
        cursor = Cursor(json.dumps(members, indent=indent).encode())
        seen = {}
        for key in cursor.members():
            start = cursor.at
            cursor.value()
            seen[json.loads(key)] = json.loads(cursor.piece(start, cursor.at))
        assert seen == members
        assert cursor.is_blank()


@given(_JSON, st.integers(1, 30))
def test_the_rest_of_a_list_is_passed_from_any_element(value: object, before: int) -> None:
    text = json.dumps([[value], *range(before), value, "]", {"}": value}]).encode()
    with patch.multiple(walk, _FIRST_BYTES=4, _WINDOW_BYTES=32):
        cursor = Cursor(text + b",1")
        for _ in cursor.items():
            break
        cursor.leave()
        assert cursor.at == len(text)


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b'"', b'"abc', b'"abc\\', b'"abc\\"', b"[", b'["]"', b"[[]", b'{"a":1', b'["\\'],
)
def test_an_end_too_early_is_said(body: bytes) -> None:
    with pytest.raises(BodyProblem, match="unexpected EOF"):
        Cursor(body).value()


@pytest.mark.parametrize(
    ("body", "at"),
    [(b"{1:2}", 1), (b'{"a" 1}', 5), (b'{"a":,}', 5), (b"{,}", 1), (b'{"a":1,,}', 7)],
)
def test_what_is_no_json_is_said(body: bytes, at: int) -> None:
    cursor = Cursor(body)
    with pytest.raises(BodyProblem, match=f"from byte {at} on"):
        for _ in cursor.members():
            cursor.value()


def test_a_long_key_is_no_key_of_ours() -> None:
    cursor = Cursor(b'{"%s":1,"b":2}' % (b"a" * 300))
    keys = []
    for key in cursor.members():
        keys.append(key)
        cursor.value()
    assert keys == [b"", b'"b"']


@pytest.mark.parametrize("depth", [1, 7, 9, 100, 40_000])
def test_depth_is_followed(depth: int) -> None:
    text = (b'[{"a":' * depth) + b"0" + b"}]" * depth
    cursor = Cursor(text + b"]")
    cursor.value()
    assert cursor.at == len(text)
