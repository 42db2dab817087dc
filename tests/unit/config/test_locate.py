from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.config.locate import locate

EVERY_FORM = '''\
# comment with [brackets] and = signs
a = 1 # trailing
"q.r" . b = """first
[not.a.table]
key = "in text"
""" # after
empty = ""
empty_long = """"""

[listen]
api = [
  "1", # ] a bracket in a comment
  'two # no comment',

  [ "nested" ],
]
x.y = {k = [1, 2], 'z' = "}", "w" = {deep = true}}

[[nodes]]
url = 'a#b'
[[nodes]]
url = "\\"q]"
[nodes.sub]
when = 1979-05-27T07:32:00Z
last = \'\'\'
a\'\'\'\'
f = 1.5
[[nodes.parts]]
p = 1
[[nodes.parts]]
p = 2
'''


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found: set[tuple[str | int, ...]] = {path} if path else set()
    if isinstance(value, dict):
        for name, below in value.items():
            found |= paths_of(below, (*path, name))
    if isinstance(value, list):
        for index, below in enumerate(value):
            found |= paths_of(below, (*path, index))
    return found


def test_every_form_of_toml_has_its_line() -> None:
    lines = locate(EVERY_FORM)
    assert set(lines) == paths_of(tomllib.loads(EVERY_FORM))
    assert lines["a",] == 2
    assert lines["q.r", "b"] == 3
    assert lines["empty_long",] == 8
    assert lines["listen",] == 10
    assert lines["listen", "api", 1] == 13
    assert lines["listen", "api", 2, 0] == 15
    assert lines["listen", "x", "y", "w", "deep"] == 17
    assert lines["nodes", 0] == 19
    assert lines["nodes", 1, "url"] == 22
    assert lines["nodes", 1, "sub", "f"] == 27
    assert lines["nodes", 1, "parts", 1, "p"] == 31


def test_a_byte_order_mark_and_other_line_ends_do_no_harm() -> None:
    assert locate("\ufeffa = 1\r\nb = 2\r\n") == {("a",): 1, ("b",): 2}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment"])
def test_nothing_is_found_in_nothing(text: str) -> None:
    assert locate(text) == {}


names = st.sampled_from(["a", "b-c", "d_1", "sp ace", "do.t", "qu'ote", 'dou"ble', "#"])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
scalars = st.one_of(st.booleans(), st.integers(-5, 99), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
    max_leaves=8,
)


def quoted(text: str, style: int) -> str:
    plain = "'" not in text and all(32 <= ord(c) != 127 for c in text)
    if style == 1 and plain:
        return f"'{text}'"
    body = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else {'"': '\\"', "\\": "\\\\"}.get(c, c)
        for c in text
    )
    return f'"""\n{body}"""' if style == 2 else f'"{body}"'


def written(value: Any, style: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value, style)
    if isinstance(value, list):
        gap = "\n # ] }\n" if style == 2 else " "
        return f"[{gap}{f',{gap}'.join(written(item, style) for item in value)}{gap}]"
    if isinstance(value, dict):
        pairs = [f"{quoted(name, 0)} = {written(item, style)}" for name, item in value.items()]
        return f"{{ {', '.join(pairs)} }}"
    return repr(value)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, values, max_size=4), st.integers(0, 2))
def test_every_path_of_any_text_is_found_on_the_line_of_its_key(
    tree: dict[str, Any], style: int
) -> None:
    lines: list[str] = []
    expected: dict[str, int] = {}
    for name, value in tree.items():
        lines += ["# above"]
        expected[name] = "\n".join(lines).count("\n") + 2
        lines += [f"{quoted(name, 0)} = {written(value, style)}"]
    text = "\n".join(lines)
    found = locate(text)
    assert set(found) == paths_of(tomllib.loads(text))
    assert {name: found[name,] for name in tree} == expected
