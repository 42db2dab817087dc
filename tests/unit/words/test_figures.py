from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sollold.api_types import LoadedModel, NodeCounts
from sollold.words import figures as words

NOW = datetime(2026, 11, 21, 9, 14, 3, tzinfo=UTC)
S = 1000
M = 60 * S
H = 60 * M
D = 24 * H


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (84.2, "84 ms"),
        (999.9, "1.0 s"),
        (1900, "1.9 s"),
        (59_960, "1m 00s"),
        (123 * S, "2m 03s"),
        (3 * H + 12 * M, "3h 12m"),
        (4 * D + H, "4d"),
    ],
)
def test_durations(ms: float | None, text: str) -> None:
    assert words.duration(ms) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "-"), (900, "0 s"), (31_400, "31 s"), (59_999, "59 s"), (125_000, "2m 05s")],
)
def test_waits(ms: float | None, text: str) -> None:
    assert words.waited(ms) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (-5, "0s"),
        (999, "0s"),
        (59 * S, "59s"),
        (4 * M, "4m"),
        (2 * H, "2h"),
        (3 * D, "3d"),
    ],
)
def test_ages(ms: float | None, text: str) -> None:
    assert words.age(ms) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (20 * S, "20s"),
        (12 * M, "12m"),
        (2 * H, "2h"),
        (3 * H + 12 * M, "3h 12m"),
        (3 * D + 4 * H + M, "3d 4h"),
        (3 * D, "3d"),
    ],
)
def test_uptimes(ms: float | None, text: str) -> None:
    assert words.uptime(ms) == text


@pytest.mark.parametrize(
    ("used", "total", "text"),
    [
        (None, None, "-"),
        (9_100_000_000, None, "9.1GB"),
        (15_900_000_000, 16_000_000_000, "15.9/16.0GB"),
        (None, 16_000_000_000, "-/16.0GB"),
        (0, None, "0.0GB"),
    ],
)
def test_memory(used: int | None, total: int | None, text: str) -> None:
    assert words.memory(used, total) == text


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (None, 5, "-"),
        (0, 0, "-"),
        (10, None, "-"),
        (10, 10, "100% GPU"),
        (10, 0, "100% CPU"),
        (10, 6, "40%/60% CPU/GPU"),
    ],
)
def test_processors(size: int | None, vram: int | None, text: str) -> None:
    model = LoadedModel(name="m", size_bytes=size, size_vram_bytes=vram)
    assert words.processor(model) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(None, "-"), (0, "0.0%"), (0.992, "99.2%"), (0.9999, "99.9%"), (1, "100.0%")],
)
def test_shares_round_down_to_whole(fraction: float | None, text: str) -> None:
    assert words.share(fraction) == text


def test_small_words() -> None:
    assert words.compact(940) == "940ms"
    assert words.rate(None) == "-"
    assert words.rate(12.84) == "12.8"
    assert words.count(None) == "-"
    assert words.count(0) == "0"
    assert words.kind("llama_server") == "llama"
    assert words.kind("ollama") == "ollama"
    assert words.software("llama_server") == "llama-server"
    assert words.software("openai") == "OpenAI's API"
    assert words.software("coordinator") == "coordinator"
    assert words.backend("llama") == "llama_server"
    assert words.backend("openai") == "openai"
    assert words.plural(1, "node") == "1 node"
    assert words.plural(0, "node") == "0 nodes"
    assert words.by_state(NodeCounts(total=4, down=1, up=2, unknown=1)) == "2 up, 1 down, 1 unknown"


def test_moments() -> None:
    assert words.moment("2026-11-21T09:14:03Z") == NOW
    assert words.moment("2026-11-21T09:14:03") == NOW
    assert words.moment("soon") is None
    assert words.moment(None) is None


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (NOW - timedelta(minutes=12), "09:02"),
        (NOW - timedelta(days=7), "14 Nov"),
        (NOW - timedelta(days=365), "21 Nov 2025"),
    ],
)
def test_days_and_times(at: datetime, text: str) -> None:
    assert words.day_or_time(at, NOW, UTC) == text


def test_the_day_is_the_readers() -> None:
    east = timezone(timedelta(hours=3))
    assert words.day_or_time(NOW - timedelta(hours=10), NOW, UTC) == "20 Nov"
    assert words.day_or_time(NOW - timedelta(hours=10), NOW, east) == "02:14"


@pytest.mark.parametrize(
    ("expires_at", "text"),
    [
        ("2026-11-21T09:18:05Z", "4m left"),
        ("2026-11-21T09:14:00Z", "unloading"),
        ("2318-03-01T00:00:00Z", "stays"),
        ("0001-01-01T00:00:00Z", "unloading"),
        (None, "-"),
    ],
)
def test_what_is_left_of_a_keep_alive(expires_at: str | None, text: str) -> None:
    assert words.left_until(expires_at, NOW) == text
