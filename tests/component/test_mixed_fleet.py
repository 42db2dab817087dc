"""One model on an Ollama, a llama-server and a cloud, declared equal: one inside a request."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.engines import (
    CLOUD_MODEL,
    MODEL,
    QUICK_HEALTH,
    WAYS,
    ask,
    error_of,
    fleet,
    frames_of,
    is_complete,
    outcomes,
    settled,
    work_of,
)
from tests.fakes.cloud import FakeCloud
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from tests.fakes.server import FakeServer

KINDS = ("ollama", "llama", "cloud")
ORDERS = list(itertools.permutations(KINDS))
LOSSES = [
    Fault(kind=FaultKind.CUT_RESET),
    Fault(kind=FaultKind.STATUS, status=500, text="quirk of its own"),
    Fault(kind=FaultKind.STATUS, status=503, text="overloaded"),
    Fault(kind=FaultKind.RATE_LIMITED),
]
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}},
}
QUIRKS = (b"timings", b'system_fingerprint":"b', CLOUD_MODEL.encode(), b"reasoning_content")


def fake_of(kind: str) -> FakeServer:
    """A fake of one kind that holds the model, under the name usual there."""
    if kind == "ollama":
        return FakeNode([MODEL], answer_tokens=16)
    if kind == "llama":
        return FakeLlama(MODEL)
    return FakeCloud(CLOUD_MODEL, api_key="")


def ids(order: tuple[str, ...]) -> str:
    return "-".join(order)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
@pytest.mark.parametrize("order", ORDERS, ids=ids)
async def test_every_order_of_loss(order: tuple[str, ...], path: str, is_stream: bool) -> None:
    fakes = [fake_of(kind) for kind in order]
    async with fleet(*fakes, failover={"attempts": 3}, queue={"holder_down_s": 0.1}) as lab:
        # The first is busy, the second breaks: the third answers.
        fakes[0].fault = Fault(kind=FaultKind.RATE_LIMITED, retry_after_s=30)
        fakes[1].fault = Fault(kind=FaultKind.CUT_RESET, scope="inference")
        answer = await ask(lab, path, stream=is_stream)
        data = await answer.read()
        assert answer.status == 200, data
        assert is_complete(data)
        assert not [quirk for quirk in QUIRKS if quirk in data]
        assert all(frame["model"] == MODEL for frame in frames_of(data))
        assert answer.headers["X-Sollold-Node"] == "n3"
        assert answer.headers["X-Sollold-Attempts"] == "3"
        assert "Set-Cookie" not in answer.headers
        await settled(lab)
        assert outcomes(lab) == {"ok": 1}


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: f"{fault.kind}-{fault.status}")
@pytest.mark.parametrize("order", ORDERS, ids=ids)
async def test_each_loss_at_the_first(order: tuple[str, ...], fault: Fault) -> None:
    fakes = [fake_of(kind) for kind in order]
    async with fleet(*fakes) as lab:
        fakes[0].fault = Fault(
            kind=fault.kind, status=fault.status, text=fault.text, scope="inference"
        )
        for is_stream in (False, True):
            answer = await ask(lab, stream=is_stream)
            data = await answer.read()
            assert is_complete(data), data
            assert b"quirk" not in data
            assert answer.headers["X-Sollold-Node"] == "n2"
        await settled(lab)


@pytest.mark.parametrize("order", ORDERS, ids=ids)
async def test_killed_one_after_the_other(order: tuple[str, ...]) -> None:
    fakes = [fake_of(kind) for kind in order]
    async with fleet(*fakes, health=QUICK_HEALTH, queue={"holder_down_s": 0.2}) as lab:
        for number, fake in enumerate(fakes, 1):
            answer = await ask(lab, stream=bool(number % 2))
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == f"n{number}"
            await fake.stop()
        answer = await ask(lab)
        assert answer.status == 503
        assert "n1" in (await answer.json())["error"]
        # A cloud is asked so seldom that others are back before it.
        back = next(place for place, kind in enumerate(order) if kind != "cloud")
        await fakes[back].start()
        await lab.until(lambda: lab.fleet[f"n{back + 1}"].state == "up")
        assert is_complete(await (await ask(lab)).read())
        await settled(lab)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_equal_names_alone_are_not_one_model(is_stream: bool) -> None:
    node, llama, cloud = (fake_of(kind) for kind in KINDS)
    async with fleet(llama, node, cloud, is_same=False, queue={"holder_down_s": 0.1}) as lab:
        answer = await ask(lab, stream=is_stream)
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        node.fault = Fault(kind=FaultKind.CUT_RESET)
        answer = await ask(lab, stream=is_stream)
        assert answer.status == 502
        await node.stop()
        answer = await ask(lab, stream=is_stream)
        assert answer.status == 503
        assert not work_of(llama)
        assert not work_of(cloud)
        await settled(lab)


async def test_the_same_refusal_of_two_kinds_in_the_callers_words() -> None:
    llama, cloud = fake_of("llama"), fake_of("cloud")
    async with fleet(llama, cloud) as lab:
        for fake in (llama, cloud):
            fake.fault = Fault(kind=FaultKind.STATUS, status=500, text="poison")
        answer = await ask(lab)
        assert (answer.status, (await answer.json())["error"]) == (500, "poison")
        assert all(view.state == "up" for view in lab.fleet.values())
        await settled(lab)


_WANTS = [
    pytest.param("/api/chat", {"tools": [TOOL]}, "tools", id="tools"),
    pytest.param("/v1/chat/completions", {"tools": [TOOL]}, "tools", id="tools-v1"),
    pytest.param("/api/chat", {"think": True}, "thinking", id="thinking"),
]


def incapable() -> FakeNode:
    """An Ollama whose copy of the model can do nothing but chat."""
    return FakeNode([MODEL], answer_tokens=16)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("path", "extra", "_capability"), _WANTS)
async def test_what_an_ollama_cannot_do_is_done_by_another_kind(
    path: str, extra: dict[str, Any], _capability: str, is_stream: bool
) -> None:
    first, second, cloud = incapable(), incapable(), fake_of("cloud")
    async with fleet(first, second, cloud) as lab:
        answer = await ask(lab, path, stream=is_stream, **extra)
        data = await answer.read()
        assert answer.status == 200, data
        assert is_complete(data)
        assert answer.headers["X-Sollold-Node"] == "n3"
        assert answer.headers["X-Sollold-Attempts"] == "2"
        assert not second.inference
        assert all(view.state == "up" for view in lab.fleet.values())
        await settled(lab)
        assert outcomes(lab) == {"ok": 1}


@pytest.mark.parametrize(("path", "extra", "capability"), _WANTS)
async def test_ollamas_alone_answer_as_ever(
    path: str, extra: dict[str, Any], capability: str
) -> None:
    async with fleet(incapable(), incapable()) as lab:
        answer = await ask(lab, path, **extra)
        assert answer.status == 400
        assert error_of(await answer.read()).endswith(f"does not support {capability}")
        assert answer.headers["X-Sollold-Attempts"] == "1"
        await settled(lab)
        assert outcomes(lab) == {"caller_error": 1}


async def test_a_kind_that_does_not_hold_the_model_is_no_other_choice() -> None:
    async with fleet(incapable(), fake_of("cloud"), is_same=False) as lab:
        answer = await ask(lab, tools=[TOOL])
        assert (answer.status, answer.headers["X-Sollold-Attempts"]) == (400, "1")
        await settled(lab)


@pytest.mark.parametrize(
    "fault",
    [*LOSSES, Fault(kind=FaultKind.STATUS, status=401, text="no such key")],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
@pytest.mark.parametrize("is_first", [False, True])
async def test_if_no_other_kind_can_ollamas_own_reply_is_the_answer(
    is_first: bool, fault: Fault
) -> None:
    node, cloud = incapable(), fake_of("cloud")
    async with fleet(*((cloud, node) if is_first else (node, cloud))) as lab:
        cloud.fault = Fault(
            kind=fault.kind, status=fault.status, text=fault.text, scope="inference"
        )
        answer = await ask(lab, tools=[TOOL])
        assert answer.status == 400
        text = f"registry.ollama.ai/library/{MODEL}:latest does not support tools"
        assert await answer.json() == {"error": text}
        assert answer.headers["X-Sollold-Node"] == ("n2" if is_first else "n1")
        assert answer.headers["X-Sollold-Attempts"] == "2"
        await settled(lab)
        assert outcomes(lab) == {"caller_error": 1}


@pytest.mark.parametrize("is_first", [False, True])
async def test_another_kind_that_loads_is_waited_for(is_first: bool) -> None:
    node, cloud = incapable(), fake_of("cloud")
    async with fleet(*((cloud, node) if is_first else (node, cloud))) as lab:
        cloud.fault = Fault(kind=FaultKind.LOADING, scope="inference", count=1)
        answer = await ask(lab, tools=[TOOL])
        assert answer.status == 200, await answer.read()
        assert answer.headers["X-Sollold-Node"] == ("n1" if is_first else "n2")
        await settled(lab)


@pytest.mark.parametrize("is_first", [False, True])
async def test_if_no_kind_can_ollamas_own_reply_is_the_answer(is_first: bool) -> None:
    # The template of this server knows no tools.
    node, llama = incapable(), fake_of("llama")
    async with fleet(*((llama, node) if is_first else (node, llama))) as lab:
        answer = await ask(lab, tools=[TOOL])
        assert answer.status == 400
        assert answer.headers["X-Sollold-Node"] == ("n2" if is_first else "n1")
        await settled(lab)
        assert outcomes(lab) == {"caller_error": 1}


async def test_hundreds_that_vanish_at_random_leave_nothing() -> None:
    node = FakeNode([MODEL], rate=500.0, answer_tokens=12)
    llama, cloud = FakeLlama(MODEL, rate=500.0), FakeCloud(CLOUD_MODEL, api_key="", rate=500.0)
    ways = [way.values for way in WAYS]
    async with fleet(node, llama, cloud, routing={}) as lab:

        async def come_and_go(number: int) -> None:
            path, is_stream = ways[number % len(ways)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.002 * (number % 97)):
                    answer = await ask(lab, str(path), stream=bool(is_stream))
                    await answer.read()

        await asyncio.gather(*(come_and_go(number) for number in range(300)))
        await lab.until(lambda: not list(lab.built.dispatcher.runs), timeout_s=10)
        await lab.until(lambda: lab.built.dispatcher.detached_count == 0, timeout_s=10)
        lab.assert_idle()
        for fake in (node, llama, cloud):
            await fake.until(lambda fake=fake: fake.active == 0)  # type: ignore[misc]
        assert all(view.state in ("up", "slow") for view in lab.fleet.values())
        assert (await ask(lab)).status == 200
