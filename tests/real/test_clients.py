"""The official Python clients of Ollama and OpenAI find in the daemon what they expect."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest
import pytest_asyncio

from tests.real.daemons import running_daemon, wait_for_nodes
from tests.stack.store import ALL_MODELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.stack.daemon import DaemonProcess
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_HI = [{"role": "user", "content": "hi"}]
_SHORT = {"num_predict": 4}
_PARAMETERS = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
# Bounded, so that the model cannot go on for ever.
_SCHEMA = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
_TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather", "parameters": _PARAMETERS},
}


@pytest.fixture(scope="module")
def _daemon(
    _session_nodes: tuple[OllamaServer, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("clients") / "daemon", _session_nodes) as daemon:
        yield daemon


@pytest.fixture
def daemon(_daemon: DaemonProcess, ollama_nodes: tuple[OllamaServer, ...]) -> DaemonProcess:
    """A daemon over three nodes, all of them up."""
    wait_for_nodes(_daemon, len(ollama_nodes))
    return _daemon


@pytest_asyncio.fixture(params=["sync", "async"])
async def native(request: pytest.FixtureRequest, daemon: DaemonProcess) -> AsyncIterator[Any]:
    """Ollama's client, in both forms."""
    if request.param == "sync":
        with ollama.Client(daemon.api_url, trust_env=False) as client:
            yield client
    else:
        async with ollama.AsyncClient(daemon.api_url, trust_env=False) as client:
            yield client


@pytest_asyncio.fixture(params=["sync", "async"])
async def compatible(request: pytest.FixtureRequest, daemon: DaemonProcess) -> AsyncIterator[Any]:
    """OpenAI's client, in both forms; it must not have to try again."""
    settings: dict[str, Any] = {"base_url": f"{daemon.api_url}/v1", "api_key": "none"}
    settings["max_retries"] = 0
    if request.param == "sync":
        with openai.OpenAI(**settings) as client:
            yield client
    else:
        async with openai.AsyncOpenAI(**settings) as client:
            yield client


async def _come(value: Any) -> Any:
    """What either form of a client gives."""
    return await value if inspect.isawaitable(value) else value


async def _all(stream: Any) -> list[Any]:
    """What either form of a stream gives."""
    stream = await _come(stream)
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


# Ollama's ------------------------------------------------------------------------------------


async def test_chat(native: Any) -> None:
    reply = await _come(native.chat("tiny", _HI, options=_SHORT))

    assert (reply.model, reply.done, reply.eval_count) == ("tiny", True, 4)
    assert reply.message.role == "assistant"
    assert reply.message.content


async def test_chat_streams(native: Any) -> None:
    parts = await _all(native.chat("tiny", _HI, options=_SHORT, stream=True))

    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2
    assert "".join(part.message.content for part in parts)
    assert parts[-1].eval_count == 4


async def test_generate(native: Any) -> None:
    reply = await _come(native.generate("tiny:short", "The sea", options=_SHORT))
    again = await _come(native.generate("tiny:short", "and", context=reply.context, options=_SHORT))

    assert reply.response
    assert again.prompt_eval_count > reply.prompt_eval_count


async def test_generate_streams(native: Any) -> None:
    parts = await _all(native.generate("tiny", "The sea", options=_SHORT, stream=True))

    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2


async def test_embed(native: Any) -> None:
    reply = await _come(native.embed("tiny-embed", ["sea", "hill"]))
    legacy = await _come(native.embeddings("tiny-embed", "sea"))

    assert [len(vector) for vector in reply.embeddings] == [640, 640]
    assert len(legacy.embedding) == 640


async def test_lists(native: Any) -> None:
    await _come(native.generate("tiny"))

    listed = await _come(native.list())
    loaded = await _come(native.ps())

    names = {name if ":" in name else f"{name}:latest" for name, *_ in ALL_MODELS}
    assert {model.model for model in listed.models} == names
    assert all(len(model.digest) == 64 and model.details.family for model in listed.models)
    # Models that share weights share a runner, listed by the name that loaded it.
    assert {"tiny:latest", "tiny:short"} & {model.model for model in loaded.models}


async def test_show(native: Any) -> None:
    shown = await _come(native.show("tiny-tools"))

    assert shown.details.family == "gemma3"
    assert set(shown.capabilities) == {"completion", "tools"}
    assert shown.modelinfo["general.architecture"] == "gemma3"


async def test_tools(native: Any) -> None:
    def weather(town: str) -> str:
        """Tell the weather.

        Args:
            town: where
        """
        return town

    history = [
        *_HI,
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]},
        {"role": "tool", "tool_name": "weather", "content": "sun"},
    ]
    reply = await _come(
        native.chat("tiny-tools", history, tools=[weather], options=_SHORT, stream=False)
    )
    parts = await _all(native.chat("tiny-tools", _HI, tools=[_TOOL], options=_SHORT, stream=True))

    assert reply.done
    assert parts[-1].done


async def test_thinking(native: Any) -> None:
    reply = await _come(native.chat("tiny-think", _HI, think=True, options=_SHORT))
    parts = await _all(native.generate("tiny-think", "hi", think=True, options=_SHORT, stream=True))

    assert reply.done
    assert parts[-1].done


