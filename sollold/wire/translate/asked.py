"""What the reader of a reply has to know of the request that it answers."""

from __future__ import annotations

import msgspec


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A translated request, as far as its reply depends on it."""

    model: str
    """As the client sent it; replies repeat it."""
    is_stream: bool
    """Whether the client wants a stream."""
    is_engine_stream: bool
    """Whether the engine was asked for one; a whole reply may have to go on as a stream."""
    path: str
    """What was called on the engine; begins with a slash."""
    started_ns: int
    """When the request began, on the monotonic clock."""
    has_tools: bool = False
    wants_logprobs: bool = False
    top_logprobs: int = 0
    """As the client asked; the engine may have been asked for one where this is zero."""
    dimensions: int = 0
    """Of embeddings; zero: all."""
    is_base64: bool = False
    """`/v1/embeddings`: vectors as base64 of little-endian float32."""
    input_count: int = 0
    """Texts to embed."""
    include_usage: bool = False
    """A `/v1` client asked for usage in the stream."""
    prompt_tokens: tuple[int, ...] | None = None
    """Ids of the whole prompt when the reply is to carry `context`, which is these and the ids of
    the output; the engine was asked to return them."""
    is_thinking: bool | None = None
    """What the client asked for; None: nothing."""
    prefill: str = ""
    """The assistant's text at the end of the history, to be continued. llama-servers repeat it
    at the start of their answer, which Ollama does not."""
