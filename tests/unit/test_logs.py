"""The log lines that are kept: their shape, filters, and the way to readers on the loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sollold import log
from sollold.errors import InvalidRequest
from sollold.logs.hub import LogHub, sending
from sollold.logs.line import gap_json, level_word, line_of
from sollold.logs.query import STREAM_FIELDS, LogFilter, LogQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sollold.events.subscription import Batch, Subscription
    from sollold.logs.line import Line

NOW_S = 1_800_000_000.0
probes = logging.getLogger("sollold.nodes.probe")
foreign = logging.getLogger("somelibrary.part")


def record(
    message: str, level: int = logging.INFO, name: str = "sollold.daemon", **fields: Any
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 1, message, None, fields.pop("exc_info", None))
    made.__dict__.update(fields)
    return made


def query(**params: str) -> LogQuery:
    return LogQuery.parse(params, NOW_S)


def messages(lines: Iterable[Line | None]) -> list[str]:
    return [line.message for line in lines if line is not None]


async def next_batch(reader: Subscription[Line]) -> Batch[Line]:
    async with asyncio.timeout(5):
        return await anext(reader)


@contextmanager
def real_log(hub: LogHub, level: log.Level = "info") -> Iterator[None]:
    logs = log.setup(level, "text", io.StringIO(), also=hub.take)
    try:
        yield
    finally:
        logs.shutdown()


# A line --------------------------------------------------------------------------------------


def test_a_line_has_its_time_level_source_message_and_request() -> None:
    made = record("node gpu-1 joined", created=1_700_000_000.1234, request_id="r-1")
    assert json.loads(line_of(made).json()) == {
        "at": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "source": "sollold.daemon",
        "message": "node gpu-1 joined",
        "request": "r-1",
    }
    assert "request" not in json.loads(line_of(record("no request")).json())


def test_a_message_stays_on_one_line_and_cannot_hide() -> None:
    hostile = "one\ntwo\x1b[31m\u202egnp"
    assert line_of(record(hostile)).document().message == "one\\ntwo\\x1b[31m\\u202egnp"


def test_a_message_is_clipped() -> None:
    kept = line_of(record("x" * 5000)).message
    assert (len(kept), kept[-1]) == (2000, "…")


def test_of_an_exception_only_type_and_text_are_kept() -> None:
    try:
        raise OSError("disk\nfull")
    except OSError as error:
        info = (OSError, error, error.__traceback__)
        line = line_of(record("the event log cannot be written", exc_info=info))
    wanted = "the event log cannot be written: OSError: disk\\nfull"
    assert line.document().message == wanted
    assert not hasattr(line, "exc_info")


@pytest.mark.parametrize(
    ("number", "word"),
    [(0, "debug"), (10, "debug"), (25, "info"), (30, "warning"), (40, "error"), (99, "critical")],
)
def test_levels_between_two_are_the_lower_one(number: int, word: str) -> None:
    assert level_word(number) == word


def test_a_gap_is_a_line_too() -> None:
    gap = json.loads(gap_json(3, NOW_S))
    assert gap.pop("dropped") == 3
    assert gap == {
        "at": "2027-01-15T08:00:00.000Z",
        "level": "warning",
        "source": "sollold.logs",
        "message": "3 log lines dropped here (slow reader)",
    }


# What is asked for -----------------------------------------------------------------------------


def test_nothing_asked_for_is_the_last_hundred_of_all() -> None:
    assert query() == LogQuery(LogFilter(), 100, False, None)


def test_every_parameter_is_read() -> None:
    asked = query(level="Warning", source="nodes, sollold.web", n="7", since="10s", follow="1")
    wanted = LogFilter(level=30, sources=("nodes", "sollold.web"))
    assert asked == LogQuery(wanted, 7, True, NOW_S - 10)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"colour": "red"},
            "no log filter 'colour'; there are: level, source, grep, n, since, follow",
        ),
        ({"level": "loud"}, "debug, info, warning, error, critical"),
        ({"n": "-1"}, "n is a count of log lines, not '-1'"),
        ({"since": "yesterday"}, "no time 'yesterday'"),
        ({"follow": "2"}, "follow is 0 or 1"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(params: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        LogQuery.parse(params, NOW_S)
    assert said in refused.value.message


def test_a_stream_always_follows() -> None:
    with pytest.raises(InvalidRequest):
        LogQuery.parse({"follow": "0"}, NOW_S, STREAM_FIELDS)


@pytest.mark.parametrize(
    ("source", "is_wanted"),
    [
        ("", True),
        ("sollold", True),
        ("sollold.nodes", True),
        ("nodes", True),
        ("web, nodes.probe", True),
        ("probe", False),
        ("nodes.probe.x", False),
        ("aiohttp", False),
    ],
)
def test_sources_are_chosen_by_how_they_begin(source: str, is_wanted: bool) -> None:
    line = line_of(record("x", name="sollold.nodes.probe"))
    assert query(source=source).filter.matches(line) is is_wanted


def test_a_library_is_found_by_its_own_name_only() -> None:
    line = line_of(record("x", name="aiohttp.server"))
    assert query(source="aiohttp").filter.matches(line)
    assert not query(source="server").filter.matches(line)


# What is kept ----------------------------------------------------------------------------------


def test_the_last_lines_are_kept() -> None:
    hub = LogHub(size=3)
    for number in range(5):
        hub.take(record(f"line {number}", created=NOW_S + number))
    assert messages(hub.last(query())) == ["line 2", "line 3", "line 4"]
    assert messages(hub.last(query(n="1"))) == ["line 4"]
    assert messages(hub.last(query(n="0"))) == []
    asked = LogQuery.parse({"since": "2027-01-15T08:00:03Z"}, NOW_S)
    assert messages(hub.last(asked)) == ["line 3", "line 4"]


def test_filters_come_before_counting() -> None:
    hub = LogHub()
    hub.take(record("bad", logging.ERROR))
    hub.take(record("worse", logging.CRITICAL))
    for _ in range(200):
        hub.take(record("fine"))
    assert messages(hub.last(query(level="error", n="2"))) == ["bad", "worse"]


def test_the_log_hands_its_records_on() -> None:
    hub = LogHub()
    with real_log(hub):
        token = log.request_id.set("r-abc")
        probes.info("probe of %s failed", "gpu-1")
        log.request_id.reset(token)
        probes.debug("not logged, so not kept")
        foreign.warning("a library's word")
    kept = [line for line in hub.last(query()) if line is not None]
    assert messages(kept) == ["probe of gpu-1 failed", "a library's word"]
    assert [line.request for line in kept] == ["r-abc", ""]


def test_a_record_that_cannot_be_kept_breaks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    hub = LogHub()
    with real_log(hub):
        try:
            raise Rude
        except Rude:
            probes.exception("first")
        probes.info("second")
    assert messages(hub.last(query())) == ["second"]
    assert "no words" in capsys.readouterr().err


# What is followed ------------------------------------------------------------------------------


def opened(**options: int) -> LogHub:
    hub = LogHub(**options)
    hub.open(asyncio.get_running_loop())
    return hub


async def test_a_reader_gets_the_last_lines_then_the_next_ones() -> None:
    hub = opened()
    hub.take(record("before"))
    first, later = hub.follow(query())
    hub.take(record("after"))
    assert messages(first) == ["before"]
    assert messages((await next_batch(later)).records) == ["after"]
    later.close()
    assert hub.reader_count == 0


async def test_no_line_comes_twice_to_a_reader_that_begins_while_lines_wait() -> None:
    hub = opened()
    early = hub.follow(query())
    hub.take(record("one"))
    late = hub.follow(query())
    hub.take(record("two"))
    assert messages(late.first) == ["one"]
    assert messages((await next_batch(late.later)).records) == ["two"]
    assert messages((await next_batch(early.later)).records) == ["one", "two"]


async def test_a_reader_gets_only_what_it_asked_for() -> None:
    hub = opened()
    later = hub.follow(query(level="warning", source="nodes")).later
    hub.take(record("too quiet", name="sollold.nodes.probe"))
    hub.take(record("elsewhere", logging.ERROR))
    hub.take(record("wanted", logging.ERROR, name="sollold.nodes.probe"))
    assert messages((await next_batch(later)).records) == ["wanted"]


async def test_lines_come_from_other_threads_in_order() -> None:
    hub = opened(max_queue=10_000)
    later = hub.follow(query()).later
    count = 4000

    def write(name: str) -> None:
        for number in range(count // 4):
            hub.take(record(f"{number}", name=name))

    threads = [threading.Thread(target=write, args=(f"t{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    seen: list[Line] = []
    while len(seen) < count:
        batch = await next_batch(later)
        assert batch.dropped == 0
        seen += batch.records
    for thread in threads:
        thread.join()
    for index in range(4):
        own = [int(line.message) for line in seen if line.source == f"t{index}"]
        assert own == list(range(count // 4))


async def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told() -> None:
    hub = opened(max_queue=3)
    later = hub.follow(query()).later
    for number in range(4):
        hub.take(record(f"{number}"))
        await asyncio.sleep(0)
    batch = await next_batch(later)
    assert (batch.dropped, messages(batch.records)) == (1, ["1", "2", "3"])


async def test_lines_that_come_faster_than_the_loop_turns_are_told_too() -> None:
    hub = opened(max_queue=3)
    later = hub.follow(query()).later
    for number in range(10):
        hub.take(record(f"{number}"))
    batch = await next_batch(later)
    assert (batch.dropped, messages(batch.records)) == (7, ["7", "8", "9"])


async def test_what_is_logged_while_sending_is_kept_but_not_sent() -> None:
    hub = opened()
    later = hub.follow(query()).later
    with sending():
        hub.take(record("of the sending"))
    hub.take(record("of the daemon"))
    assert messages((await next_batch(later)).records) == ["of the daemon"]
    assert messages(hub.last(query())) == ["of the sending", "of the daemon"]


async def test_a_line_that_is_logged_while_the_hub_is_busy_is_kept() -> None:
    hub = opened()
    later = hub.follow(query()).later
    with hub._lock:  # as when the collector of garbage ends something that complains
        hub.take(record("from a finalizer"))
    assert messages((await next_batch(later)).records) == ["from a finalizer"]


async def test_the_end_ends_readers_after_what_they_have_to_get() -> None:
    hub = opened()
    later = hub.follow(query()).later
    hub.take(record("last words"))
    hub.close()
    assert messages((await next_batch(later)).records) == ["last words"]
    with pytest.raises(StopAsyncIteration):
        await next_batch(later)
    hub.take(record("too late"))
    with pytest.raises(StopAsyncIteration):
        await next_batch(hub.follow(query()).later)
    assert messages(hub.last(query())) == ["last words", "too late"]


def test_a_loop_that_is_gone_is_no_error() -> None:
    hub = LogHub()

    async def follow() -> None:
        hub.open(asyncio.get_running_loop())
        hub.follow(query())

    asyncio.run(follow())
    hub.take(record("after the loop"))
    assert messages(hub.last(query())) == ["after the loop"]
