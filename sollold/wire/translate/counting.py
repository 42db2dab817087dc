"""Calls that count: a template applied by the node, a text cut into tokens and put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from sollold.wire.refusal import error_text
from sollold.wire.translate.seam import Answer, Call, Engine, Refused

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

_NOT_SERVED: Final = frozenset({404, 405, 501})
BROKEN_TEXT: Final = "the node of this model answered with something else than JSON"


class _Prompt(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Content(msgspec.Struct):
    content: str


_PROMPT: Final = msgspec.json.Decoder(_Prompt)
_TOKENS: Final = msgspec.json.Decoder(_Tokens)
_CONTENT: Final = msgspec.json.Decoder(_Content)


def render(engine: Engine, fields: dict[str, Any]) -> Generator[Call, Answer, str]:
    """Have the messages of a chat put into its template; raise `Refused`."""
    body = {"model": engine.model, **fields}
    answer = yield Call("/apply-template", msgspec.json.encode(body))
    return _decoded(_PROMPT, answer).prompt


def tokenize(engine: Engine, text: str, *, add_special: bool) -> Generator[Call, Answer, list[int]]:
    """Have a text cut into the ids of its tokens, those at its ends included; raise `Refused`."""
    body = {"model": engine.model, "content": text, "add_special": add_special}
    answer = yield Call("/tokenize", msgspec.json.encode(body | {"parse_special": True}))
    return _decoded(_TOKENS, answer).tokens


def detokenize(engine: Engine, tokens: list[int]) -> Generator[Call, Answer, str]:
    """Have a text put together from ids of tokens; raise `Refused`."""
    body = {"model": engine.model, "tokens": tokens}
    answer = yield Call("/detokenize", msgspec.json.encode(body))
    return _decoded(_CONTENT, answer).content


def _decoded(decoder: msgspec.json.Decoder[T], answer: Answer) -> T:
    if answer.status != 200:
        # Only the work itself can lack a model; a call that is missing is the node's own fault.
        is_judged = answer.status >= 400 and answer.status not in _NOT_SERVED
        raise Refused(answer.status if is_judged else 502, error_text(answer.body))
    try:
        return decoder.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(502, BROKEN_TEXT) from None
