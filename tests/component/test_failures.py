"""Every row of the failure table: what a client sees, what the node's health learns."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from sollold.core.model import NodeId
from tests.component.lab import IN_ORDER, Lab
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.models import FakeModel
from tests.fakes.node import FakeNode

QUICK = {"overdue_s": 0.2, "frozen_idle_s": 1.0}


async def body_of(answer: aiohttp.ClientResponse) -> Any:
    return json.loads(await answer.read())


def lines_of(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines() if line]


async def read_cut(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer that must not end as if it were complete."""
    data = b""
    async with answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(8):
                async for chunk in answer.content.iter_any():
                    data += chunk
    return data


def served_by(lab: Lab) -> list[int]:
    """Inference requests each node has seen."""
    return [len(node.inference) for node in lab.nodes]


class Ordered(Lab):
    """A lab in which n1 is the first choice, n2 the second, and so on."""

    def __init__(self, nodes: Any = 1, **settings: Any) -> None:
        super().__init__(nodes, routing=IN_ORDER, **settings)


RETRIED = [
    Fault(kind=FaultKind.CUT_RESET),
    Fault(kind=FaultKind.CUT_CLOSE),
    Fault(kind=FaultKind.CUT_RESET, after_frames=3),
    Fault(kind=FaultKind.GARBAGE, scope="inference"),
    Fault(kind=FaultKind.CRASH),
    Fault(kind=FaultKind.STATUS, status=500, text="boom"),
    Fault(kind=FaultKind.STATUS, status=502, text="bad gateway"),
    Fault(kind=FaultKind.STATUS, status=499, text="request canceled"),
    Fault(kind=FaultKind.QUEUE_FULL),
    Fault(kind=FaultKind.LOADING),
    Fault(kind=FaultKind.RATE_LIMITED),
    Fault(kind=FaultKind.UNAUTHORIZED, scope="inference"),
    Fault(kind=FaultKind.MISSING),
    Fault(kind=FaultKind.LENGTH_LONG),
]


# A stream has committed after its first frames, and has no length.
HIDDEN = [(fault, False) for fault in RETRIED] + [
    (fault, True)
    for fault in RETRIED
    if not fault.after_frames and fault.kind is not FaultKind.LENGTH_LONG
]


@pytest.mark.parametrize(
    ("fault", "is_stream"),
    HIDDEN,
    ids=[f"{f.kind}-{f.status}-{f.after_frames}-{'stream' if s else 'whole'}" for f, s in HIDDEN],
)
async def test_a_failure_before_commit_is_hidden(fault: Fault, is_stream: bool) -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = fault
        answer = await lab.chat(stream=is_stream)
        data = await answer.read()
        assert answer.status == 200, data
        assert lines_of(data)[-1]["done"] is True
        assert served_by(lab) == [1, 1]
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert answer.headers["X-Sollold-Attempts"] == "2"
        lab.assert_idle()


async def test_a_refused_node_is_down_at_once_and_the_request_goes_on() -> None:
    async with Ordered(2, is_probing=False) as lab:
        await lab.nodes[0].stop()
        answer = await lab.chat()
        assert answer.status == 200
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert lab.fleet["n1"].state == "down"
        lab.assert_idle()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "bad request"),
        (413, "too large"),
        (500, 'option "num_ctx" must be of type integer'),
        (500, "invalid format: expected"),
        (501, "this server does not support embeddings"),
    ],
)
async def test_the_callers_fault_passes_through_and_counts_against_nobody(
    status: int, text: str
) -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STATUS, status=status, text=text)
        for _ in range(5):
            answer = await lab.chat()
            assert (answer.status, (await body_of(answer))["error"]) == (status, text)
            assert answer.headers["X-Sollold-Node"] == "n1"
        assert lab.fleet["n1"].state == "up"
        assert not lab.fleet["n1"].is_ejected
        lab.assert_idle()


async def test_the_same_server_error_from_two_nodes_is_the_callers() -> None:
    async with Ordered(3) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.STATUS, status=500, text="poison")
        for _ in range(6):
            answer = await lab.chat()
            assert (answer.status, (await body_of(answer))["error"]) == (500, "poison")
            assert answer.headers["X-Sollold-Attempts"] == "2"
        assert all(view.state == "up" and not view.is_ejected for view in lab.fleet.values())
        assert sum(served_by(lab)) == 12


async def test_a_poison_prompt_does_not_tour_the_house() -> None:
    async with Ordered(4) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.CUT_RESET)
        answer = await lab.chat()
        assert answer.status == 502
        assert "error" in await body_of(answer)
        assert sum(served_by(lab)) == 2
        lab.assert_idle()


