"""The official clients of Ollama and OpenAI find the same in every fleet: `tests.real.fleets`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest
import pytest_asyncio

from tests.real.clients import all_of, assert_is_stream, come, refusal_of
from tests.real.fleets import FLEETS, Servers, running_cloud, running_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.real.fleets import Fleet
    from tests.stack.llama import LlamaServers
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_HI = [{"role": "user", "content": "hi"}]
_SHORT = {"num_predict": 3, "temperature": 0, "seed": 1}
# Whatever a model begins with, it soon comes to one of these.
_STOPS = ["\n", " ", "a", "e", "o", "t", "0", "1"]
# Bounded, so that the model cannot go on for ever.
_SCHEMA = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
_TOLD_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}
_ANSWER = {"num_predict": 32, "temperature": 0}
_DIMENSIONS = 640
# Each fleet, and the form of the clients that meets it: real Ollamas are met by both.
_MET = (
    ("ollamas", "sync"),
    ("ollamas", "async"),
    ("llama-servers", "async"),
    ("one of each", "sync"),
    ("a cloud", "async"),
)


@pytest.fixture(scope="module")
def _servers(
    _session_nodes: tuple[OllamaServer, ...], _session_llama_servers: LlamaServers
) -> Iterator[Servers]:
    with running_cloud() as cloud:
        yield Servers(_session_nodes, _session_llama_servers, cloud)


@pytest.fixture(scope="module")
def _fleets(
    _servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Fleet]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                running_fleet(name, tmp_path_factory.mktemp("fleet"), _servers)
            )
            for name in FLEETS
        }


@pytest.fixture(params=_MET, ids=", ".join)
def fleet(request: pytest.FixtureRequest, _fleets: dict[str, Fleet]) -> Fleet:
    """Each of them."""
    name, form = request.param
    return _fleets[name]._replace(is_met_async=form == "async")


@pytest_asyncio.fixture
async def native(fleet: Fleet) -> AsyncIterator[Any]:
    """Ollama's client."""
    if fleet.is_met_async:
        async with ollama.AsyncClient(fleet.url, trust_env=False) as client:
            yield client
    else:
        with ollama.Client(fleet.url, trust_env=False) as client:
            yield client


@pytest_asyncio.fixture
async def compatible(fleet: Fleet) -> AsyncIterator[Any]:
    """OpenAI's client; it must not have to try again."""
    settings: dict[str, Any] = {"base_url": f"{fleet.url}/v1", "api_key": "none", "max_retries": 0}
    if fleet.is_met_async:
        async with openai.AsyncOpenAI(**settings) as client:
            yield client
    else:
        with openai.OpenAI(**settings) as client:
            yield client


# Ollama's ------------------------------------------------------------------------------------


async def test_chat(native: Any) -> None:
    reply = await come(native.chat("tiny", _HI, options=_SHORT))

    assert (reply.model, reply.done, reply.done_reason, reply.eval_count) == (
        "tiny", True, "length", 3,
    )  # fmt: skip
    assert reply.message.role == "assistant"
    assert reply.message.content


async def test_chat_streams(native: Any) -> None:
    parts = await all_of(native.chat("tiny:latest", _HI, options=_SHORT, stream=True))

    assert_is_stream(parts)
    assert {part.model for part in parts} == {"tiny:latest"}
    assert "".join(part.message.content for part in parts)


async def test_generate(native: Any, fleet: Fleet) -> None:
    reply = await come(native.generate("tiny", "The sea", system="Be short.", options=_SHORT))

    assert (reply.done, reply.done_reason, reply.eval_count) == (True, "length", 3)
    assert reply.response
    assert bool(reply.context) == fleet.has("context") or fleet.name == "one of each"
    if fleet.has("context"):
        again = await come(native.generate("tiny", "and", context=reply.context, options=_SHORT))
        assert again.prompt_eval_count > reply.prompt_eval_count


async def test_generate_streams(native: Any) -> None:
    parts = await all_of(native.generate("tiny", "The sea", options=_SHORT, stream=True))

    assert_is_stream(parts)
    assert "".join(part.response for part in parts)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_raw_prompt(native: Any, stream: bool) -> None:
    asked = native.generate("tiny", "The sea", raw=True, options=_SHORT, stream=stream)
    parts = await all_of(asked) if stream else [await come(asked)]

    assert parts[-1].done_reason == "length"
    assert parts[-1].context is None
    assert "".join(part.response for part in parts)


async def test_stop_words_end_an_answer(native: Any) -> None:
    options = {**_SHORT, "num_predict": 16, "stop": _STOPS}
    chat = await come(native.chat("tiny", _HI, options=options))
    generated = await come(native.generate("tiny", "The sea", options=options))

    assert chat.done_reason == generated.done_reason == "stop"
    assert not any(stop in chat.message.content + generated.response for stop in _STOPS)


