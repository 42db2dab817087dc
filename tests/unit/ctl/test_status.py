"""The mock-ups of `status`, word for word, at 80 columns and in a pipe."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest
from msgspec.structs import replace

from sollold.api_types import ConfigInfo, CoordinatorSummary, NodeCounts, Problem, Speed
from sollold.api_types import StatusDocument as Status
from sollold.core.model import Reason
from sollold.ctl.screen import Screen
from sollold.ctl.status import short_line, status_lines
from sollold.words.states import glyph_state
from tests.unit.ctl.canned import ASCII
from tests.unit.ctl.documents import DEGRADED, HEALTHY, LATE, MINUTE, NOTHING_FOUND, REFUSED

TERMINAL = Screen(is_terminal=True, width=80, is_unicode=True)
PIPE = Screen()

HEALTHY_TEXT = """\
● sollold 0.4.0  serving                               up 3d 4h  pid 21877
  Address    http://127.0.0.1:11434  (dashboard http://127.0.0.1:8080)
  Nodes      6: 5 up, 1 draining
  Models     14 known, 7 loaded on 4 nodes
  Requests   3 running, 0 queued;  5 min: 212 ok, 1 failed over, 0 failed
  Speed      first token p50 180 ms, p95 940 ms;  41.0 tokens/s typical
  llama      ready: llama3.1:70b over rpc-a, rpc-b (port 18080, up 2h)
  History    local, 12408 events since 14 Nov;  Redis not configured
  Config     /etc/sollold/sollold.toml, loaded 3d ago
"""

DEGRADED_TEXT = """\
▲ sollold 0.4.0  serving, degraded                     up 3d 4h  pid 21877
  ✖ pi-5     down 4m    connection refused on 11434, 3 tries in 30 s
  ▲ gpu-2    slow 12m   first token p95 8.2 s, its usual is 0.9 s
    more:    sollolctl nodes gpu-2      sollolctl logs --node pi-5
  Address    http://127.0.0.1:11434  (dashboard http://127.0.0.1:8080)
  Nodes      6: 3 up, 1 slow, 1 draining, 1 down
  Models     14 known, 7 loaded on 4 nodes
  Requests   4 running, 1 queued (oldest 23 s);  5 min: 198 ok, 9 failed over
  Speed      first token p50 180 ms, p95 940 ms;  41.0 tokens/s typical
  History    local, 12408 events since 14 Nov;  Redis not configured
  Config     /etc/sollold/sollold.toml, loaded 3d ago
"""

NOTHING_FOUND_TEXT = """\
▲ sollold 0.4.0  cannot serve: no nodes found yet        up 20s  pid 21877
  looked at       mDNS for 20 s; 192.168.1.0/24: 254 addresses, 0 answered
  add one         [[nodes]] in /etc/sollold/sollold.toml
  watch           sollolctl logs -f