async def test_refusals_of_all_nodes_are_passed_on_in_their_words() -> None:
    async with Ordered(3) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.QUEUE_FULL)
        answer = await lab.chat()
        text = "server busy, please try again.  maximum pending requests exceeded"
        assert (answer.status, (await body_of(answer))["error"]) == (503, text)
        assert sum(served_by(lab)) == 3
        lab.assert_idle()


def _is_left_out(lab: Lab, node: str) -> bool:
    """Whether decisions, not only lists, see a node as ejected."""
    view = lab.built.dispatcher.admission.view(NodeId(node))
    return view is None or view.is_ejected


async def test_credentials_refused_everywhere_is_a_502() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.UNAUTHORIZED, scope="inference")
        answer = await lab.chat()
        assert answer.status == 502
        lab.assert_idle()


async def test_a_node_that_turned_us_away_serves_again_soon_after_it_was_mended() -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.UNAUTHORIZED, scope="inference")
        for _ in range(2):
            answer = await lab.chat()
            assert (answer.status, answer.headers["X-Sollold-Node"]) == (200, "n2")
        assert served_by(lab) == [1, 2]
        assert lab.fleet["n1"].state == "down"
        lab.nodes[0].fault = None
        await lab.until(lambda: not _is_left_out(lab, "n1"))
        assert lab.fleet["n1"].reason.code == "trial"
        answer = await lab.chat()
        assert answer.headers["X-Sollold-Node"] == "n1"
        assert lab.fleet["n1"].state == "up"
        lab.assert_idle()


async def test_a_node_that_turned_probes_away_too_serves_again_with_the_next_good_one() -> None:
    async with Ordered(2, health={"interval_s": 0.5}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.UNAUTHORIZED)
        await (await lab.chat()).read()
        await lab.until(lambda: lab.fleet["n1"].reason.text.startswith("wants a key"))
        lab.nodes[0].fault = None
        await lab.until(lambda: lab.fleet["n1"].state == "up")
        answer = await lab.chat()
        assert answer.headers["X-Sollold-Node"] == "n1"
        lab.assert_idle()


async def test_nodes_that_all_turned_us_away_are_tried_rather_than_none() -> None:
    async with Ordered(2, queue={"holder_down_s": 30.0}) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.UNAUTHORIZED, scope="inference")
        assert (await lab.chat()).status == 502
        assert served_by(lab) == [1, 1]
        lab.nodes[1].fault = None
        answer = await lab.chat()
        assert (answer.status, answer.headers["X-Sollold-Node"]) == (200, "n2")
        lab.assert_idle()


async def test_what_needs_no_slot_is_asked_of_a_node_that_lets_us_in() -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.UNAUTHORIZED, scope="all")
        for path, body, status in (
            ("/api/show", b'{"model":"llama3.2"}', 200),
            ("/api/chat", b'{"model":1}', 400),
        ):
            answer = await lab.session.post(path, data=body)
            assert (answer.status, answer.headers["X-Sollold-Node"]) == (status, "n2")
        lab.assert_idle()


async def test_a_sole_holder_that_is_down_is_waited_for() -> None:
    async with Ordered(1, queue={"holder_down_s": 5.0}, health={"interval_s": 0.2}) as lab:
        await lab.nodes[0].stop()
        asking = asyncio.create_task(lab.chat())
        await lab.until(lambda: lab.fleet["n1"].state == "down")
        assert not asking.done()
        await lab.nodes[0].start()
        answer = await asking
        assert answer.status == 200
        lab.assert_idle()


async def test_a_sole_holder_that_stays_down_is_named() -> None:
    async with Ordered(1, queue={"holder_down_s": 0.3}) as lab:
        await lab.nodes[0].stop()
        answer = await lab.chat()
        error = (await body_of(answer))["error"]
        assert answer.status == 503
        assert "n1" in error
        assert "refused" in error
        assert int(answer.headers["Retry-After"]) > 0
        lab.assert_idle()


async def test_a_stale_connection_is_replaced_once_without_a_word() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.STALE_KEEPALIVE)
        answer = await lab.chat()
        assert answer.status == 200
        assert answer.headers["X-Sollold-Attempts"] == "1"
        assert lab.fleet["n1"].state == "up"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.CUT_RESET, after_frames=3),
        Fault(kind=FaultKind.CUT_CLOSE, after_frames=3),
        Fault(kind=FaultKind.GARBAGE_BODY, after_frames=3),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_cut_after_commit_is_told_and_ends_uncleanly(fault: Fault) -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = fault
        answer = await lab.chat(stream=True)
        data = await read_cut(answer)
        lines = lines_of(data)
        assert "error" in lines[-1]
        assert not any(line.get("done") for line in lines)
        assert len(lines) == 4
        assert served_by(lab) == [1, 0]
        lab.assert_idle()