async def test_structured_output(native: Any, fleet: Fleet) -> None:
    chat = await come(native.chat("tiny", _HI, format=_SCHEMA, options=_ANSWER))
    generated = await come(native.generate("tiny", "hi", format="json", options=_SHORT))

    assert chat.done
    assert generated.done
    if fleet.has("formats"):
        assert json.loads(chat.message.content)["a"] in {"yes", "no"}
        assert generated.response.lstrip().startswith("{")


async def test_loads(native: Any) -> None:
    loads = [
        await come(native.generate("tiny")),
        await come(native.generate("tiny", keep_alive="5m")),
        await come(native.chat("tiny", [], stream=False)),
    ]

    assert [reply.done_reason for reply in loads] == ["load"] * 3
    assert all(reply.done and reply.eval_count is None for reply in loads)
    assert (await come(native.embed("tiny-embed", ""))).embeddings == []


async def test_unloads(native: Any) -> None:
    replies = [
        await come(native.generate("tiny", keep_alive=0)),
        await come(native.chat("tiny", [], keep_alive=0)),
    ]

    assert [(reply.done, reply.done_reason) for reply in replies] == [(True, "unload")] * 2
    assert (await come(native.chat("tiny", _HI, options=_SHORT))).message.content


async def test_embed(native: Any) -> None:
    reply = await come(native.embed("tiny-embed", ["sea", "hill"]))
    legacy = await come(native.embeddings("tiny-embed", "sea"))
    short = await come(native.embed("tiny-embed", "sea", dimensions=8))

    assert [len(vector) for vector in reply.embeddings] == [_DIMENSIONS] * 2
    assert reply.embeddings[0] != reply.embeddings[1]
    assert sum(number * number for number in reply.embeddings[0]) == pytest.approx(1, abs=1e-3)
    assert reply.prompt_eval_count > 0
    assert len(legacy.embedding) == _DIMENSIONS
    assert [len(vector) for vector in short.embeddings] == [8]


async def test_lists(native: Any, compatible: Any) -> None:
    await come(native.generate("tiny"))
    listed = await come(native.list())
    loaded = await come(native.ps())
    models = await come(compatible.models.list())

    names = {model.model for model in listed.models}
    assert {"tiny:latest", "tiny-embed:latest"} <= names
    assert {model.id for model in models.data} == names
    assert {model.model for model in loaded.models} <= names
    assert all(len(model.digest) == 64 for model in [*listed.models, *loaded.models])
    assert all(model.modified_at and model.details for model in listed.models)


async def test_show(native: Any, fleet: Fleet) -> None:
    shown = await come(native.show("tiny"))

    assert ("completion" in (shown.capabilities or ())) == fleet.has("capabilities")
    assert shown.modelinfo["general.architecture"]
    assert bool(shown.details.family) == fleet.has("manifests")


