"""Error texts as nodes send them."""

from __future__ import annotations

import pytest

from sollold.wire.refusal import error_text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"model \'x\' not found"}', "model 'x' not found"),
        (b'{"error":{"message":"bad","type":"t"}}', "bad"),
        (b'{"error":{"type":"t"}}', '{"error":{"type":"t"}}'),
        (b'{"error":""}', '{"error":""}'),
        (b"<html>502</html>", "<html>502</html>"),
        (b"\xff", "\ufffd"),
        (b"[" * 5000, "[" * 5000),
        (b"", ""),
    ],
)
def test_error_text(body: bytes, text: str) -> None:
    assert error_text(body) == text
