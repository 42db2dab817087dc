"""What comes out of a reader, as routing watches and judges it."""

from __future__ import annotations

from typing import Any

import pytest

from sollold.wire.endings import Counters
from sollold.wire.routes import InferenceRoute
from sollold.wire.watch import Ending, JsonWatch, watch_for
from tests.unit.wire.streams import event_of
from tests.unit.wire.translate.replying import (
    DONE,
    TIMINGS,
    USAGE,
    Reply,
    chunk,
    read,
    reader,
    recorded,
    stream,
)

_ROLE = chunk(role="assistant", content=None)
_HELLO = chunk(content="Hello")
_STOP = chunk("stop", extra={"timings": TIMINGS})
_USAGE = event_of({"choices": [], "usage": USAGE})
_ERROR = event_of({"error": {"message": "it broke"}})
_STREAMED = [
    InferenceRoute.API_CHAT,
    InferenceRoute.API_GENERATE,
    InferenceRoute.V1_CHAT,
    InferenceRoute.V1_COMPLETIONS,
]


def _ending(route: InferenceRoute, reply: Reply, **fields: Any) -> Ending:
    out = read(reader(route, **fields), reply)
    watch = watch_for(route, out.head.content_type)
    watch.feed(out.body)
    return watch.finish()


@pytest.mark.parametrize("route", _STREAMED)
def test_a_complete_stream(route: InferenceRoute) -> None:
    ending = _ending(route, stream(_ROLE, _HELLO, _HELLO, _STOP, _USAGE, DONE), include_usage=True)
    assert ending.is_terminated
    assert ending.has_content
    assert (ending.frames, ending.error, ending.done_reason) == (2, None, "stop")
    assert (ending.counters.prompt_tokens, ending.counters.output_tokens) == (15, 7)


@pytest.mark.parametrize("route", _STREAMED)
def test_a_stream_that_was_cut(route: InferenceRoute) -> None:
    ending = _ending(route, stream(_ROLE, _HELLO))
    assert (ending.is_terminated, ending.has_content) == (False, True)
    ending = _ending(route, stream(_ROLE))
    assert (ending.is_terminated, ending.has_content) == (False, False)


@pytest.mark.parametrize("route", _STREAMED)
def test_an_error_inside(route: InferenceRoute) -> None:
    ending = _ending(route, stream(_HELLO, _ERROR))
    assert (ending.is_terminated, ending.error) == (False, "it broke")


@pytest.mark.parametrize("route", _STREAMED)
def test_only_calls_of_tools_are_content(route: InferenceRoute) -> None:
    ending = _ending(route, recorded("tools_stream_cut"))
    assert ending.is_terminated
    assert ending.has_content is (route is not InferenceRoute.V1_COMPLETIONS)


@pytest.mark.parametrize("route", _STREAMED)
def test_an_answer_that_is_one_object(route: InferenceRoute) -> None:
    ending = _ending(route, recorded("chat"), is_stream=False)
    assert ending.is_terminated
    assert ending.counters.output_tokens == 6


@pytest.mark.parametrize("route", _STREAMED)
def test_a_refusal_is_an_object(route: InferenceRoute) -> None:
    out = read(reader(route), stream(_ROLE, _ERROR))
    assert out.head.status == 500
    watch = watch_for(route, out.head.content_type)
    assert isinstance(watch, JsonWatch)
    watch.feed(out.body)
    assert watch.finish().error == "it broke"


def test_durations_are_in_nanoseconds() -> None:
    counters = _ending(InferenceRoute.API_CHAT, stream(_HELLO, _STOP, DONE)).counters
    assert counters == Counters(
        prompt_tokens=15,
        prompt_s=0.0025,
        output_tokens=7,
        output_s=0.07,
        load_s=counters.load_s,
        total_s=counters.total_s,
    )
