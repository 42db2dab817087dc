"""Error texts as nodes send them."""

from __future__ import annotations

import pytest

from sollold.wire.refusal import error_text, has_error_text, known_words


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


@pytest.mark.parametrize(
    ("body", "has"),
    [
        (b'{"error":"no"}', True),
        (b'{"error":{"message":"no"}}', True),
        (b'{"error":{"message":1}}', False),
        (b'{"error":""}', False),
        (b"<html>403</html>", False),
        (b"", False),
    ],
)
def test_has_error_text(body: bytes, has: bool) -> None:
    assert has_error_text(body) is has


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "model requires more system memory (5.6 GiB) than is available (3.1 GiB)",
            "model requires more system memory (5.6 GiB) than is available (3.1 GiB)",
        ),
        (
            "llama runner process has terminated: CUDA error: out of memory at my secret",
            "llama runner process has terminated, CUDA error, out of memory",
        ),
        (
            "CUDA error; out of memory; exit status 2; no slot",
            "CUDA error, out of memory, exit status 2",
        ),
        ("Incorrect API key provided: sk-1234. See your account", "Incorrect API key"),
        ("unexpected text near 'my secret diary'", ""),
        ("out of memory, really OUT OF MEMORY, out of memory", "out of memory"),
        ("", ""),
    ],
)
def test_only_fixed_wording_is_known(text: str, words: str) -> None:
    assert known_words(text) == words
