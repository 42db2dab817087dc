"""The fake node's own reading of names, durations and bodies."""

from __future__ import annotations

import math

import pytest

from tests.fakes import decode
from tests.fakes.decode import ApiError, DecodeError
from tests.fakes.models import FakeModel
from tests.fakes.names import parse_name
from tests.fakes.ollama import timestamp


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("registry.ollama.ai/library/llama3.2:latest", "llama3.2:latest"),
        ("user/model", "user/model:latest"),
        ("hf.co/o/R-GGUF:Q4_K_M", "hf.co/o/R-GGUF:Q4_K_M"),
        ("http://localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
    ],
)
def test_names_are_shown_short(text: str, short: str) -> None:
    name = parse_name(text)

    assert name is not None
    assert name.short() == short


@pytest.mark.parametrize(
    "text", ["", "m:", "-m", "x y", "a/b/c/d", "host:5000/m", "ns.dot/m", "m@sha256:ab", "a//b"]
)
def test_wrong_names_are_no_names(text: str) -> None:
    assert parse_name(text) is None


def test_a_model_needs_a_name() -> None:
    with pytest.raises(ValueError, match="not a model name"):
        _ = FakeModel(name="x y").full


def test_equal_names_give_equal_digests() -> None:
    digests = {FakeModel(name=name).id for name in ("m", "m:latest", "library/M")}

    assert len(digests) == 1
    assert len(digests.pop()) == 64
    assert FakeModel(name="m").id != FakeModel(name="m:8b").id


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (0.5, 0.5),
        (-1, math.inf),
        ("0", 0.0),
        ("300ms", 0.3),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("-1m", math.inf),
    ],
)
def test_keep_alive_is_read_as_go_reads_it(value: object, seconds: float | None) -> None:
    assert decode.keep_alive_s({"keep_alive": value}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("", 'time: invalid duration ""'),
        ("forever", 'time: invalid duration "forever"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
    ],
)
def test_a_wrong_keep_alive_has_its_text(value: object, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode.keep_alive_s({"keep_alive": value})

    assert caught.value.text == text
    assert caught.value.status == 400


def test_keys_match_whatever_their_case_and_the_last_wins() -> None:
    raw = b'{"MODEL":"a","model":"b","stream":null} and more'

    body = decode.decode(raw, "api.ChatRequest", decode.CHAT, empty_text="none")

    assert body == {"model": "b"}


@pytest.mark.parametrize("raw", [b"", b"  \n"])
def test_an_empty_body_has_the_text_of_its_family(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="EOF"):
        decode.decode(raw, "api.ChatRequest", decode.CHAT, empty_text="EOF")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_ctx": "a"}, "integer"),
        ({"num_ctx": True}, "integer"),
        ({"top_p": "a"}, "float32"),
        ({"stop": "a"}, "array"),
        ({"use_mmap": 1}, "boolean"),
    ],
)
def test_options_of_a_wrong_type_are_a_500(options: dict[str, object], kind: str) -> None:
    with pytest.raises(ApiError, match=f"must be of type {kind}") as caught:
        decode.check_options(options)

    assert caught.value.status == 500


def test_unknown_options_and_floats_for_integers_pass() -> None:
    decode.check_options({"num_predict": 2.7, "nonsense": "x", "seed": None})


def test_timestamps_lose_their_trailing_zeros() -> None:
    assert timestamp(1_500_000_000_000_000_000) == "2017-07-14T02:40:00Z"
    assert timestamp(1_500_000_000_120_000_000) == "2017-07-14T02:40:00.12Z"