async def test_a_cut_event_stream_is_told_without_done() -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_RESET, after_frames=4)
        body = {
            "model": "llama3.2",
            "stream": True,
            "messages": [{"role": "user", "content": "x"}],
        }
        answer = await lab.session.post("/v1/chat/completions", json=body)
        data = await read_cut(answer)
        events = [event for event in data.split(b"\n\n") if event]
        assert b"[DONE]" not in data
        assert "error" in json.loads(events[-1].removeprefix(b"data: "))


async def test_a_clean_end_without_terminator_is_told_and_blames_nobody() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_CLEAN, after_frames=3)
        for _ in range(5):
            answer = await lab.chat(stream=True)
            data = await read_cut(answer)
            assert "error" in lines_of(data)[-1]
        assert lab.fleet["n1"].state == "up"
        assert not lab.fleet["n1"].is_ejected


async def test_a_whole_answer_with_done_false_passes() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_CLEAN, after_frames=3)
        answer = await lab.chat()
        assert answer.status == 200
        assert (await body_of(answer))["done"] is False


async def test_requests_on_a_frozen_node_move_within_seconds() -> None:
    async with Ordered(2, failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.HANG)
        started_s = asyncio.get_running_loop().time()
        answer = await lab.chat()
        assert answer.status == 200
        assert answer.headers["X-Sollold-Node"] == "n2"
        assert asyncio.get_running_loop().time() - started_s < 6
        assert lab.fleet["n1"].state == "down"
        assert lab.fleet["n1"].reason.code == "frozen"
        await lab.nodes[0].until(lambda: len(lab.nodes[0].disconnects) > 0)
        lab.assert_idle()


def all_up(lab: Lab) -> bool:
    """Whether every node is up."""
    return all(view.state == "up" for view in lab.fleet.values())


QUESTIONS: dict[str, tuple[str, object]] = {
    "show": ("/api/show", {"model": "llama3.2"}),
    "unload": ("/api/generate", {"model": "llama3.2", "keep_alive": 0}),
    "judged": ("/api/chat", b"{bad"),
}


@pytest.mark.parametrize("question", list(QUESTIONS))
async def test_questions_to_a_frozen_node_move_within_seconds(question: str) -> None:
    path, body = QUESTIONS[question]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with Ordered(2, failover=QUICK) as lab:
        for frozen, other in ((0, 1), (1, 0)):
            await lab.until(lambda: not any(_is_left_out(lab, node) for node in ("n1", "n2")))
            lab.nodes[frozen].fault = Fault(kind=FaultKind.HANG)
            started_s = asyncio.get_running_loop().time()
            async with lab.session.post(path, data=data) as answer:
                assert answer.status == (400 if question == "judged" else 200)
                assert answer.headers["X-Sollold-Node"] == f"n{other + 1}"
            assert asyncio.get_running_loop().time() - started_s < 6
            lab.nodes[frozen].fault = None
            await lab.until(lambda: all_up(lab), timeout_s=10)
        lab.assert_idle()


async def test_a_node_that_thaws_first_still_answers() -> None:
    slow = FakeNode(rate=5.0, answer_tokens=30)
    async with Ordered([FakeNode(), slow], failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.SLOW_HEAD, delay_s=2.5)
        lab.nodes[0].set_faults(
            Fault(kind=FaultKind.SLOW_HEAD, delay_s=2.5),
            Fault(kind=FaultKind.HANG, scope="/api/version"),
        )
        answer = await lab.chat()
        assert answer.status == 200
        assert answer.headers["X-Sollold-Node"] == "n1"
        await slow.until(lambda: slow.active == 0)
        lab.assert_idle()


async def test_a_slow_answer_from_a_live_node_is_waited_for() -> None:
    async with Ordered(2, failover=QUICK) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.SLOW_HEAD, delay_s=1.5)
        lab.nodes[1].fault = Fault(kind=FaultKind.SLOW_HEAD, delay_s=1.5)
        answer = await lab.chat()
        assert answer.status == 200
        assert lab.fleet["n1"].state == "up"
        lab.assert_idle()


async def test_a_stream_on_a_frozen_node_is_told_after_the_idle_limit() -> None:
    async with Ordered(2, failover=QUICK) as lab:
        lab.nodes[0].set_faults(
            Fault(kind=FaultKind.HANG_STREAM, after_frames=3),
            Fault(kind=FaultKind.HANG, scope="probe"),
        )
        answer = await lab.chat(stream=True)
        data = await read_cut(answer)
        assert "error" in lines_of(data)[-1]
        lab.assert_idle()


async def test_a_node_is_ejected_after_failures_and_comes_back_through_a_trial() -> None:
    async with Ordered(2, health={"eject_after": 2, "eject_s": 0.5}) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.CUT_RESET)
        for _ in range(20):
            assert (await lab.chat()).status == 200
            if lab.fleet["n1"].is_ejected:
                break
        assert lab.fleet["n1"].is_ejected
        lab.nodes[0].fault = None
        await lab.until(lambda: not _is_left_out(lab, "n1"))
        for _ in range(20):
            answer = await lab.chat()
            assert answer.status == 200
        assert lab.fleet["n1"].state == "up"