@pytest.mark.parametrize(
    ("method", "arguments", "status", "text"),
    [
        ("chat", {"model": "nope", "messages": _HI}, 404, "model 'nope' not found"),
        ("generate", {"model": "nope", "prompt": "hi"}, 404, "model 'nope' not found"),
        ("embed", {"model": "nope", "input": "hi"}, 404, 'model "nope" not found'),
        ("embeddings", {"model": "nope", "prompt": "hi"}, 404, 'model "nope" not found'),
        ("show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
        ("chat", {"model": "a/b/c/d", "messages": _HI}, 400, "invalid model name"),
        ("/api/embed", {"model": "tiny-embed", "input": ["a", 5]}, 400, "invalid input type"),
        ("/api/chat", {"model": "tiny", "messages": _HI, "format": "xml"}, 500, "invalid format"),
        (
            "generate",
            {"model": "tiny", "prompt": "a", "options": {"num_ctx": "big"}},
            500,
            'option "num_ctx" must be of type integer',
        ),
        (
            "chat",
            {"model": "tiny", "messages": _HI, "options": {"temperature": "hot"}},
            500,
            'option "temperature" must be of type float32',
        ),
    ],
)
async def test_refusals(
    native: Any, method: str, arguments: dict[str, Any], status: int, text: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=text) as caught:
        if method.startswith("/"):
            # The client's own methods would refuse it before anybody is asked.
            await come(native._request_raw("POST", method, json=arguments))
        else:
            await come(getattr(native, method)(**arguments))

    assert caught.value.status_code == status


async def test_refusal_of_a_stream(native: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        await all_of(native.chat("nope", _HI, stream=True))

    assert caught.value.status_code == 404


async def test_a_model_that_cannot_embed_says_so(native: Any, fleet: Fleet) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        await come(native.embed("tiny", "hi"))

    assert caught.value.status_code in ({501} if fleet.has("embedding") else {403, 501})
    # The request was at fault, and no node: the next one is answered.
    assert (await come(native.chat("tiny", _HI, options=_SHORT))).done


async def test_a_model_that_cannot_think_says_so(native: Any, fleet: Fleet) -> None:
    refusal = await refusal_of(lambda: native.chat("tiny", _HI, think=True, options=_SHORT))

    # Where a cloud is one of several, it may be the one that answers.
    assert refusal is not None or not fleet.has("thinking")
    if refusal is not None:
        assert fleet.name != "a cloud"
        assert (refusal.status_code, refusal.error) == (400, '"tiny" does not support thinking')


# OpenAI's ------------------------------------------------------------------------------------


async def test_completion_of_a_chat(compatible: Any) -> None:
    reply = await come(
        compatible.chat.completions.create(
            model="tiny", messages=_HI, max_tokens=3, temperature=0, seed=1, top_p=1
        )
    )

    (choice,) = reply.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert (reply.model, reply.object) == ("tiny", "chat.completion")
    assert reply.usage.completion_tokens == 3
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 3


async def test_completion_of_a_chat_streams(compatible: Any) -> None:
    create = compatible.chat.completions.create
    options = {"include_usage": True}
    chunks = await all_of(
        create(model="tiny", messages=_HI, max_tokens=3, stream=True, stream_options=options)
    )

    *pieces, usage = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "length"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert (usage.choices, usage.usage.completion_tokens) == ([], 3)
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"tiny"}


async def test_completion_of_a_text(compatible: Any) -> None:
    create = compatible.completions.create
    options = {"include_usage": True}
    reply = await come(create(model="tiny", prompt="The sea", max_tokens=3))
    chunks = await all_of(
        create(model="tiny", prompt="The sea", max_tokens=3, stream=True, stream_options=options)
    )

    assert reply.choices[0].text
    assert reply.usage.completion_tokens == 3
    *pieces, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in pieces)
    assert pieces[-1].choices[0].finish_reason == "length"
    assert (usage.choices, usage.usage.completion_tokens) == ([], 3)


async def test_stop_words_end_a_completion(compatible: Any) -> None:
    reply = await come(
        compatible.chat.completions.create(
            model="tiny", messages=_HI, max_tokens=16, temperature=0, stop=_STOPS
        )
    )

    assert reply.choices[0].finish_reason == "stop"
    assert not any(stop in reply.choices[0].message.content for stop in _STOPS)


async def test_json_schema(compatible: Any, fleet: Fleet) -> None:
    reply = await come(
        compatible.chat.completions.create(
            model="tiny", messages=_HI, temperature=0, max_tokens=32, response_format=_TOLD_SCHEMA
        )
    )

    content = reply.choices[0].message.content
    assert content
    if fleet.has("formats"):
        assert json.loads(content)["a"] in {"yes", "no"}


async def test_embeddings(compatible: Any) -> None:
    create = compatible.embeddings.create
    # The client asks for base64 and decodes it, unless told otherwise.
    packed = await come(create(model="tiny-embed", input=["sea", "hill"]))
    plain = await come(create(model="tiny-embed", input="sea", encoding_format="float"))

    assert [len(item.embedding) for item in packed.data] == [_DIMENSIONS] * 2
    assert [item.index for item in packed.data] == [0, 1]
    assert len(plain.data[0].embedding) == _DIMENSIONS
    assert packed.usage.total_tokens == packed.usage.prompt_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"model": "nope", "messages": _HI}, openai.NotFoundError, "model 'nope' not found"),
        ({"model": "a/b/c/d", "messages": _HI}, openai.BadRequestError, "invalid model name"),
        ({"model": "tiny", "messages": []}, openai.BadRequestError, "messages"),
    ],
)
async def test_refusals_of_completions(
    compatible: Any, arguments: dict[str, Any], error: type[Exception], text: str, stream: bool
) -> None:
    with pytest.raises(error, match=text):
        await come(compatible.chat.completions.create(**arguments, stream=stream))


async def test_refusals_of_embeddings(compatible: Any, fleet: Fleet) -> None:
    with pytest.raises(openai.NotFoundError, match='model "nope" not found'):
        await come(compatible.embeddings.create(model="nope", input="a"))
    with pytest.raises(openai.BadRequestError, match="input"):
        await come(compatible.embeddings.create(model="tiny-embed", input=[]))
    with pytest.raises(openai.APIStatusError) as caught:
        await come(compatible.embeddings.create(model="tiny", input="a"))

    assert caught.value.status_code in ({501} if fleet.has("embedding") else {403, 501})
    # The request was at fault, and no node: the next one is answered.
    assert await come(compatible.embeddings.create(model="tiny-embed", input="a"))
