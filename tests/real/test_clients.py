"""The official clients of Ollama and OpenAI before real Ollamas: what no other engine has alike.

What all have alike is in `tests/real/test_engine_clients.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest
import pytest_asyncio

from tests.real.clients import all_of, come
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


# Ollama's ------------------------------------------------------------------------------------


async def test_lists(native: Any) -> None:
    await come(native.generate("tiny"))

    listed = await come(native.list())
    loaded = await come(native.ps())

    names = {name if ":" in name else f"{name}:latest" for name, *_ in ALL_MODELS}
    assert {model.model for model in listed.models} == names
    assert all(len(model.digest) == 64 and model.details.family for model in listed.models)
    # Models that share weights share a runner, listed by the name that loaded it.
    assert {"tiny:latest", "tiny:short"} & {model.model for model in loaded.models}


async def test_show(native: Any) -> None:
    shown = await come(native.show("tiny-tools"))

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
    reply = await come(
        native.chat("tiny-tools", history, tools=[weather], options=_SHORT, stream=False)
    )
    parts = await all_of(native.chat("tiny-tools", _HI, tools=[_TOOL], options=_SHORT, stream=True))

    assert reply.done
    assert parts[-1].done


async def test_thinking(native: Any) -> None:
    reply = await come(native.chat("tiny-think", _HI, think=True, options=_SHORT))
    parts = await all_of(
        native.generate("tiny-think", "hi", think=True, options=_SHORT, stream=True)
    )

    assert reply.done
    assert parts[-1].done


@pytest.mark.parametrize(
    ("method", "arguments", "status", "text"),
    [
        ("chat", {"model": "tiny", "messages": _HI, "tools": [_TOOL]}, 400, "support tools"),
        ("chat", {"model": "tiny-embed", "messages": _HI}, 400, "does not support chat"),
    ],
)
async def test_refusals(
    native: Any, method: str, arguments: dict[str, Any], status: int, text: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=text) as caught:
        await come(getattr(native, method)(**arguments))

    assert caught.value.status_code == status


# OpenAI's ------------------------------------------------------------------------------------


async def test_models(compatible: Any) -> None:
    listed = await come(compatible.models.list())

    names = {name if ":" in name else f"{name}:latest" for name, *_ in ALL_MODELS}
    assert {model.id for model in listed.data} == names
    assert {model.owned_by for model in listed.data} == {"library", "user"}


async def test_tools_and_thinking(compatible: Any) -> None:
    create = compatible.chat.completions.create
    tools = await come(create(model="tiny-tools", messages=_HI, tools=[_TOOL], max_tokens=4))
    thinking = await all_of(
        create(model="tiny-think", messages=_HI, reasoning_effort="low", max_tokens=4, stream=True)
    )

    assert tools.choices[0].finish_reason
    assert thinking[-1].choices[0].finish_reason


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
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
        await come(compatible.chat.completions.create(**arguments, stream=stream))
