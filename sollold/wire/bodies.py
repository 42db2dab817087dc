"""The fields of request bodies that are read here, as types for the decoder.

Owns which fields of which route are known. Must not interpret them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sollold.wire.routes import InferenceRoute


class Options(msgspec.Struct, gc=False):
    """Load-time options, and the limit on output."""

    draft_num_predict: int | float | None = None
    main_gpu: int | float | None = None
    num_batch: int | float | None = None
    num_ctx: int | float | None = None
    num_gpu: int | float | None = None
    num_thread: int | float | None = None
    use_mmap: bool | None = None
    num_predict: int | float | None = None


NO_OPTIONS: Final = Options()


class Message(msgspec.Struct, gc=False):
    """A message of a chat; content parts are read later."""

    role: str | None = None
    content: msgspec.Raw = msgspec.Raw()
    images: list[msgspec.Raw] | None = None


class Part(msgspec.Struct, gc=False):
    """One part of a message's content."""

    type: Any = None
    text: Any = None


class Named(msgspec.Struct, gc=False):
    """What every body has."""

    model: str | None = None


class Native(Named, gc=False):
    """What every body of a native inference route has."""

    options: Options | None = None
    keep_alive: Any = None


class Generation(Native, gc=False):
    """What the native routes have that generate text."""

    stream: bool | None = None
    shift: bool | None = None
    format: msgspec.Raw = msgspec.Raw()
    think: Any = None


class Chat(Generation, gc=False):
    """Body of `/api/chat`."""

    messages: list[Message] | None = None
    tools: msgspec.Raw = msgspec.Raw()


class Generate(Generation, gc=False):
    """Body of `/api/generate`."""

    prompt: msgspec.Raw = msgspec.Raw()
    suffix: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    images: list[msgspec.Raw] | None = None


class Embed(Native, gc=False):
    """Body of `/api/embed`."""

    input: msgspec.Raw = msgspec.Raw()


class Embeddings(Native, gc=False):
    """Body of `/api/embeddings`."""

    prompt: msgspec.Raw = msgspec.Raw()


class Show(Named, gc=False):
    """Body of `/api/show`."""

    name: str | None = None
    verbose: bool | None = None


class OpenAI(Named, gc=False):
    """What the compatibility routes have that generate text."""

    stream: bool | None = None
    stream_options: Any = None
    max_tokens: int | None = None


class OpenAIChat(OpenAI, gc=False):
    """Body of `/v1/chat/completions`."""

    messages: list[Message] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    response_format: Any = None
    reasoning: Any = None
    reasoning_effort: Any = None


class OpenAICompletion(OpenAI, gc=False):
    """Body of `/v1/completions`."""

    prompt: msgspec.Raw = msgspec.Raw()
    suffix: msgspec.Raw = msgspec.Raw()


class OpenAIEmbed(Named, gc=False):
    """Body of `/v1/embeddings`."""

    input: msgspec.Raw = msgspec.Raw()


# Fields that clients send and nobody here reads. A field outside both lists may be a known one in
# another spelling, and only a second look can tell; listing a field spares its clients that look.
_SKIPPED_GENERATION: Final = (
    "truncate", "logprobs", "top_logprobs", "_debug_render_only",
)  # fmt: skip
_SKIPPED_OPENAI: Final = (
    "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "seed",
    "stop", "temperature", "top_p", "top_k", "min_p", "user", "metadata", "store", "service_tier",
    "max_completion_tokens", "cache_prompt", "repetition_penalty", "repeat_penalty", "keep_alive",
    "options", "num_ctx", "_debug_render_only",
)  # fmt: skip

BODIES: Final[dict[InferenceRoute, type[Named]]] = {
    InferenceRoute.API_CHAT: Chat,
    InferenceRoute.API_GENERATE: Generate,
    InferenceRoute.API_EMBED: Embed,
    InferenceRoute.API_EMBEDDINGS: Embeddings,
    InferenceRoute.API_SHOW: Show,
    InferenceRoute.V1_CHAT: OpenAIChat,
    InferenceRoute.V1_COMPLETIONS: OpenAICompletion,
    InferenceRoute.V1_EMBEDDINGS: OpenAIEmbed,
}
_SKIPPED: Final[dict[InferenceRoute, tuple[str, ...]]] = {
    InferenceRoute.API_CHAT: _SKIPPED_GENERATION,
    InferenceRoute.API_GENERATE: (*_SKIPPED_GENERATION, "template", "context", "raw"),
    InferenceRoute.API_EMBED: ("truncate", "dimensions"),
    InferenceRoute.API_EMBEDDINGS: (),
    InferenceRoute.API_SHOW: ("system", "template", "options"),
    InferenceRoute.V1_CHAT: (
        *_SKIPPED_OPENAI, "tool_choice", "parallel_tool_calls", "modalities", "audio",
        "prediction", "functions", "function_call", "verbosity", "web_search_options",
        "prompt_cache_key", "safety_identifier", "chat_template_kwargs",
    ),
    InferenceRoute.V1_COMPLETIONS: (*_SKIPPED_OPENAI, "best_of", "echo"),
    InferenceRoute.V1_EMBEDDINGS: ("dimensions", "encoding_format", "user"),
}  # fmt: skip


def strict_decoder(route: InferenceRoute) -> msgspec.json.Decoder[Any]:
    """Return a decoder that refuses fields nobody knows."""
    body = BODIES[route]
    fields = [(name, msgspec.Raw, msgspec.Raw()) for name in _SKIPPED[route]]
    known = msgspec.defstruct(
        body.__name__, fields, bases=(body,), forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(known)


def relaxed_decoder(route: InferenceRoute) -> msgspec.json.Decoder[Any]:
    """Return a decoder that passes over fields nobody knows."""
    return msgspec.json.Decoder(BODIES[route])