"""


def text_of(status: Status, screen: Screen, *, is_wide: bool = False) -> str:
    return "".join(f"{line}\n" for line in status_lines(status, screen, UTC, is_wide=is_wide))


def facts_of(status: Status, screen: Screen = PIPE) -> dict[str, str]:
    return {line[2:13].strip(): line[13:] for line in status_lines(status, screen, UTC)[1:]}


@pytest.mark.parametrize(
    ("status", "text"),
    [(HEALTHY, HEALTHY_TEXT), (DEGRADED, DEGRADED_TEXT), (NOTHING_FOUND, NOTHING_FOUND_TEXT)],
)
def test_on_a_terminal(status: Status, text: str) -> None:
    assert text_of(status, TERMINAL) == text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("status", "text"), [(HEALTHY, HEALTHY_TEXT), (NOTHING_FOUND, NOTHING_FOUND_TEXT)]
)
def test_in_a_pipe_without_utf8(status: Status, text: str) -> None:
    assert text_of(status, PIPE) == text.translate(ASCII)


def test_in_a_pipe_a_zero_is_not_left_out() -> None:
    expected = DEGRADED_TEXT.translate(ASCII).replace("9 failed over", "9 failed over, 0 failed")
    assert text_of(DEGRADED, PIPE) == expected


def test_only_marks_are_coloured() -> None:
    screen = replace(TERMINAL, has_color=True)
    expected = DEGRADED_TEXT.replace("▲", "\x1b[33m▲\x1b[0m").replace("✖", "\x1b[97;41m✖\x1b[0m")
    assert text_of(DEGRADED, screen) == expected


def test_wide_adds_what_is_rarely_asked() -> None:
    text = text_of(replace(HEALTHY, looked_at=NOTHING_FOUND.looked_at), TERMINAL, is_wide=True)

    assert text.startswith(HEALTHY_TEXT)
    assert text.removeprefix(HEALTHY_TEXT).splitlines() == [
        "  Control    unix:/run/user/1000/sollold/control.sock",
        "  Instance   desk_21877_1f2e3d4c",
        "  Loop       uvloop",
        "  Looked at  mDNS for 20 s",
        "  Looked at  192.168.1.0/24: 254 addresses, 0 answered",
    ]


def test_what_the_daemon_does_not_know_is_left_out() -> None:
    bare = Status(
        at="soon", version="1", state="serving", uptime_ms=0, pid=1, nodes=NodeCounts(total=1, up=1)
    )

    assert text_of(bare, PIPE, is_wide=True).splitlines()[1:] == [
        "  Nodes      1: 1 up",
        "  Models     0 known, 0 loaded",
        "  Requests   0 running, 0 queued",
    ]


def test_the_short_line() -> None:
    assert short_line(DEGRADED) == "sollold degraded 4/6 nodes 4 run 1 queue p95 940ms"
    assert short_line(HEALTHY) == "sollold serving 5/6 nodes 3 run 0 queue p95 940ms"
    assert short_line(NOTHING_FOUND) == "sollold cannot serve 0/0 nodes 0 run 0 queue"


@pytest.mark.parametrize(
    ("state", "total", "mark", "words"),
    [
        ("serving", 1, "up", "serving"),
        ("degraded", 1, "slow", "serving, degraded"),
        ("cannot_serve", 1, "down", "cannot serve: why"),
        ("starting", 1, "unknown", "starting: why"),
        ("stopping", 1, "draining", "stopping: why"),
        ("a-new-word", 1, "slow", "a-new-word: why"),
    ],
)
def test_every_state_has_its_mark_and_words(state: str, total: int, mark: str, words: str) -> None:
    status = replace(
        HEALTHY, state=state, reason=Reason("code", "why"), nodes=NodeCounts(total=total)
    )

    assert glyph_state(status) == mark
    head = status_lines(status, PIPE, UTC)[0]
    assert head.startswith(f"{PIPE.glyph(mark)} sollold 0.4.0  {words}  ")


def test_a_long_reason_does_not_swallow_the_rest_of_the_line() -> None:
    status = replace(NOTHING_FOUND, reason=Reason("code", "w" * 60))
    assert status_lines(status, PIPE, UTC)[0].endswith("w  up 20s  pid 21877")


def test_a_terminal_shows_five_problems_and_says_how_many_more() -> None:
    problems = tuple(
        Problem(subject=f"n{number}", state="down", since_ms=MINUTE, reason=REFUSED)
        for number in range(8)
    )
    status = replace(DEGRADED, problems=problems)

    on_terminal, in_pipe = text_of(status, TERMINAL), text_of(status, PIPE)

    assert on_terminal.count("connection refused") == 5
    assert "    and 3 more\n" in on_terminal
    assert in_pipe.count("connection refused") == 8
    assert "more\n" not in in_pipe


def test_next_steps_name_nodes_only() -> None:
    lost = Problem(subject="Redis", state="down", reason=REFUSED, kind="redis")
    text = text_of(replace(DEGRADED, problems=(lost,)), PIPE)
    assert "x Redis    down -" in text
    assert "more:" not in text

    slow = Problem(subject="gpu-2", state="slow", since_ms=MINUTE, reason=LATE)
    text = text_of(replace(DEGRADED, problems=(lost, slow)), PIPE)
    assert "more:    sollolctl nodes gpu-2      sollolctl logs --node gpu-2\n" in text


def test_next_steps_of_long_names_take_two_lines() -> None:
    name = "ollama:192.168.1.22:11434"
    far = Problem(subject=name, state="down", since_ms=MINUTE, reason=REFUSED)
    assert text_of(replace(DEGRADED, problems=(far,)), PIPE).splitlines()[2:4] == [
        f"    more:    sollolctl nodes {name}",
        f"             sollolctl logs --node {name}",
    ]


def test_what_a_reload_left_undone_stands_under_the_configuration() -> None:
    config = ConfigInfo(
        path="/etc/sollold.toml",
        waiting=("listen.api", "server.loop"),
        refused="/etc/sollold.toml:3: queue.length: is not a number",
    )
    text = text_of(replace(HEALTHY, config=config), PIPE)
    assert text.endswith(
        """\
  Config     /etc/sollold.toml
             a restart is needed for listen.api, server.loop
             not reloaded: /etc/sollold.toml:3: queue.length: is not a number
             all of it: sollolctl config check
"""
    )


def test_without_a_config_file_the_hint_is_a_command() -> None:
    text = text_of(replace(NOTHING_FOUND, config=None, looked_at=None), PIPE)
    assert "  add one         sollold --node http://HOST:PORT\n" in text
    assert "looked at" not in text


def test_the_config_path_is_shortened_to_home() -> None:
    path = str(Path.home() / ".config/sollold/sollold.toml")
    facts = facts_of(replace(HEALTHY, config=ConfigInfo(path=path)))
    assert facts["Config"] == "~/.config/sollold/sollold.toml"
    assert facts_of(replace(HEALTHY, config=ConfigInfo()))["Config"] == "defaults, no file"


def test_parts_of_the_speed_line() -> None:
    only_rate = replace(HEALTHY, speed=Speed(tokens_per_s=41.04))
    assert facts_of(only_rate)["Speed"] == "41.0 tokens/s typical"
    only_first = replace(HEALTHY, speed=Speed(first_token_p50_ms=1200))
    assert facts_of(only_first)["Speed"] == "first token p50 1.2 s"


def test_parts_of_the_coordinator_line() -> None:
    failed = CoordinatorSummary(state="failed", reason=Reason("exit", "exit 1, out of memory"))
    facts = facts_of(replace(HEALTHY, coordinators=(failed,)))
    assert facts["llama"] == "failed: exit 1, out of memory"


def test_parts_of_the_history_line() -> None:
    assert facts_of(replace(HEALTHY, history=None))["History"] == "Redis not configured"
    assert "History" not in facts_of(replace(HEALTHY, history=None, not_configured=()))


def test_a_failure_is_never_left_out_for_room() -> None:
    assert DEGRADED.recent is not None
    recent = replace(DEGRADED.recent, failed=2)
    text = text_of(replace(DEGRADED, recent=recent), TERMINAL)
    assert "9 failed over, 2 failed" in text
