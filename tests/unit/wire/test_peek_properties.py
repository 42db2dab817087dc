"""However a body is written, it means the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.peek import BRIEF_BYTES, BodyProblem, InferenceRoute, Peek, peek

_CHAT = InferenceRoute.API_CHAT
_GENERATE = InferenceRoute.API_GENERATE
_EMBED = InferenceRoute.API_EMBED
_EMBEDDINGS = InferenceRoute.API_EMBEDDINGS
_SHOW = InferenceRoute.API_SHOW
_V1_CHAT = InferenceRoute.V1_CHAT
_V1_COMPLETIONS = InferenceRoute.V1_COMPLETIONS

_TEXT = st.text(max_size=20)
_FLAG = st.none() | st.booleans()
_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "num_ctx": st.integers(1, 10**6) | st.floats(1, 1e6),
        "num_gpu": st.integers(-1, 99),
        "num_predict": st.integers(-2, 999),
        "use_mmap": _FLAG,
        "stop": st.lists(_TEXT, max_size=2),
    },
)
_PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": _TEXT})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": _TEXT}),
    max_size=3,
)
_ROLE = st.sampled_from(["system", "user", "assistant", "tool"])
_BODIES: dict[InferenceRoute, st.SearchStrategy[dict[str, Any]]] = {
    _CHAT: st.fixed_dictionaries(
        {
            "model": _TEXT.filter(bool),
            "messages": st.lists(
                st.fixed_dictionaries(
                    {"role": _ROLE, "content": st.none() | _TEXT},
                    optional={"images": st.lists(_TEXT, max_size=2), "thinking": _TEXT},
                ),
                max_size=4,
            ),
        },
        optional={
            "stream": _FLAG,
            "options": _OPTIONS,
            "shift": _FLAG,
            "think": _FLAG | st.sampled_from(["low", "max"]),
            "keep_alive": st.none() | st.integers(-1, 1) | st.sampled_from(["0s", "5m"]),
            "format": st.sampled_from(["", "json", {"type": "object"}]),
        },
    ),
    _V1_CHAT: st.fixed_dictionaries(
        {
            "model": _TEXT.filter(bool),
            "messages": st.lists(
                st.fixed_dictionaries({"role": _ROLE, "content": st.none() | _TEXT | _PARTS}),
                max_size=4,
            ),
        },
        optional={
            "stream": _FLAG,
            "stream_options": st.none() | st.just({"include_usage": True}),
            "max_tokens": st.none() | st.integers(1, 99),
            "reasoning_effort": st.sampled_from(["none", "low"]),
            "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        },
    ),
    _GENERATE: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)},
        optional={"prompt": _TEXT, "system": _TEXT, "suffix": _TEXT, "options": _OPTIONS},
    ),
    _EMBED: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)},
        optional={"input": _TEXT | st.lists(_TEXT, max_size=3), "options": _OPTIONS},
    ),
    _V1_COMPLETIONS: st.fixed_dictionaries(
        {"model": _TEXT.filter(bool)}, optional={"prompt": _TEXT, "stream": _FLAG}
    ),
}
_CASES = st.sampled_from(sorted(_BODIES)).flatmap(
    lambda route: st.tuples(st.just(route), _BODIES[route])
)


def _shouted(body: dict[str, Any]) -> dict[str, Any]:
    return {key.upper(): value for key, value in body.items()}


@given(_CASES, st.sampled_from([b"", b" x", b"\n{}"]), st.booleans())
def test_an_unusual_body_means_what_the_usual_one_means(
    case: tuple[InferenceRoute, dict[str, Any]], trailing: bytes, has_unknown: bool
) -> None:
    route, body = case
    plain = msgspec.json.encode(body)
    unknown: dict[str, Any] = {"x_unknown": {"model": 1}} if has_unknown else {}
    expected = peek(route, plain)
    assert peek(route, msgspec.json.encode(body | unknown)) == expected
    assert peek(route, msgspec.json.encode(_shouted(body | unknown)) + trailing) == expected


_PAD = "A" * BRIEF_BYTES


@given(_CASES, st.booleans())
def test_a_long_body_means_what_a_short_one_means(
    case: tuple[InferenceRoute, dict[str, Any]], is_shouted: bool
) -> None:
    route, body = case
    sent = _shouted(body) if is_shouted else body
    expected = peek(route, msgspec.json.encode(sent))
    found = peek(route, msgspec.json.encode({"x_pad": _PAD} | sent))
    # What escapes cost is an estimate.
    assert abs(found.prompt_bytes - expected.prompt_bytes) <= expected.prompt_bytes / 4 + 20
    assert msgspec.structs.replace(found, prompt_bytes=0) == msgspec.structs.replace(
        expected, prompt_bytes=0
    )


@given(_CASES)
def test_escaping_changes_nothing_but_the_beginning(
    case: tuple[InferenceRoute, dict[str, Any]],
) -> None:
    route, body = case
    escaped = peek(route, json.dumps(body).encode())
    plain = peek(route, json.dumps(body, ensure_ascii=False).encode())
    assert msgspec.structs.replace(escaped, first_text=b"") == msgspec.structs.replace(
        plain, first_text=b""
    )


@given(_CASES)
def test_text_is_counted_exactly(case: tuple[InferenceRoute, dict[str, Any]]) -> None:
    route, body = case
    texts: list[str] = []
    for message in body.get("messages", []):
        content = message["content"]
        texts += [content] if isinstance(content, str) else []
        texts += [part.get("text", "") for part in content] if isinstance(content, list) else []
    texts += [body.get(name, "") for name in ("prompt", "system", "suffix")]
    inputs = body.get("input", "")
    texts += [inputs] if isinstance(inputs, str) else inputs
    assert peek(route, msgspec.json.encode(body)).prompt_bytes == sum(
        len(text.encode()) for text in texts
    )


_SCRAPS = st.text(alphabet='{}[]",:\\/u0e.-+truefalsn \n', max_size=40).map(str.encode)


@given(st.sampled_from(list(InferenceRoute)), st.binary(max_size=60) | _SCRAPS)
def test_any_bytes_are_peeked_at_or_refused(route: InferenceRoute, body: bytes) -> None:
    found: Peek | BodyProblem
    try:
        found = peek(route, body)
    except BodyProblem as problem:
        found = problem
    assert isinstance(found, Peek) or found.text


@given(_CASES, st.data())
def test_damaged_bodies_are_peeked_at_or_refused(
    case: tuple[InferenceRoute, dict[str, Any]], data: st.DataObject
) -> None:
    route, body = case
    text = bytearray(msgspec.json.encode(body))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + 1] = data.draw(st.sampled_from([b"", b'"', b"{", b"0", b"\\", b"\xff", b"\n"]))
    found: Peek | BodyProblem
    try:
        found = peek(route, bytes(text))
    except BodyProblem as problem:
        found = problem
    assert isinstance(found, Peek) or found.text
