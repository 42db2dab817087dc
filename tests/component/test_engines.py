"""Failures of llama-servers: what the client sees, what the node's health learns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.component.engines import (
    QUICK_HEALTH,
    STREAMS,
    WAYS,
    ask,
    error_of,
    fleet,
    frames_of,
    is_complete,
    outcomes,
    read_cut,
    settled,
    turns,
    work_of,
)
from tests.fakes.cloud import FakeCloud
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.llama import FakeLlama

if TYPE_CHECKING:
    from tests.component.lab import Lab
    from tests.fakes.server import FakeServer

ANSWERED = {"X-Sollold-Node": "n2", "X-Sollold-Attempts": "2"}


def health(lab: Lab, node: str = "n1") -> tuple[str, str]:
    """State word and reason of a node."""
    view = lab.fleet[node]
    return str(view.state), view.reason.code if view.reason is not None else ""


async def learn_speed(lab: Lab) -> None:
    """Have the daemon learn how fast the nodes are: nothing is late before that."""
    for path in ("/api/chat", "/api/generate", "/v1/chat/completions"):
        for is_stream in (True, False):
            await (await ask(lab, path, stream=is_stream)).read()


HIDDEN = [
    pytest.param(fault, id=f"{fault.kind}-{fault.status}")
    for fault in (
        Fault(kind=FaultKind.CUT_RESET),
        Fault(kind=FaultKind.CUT_CLOSE),
        Fault(kind=FaultKind.GARBAGE, scope="inference"),
        Fault(kind=FaultKind.STATUS, status=500, text="boom"),
        Fault(kind=FaultKind.PAGE),
        Fault(kind=FaultKind.ENGINE_ERROR),
        Fault(kind=FaultKind.LOADING),
        Fault(kind=FaultKind.RATE_LIMITED),
        Fault(kind=FaultKind.UNAUTHORIZED, scope="inference"),
    )
]


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
@pytest.mark.parametrize("fault", HIDDEN)
async def test_a_failure_before_the_first_token_is_hidden(
    fault: Fault, path: str, is_stream: bool
) -> None:
    first, second = FakeLlama(), FakeLlama()
    async with fleet(first, second) as lab:
        first.fault = fault
        answer = await ask(lab, path, stream=is_stream)
        data = await answer.read()
        assert answer.status == 200, data
        assert is_complete(data)
        assert {name: answer.headers[name] for name in ANSWERED} == ANSWERED
        # A connection that was used for a call before is replaced once.
        assert len(work_of(first)) in (1, 2)
        assert len(work_of(second)) == 1
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_killed_while_it_reads_the_prompt(path: str, is_stream: bool) -> None:
    first, second = FakeLlama(prefill_s=10.0), FakeLlama()
    async with fleet(first, second) as lab:
        asking = asyncio.create_task(ask(lab, path, stream=is_stream))
        await first.until(lambda: first.active == 1)
        await first.stop()
        answer = await asking
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), STREAMS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.CUT_RESET, after_frames=4),
        Fault(kind=FaultKind.CUT_CLOSE, after_frames=4),
        Fault(kind=FaultKind.GARBAGE_BODY, after_frames=4),
        Fault(kind=FaultKind.CUT_CLEAN, after_frames=4),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_loss_after_the_first_token_is_told_and_ends_uncleanly(
    fault: Fault, path: str, is_stream: bool
) -> None:
    first, second = FakeLlama(), FakeLlama()
    async with fleet(first, second) as lab:
        first.fault = fault
        data = await read_cut(await ask(lab, path, stream=is_stream))
        assert "n1" in error_of(data)
        assert not any(frame.get("done") for frame in frames_of(data))
        assert b"[DONE]" not in data
        assert b"tok1" in data
        assert not work_of(second)
        assert outcomes(lab) == {"interrupted": 1}
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), STREAMS)
async def test_an_error_told_after_tokens_passes_without_an_end(path: str, is_stream: bool) -> None:
    llama = FakeLlama()
    async with fleet(llama) as lab:
        llama.fault = Fault(kind=FaultKind.ENGINE_ERROR, after_frames=4)
        data = await (await ask(lab, path, stream=is_stream)).read()
        assert error_of(data) == "Compute error."
        assert not any(frame.get("done") for frame in frames_of(data))
        assert b"[DONE]" not in data
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_no_end_without_a_finish_reason(path: str, is_stream: bool) -> None:
    first, second = FakeLlama(), FakeLlama()
    async with fleet(first, second) as lab:
        # Even before a token: an answer of nothing would look complete.
        first.fault = Fault(kind=FaultKind.CUT_CLEAN, after_frames=0 if is_stream else 3)
        answer = await ask(lab, path, stream=is_stream)
        assert is_complete(await answer.read())
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_silent_with_work_is_busy_and_waited_for(path: str, is_stream: bool) -> None:
    llama, other = FakeLlama(slots=2), FakeLlama()
    quick = {"overdue_s": 0.1, "frozen_idle_s": 10.0}
    async with fleet(llama, other, failover=quick, health=QUICK_HEALTH) as lab:
        llama.set_faults(
            Fault(kind=FaultKind.SLOW_HEAD, delay_s=1.0), Fault(kind=FaultKind.HANG, scope="probe")
        )
        pinned = {"X-Sollold-Pin": "n1"}
        asking = asyncio.create_task(ask(lab, path, stream=is_stream, headers=pinned))
        await lab.until(lambda: health(lab) == ("up", "busy"))
        # Others are preferred meanwhile.
        answer = await ask(lab)
        assert answer.headers["X-Sollold-Node"] == "n2"
        answer = await asking
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n1"
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_silent_for_longer_than_any_work_it_is_frozen(path: str, is_stream: bool) -> None:
    llama, other = FakeLlama(slots=2), FakeLlama()
    quick = {"overdue_s": 0.1, "frozen_idle_s": 0.5}
    async with fleet(llama, other, failover=quick, health=QUICK_HEALTH) as lab:
        await lab.until(lambda: health(lab) == ("up", ""))
        llama.fault = Fault(kind=FaultKind.HANG)
        answer = await ask(lab, path, stream=is_stream)
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert health(lab)[0] == "down"
        await settled(lab)


@pytest.mark.parametrize("is_cloud", [False, True])
async def test_a_stream_of_a_stopped_server_is_told(is_cloud: bool) -> None:
    server: FakeServer = FakeCloud(api_key="", is_strict=False) if is_cloud else FakeLlama()
    quick = {"overdue_s": 0.1, "frozen_idle_s": 0.5}
    async with fleet(server, failover=quick, health=QUICK_HEALTH) as lab:
        await lab.until(lambda: health(lab) == ("up", ""))
        lab.built.prober.settings = msgspec.structs.replace(
            lab.built.prober.settings, cloud_s=0.2, cloud_retry_s=0.2
        )
        server.set_faults(
            Fault(kind=FaultKind.HANG_STREAM, after_frames=3, scope="inference"),
            Fault(kind=FaultKind.HANG, scope="probe"),
        )
        answer = await ask(lab, stream=True)
        data = await read_cut(answer)
        assert "nothing came for" in error_of(data)
        await lab.until(lambda: health(lab)[0] == "down")
        server.set_faults()
        await settled(lab)


async def test_silent_without_work_it_goes_down() -> None:
    llama, other = FakeLlama(), FakeLlama()
    async with fleet(llama, other, health=QUICK_HEALTH) as lab:
        llama.fault = Fault(kind=FaultKind.HANG)
        await lab.until(lambda: health(lab)[0] == "down")
        assert (await ask(lab)).headers["X-Sollold-Node"] == "n2"
        llama.fault = None
        await lab.until(lambda: health(lab)[0] == "up")
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_frozen_for_good_is_given_up_at_the_limit(path: str, is_stream: bool) -> None:
    first, second = FakeLlama(), FakeLlama()
    quick = {"overdue_s": 0.05, "progress_s": 0.3}
    async with fleet(first, second, failover=quick, health=QUICK_HEALTH) as lab:
        await learn_speed(lab)
        first.fault = Fault(kind=FaultKind.HANG, scope="inference")
        asking = asyncio.create_task(ask(lab, path, stream=is_stream))
        answer = await asking
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_server_that_loads_is_left_for_another_and_not_blamed(
    path: str, is_stream: bool
) -> None:
    first, second = FakeLlama(), FakeLlama()
    async with fleet(first, second, health=QUICK_HEALTH) as lab:
        await lab.until(lambda: health(lab) == ("up", ""))
        first.is_loading = True
        for _ in range(4):
            answer = await ask(lab, path, stream=is_stream)
            assert is_complete(await answer.read())
            assert answer.headers["X-Sollold-Node"] == "n2"
        assert health(lab) == ("up", "warming")
        assert not lab.fleet["n1"].is_ejected or lab.fleet["n1"].reason.code == "warming"
        first.is_loading = False
        await lab.until(lambda: health(lab) == ("up", ""))
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_server_that_loads_alone_is_waited_for(path: str, is_stream: bool) -> None:
    llama = FakeLlama()
    async with fleet(llama, health=QUICK_HEALTH) as lab:
        llama.is_loading = True
        asking = asyncio.create_task(ask(lab, path, stream=is_stream))
        await lab.until(lambda: health(lab) == ("up", "warming"))
        await lab.until(lambda: any(run.record.failures for run in lab.built.dispatcher.runs))
        assert not asking.done()
        llama.is_loading = False
        answer = await asking
        assert is_complete(await answer.read())
        await settled(lab)


async def test_out_of_context_is_the_callers() -> None:
    llama, other = FakeLlama(n_ctx=64), FakeLlama(n_ctx=64)
    async with fleet(llama, other) as lab:
        for path, is_stream in (way.values for way in WAYS):
            long = "word " * 100
            said: dict[str, Any] = {"prompt": long} if "generate" in str(path) else {}
            said = said or {"messages": turns(long)}
            answer = await ask(lab, str(path), stream=bool(is_stream), truncate=False, **said)
            data = await answer.read()
            assert answer.status == 400
            assert "context length" in error_of(data)
        assert not work_of(other)
        assert health(lab) == ("up", "")
        assert set(outcomes(lab)) == {"caller_error"}
        await settled(lab)


async def test_a_history_is_shortened_until_it_fits() -> None:
    llama = FakeLlama(n_ctx=64)
    async with fleet(llama) as lab:
        said = turns(*(f"word{n} " * 12 for n in range(9)))
        answer = await ask(lab, messages=said)
        assert answer.status == 200, await answer.read()
        sent = work_of(llama)[-1].body
        assert b"word0" not in sent
        assert b"word8" in sent
        await settled(lab)


@pytest.mark.parametrize(("path", "is_stream"), STREAMS)
async def test_pings_before_the_first_token_commit_nothing(path: str, is_stream: bool) -> None:
    first, second = FakeLlama(prefill_s=20.0, ping_s=0.02), FakeLlama()
    quick = {"overdue_s": 0.1}
    async with fleet(first, second, failover=quick) as lab:
        asking = asyncio.create_task(ask(lab, path, stream=is_stream))
        await first.until(lambda: first.active == 1)
        await asyncio.sleep(0.5)
        (run,) = lab.built.dispatcher.runs
        assert run.stream is None
        assert run.record.first_content_s is None
        await first.stop()
        answer = await asking
        assert is_complete(await answer.read())
        assert answer.headers["X-Sollold-Node"] == "n2"
        await settled(lab)
