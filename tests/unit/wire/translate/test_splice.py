"""Another model's name in a body that stays as it is."""

from __future__ import annotations

import pytest

from sollold.wire.translate.splice import with_model


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'{"model":"new" }', b'{"model":"new" }'),
        (b' { "x" : 1.0,\n"model"\t:\r\n "a" } ', b' { "x" : 1.0,\n"model"\t:\r\n "new" } '),
        (b'{"m":"model","model":"model"}', b'{"m":"model","model":"new"}'),
        (b'{"t":"\\"model\\":\\"a\\"","model":"a"}', b'{"t":"\\"model\\":\\"a\\"","model":"new"}'),
        (b'{"t":{"model":"a"},"model":"a"}', b'{"t":{"model":"a"},"model":"new"}'),
        (b'{"model":"a","t":[{"model":"a"}]}', b'{"model":"new","t":[{"model":"a"}]}'),
        (b'{"model":"a","model":"b"}', b'{"model":"new","model":"new"}'),
        (b'{"Model":"a","n":-1e5}', b'{"model":"new","n":-1e5}'),
        (b'{"MODEL":"x","model":"a"}', b'{"MODEL":"x","model":"new"}'),
        (b'{"mod\\u0065l":"a"}', b'{"model":"new"}'),
        (b'{"model":"\\u0061"}', b'{"model":"new"}'),
        (b'{"model":"a"} trailing "model":"a"', b'{"model":"new"} trailing "model":"a"'),
        (b'{"x":"\xff","model":"a"}', b'{"x":"\xff","model":"new"}'),
        (b'{"\\x":1,"Model":"a"}', b'{"\\x":1,"model":"new"}'),
        (b'{"\\x":"1","Model":"a"}', b'{"\\x":"1","model":"new"}'),
        (b'{"m":"model","mod\\u0065l":"a"}', b'{"m":"model","model":"new"}'),
        (b'{"a":"Model","Model":{"b":"c"}}', b'{"a":"Model","Model":{"b":"c"}}'),
        (b'{"a":{"b":[]},"c":1}', b'{"a":{"b":[]},"c":1}'),
        (b'{"a":{"b":[]},"mod\\u0065l":"a"}', b'{"a":{"b":[]},"model":"new"}'),
        (b"[" * 9999, b"[" * 9999),
        (b"", b""),
        (b'"model"', b'"model"'),
    ],
)
def test_with_model(body: bytes, found: bytes) -> None:
    assert with_model(body, "new") == found


def test_name_is_quoted() -> None:
    assert with_model(b'{"model":"a"}', 'q"\\1') == b'{"model":"q\\"\\\\1"}'
