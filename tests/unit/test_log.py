from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sollold.log import (
    Format,
    Level,
    is_journal,
    make_formatter,
    request_id,
    setup,
)
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("sollold.nodes.registry")
foreign = logging.getLogger("somelibrary")


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Gate(io.StringIO):
    """A stream whose first write waits until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.opened.wait(10)
        return super().write(text)


@pytest.fixture(autouse=True)
def _no_thread_outlives_a_test() -> Iterator[None]:
    root = logging.getLogger()
    before = (set(threading.enumerate()), root.level, list(root.handlers))
    yield
    assert (set(threading.enumerate()), root.level, list(root.handlers)) == before


@contextlib.contextmanager
def lines_of(
    log_format: Format,
    stream: io.StringIO | None = None,
    level: Level = "info",
    environ: dict[str, str] | None = None,
) -> Iterator[list[str]]:
    """Log into a stream; the list has the lines after the end of the block."""
    target = stream or io.StringIO()
    log = setup(level, log_format, target, environ=environ or {})
    lines: list[str] = []
    try:
        yield lines
    finally:
        log.shutdown()
        lines += target.getvalue().splitlines()


def logged(
    log_format: Format,
    stream: io.StringIO | None = None,
    level: Level = "info",
    environ: dict[str, str] | None = None,
) -> list[str]:
    """Log one of everything and return the lines."""
    with lines_of(log_format, stream, level, environ) as lines:
        logger.debug("looked node=%s", "gpu-1")
        logger.info("node joined node=%s", "gpu-1")
        logger.warning("node slow node=%s", "gpu-1")
        logger.error("node lost node=%s", "gpu-1")
        foreign.info("chatter")
        foreign.warning("careful")
    return lines


def test_text_has_time_level_place_and_message() -> None:
    lines = logged("text")
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "
    assert [re.sub(f"^{stamp}", "", line) for line in lines] == [
        "info     nodes.registry: node joined node=gpu-1",
        "warning  nodes.registry: node slow node=gpu-1",
        "error    nodes.registry: node lost node=gpu-1",
        "warning  somelibrary: careful",
    ]
    assert all(re.match(stamp, line) for line in lines)


def test_journal_has_a_priority_and_no_time() -> None:
    assert logged("journal", level="debug") == [
        "<7>nodes.registry: looked node=gpu-1",
        "<6>nodes.registry: node joined node=gpu-1",
        "<4>nodes.registry: node slow node=gpu-1",
        "<3>nodes.registry: node lost node=gpu-1",
        "<6>somelibrary: chatter",
        "<4>somelibrary: careful",
    ]


def test_critical_is_told_to_the_journal_as_such() -> None:
    with lines_of("journal") as lines:
        logger.critical("gone")
    assert lines == ["<2>nodes.registry: gone"]


def test_json_is_one_object_per_line() -> None:
    entries = [json.loads(line) for line in logged("json", level="error")]
    (entry,) = entries
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("at"))
    assert entry == {
        "level": "error",
        "logger": "sollold.nodes.registry",
        "message": "node lost node=gpu-1",
    }


@pytest.mark.parametrize(
    ("stream", "environ", "has_colour"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": "", "TERM": "xterm"}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
        (io.StringIO, {"FORCE_COLOR": "1"}, True),
        (Terminal, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    stream: type[io.StringIO], environ: dict[str, str], has_colour: bool
) -> None:
    lines = logged("auto", stream(), environ=environ)
    assert all(("\x1b[" in line) is has_colour for line in lines)
    assert "node joined node=gpu-1" in lines[0]


def test_the_journal_is_recognised_by_its_stream() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stream:
        status = os.fstat(stream.fileno())
        name = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(stream, {"JOURNAL_STREAM": name})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:1"})
        assert not is_journal(stream, {})
        record = logging.LogRecord("sollold.x", logging.INFO, "", 0, "hello", None, None)
        assert (
            make_formatter("auto", stream, {"JOURNAL_STREAM": name}).format(record) == "<6>x: hello"
        )
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": name})


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log = setup(log_format="journal")
    logger.info("hello")
    log.shutdown()
    assert capsys.readouterr().err == "<6>nodes.registry: hello\n"


def test_lines_carry_the_request_that_was_worked_on_when_they_were_logged() -> None:
    with lines_of("journal") as lines:
        logger.info("before")
        token = request_id.set("r-abc")
        logger.info("within")
        request_id.reset(token)
        logger.info("after")
    assert lines == [
        "<6>nodes.registry: before",
        "<6>nodes.registry: within request=r-abc",
        "<6>nodes.registry: after",
    ]
    with lines_of("json") as lines:
        token = request_id.set("r-abc")
        logger.info("within")
        request_id.reset(token)
    assert json.loads(lines[0])["request"] == "r-abc"


def test_arguments_are_read_when_the_line_is_logged() -> None:
    seen = ["a"]
    with lines_of("journal") as lines:
        logger.info("seen %s", seen)
        seen.append("b")
    assert lines == ["<6>nodes.registry: seen ['a']"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain \u00fc \u4e2d \U0001f600", "plain \u00fc \u4e2d \U0001f600"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x85\x9b\x7f", "\\x85\\x9b\\x7f"),
        ("\u202egnp.exe\u2069", "\\u202egnp.exe\\u2069"),
        ("\u2028\u200f", "\\u2028\\u200f"),
        ("\udcff", "\\udcff"),
        ("a\u00a0b", "a\u00a0b"),
        ("a\u200bb\u2060c\ufeffd\u00ade", "a\\u200bb\\u2060c\\ufeffd\\xade"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_no_text_can_fake_a_line_or_steer_a_terminal(text: str, safe: str) -> None:
    assert visible(text) == safe
    with lines_of("journal") as lines:
        logger.info("model=%s", text)
    assert lines == [f"<6>nodes.registry: model={safe}"]
    with lines_of("json") as lines:
        logger.info("%s", text)
    (line,) = lines
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


def crash(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it failed")


def test_each_line_of_a_traceback_has_the_priority_and_is_safe() -> None:
    with lines_of("journal") as lines:
        crash("bad\x1b[2J\nnode")
    assert lines[:2] == [
        "<3>nodes.registry: it failed",
        "<3>Traceback (most recent call last):",
    ]
    assert lines[-2:] == ["<3>ValueError: bad\\x1b[2J", "<3>node"]
    assert all(line.startswith("<3>") for line in lines)


def test_a_traceback_is_one_field_of_json_and_lines_of_text() -> None:
    with lines_of("json") as lines:
        crash("bad")
    assert json.loads(lines[0])["exception"].endswith("ValueError: bad")
    with lines_of("text") as lines:
        crash("bad")
    assert lines[-1] == "ValueError: bad"


def test_when_lines_come_too_fast_the_oldest_are_dropped_and_that_is_said_once() -> None:
    stream = Gate()
    log = setup("info", "journal", stream, environ={}, backlog=10)
    logger.info("first")
    assert stream.reached.wait(10)
    for number in range(50):
        logger.info("line %d", number)
    assert log.dropped == 40
    stream.opened.set()
    log.shutdown()
    lines = stream.getvalue().splitlines()
    said = "<4>log: log lines were lost, they came faster than they could be written lines=40"
    assert lines[0] == "<6>nodes.registry: first"
    assert lines[1:11] == [f"<6>nodes.registry: line {number}" for number in range(40, 50)]
    assert lines[11:] == [said]


def test_a_stream_that_hangs_does_not_hang_the_shutdown() -> None:
    stream = Gate()
    log = setup("info", "journal", stream, environ={})
    logger.info("first")
    assert stream.reached.wait(10)
    log.shutdown(timeout_s=0.01)
    stream.opened.set()
    log.shutdown()
    wait_for_writer()
    assert stream.getvalue() == "<6>nodes.registry: first\n"


def wait_for_writer() -> None:
    for thread in threading.enumerate():
        if thread.name == "log writer":
            thread.join(10)


def test_a_stream_that_fails_costs_the_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    log = setup("info", "journal", stream, environ={})
    stream.close()
    logger.info("first")
    log.shutdown()
    assert log.dropped >= 1


def test_a_full_disk_is_survived() -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w") as stream:
        log = setup("info", "journal", stream, environ={})
        logger.info("first")
        log.shutdown()


def test_a_record_that_cannot_be_formatted_costs_itself_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would raise

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with lines_of("journal") as lines:
        logger.info("hello %s", Hostile())
        logger.info("next")
    assert lines == ["<6>nodes.registry: next"]
    assert "no text" in capsys.readouterr().err


def test_shutdown_writes_all_and_puts_levels_back() -> None:
    package = logging.getLogger("sollold")
    before = (logging.getLogger().level, package.level)
    stream = io.StringIO()
    log = setup("debug", "journal", stream, environ={})
    assert package.level == logging.DEBUG
    for number in range(1000):
        logger.debug("line %d", number)
    log.shutdown()
    assert len(stream.getvalue().splitlines()) == 1000
    assert (logging.getLogger().level, package.level) == before
    log.set_level("error")
    log.shutdown()
    package.setLevel(before[1])
    logging.getLogger().setLevel(before[0])


@pytest.mark.parametrize(
    ("level", "own", "others"),
    [("debug", 10, 20), ("info", 20, 30), ("warning", 30, 30), ("error", 40, 40)],
)
def test_libraries_are_kept_quieter(level: Level, own: int, others: int) -> None:
    log = setup("info", "text", io.StringIO(), environ={})
    log.set_level(level)
    assert logging.getLogger("sollold").level == own
    assert logging.getLogger().level == others
    log.shutdown()


def test_threads_may_log_at_the_same_time() -> None:
    def talk(name: str) -> None:
        for number in range(200):
            logger.info("%s %d", name, number)

    with lines_of("journal") as lines:
        threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(lines) == 800
    own: dict[str, list[Any]] = {name: [] for name in "abcd"}
    for line in lines:
        _, name, number = line.rsplit(" ", 2)
        own[name].append(int(number))
    assert all(numbers == list(range(200)) for numbers in own.values())