async def test_when_all_are_ejected_the_least_bad_is_tried() -> None:
    async with Ordered(2, health={"eject_after": 1, "eject_s": 60.0}) as lab:
        for node in lab.nodes:
            node.fault = Fault(kind=FaultKind.CUT_RESET)
        assert (await lab.chat()).status == 502
        assert all(view.is_ejected for view in lab.fleet.values())
        for node in lab.nodes:
            node.fault = None
        answer = await lab.chat()
        assert answer.status == 200


async def test_an_unknown_model_is_404_after_one_refresh_for_all() -> None:
    async with Ordered(2) as lab:
        before = [sum(r.path == "/api/tags" for r in node.requests) for node in lab.nodes]
        answers = await asyncio.gather(*(lab.chat(model="nothere") for _ in range(10)))
        assert {answer.status for answer in answers} == {404}
        assert (await body_of(answers[0]))["error"] == "model 'nothere' not found"
        after = [sum(r.path == "/api/tags" for r in node.requests) for node in lab.nodes]
        asked = [b - a for a, b in zip(before, after, strict=True)]
        assert all(1 <= count <= 3 for count in asked), asked


async def test_a_model_that_appeared_is_found_by_the_refresh() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].ollama.add(FakeModel(name="newcomer"))
        answer = await lab.chat(model="newcomer")
        assert answer.status == 200


@pytest.mark.parametrize("after_frames", [0, 3])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_client_that_leaves_stops_the_generation(
    is_stream: bool, after_frames: int
) -> None:
    async with Ordered([FakeNode(rate=20.0, answer_tokens=400)]) as lab:
        await warm_quick(lab)
        node = lab.nodes[0]
        asking = asyncio.create_task(lab.chat(stream=is_stream))
        await node.until(lambda: node.active == 1)
        if is_stream and after_frames:
            answer = await asking
            await answer.content.readany()
            answer.close()
        else:
            asking.cancel()
        await node.until(lambda: node.active == 0)
        assert len(node.disconnects) == 1
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()


async def warm_quick(lab: Lab) -> None:
    """Have the model loaded without a long answer."""
    answer = await lab.chat(messages=[])
    assert answer.status == 200


async def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with Ordered([FakeNode(rate=20.0, answer_tokens=400)]) as lab:
        await warm_quick(lab)
        node = lab.nodes[0]
        first = asyncio.create_task(lab.chat())
        await node.until(lambda: node.active == 1)
        second = asyncio.create_task(lab.chat())
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 1)
        second.cancel()
        await lab.until(lambda: len(lab.built.dispatcher.admission.queue) == 0)
        assert node.waiting == 0
        first.cancel()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()


async def test_a_load_survives_its_impatient_client() -> None:
    async with Ordered([FakeNode(load_s=0.6)]) as lab:
        node = lab.nodes[0]
        asking = asyncio.create_task(lab.chat())
        await node.until(lambda: node.waiting == 1)
        asking.cancel()
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        assert lab.built.dispatcher.detached_count == 1
        await node.until(lambda: len(node.residents) == 1)
        await lab.until(lambda: lab.built.dispatcher.detached_count == 0)
        lab.assert_idle()


async def test_a_load_can_be_cancelled_with_its_client() -> None:
    async with Ordered([FakeNode(load_s=5.0)], loads={"on_client_gone": "cancel"}) as lab:
        node = lab.nodes[0]
        asking = asyncio.create_task(lab.chat())
        await node.until(lambda: node.waiting == 1)
        asking.cancel()
        await node.until(lambda: len(node.disconnects) == 1)
        assert lab.built.dispatcher.detached_count == 0
        await lab.until(lambda: not list(lab.built.dispatcher.runs))
        lab.assert_idle()


async def test_a_role_only_start_does_not_commit() -> None:
    async with Ordered(2) as lab:
        lab.nodes[0].set_faults(
            Fault(kind=FaultKind.EMPTY_FIRST), Fault(kind=FaultKind.CUT_RESET, after_frames=1)
        )
        answer = await lab.chat(stream=True)
        lines = lines_of(await answer.read())
        assert lines[-1]["done"] is True
        assert answer.headers["X-Sollold-Node"] == "n2"


async def test_a_nodes_own_error_line_passes_as_it_is() -> None:
    async with Ordered(1) as lab:
        lab.nodes[0].fault = Fault(kind=FaultKind.ENGINE_ERROR, after_frames=3)
        answer = await lab.chat(stream=True)
        lines = lines_of(await answer.read())
        assert "error" in lines[-1]
        assert len(lines) == 4