async def test_structured_output(native: Any) -> None:
    reply = await _come(native.chat("tiny", _HI, format=_SCHEMA))

    assert json.loads(reply.message.content)["a"] in {"yes", "no"}


@pytest.mark.parametrize(
    ("method", "arguments", "status", "text"),
    [
        ("chat", {"model": "nope", "messages": _HI}, 404, "model 'nope' not found"),
        ("generate", {"model": "nope", "prompt": "hi"}, 404, "model 'nope' not found"),
        ("embed", {"model": "nope", "input": "hi"}, 404, 'model "nope" not found'),
        ("embeddings", {"model": "nope", "prompt": "hi"}, 404, 'model "nope" not found'),
        ("show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
        ("chat", {"model": "a/b/c/d", "messages": _HI}, 400, "invalid model name"),
        ("embed", {"model": "tiny", "input": "hi"}, 501, "does not support embeddings"),
        ("chat", {"model": "tiny", "messages": _HI, "tools": [_TOOL]}, 400, "support tools"),
        ("chat", {"model": "tiny", "messages": _HI, "think": True}, 400, "support thinking"),
        ("chat", {"model": "tiny-embed", "messages": _HI}, 400, "does not support chat"),
        (
            "generate",
            {"model": "tiny", "prompt": "a", "options": {"num_ctx": "big"}},
            500,
            'option "num_ctx" must be of type integer',
        ),
    ],
)
async def test_refusals(
    native: Any, method: str, arguments: dict[str, Any], status: int, text: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=text) as caught:
        await _come(getattr(native, method)(**arguments))

    assert caught.value.status_code == status


async def test_refusal_of_a_stream(native: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        await _all(native.chat("nope", _HI, stream=True))

    assert caught.value.status_code == 404


# OpenAI's ------------------------------------------------------------------------------------


async def test_completion_of_a_chat(compatible: Any) -> None:
    reply = await _come(
        compatible.chat.completions.create(model="tiny", messages=_HI, max_tokens=4)
    )

    (choice,) = reply.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert reply.usage.completion_tokens == 4


async def test_completion_of_a_chat_streams(compatible: Any) -> None:
    chunks = await _all(
        compatible.chat.completions.create(
            model="tiny",
            messages=_HI,
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    *pieces, usage = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "length"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert usage.usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


async def test_completion_of_a_text(compatible: Any) -> None:
    create = compatible.completions.create
    reply = await _come(create(model="tiny", prompt="The sea", max_tokens=4))
    chunks = await _all(create(model="tiny", prompt="The sea", max_tokens=4, stream=True))

    assert reply.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_embeddings(compatible: Any) -> None:
    # The client asks for base64 and decodes it, unless told otherwise.
    packed = await _come(compatible.embeddings.create(model="tiny-embed", input=["sea", "hill"]))
    plain = await _come(
        compatible.embeddings.create(model="tiny-embed", input="sea", encoding_format="float")
    )

    assert [len(item.embedding) for item in packed.data] == [640, 640]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=0.01)


async def test_models(compatible: Any) -> None:
    listed = await _come(compatible.models.list())

    names = {name if ":" in name else f"{name}:latest" for name, *_ in ALL_MODELS}
    assert {model.id for model in listed.data} == names
    assert {model.owned_by for model in listed.data} == {"library", "user"}


async def test_tools_and_thinking(compatible: Any) -> None:
    create = compatible.chat.completions.create
    tools = await _come(create(model="tiny-tools", messages=_HI, tools=[_TOOL], max_tokens=4))
    thinking = await _all(
        create(model="tiny-think", messages=_HI, reasoning_effort="low", max_tokens=4, stream=True)
    )

    assert tools.choices[0].finish_reason
    assert thinking[-1].choices[0].finish_reason


async def test_json_schema(compatible: Any) -> None:
    reply = await _come(
        compatible.chat.completions.create(
            model="tiny",
            messages=_HI,
            temperature=0,
            max_tokens=40,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": _SCHEMA},
            },
        )
    )

    assert json.loads(reply.choices[0].message.content)["a"] in {"yes", "no"}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"model": "nope", "messages": _HI}, openai.NotFoundError, "model 'nope' not found"),
        ({"model": "a/b/c/d", "messages": _HI}, openai.BadRequestError, "invalid model name"),
        ({"model": "tiny", "messages": []}, openai.BadRequestError, "too short"),
        ({"model": "tiny-embed", "messages": _HI}, openai.BadRequestError, "support chat"),
        ({"model": "tiny", "messages": _HI, "tools": [_TOOL]}, openai.BadRequestError, "tools"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_of_completions(
    compatible: Any, arguments: dict[str, Any], error: type[Exception], text: str, stream: bool
) -> None:
    with pytest.raises(error, match=text):
        await _come(compatible.chat.completions.create(**arguments, stream=stream))


async def test_refusals_of_embeddings(compatible: Any) -> None:
    with pytest.raises(openai.NotFoundError, match='model "nope" not found'):
        await _come(compatible.embeddings.create(model="nope", input="a"))
    with pytest.raises(openai.BadRequestError, match="invalid input"):
        await _come(compatible.embeddings.create(model="tiny-embed", input=[]))
