"""Chooses who reads the reply of another engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.model import Dialect, TaskKind
from sollold.wire.routes import InferenceRoute
from sollold.wire.translate.reply_embed import EmbedReader
from sollold.wire.translate.reply_errors import Errors
from sollold.wire.translate.reply_native import NativeForm
from sollold.wire.translate.reply_parts import parser_for
from sollold.wire.translate.reply_relay import RelayReader
from sollold.wire.translate.reply_source import Source
from sollold.wire.translate.reply_stream import StreamReader
from sollold.wire.translate.reply_tally import Tally
from sollold.wire.translate.reply_v1 import ChatForm, TextForm
from sollold.wire.translate.reply_whole import WholeReader

if TYPE_CHECKING:
    from sollold.wire.translate.asked import Asked
    from sollold.wire.translate.reply_stream import Form
    from sollold.wire.translate.seam import Clock, Engine, ReplyReader


def reader_for(route: InferenceRoute, engine: Engine, asked: Asked, clock: Clock) -> ReplyReader:
    """Return the reader for one reply; to be made right before the call that does the work.

    What passed since `asked.started_ns` counts as loading. The client's route says how the answer
    looks, `asked.path` what the engine sends, and its content type whether that is a stream: each
    may stream without the other.
    """
    errors = Errors(route, asked)
    if route.dialect is Dialect.OPENAI and not engine.is_llama:
        return RelayReader(engine, asked, errors)
    if route.kind is TaskKind.EMBED:
        return EmbedReader(route, asked, errors, clock)
    # No other server repeats it, and an answer may well begin with the same words.
    echo = asked.prefill if engine.is_llama else ""
    source = Source(parser_for(asked.path), errors, prefill=echo)
    tally = Tally(asked, clock)
    form = _form_for(route, asked, clock)
    if asked.is_stream:
        return StreamReader(source, form, tally)
    return WholeReader(source, form, tally, keeps_logprobs=asked.wants_logprobs)


def _form_for(route: InferenceRoute, asked: Asked, clock: Clock) -> Form:
    match route:
        case InferenceRoute.V1_CHAT:
            return ChatForm(asked, clock)
        case InferenceRoute.V1_COMPLETIONS:
            return TextForm(asked, clock)
        case _:
            return NativeForm(route, asked, clock)
